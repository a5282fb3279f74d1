"""The part of a film that an unfinished run leaves: it plays, and another run goes on from it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.bitstream import BitStreamFilterContext

from roadseg.errors import ConfigError, VideoError
from roadseg.files import own_path, replacing
from roadseg.video.frame import Frame
from roadseg.video.write.encoding import FRAGMENTED

BOX_HEAD_BYTES = 8
"""Length and name, four bytes each, with which every box of an MP4 begins."""
READ_BYTES = 1 << 20
"""Bytes read at once where a file is only read to see whether it can be."""
UNPACKED = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}
"""Filters that undo what files do to the packets of an encoder, by codec."""


def part_path(path: Path) -> Path:
    """Return the name under which a film is written until it is whole."""
    return own_path(path, "part")


def settings_path(path: Path) -> Path:
    """Return the name of the record of a part's settings."""
    return own_path(path, "part", ".json")


def whole_path(path: Path) -> Path:
    """Return the name of a whole film until all that is written with it is whole too."""
    return own_path(path, "whole")


def note_settings(path: Path, settings: Mapping[str, str]) -> None:
    """Record what the film at `path` is begun with.

    Raises:
        OutputError: The record cannot be written.
    """
    with replacing(settings_path(path)) as record:
        record.write_text(json.dumps(dict(settings), indent=2) + "\n")


USUAL = {"device": "cpu"}
"""Settings that records of older versions lack, and what they stood for."""


def check_settings(path: Path, settings: Mapping[str, str]) -> None:
    """See that a part was begun with the settings it is to be finished with.

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
            "leave out --resume to begin anew"
        ) from error
    changed = [name for name in settings if begun_with.get(name, USUAL.get(name)) != settings[name]]
    if changed:
        raise ConfigError(
            f"{part} was begun with other settings ({', '.join(changed)}); give the same, "
            "or leave out --resume to begin anew"
        )


def check_no_old_part(path: Path) -> None:
    """See that no earlier version left a part of a film: its names and settings were others.

    Raises:
        ConfigError: One did, and there is none of this version.
    """
    old = path.with_name(f"{path.stem}.part{path.suffix}")
    if old.exists() and old.with_suffix(".json").exists() and not part_path(path).exists():
        raise ConfigError(
            f"{old} was left by an older roadseg, and only that can go on from it; leave out "
            "--resume to begin anew (the old part stays), or finish it with that version"
        )


def with_dts(packets: "Iterator[av.Packet[Any]]") -> "Iterator[av.Packet[Any]]":
    """Yield packets that all have a time to decode them at, and none without any time.

    Matroska stores none, and FFmpeg finds none for the first packets of a film with B-frames.
    """
    waiting: dict[int, list[av.Packet[Any]]] = {}
    for packet in packets:
        early = waiting.setdefault(packet.stream.index, [])
        if packet.dts is None and packet.pts is not None:
            early.append(packet)
        elif packet.dts is not None:
            yield from _count_up_to(packet.dts, early)
            early.clear()
            yield packet
    for early in waiting.values():
        times = [packet.pts for packet in early if packet.pts is not None]
        yield from _count_up_to(min(times, default=0), early)


def _count_up_to(dts: int, packets: "list[av.Packet[Any]]") -> "Iterator[av.Packet[Any]]":
    for steps, packet in enumerate(packets, -len(packets)):
        packet.dts = dts + steps
        yield packet


def whole_gops(part: Path) -> "Iterator[av.Packet[Any]]":
    """Yield the video packets before the last keyframe, as an encoder gives them.

    What follows may be cut off.

    Raises:
        VideoError: The file cannot be read, which says nothing of what is in it.
    """
    try:
        yield from _legible_gops(part)
    except av.FFmpegError as error:
        # A torn end, or a beginning that holds nothing yet, only ends what there is. FFmpeg gives
        # errors of the system for those too; whether the system has any, reading the file tells.
        if isinstance(error, OSError):
            _refuse_unreadable(part)


def _legible_gops(part: Path) -> "Iterator[av.Packet[Any]]":
    pending: list[av.Packet[Any]] = []
    with av.open(part) as container:
        stream = container.streams.video[0]
        unpack = BitStreamFilterContext(UNPACKED.get(stream.codec_context.name, "null"), stream)
        for packet in with_dts(container.demux(stream)):
            if packet.is_corrupt:
                return
            if packet.is_keyframe:
                yield from pending
                pending = []
            pending += unpack.filter(packet)


def _refuse_unreadable(part: Path) -> None:
    """Raise `VideoError` if a file cannot be read to its end."""
    try:
        with part.open("rb") as file:
            while file.read(READ_BYTES):
                pass
    except OSError as error:
        raise VideoError(
            f"{part} cannot be read ({error.strerror}); check its permissions and its disk, or "
            "leave out --resume to begin anew"
        ) from error


def cut_torn_head(part: Path) -> None:
    """Take the last piece of an MP4 away if a full disk or power cut tore its head.

    FFmpeg opens a file that ends in the pictures of a piece, but not one that ends in their list.
    """
    if part.suffix.lower() not in FRAGMENTED or not part.exists():
        return
    with part.open("r+b") as file:
        size, begin = part.stat().st_size, 0
        while begin < size:
            file.seek(begin)
            head = file.read(BOX_HEAD_BYTES)
            end = begin + max(int.from_bytes(head[:4], "big"), BOX_HEAD_BYTES)
            if end > size and head[4:] != b"mdat":
                file.truncate(begin)
            begin = end


@dataclass(frozen=True)
class Kept:
    """What a run keeps of an unfinished one."""

    frames: int = 0
    """Frames, the first of the film or cut."""
    span_s: float = 0.0
    """Seconds from the first of them to the last."""


def measure_part(part: Path) -> Kept:
    """Return what can be kept of an unfinished film; nothing of one that is not there."""
    if not part.exists():
        return Kept()
    times = [
        packet.pts * packet.time_base
        for packet in whole_gops(part)
        if packet.pts is not None and packet.time_base is not None
    ]
    span = max(times) - min(times) if times else Fraction(0)
    return Kept(len(times), float(span))


def behind(frames: Iterator[Frame], kept: Kept, warm_up_s: float) -> Iterator[Frame]:
    """Yield the frames behind those that are kept.

    Before them come the last of those, for the labels' sake.

    Args:
        frames: All frames of the film or cut: so the count is exact.
        kept: What is there of them.
        warm_up_s: Seconds of film before the join whose frames lead in; 0 for none.
    """
    first_s: float | None = None
    for number, frame in enumerate(frames):
        first_s = frame.time_s if first_s is None else first_s
        if number >= kept.frames:
            yield frame
        elif warm_up_s and frame.time_s - first_s > kept.span_s - warm_up_s:
            yield replace(frame, leads_in=True)
