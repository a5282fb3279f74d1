"""Write a video to a file, at the frames' own times, with the source's sound, subtitles and tags.

The video is first written as a part (`part_path`), in a form that plays wherever it is cut off. In
the end it is copied into its final form (`whole_path`), which `Outputs` renames to its target.
"""

import os
import sys
from collections.abc import Mapping
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Self

from roadseg.errors import VideoError
from roadseg.files import check_writable, temporary_path
from roadseg.video.errors import write_errors
from roadseg.video.frame import Frame
from roadseg.video.write.companions import Origin
from roadseg.video.write.encoder import PERIOD_S
from roadseg.video.write.encoding import FRAGMENTED, Encoding
from roadseg.video.write.mux import Muxing, unbroken
from roadseg.video.write.part import (
    cut_torn_head,
    measure_part,
    note_settings,
    part_path,
    whole_gops,
    whole_path,
)
from roadseg.video.write.remux import remux
from roadseg.video.write.sink import open_film

RENAMES_OPEN_FILES = sys.platform != "win32"
"""Whether a file that is being written can be given another name."""


def check_output(path: Path, encoding: Encoding, *, overwrite: bool) -> None:
    """Find out early whether `path` can be written.

    Raises:
        VideoError: Its suffix is none of ours, or it exists.
        ConfigError: It cannot be encoded so.
        OutputError: Its folder takes no files.
    """
    encoding.codec_for(path)
    if path.is_dir():
        raise VideoError(f"{path} is a folder; give a file name")
    if os.path.lexists(path) and not overwrite:
        raise VideoError(f"{path} exists; choose another name or add --overwrite")
    check_writable(path)


class VideoWriter:
    """A video being written; it is complete, at `whole_path`, once the block ends without an error.

    Args:
        path: File to write.
        origin: Source of the frames, and of everything else.
        encoding: Codec and quality.
        record: Settings to store beside the part, for a run that resumes it.
        kept: Frames of an unfinished run that are kept; new frames are appended to them.
    """

    def __init__(
        self,
        path: Path,
        origin: Origin,
        encoding: Encoding,
        *,
        record: Mapping[str, str] | None = None,
        kept: int = 0,
    ) -> None:
        self._path = path
        self._origin = origin
        self._encoding = encoding
        self._codec = encoding.codec_for(path)
        self._is_mp4 = path.suffix.lower() in FRAGMENTED
        self._part = part_path(path)
        self._record = record
        self._kept = kept
        # A resumed part is written beside the old one until it holds as many frames.
        self._place = temporary_path(self._part) if kept else self._part
        self._compare_at_s = -inf

    def __enter__(self) -> Self:
        opened = open_film(self._place, unbroken(is_mp4=self._is_mp4))
        self._muxing = Muxing(self._path, opened, self._origin, self._encoding, self._codec)
        self._muxer = self._muxing.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._muxing.__exit__(kind, error, traceback)
        if kind is None:
            with write_errors(self._path):
                self._take_over()
                self._remux(whole_path(self._path))
            return
        cut_torn_head(self._place)
        self._take_over()
        if self._place != self._part:
            self._place.unlink(missing_ok=True)

    def write(self, frame: Frame) -> None:
        """Encode a frame at its own time.

        Raises:
            VideoError: FFmpeg refuses the video in this format.
            OutputError: The file cannot be written.
        """
        with write_errors(self._path):
            if not self._muxer.has_begun:
                self._begin(frame)
            self._muxer.write(frame)
            if RENAMES_OPEN_FILES and frame.time_s >= self._compare_at_s:
                self._compare_at_s = frame.time_s + PERIOD_S
                self._take_over()

    def _begin(self, frame: Frame) -> None:
        """Add all streams to the file, and the frames that are kept."""
        self._muxer.begin(frame)
        if self._kept:
            self._muxer.copy(whole_gops(self._part))
        else:
            self._part.unlink(missing_ok=True)  # or the record below would be taken for its own
            if self._record is not None:
                note_settings(self._path, self._record)

    def _take_over(self) -> None:
        """Replace the part that is resumed, once the new file holds all of its frames.

        Before that, they would be lost if this run failed. Where no open file can be renamed, the
        new one is lost if the process is killed.
        """
        if self._place != self._part and measure_part(self._place).frames >= self._kept:
            self._place.replace(self._part)  # what follows goes there too
            self._place = self._part

    def _remux(self, target: Path) -> None:
        tag = self._codec.mp4_tag if self._is_mp4 else None
        remux(self._part, target, mp4_tag=tag, describe=self._muxer.describe)
