"""Write a film: at the frames' own times, with all that its source has besides pictures.

While it is written, the film has another name (`part_path`) and a form that plays wherever it is
cut off; it is brought to its last form and takes its name when it is whole.
"""

import contextlib
import os
from collections.abc import Mapping
from fractions import Fraction
from math import floor, inf
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import av

from roadseg.errors import VideoError
from roadseg.files import check_writable, replacing, temporary_path
from roadseg.frame import Frame
from roadseg.picture import PIXEL_FORMAT
from roadseg.video.companions import (
    KINDS,
    Companions,
    Tags,
    copy_stream,
    read_tags,
    shifted_chapters,
)
from roadseg.video.encoding import FRAGMENTED, SILENCE, Encoding
from roadseg.video.errors import write_errors
from roadseg.video.part import note_settings, part_path, remove_part, whole_gops, with_dts
from roadseg.video.source import ReadLog, VideoInfo

if TYPE_CHECKING:
    from av.container.core import Chapter

FAR_START_S = 1.0
"""A film whose clock starts later than this is moved to zero: recorders start anywhere."""
IN_PIECES = {"movflags": "frag_keyframe+delay_moov+default_base_moof"}
"""What makes MP4 play wherever it is cut off."""
INDEX_IN_FRONT = {"movflags": "faststart+use_metadata_tags"}
"""What makes MP4 play while it loads, and keep tags of any name."""
TIMES_AS_THEY_ARE = {"avoid_negative_ts": "disabled"}
"""What keeps Matroska from moving a film whose sound begins a little before it."""


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
    if path.exists() and not overwrite:
        raise VideoError(f"{path} exists; choose another name or add --overwrite")
    check_writable(path)


