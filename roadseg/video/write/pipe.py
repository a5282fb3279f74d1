"""Write a video to standard output, with sound, subtitles and tags, in a form that can be streamed.

That is fragmented MP4, or Matroska where MP4 cannot hold the video's sound or subtitles.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import av

from roadseg.video.errors import write_errors
from roadseg.video.frame import Frame
from roadseg.video.read.read_log import ReadLog
from roadseg.video.write.companions import Companions, Origin
from roadseg.video.write.encoding import Encoding
from roadseg.video.write.mux import IN_PIECES, TIMES_AS_THEY_ARE, Muxing
from roadseg.video.write.sink import open_pipe

NAME = Path("standard output")
"""Name of standard output in errors."""


@dataclass(frozen=True)
class Form:
    """A format of the stream."""

    ffmpeg: str
    """FFmpeg's name of it."""
    name: Path
    """Name of a file in this format, for its suffix."""
    options: Mapping[str, str]
    """FFmpeg's options for it."""


MP4 = Form("mp4", Path("-.mp4"), IN_PIECES)
MATROSKA = Form("matroska", Path("-.mkv"), TIMES_AS_THEY_ARE)


class PipeWriter:
    """A video being written to standard output; it is finished at the end of the block.

    Args:
        origin: Source of the frames, and of everything else.
        encoding: Codec and quality.
    """

    def __init__(self, origin: Origin, encoding: Encoding) -> None:
        self._origin = origin
        self._encoding = encoding

    def __enter__(self) -> Self:
        form = form_for(self._origin)
        opened = open_pipe(form.ffmpeg, {"flush_packets": "1", **form.options})
        codec = self._encoding.codec_for(form.name)
        self._muxing = Muxing(NAME, opened, self._origin, self._encoding, codec)
        self._muxer = self._muxing.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._muxing.__exit__(kind, error, traceback)

    def write(self, frame: Frame) -> None:
        """Encode a frame at its own time.

        Raises:
            BrokenPipeError: The reader has closed the pipe.
            VideoError: FFmpeg refuses the video in this format.
            OutputError: It cannot be written.
        """
        with write_errors(NAME):
            if not self._muxer.has_begun:
                self._muxer.begin(frame)
                container = self._muxer.container
                self._muxer.describe(container, container.streams.video[0])
            self._muxer.write(frame)


def form_for(origin: Origin) -> Form:
    """Return the format that holds more of a video's other streams, MP4 if both hold as many."""
    return min((MP4, MATROSKA), key=lambda form: _count_lost(origin, form))


def _count_lost(origin: Origin, form: Form) -> int:
    """Return how many of a video's streams a format cannot hold without encoding them anew."""
    sound = "copy" if origin.sound == "auto" else origin.sound
    trial = replace(origin, log=ReadLog(), sound=sound)
    with (
        av.open(io.BytesIO(), "w", format=form.ffmpeg) as container,
        Companions(trial, container) as companions,
    ):
        companions.open_streams()
    return len(trial.log.left_behind)
