"""Write a film to a file: at the frames' own times, with all that its source has besides pictures.

While it is written, the film has another name (`part_path`) and a form that plays wherever it is
cut off; its last form is a copy (`whole_path`). `Outputs` gives that its name.
"""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import av

from roadseg.errors import VideoError
from roadseg.files import check_writable, temporary_path
from roadseg.frame import Frame
from roadseg.video.companions import KINDS, Companions
from roadseg.video.copies import AS_FFMPEG_WOULD, copy_stream
from roadseg.video.encoding import FRAGMENTED, Encoding
from roadseg.video.errors import write_errors
from roadseg.video.mux import IN_PIECES, TIMES_AS_THEY_ARE, Muxer
from roadseg.video.origin import Origin
from roadseg.video.part import note_settings, part_path, whole_gops, whole_path, with_dts
from roadseg.video.writing import open_film

INDEX_IN_FRONT = {"movflags": "faststart+use_metadata_tags", **AS_FFMPEG_WOULD}
"""What makes MP4 play while it loads, and keep tags of any name."""


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
    """A film being written; it is whole, at `whole_path`, when the block ends without an error.

    Args:
        path: File to write.
        origin: What the frames and all else come from.
        encoding: Codec and quality.
        record: What to note beside the part, for a run that goes on from it.
        resume: Keep what an unfinished run left; the frames that come go behind it.
    """

    def __init__(
        self,
        path: Path,
        origin: Origin,
        encoding: Encoding,
        *,
        record: Mapping[str, str] | None = None,
        resume: bool = False,
    ) -> None:
        self._path = path
        self._origin = origin
        self._encoding = encoding
        self._codec = encoding.codec_for(path)
        self._is_mp4 = path.suffix.lower() in FRAGMENTED
        self._part = part_path(path)
        self._record = record
        self._resume = resume

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack, write_errors(self._path):
            options = {"flush_packets": "1", **(IN_PIECES if self._is_mp4 else TIMES_AS_THEY_ARE)}
            name = temporary_path(self._part) if self._resume else self._part
            container = stack.enter_context(open_film(name, options))
            companions = stack.enter_context(Companions(self._origin, container))
            self._muxer = Muxer(container, self._origin, companions, self._encoding, self._codec)
            self._exits = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            with write_errors(self._path):
                with self._exits:
                    self._muxer.finish()
                self._remux(whole_path(self._path))
            return
        # What ended the run is what counts: a full disk refuses the last pictures too.
        with contextlib.suppress(av.FFmpegError, OSError), self._exits:
            self._muxer.flush()
        if self._resume:
            temporary_path(self._part).unlink(missing_ok=True)

    def write(self, frame: Frame) -> None:
        """Encode a frame at its own time.

        Raises:
            VideoError: FFmpeg refuses the film in this format.
            OutputError: The file cannot be written.
        """
        with write_errors(self._path):
            if not self._muxer.has_begun:
                self._begin(frame)
            self._muxer.write(frame)

    def _begin(self, frame: Frame) -> None:
        """Add all streams to the file, and what an unfinished run wrote."""
        self._muxer.begin(frame)
        if self._record is not None:
            note_settings(self._path, self._record)
        if self._resume:
            self._muxer.copy(whole_gops(self._part))
            temporary_path(self._part).replace(self._part)  # what follows goes there too

    def _remux(self, target: Path) -> None:
        """Copy the part in its last form."""
        options = INDEX_IN_FRONT if self._is_mp4 else TIMES_AS_THEY_ARE
        with av.open(self._part) as part, open_film(target, options) as film:
            streams = {
                stream.index: copy_stream(stream, film)
                for stream in part.streams
                if stream.type in ("video", *KINDS)
            }
            pictures = streams[part.streams.video[0].index]
            self._muxer.describe(film, pictures)
            if self._is_mp4 and self._codec.mp4_tag:
                pictures.codec_context.codec_tag = self._codec.mp4_tag
            for packet in with_dts(part.demux([part.streams[index] for index in streams])):
                packet.stream = streams[packet.stream.index]
                film.mux(packet)