class VideoWriter:
    """A film being written; it takes its name when the block ends without an error.

    Args:
        path: File to write.
        source: Film that the frames and all else come from.
        log: Where the source's reader notes the time of its first frame.
        encoding: Codec and quality.
        start_s: Time in the source at which the frames begin, counted from its first frame.
        end_s: Time at which they end; None is the source's end.
        record: What to note beside the part, for a run that goes on from it.
        resume: Keep what an unfinished run left; the frames that come go behind it.
    """

    def __init__(
        self,
        path: Path,
        source: VideoInfo,
        log: ReadLog,
        encoding: Encoding,
        *,
        start_s: float = 0.0,
        end_s: float | None = None,
        record: Mapping[str, str] | None = None,
        resume: bool = False,
    ) -> None:
        self._path = path
        self._source = source
        self._log = log
        self._encoding = encoding
        self._codec = encoding.codec_for(path)
        self._is_mp4 = path.suffix.lower() in FRAGMENTED
        self._start_s, self._end_s = start_s, end_s
        self._part = part_path(path)
        self._record = record
        self._resume = resume
        self._offset = 0
        self._stream: av.VideoStream | None = None
        self._last_dts: Fraction | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack, write_errors(self._path):
            options = {"flush_packets": "1", **(IN_PIECES if self._is_mp4 else TIMES_AS_THEY_ARE)}
            name = temporary_path(self._part) if self._resume else self._part
            self._container = stack.enter_context(av.open(name, "w", container_options=options))
            self._companions = stack.enter_context(
                Companions(self._source, self._container, self._start_s, self._end_s)
            )
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
                    self._finish()
                self._publish()
            return
        # What ended the run is what counts: a full disk refuses the last pictures too.
        with contextlib.suppress(av.FFmpegError, OSError), self._exits:
            if self._stream is not None:
                self._mux(self._stream.encode(None))
        if self._resume:
            temporary_path(self._part).unlink(missing_ok=True)

    def write(self, frame: Frame) -> None:
        """Encode a frame at its own time.

        Raises:
            VideoError: FFmpeg refuses the film in this format.
            OutputError: The file cannot be written.
        """
        with write_errors(self._path):
            self._stream = self._stream or self._begin(frame)
            encoded = frame.picture.evened().frame
            encoded.pts, encoded.time_base = frame.pts - self._offset, frame.time_base
            self._companions.copy_until(frame.time_s)
            self._mux(self._stream.encode(encoded))

    def _begin(self, frame: Frame) -> av.VideoStream:
        """Add all streams to the file, and what an unfinished run wrote."""
        first_pts = frame.pts if self._log.first_pts is None else self._log.first_pts
        first_s = float(first_pts * frame.time_base)
        if self._start_s > 0 or first_s > FAR_START_S:
            self._offset = first_pts  # a cut begins at zero, and so does its sound
            self._companions.begin_at(first_s)
        stream = self._add_stream(frame)
        self._companions.open_streams()
        if self._record is not None:
            note_settings(self._path, self._record)
        if self._resume:
            for packet in whole_gops(self._part):
                assert packet.pts is not None and packet.time_base is not None
                packet.stream = stream
                offset_s = self._offset * frame.time_base
                self._companions.copy_until(float(packet.pts * packet.time_base + offset_s))
                self._mux([packet])
            temporary_path(self._part).replace(self._part)  # what follows goes there too
        return stream

    def _add_stream(self, frame: Frame) -> av.VideoStream:
        picture = frame.picture.evened()
        height, width = picture.size_hw
        scale = height * width / (self._source.size_hw[0] * self._source.size_hw[1])
        bit_rate = self._source.bit_rate and self._source.bit_rate * scale
        fps = self._source.fps
        os.environ |= SILENCE
        stream = self._container.add_stream(
            self._codec.encoder,
            rate=fps,
            options=self._encoding.options(self._codec, fps, height * width, bit_rate),
        )
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, PIXEL_FORMAT
        stream.time_base = stream.codec_context.time_base = frame.time_base
        context = stream.codec_context
        context.sample_aspect_ratio = frame.pixel_aspect
        context.colorspace, context.color_range = picture.space.matrix, picture.space.color_range
        context.color_primaries, context.color_trc = self._source.primaries, self._source.transfer
        return stream

    def _mux(self, packets: "list[av.Packet[Any]]") -> None:
        """Write packets of the video stream, those of two encoders' joint in order."""
        for packet in packets:
            assert packet.dts is not None and packet.time_base is not None
            dts = packet.dts * packet.time_base
            if self._last_dts is not None and dts <= self._last_dts:
                packet.dts = floor(self._last_dts / packet.time_base) + 1
                dts = packet.dts * packet.time_base
            self._last_dts = dts
            self._container.mux(packet)

    def _finish(self) -> None:
        if self._stream is None:
            raise VideoError(
                f"{self._source.path} has no frame between --start and --end; choose other times"
            )
        self._mux(self._stream.encode(None))
        self._companions.copy_until(float("inf"))

    def _publish(self) -> None:
        """Bring the part to its last form and name."""
        with replacing(self._path) as temporary:
            self._remux(temporary)
        remove_part(self._path)

    def _remux(self, target: Path) -> None:
        tags = read_tags(self._source)
        options = INDEX_IN_FRONT if self._is_mp4 else TIMES_AS_THEY_ARE
        with av.open(self._part) as part, av.open(target, "w", container_options=options) as film:
            film.metadata.update(tags.film)
            film.set_chapters(self._chapters(tags))
            streams = {
                stream.index: copy_stream(stream, film, self._path)
                for stream in part.streams
                if stream.type in ("video", *KINDS)
            }
            pictures = streams[part.streams.video[0].index]
            pictures.metadata.update(tags.pictures)
            if self._is_mp4 and self._codec.mp4_tag:
                pictures.codec_context.codec_tag = self._codec.mp4_tag
            for packet in with_dts(part.demux([part.streams[index] for index in streams])):
                packet.stream = streams[packet.stream.index]
                film.mux(packet)

    def _chapters(self, tags: Tags) -> "list[Chapter]":
        first_s = self._source.start_s + self._start_s if self._start_s > 0 else -inf
        last_s = inf if self._end_s is None else self._source.start_s + self._end_s
        return shifted_chapters(
            tags.chapters, first_s, last_s, float(self._offset * self._source.time_base)
        )
