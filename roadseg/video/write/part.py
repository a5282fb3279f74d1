"""The part of a video that an unfinished run leaves, which plays and can be resumed."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import count
from pathlib import Path

import av
from av.bitstream import BitStreamFilterContext

from roadseg.errors import ConfigError, OutputError, VideoError
from roadseg.files import own_path, replacing
from roadseg.video.boxes import boxes
from roadseg.video.frame import Frame
from roadseg.video.pyav import Packet, open_for_reading
from roadseg.video.write.encoding import FRAGMENTED

READ_BYTES = 1 << 20
"""Bytes read at once when a file is read only to test whether it can be."""
UNPACKED = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}
"""Bitstream filters that restore packets from a file to an encoder's form, by codec."""


def part_path(path: Path) -> Path:
    """Return the name of a video while it is written."""
    return own_path(path, "part")


def settings_path(path: Path) -> Path:
    """Return the name of the record of a part's settings."""
    return own_path(path, "part", ".json")


def whole_path(path: Path) -> Path:
    """Return the name of a complete video until all outputs of its run are complete."""
    return own_path(path, "whole")


def note_settings(path: Path, settings: Mapping[str, str]) -> None:
    """Store the settings with which the video at `path` is begun.

    Raises:
        OutputError: The record cannot be written.
    """
    with replacing(settings_path(path)) as record:
        record.write_text(json.dumps(dict(settings), indent=2) + "\n")


def settings_of_part(path: Path) -> dict[str, str]:
    """Return what the unfinished video at `path` was begun with; nothing if that cannot be read."""
    try:
        return dict(json.loads(settings_path(path).read_text()))
    except (OSError, ValueError):
        return {}


USUAL = {"device": "cpu"}
"""Settings that records of older versions lack, and what they stood for."""


def check_settings(path: Path, settings: Mapping[str, str]) -> None:
    """Check that a part was begun with the settings that it is resumed with.

    Raises:
        ConfigError: It was not.
        VideoError: There is no record of them.
    """
    part, record = part_path(path), settings_path(path)
    try:
        begun_with = json.loads(record.read_text())
    except (OSError, ValueError) as error:
        raise VideoError(
            f"{part} has no readable record of its settings, {record.name}; "
            "begin anew with --overwrite instead of --resume"
        ) from error
    changed = [name for name in settings if begun_with.get(name, USUAL.get(name)) != settings[name]]
    if changed:
        raise ConfigError(
            f"{part} was begun with other settings ({', '.join(changed)}); give the same, "
            "or begin anew with --overwrite instead of --resume"
        )


def check_no_old_part(path: Path) -> None:
    """Check that no older version left a part, which this version cannot resume.

    Raises:
        ConfigError: One did, and there is no part of this version.
    """
    old = path.with_name(f"{path.stem}.part{path.suffix}")
    if old.exists() and old.with_suffix(".json").exists() and not part_path(path).exists():
        raise ConfigError(
            f"{old} was left by an older roadseg, and only that can go on from it; leave out "
            "--resume to begin anew (the old part stays), or finish it with that version"
        )


def with_dts(packets: Iterator[Packet]) -> Iterator[Packet]:
    """Yield packets with a decoding time; those without any time are dropped.

    Matroska stores no decoding times, and FFmpeg derives none for the first packets of a video with
    B-frames.
    """
    waiting: dict[int, list[Packet]] = {}
    for packet in packets:
        early = waiting.setdefault(packet.stream.index, [])
        if packet.dts is None and packet.pts is not None:
            early.append(packet)
        elif packet.dts is not None:
            yield from _decoded_before(packet.dts, early)
            early.clear()
            yield packet
    for early in waiting.values():
        times = [packet.pts for packet in early if packet.pts is not None]
        yield from _decoded_before(min(times, default=0), early)


def _decoded_before(dts: int, packets: list[Packet]) -> list[Packet]:
    """Set increasing decoding times before one, none after the time of its own presentation."""
    for packet in reversed(packets):
        assert packet.pts is not None
        packet.dts = dts = min(dts - 1, packet.pts)
    return packets


