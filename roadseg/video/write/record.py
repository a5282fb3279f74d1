"""Record the live view, in one video or in segments.

A video is first written as a part (`part_path`), in a form that plays wherever a crash cuts it off.
It is copied into its final form and renamed when it is complete, also if the run is stopped. A part
that a crash left is never overwritten.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

import av

from roadseg.errors import VideoError
from roadseg.files import replacing, written_alone
from roadseg.video.errors import write_errors
from roadseg.video.frame import Frame
from roadseg.video.picture import AnyPicture, Picture
from roadseg.video.write.encoding import FRAGMENTED, Encoding
from roadseg.video.write.film import check_output
from roadseg.video.write.mux import set_up_pictures, unbroken
from roadseg.video.write.part import part_path
from roadseg.video.write.priority import kept_priority
from roadseg.video.write.remux import remux
from roadseg.video.write.sink import open_film

NOMINAL_FPS = 30
"""Nominal frame rate for the encoder; every frame has its own time."""
KEYFRAME_S = 2
"""Seconds between keyframes at that rate."""


class Recorder:
    """Records pictures with their own times.

    Args:
        path: Video to write; with `segment_s`, a number is put before its suffix.
        segment_s: Begin a new video when one has run for this time; None writes one video.
        overwrite: Replace an existing video. Segments never do, as their numbers continue.

    Raises:
        VideoError: The video or a part of it exists, or its suffix is not one of ours.
        OutputError: Its folder takes no files.
    """

    def __init__(
        self, path: Path, *, segment_s: float | None = None, overwrite: bool = False
    ) -> None:
        self._encoding = Encoding()
        check_output(path, self._encoding, overwrite=overwrite or segment_s is not None)
        if part_path(path).exists() and not overwrite:
            raise VideoError(
                f"{part_path(path)} is there, a recording that was cut off; give it another name, "
                "choose another --out or add --overwrite"
            )
        self._paths = iter([path]) if segment_s is None else _numbered(path)
        self._segment_s = segment_s
        self._film = contextlib.ExitStack()
        self._first: Frame | None = None
        self.written: list[Path] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._finish()

    @kept_priority()
    def write(self, frame: Frame, picture: AnyPicture) -> None:
        """Add a picture at the time of a frame.

        Raises:
            OutputError: The video cannot be written.
        """
        if self._first and self._segment_s and _since_s(self._first, frame) >= self._segment_s:
            self._finish()
        encoded = picture.encodable()
        if self._first is None:
            self._begin(frame, encoded)
        assert self._first is not None
        with write_errors(self._path):
            # A source may reconnect with another size.
            encoded = Picture(encoded).resized((self._stream.height, self._stream.width)).frame
            encoded.pts, encoded.time_base = frame.pts - self._first.pts, frame.time_base
            self._container.mux(self._stream.encode(encoded))

    def _begin(self, frame: Frame, picture: av.VideoFrame) -> None:
        self._path = next(self._paths)
        with contextlib.ExitStack() as claim:
            claim.enter_context(written_alone(self._path, "--out"))
            with contextlib.ExitStack() as film, write_errors(self._path):
                options = unbroken(is_mp4=self._path.suffix.lower() in FRAGMENTED)
                self._container = film.enter_context(open_film(part_path(self._path), options))
                self._stream = self._add_stream(frame, picture)
                self._film = film.pop_all()
            self._claim = claim.pop_all()
        self._first = frame

    def _add_stream(self, frame: Frame, picture: av.VideoFrame) -> av.VideoStream:
        codec = self._encoding.codec_for(self._path)
        pixels = picture.height * picture.width
        options = self._encoding.options(codec, Fraction(NOMINAL_FPS), pixels, None)
        options |= {"g": str(KEYFRAME_S * NOMINAL_FPS)}
        stream = self._container.add_stream(codec.encoder, rate=NOMINAL_FPS, options=options)
        assert isinstance(stream, av.VideoStream)
        set_up_pictures(stream, frame, picture)
        return stream

    def _finish(self) -> None:
        if self._first is None:
            return
        self._first = None
        part = part_path(self._path)
        with self._claim, write_errors(self._path):
            with self._film:
                self._container.mux(self._stream.encode(None))
            with replacing(self._path) as temporary:
                remux(part, temporary)
            part.unlink()
        self.written.append(self._path)


def _numbered(path: Path) -> Iterator[Path]:
    """Yield unused names with a number before the suffix, after the highest one in use."""
    pattern = re.compile(rf"{re.escape(path.stem)}-(\d+)")
    matches = (pattern.fullmatch(p.stem) for p in path.parent.glob(f"*{path.suffix}"))
    taken = [int(match[1]) for match in matches if match]
    names = (path.with_stem(f"{path.stem}-{n:04d}") for n in count(max(taken, default=0) + 1))
    # A crash may have left a part.
    return (n for n in names if not (os.path.lexists(n) or os.path.lexists(part_path(n))))


def _since_s(first: Frame, frame: Frame) -> float:
    return frame.time_s - first.time_s
