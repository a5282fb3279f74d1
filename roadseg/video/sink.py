"""Write a film: H.264 that plays everywhere, the frames' own timestamps, the source's sound."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av

from roadseg.errors import VideoError
from roadseg.files import replacing, temporary_path
from roadseg.frame import Frame
from roadseg.picture import PIXEL_FORMAT, Picture
from roadseg.video.errors import read_errors, write_errors
from roadseg.video.source import VideoInfo, seek

SUFFIXES = (".mp4", ".mov", ".mkv")
CRF = 20
"""Constant quality of x264: 0 is lossless, 51 is worst; around 20 the eye sees no loss."""
PRESET = "veryfast"
FAR_START_S = 1.0
"""A film whose clock starts later than this is moved to zero: recorders start anywhere."""


def check_output(path: Path, *, overwrite: bool) -> None:
    """Find out early whether `path` can be written.

    Raises:
        VideoError: Its suffix is none of ours, or it exists.
        OutputError: Its folder takes no files.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise VideoError(
            f"{path} has the suffix {path.suffix!r}; use one of: {', '.join(SUFFIXES)}"
        )
    if path.is_dir():
        raise VideoError(f"{path} is a folder; give a file name")
    if path.exists() and not overwrite:
        raise VideoError(f"{path} exists; choose another name or add --overwrite")
    temporary = temporary_path(path)
    with write_errors(path):
        temporary.touch()
        temporary.unlink()


class VideoWriter:
    """A film being written; it takes its name when the block ends without an error.

    Args:
        path: File to write.
        source: Film that the frames and the sound come from.
        start_s: Time in the source at which the frames begin, counted from its first frame.
        end_s: Time at which they end; None is the source's end.
    """

    def __init__(
        self, path: Path, source: VideoInfo, start_s: float = 0.0, end_s: float | None = None
    ) -> None:
        self._path = path
        self._source = source
        self._start_s, self._end_s = start_s, end_s
        self._offset = 0
        self._stream: av.VideoStream | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack, write_errors(self._path):
            options = {"movflags": "+faststart"} if self._path.suffix.lower() != ".mkv" else {}
            temporary = stack.enter_context(replacing(self._path))
            self._container = stack.enter_context(av.open(temporary, "w", options=options))
            self._sound = Sound(self._source, self._container, self._start_s, self._end_s)
            stack.enter_context(self._sound)
            self._exits = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with write_errors(self._path):
            if kind is None:
                with self._exits:  # closes the file, then gives it its name
                    self._finish()
            else:
                self._exits.__exit__(kind, error, traceback)  # closes the file and removes it

    def write(self, frame: Frame) -> None:
        """Encode a frame at its own time.

        Raises:
            VideoError: FFmpeg refuses the film in this format.
            OutputError: The file cannot be written.
        """
        with write_errors(self._path):
            if self._stream is None:
                self._stream = self._open_stream(frame)
                self._sound.open_streams()
            encoded = _even(frame.picture).frame
            encoded.pts, encoded.time_base = frame.pts - self._offset, frame.time_base
            self._sound.copy_until(frame.time_s)
            self._container.mux(self._stream.encode(encoded))

    def _open_stream(self, frame: Frame) -> av.VideoStream:
        if self._start_s > 0 or frame.time_s > FAR_START_S:
            self._offset = frame.pts  # a cut begins at zero, and so does its sound
            self._sound.begin_at(frame.time_s)
        picture = _even(frame.picture)
        stream = self._container.add_stream(
            "libx264", rate=self._source.fps, options={"crf": str(CRF), "preset": PRESET}
        )
        stream.height, stream.width = picture.size_hw
        stream.pix_fmt = PIXEL_FORMAT
        stream.time_base = stream.codec_context.time_base = frame.time_base
        context = stream.codec_context
        context.sample_aspect_ratio = frame.pixel_aspect
        context.colorspace, context.color_range = picture.space.matrix, picture.space.color_range
        context.color_primaries, context.color_trc = self._source.primaries, self._source.transfer
        return stream

    def _finish(self) -> None:
        if self._stream is None:
            raise VideoError(
                f"{self._source.path} has no frame between --start and --end; choose other times"
            )
        self._container.mux(self._stream.encode(None))
        self._sound.copy_until(float("inf"))