def whole_gops(part: Path) -> Iterator[Packet]:
    """Yield the video packets before the last keyframe, in the form of an encoder's.

    The packets after it may be incomplete.

    Raises:
        VideoError: The file cannot be read, so its contents are not known.
    """
    try:
        yield from _legible_gops(part)
    except av.FFmpegError as error:
        # A truncated file ends here. FFmpeg reports that as a system error too, so the file is read
        # to find out whether the system really has one.
        if isinstance(error, OSError):
            _refuse_unreadable(part)


def _legible_gops(part: Path) -> Iterator[Packet]:
    pending: list[Packet] = []
    for packet in encoded_packets(part):
        if packet.is_corrupt:
            return
        if packet.is_keyframe:
            yield from pending
            pending = []
        pending.append(packet)


def encoded_packets(film: Path) -> Iterator[Packet]:
    """Yield the packets of a video's pictures, as an encoder gives them."""
    with open_for_reading(film) as container:
        stream = container.streams.video[0]
        unpack = BitStreamFilterContext(UNPACKED.get(stream.codec_context.name, "null"), stream)
        for packet in with_dts(container.demux(stream)):
            yield from unpack.filter(packet)


def _refuse_unreadable(part: Path) -> None:
    """Raise `VideoError` if a file cannot be read to its end."""
    try:
        with part.open("rb") as file:
            while file.read(READ_BYTES):
                pass
    except OSError as error:
        raise VideoError(
            f"{part} cannot be read ({error.strerror}); check its permissions and its disk, or "
            "begin anew with --overwrite instead of --resume"
        ) from error


def cut_torn_head(part: Path) -> None:
    """Remove the last fragment of an MP4 file if its header was truncated.

    FFmpeg opens a file that is truncated in the data of a fragment, but not in its header.
    """
    if part.suffix.lower() not in FRAGMENTED or not part.exists():
        return
    with part.open("r+b") as file:
        size = part.stat().st_size
        for box in boxes(file):
            if box.end > size and box.name != b"mdat":
                file.truncate(box.begin)


@dataclass(frozen=True)
class Kept:
    """The frames that a run keeps of an unfinished one."""

    frames: int = 0
    """Number of frames, the first of the video or cut."""
    span_s: float = 0.0
    """Seconds from the first of them to the last."""


def measure_part(part: Path) -> Kept:
    """Return what can be kept of an unfinished video, if there is one."""
    if not part.exists():
        return Kept()
    times = [
        packet.pts * packet.time_base
        for packet in whole_gops(part)
        if packet.pts is not None and packet.time_base is not None
    ]
    span = max(times) - min(times) if times else Fraction(0)
    return Kept(len(times), float(span))


def check_nothing_kept(path: Path, unresumed: Sequence[str]) -> None:
    """Check that beginning the video at `path` anew drops nothing that could be kept.

    Args:
        path: Video.
        unresumed: Flags that were given and that no run can go on with.

    Raises:
        OutputError: An unfinished run left frames.
        VideoError: It left a part that cannot be read.
    """
    part = part_path(path)
    cut_torn_head(part)
    kept = measure_part(part)
    if kept.frames:
        without = f" and leave out {' and '.join(unresumed)}" if unresumed else ""
        raise OutputError(
            f"{part} holds {kept.span_s:.0f} s of video that an unfinished run labelled; add "
            f"--resume{without} to go on from there, or --overwrite to begin anew"
        )


def behind(frames: Iterator[Frame], kept: Kept, warm_up_s: float) -> Iterator[Frame]:
    """Yield the frames after those that are kept, preceded by those that lead in.

    Args:
        frames: All frames of the video or cut, so that the count is exact.
        kept: Frames of them that are kept.
        warm_up_s: Seconds of video before the join whose frames lead in; 0 for none.
    """
    first_s: float | None = None
    numbers = count()
    for frame in frames:
        first_s = frame.time_s if first_s is None else first_s
        if next(numbers) >= kept.frames:
            yield frame
        elif warm_up_s and frame.time_s - first_s > kept.span_s - warm_up_s:
            yield replace(frame, leads_in=True)
        del frame
