"""Write a film: H.264 that plays everywhere, the frames' own timestamps, the source's sound."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation
from numpy.typing import NDArray

from roadseg.errors import VideoError
from roadseg.frame import Frame
from roadseg.video.errors import read_errors, write_errors
from roadseg.video.source import VideoInfo

SUFFIXES = (".mp4", ".mov", ".mkv")
CRF = 20
"""Constant quality of x264: 0 is lossless, 51 is worst; around 20 the eye sees no loss."""
PRESET = "veryfast"
TO_YUV = Interpolation.BILINEAR | Interpolation.ACCURATE_RND


def check_output(path: Path, *, overwrite: bool) -> None:
    """Find out early whether `path` can be written.

    Raises:
        VideoError: Its suffix is none of ours, it exists, or its folder takes no files.
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


def temporary_path(path: Path) -> Path:
    """Return the name under which a file is written until it is whole."""
    return path.with_name(f".{path.stem}.part{path.suffix}")


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
            options = {"movflags": "+faststart"} if self._path.suffix != ".mkv" else {}
            temporary = temporary_path(self._path)
            stack.callback(temporary.unlink, missing_ok=True)
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
        with write_errors(self._path), self._exits:  # which removes the temporary file
            if kind is None:
                self._finish()
                temporary_path(self._path).replace(self._path)

    def write(self, frame: Frame) -> None:
        """Encode a frame at its own time.

        Raises:
            VideoError: The file cannot be written.
        """
        with write_errors(self._path):
            if self._stream is None:
                self._stream = self._open_stream(frame)
                self._sound.open_streams()
            picture = _even(frame.picture)
            rgb = av.VideoFrame.from_ndarray(picture, format="rgb24")
            encoded = rgb.reformat(
                format="yuv420p",
                interpolation=TO_YUV,
                dst_colorspace=self._source.matrix,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
            )
            encoded.pts, encoded.time_base = frame.pts - self._offset, frame.time_base
            self._sound.copy_until(frame.time_s)
            self._container.mux(self._stream.encode(encoded))

    def _open_stream(self, frame: Frame) -> av.VideoStream:
        if self._start_s > 0:
            self._offset = frame.pts  # a cut begins at zero
            self._sound.offset_s = frame.time_s
        height, width = _even(frame.picture).shape[:2]
        stream = self._container.add_stream(
            "libx264", rate=self._source.fps, options={"crf": str(CRF), "preset": PRESET}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = frame.time_base
        context = stream.codec_context
        context.colorspace, context.color_range = self._source.matrix, ColorRange.MPEG
        context.color_primaries, context.color_trc = self._source.primaries, self._source.transfer
        return stream

    def _finish(self) -> None:
        if self._stream is None:
            raise VideoError(f"{self._source.path} gave no frame between --start and --end")
        self._container.mux(self._stream.encode(None))
        self._sound.copy_until(float("inf"))
        self._container.close()


class Sound:
    """The audio streams of a source, copied packet by packet into another file."""

    def __init__(
        self,
        source: VideoInfo,
        target: av.container.OutputContainer,
        start_s: float,
        end_s: float | None,
    ) -> None:
        self._source = source
        self._target = target
        self._first_s = source.start_s + start_s if start_s > 0 else float("-inf")
        self._last_s = float("inf") if end_s is None else source.start_s + end_s
        self._pending: av.Packet[Any] | None = None
        self.offset_s = 0.0
        """Seconds to take off every timestamp."""

    def __enter__(self) -> Self:
        with read_errors(self._source.path):
            self._container = av.open(self._source.path)
        self._streams: dict[int, av.AudioStream] = {}
        self._packets: Iterator[av.Packet[Any]] = iter(())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._container.close()

    def open_streams(self) -> None:
        """Add the source's audio streams to the target, before its first packet is written."""
        inputs = list(self._container.streams.audio)
        for stream in inputs:
            self._streams[stream.index] = self._target.add_stream_from_template(stream)
        if inputs:
            if self._first_s > 0:
                self._container.seek(int(self._first_s * av.time_base))
            self._packets = self._container.demux(inputs)

    def copy_until(self, time_s: float) -> None:
        """Copy the packets that start before a time, so that sound and picture lie side by side."""
        while (packet := self._pending or self._next()) is not None:
            assert packet.time_base is not None
            start_s = float((packet.dts or 0) * packet.time_base)
            if start_s > time_s:
                self._pending = packet
                return
            self._pending = None
            if self._first_s <= start_s < self._last_s:
                self._mux(packet)

    def _next(self) -> "av.Packet[Any] | None":
        for packet in self._packets:
            if packet.dts is not None:  # the empty packet at a stream's end has none
                return packet
        return None

    def _mux(self, packet: "av.Packet[Any]") -> None:
        if self.offset_s:
            assert packet.time_base is not None and packet.dts is not None
            units = int(Fraction(self.offset_s) / packet.time_base)
            packet.dts -= units
            packet.pts = packet.dts if packet.pts is None else packet.pts - units
        packet.stream = self._streams[packet.stream.index]
        self._target.mux(packet)


def _even(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat the last row or column where a side is odd: halved chroma needs even sides."""
    height, width = picture.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return picture
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