class Sound:
    """The audio streams of a source, copied packet by packet into another file.

    Args:
        source: Film whose sound is copied.
        target: File to copy it into.
        start_s: Where a cut begins, counted from the film's first frame.
        end_s: Where it ends; None is the source's end.
    """

    def __init__(
        self,
        source: VideoInfo,
        target: av.container.OutputContainer,
        start_s: float,
        end_s: float | None,
    ) -> None:
        self._source = source
        self._target = target
        self._seek_s = source.start_s + start_s if start_s > 0 else None
        self._first_s = float("-inf")
        self._last_s = float("inf") if end_s is None else source.start_s + end_s
        self._pending: av.Packet[Any] | None = None
        self._offset_s = 0.0
        self._streams: dict[int, av.AudioStream] = {}
        self._packets: Iterator[av.Packet[Any]] = iter(())

    def __enter__(self) -> Self:
        with read_errors(self._source.path):
            self._container = av.open(self._source.path)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._container.close()

    def begin_at(self, time_s: float) -> None:
        """Leave out what sounds before a time, and let that time be zero."""
        self._first_s = self._offset_s = time_s

    def open_streams(self) -> None:
        """Add the source's audio streams to the target, before its first packet is written.

        Raises:
            VideoError: The target's format cannot hold them.
        """
        inputs = list(self._container.streams.audio)
        for stream in inputs:
            try:
                self._streams[stream.index] = self._target.add_stream_from_template(stream)
            except ValueError as error:
                raise VideoError(
                    f"{self._source.path} has {stream.codec_context.name} sound, which "
                    f"{self._target.format.name} cannot hold; choose an --out that ends in "
                    ".mov or .mkv"
                ) from error
        if inputs:
            self._packets = self._demux(inputs)

    def copy_until(self, time_s: float) -> None:
        """Copy the packets that start before a time, so that sound and picture lie side by side."""
        while (packet := self._pending or self._next()) is not None:
            start_s = _start_s(packet)
            if start_s > time_s:
                self._pending = packet
                return
            self._pending = None
            if self._first_s <= start_s < self._last_s:
                self._mux(packet)

    def _demux(self, inputs: list[av.AudioStream]) -> Iterator["av.Packet[Any]"]:
        """Yield the packets from the beginning of the cut on, and perhaps some before it."""
        if self._seek_s is not None and seek(self._container, inputs[0], self._seek_s):
            packets = _timed(self._container.demux(inputs))
            first = next(packets, None)
            if first is not None and _start_s(first) <= self._seek_s:
                yield first
                yield from packets
                return
        if self._seek_s is not None:  # the format cannot seek, or went too far
            self._container.seek(0)
        yield from _timed(self._container.demux(inputs))

    def _next(self) -> "av.Packet[Any] | None":
        with read_errors(self._source.path):
            return next(self._packets, None)

    def _mux(self, packet: "av.Packet[Any]") -> None:
        if self._offset_s:
            assert packet.time_base is not None and packet.dts is not None
            units = int(Fraction(self._offset_s) / packet.time_base)
            packet.dts -= units
            packet.pts = packet.dts if packet.pts is None else packet.pts - units
        packet.stream = self._streams[packet.stream.index]
        self._target.mux(packet)


def _timed(packets: Iterator["av.Packet[Any]"]) -> Iterator["av.Packet[Any]"]:
    """Leave out packets without a time: the empty one at a stream's end is such."""
    return (packet for packet in packets if packet.dts is not None)


def _start_s(packet: "av.Packet[Any]") -> float:
    assert packet.dts is not None and packet.time_base is not None
    return float(packet.dts * packet.time_base)


def _even(picture: Picture) -> Picture:
    """Repeat the last row or column where a side is odd: encoders of halved chroma want it so."""
    height, width = picture.size_hw
    return picture.padded((height + height % 2, width + width % 2))
