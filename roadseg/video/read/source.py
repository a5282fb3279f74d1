"""Read a video: its properties, and its frames one by one with their timestamps.

A video is a file, an address on the network, or a series of images (`images`). What a file holds
becomes a `Frame` in steps, each in a file of its own:

- `demux` reads the packets, and goes on where the file is damaged.
- `timeline` moves their times to one continuous clock.
- `decode` decodes them, and notices each of which no frame comes.
- `frames` joins these steps, and gives each frame a time later than that of the one before.
- Here the file is opened, on the CPU or on a GPU, and sought in for the part that is wanted, whose
  frames are turned upright.

`ReadLog` notes what happens on the way.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from math import inf
from pathlib import Path
from typing import Any

import av

from roadseg.errors import VideoError
from roadseg.files import check_named
from roadseg.video.errors import check_source, read_errors
from roadseg.video.frame import FilmTime, Frame
from roadseg.video.objects import is_object, readable
from roadseg.video.picture import (
    AnyPicture,
    ColorSpace,
    Picture,
    has_chroma_left,
)
from roadseg.video.pyav import exact, open_for_reading
from roadseg.video.rates import USUAL_FPS
from roadseg.video.read.frames import all_frames, picture_stream
from roadseg.video.read.gpu_decoder import GpuDecoder, GpuGaveUp
from roadseg.video.read.images import find_images, is_picture, is_series, read_images
from roadseg.video.read.read_log import ReadLog as ReadLog
from roadseg.video.read.seek import read_from
from roadseg.video.read.streams import (
    film_stream,
    lost_said,
    others_said,
    stated_date,
    stated_end_s,
    stated_frames,
    stated_rate,
)
from roadseg.video.read.upright import color_space, orientation_of, pixel_aspect_of
from roadseg.video.url import Url

NETWORK_TIMEOUT_S = 10.0
"""Seconds of silence after which an address on the network counts as dead."""
LIVE_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtp", "udp", "srt", "tcp")
"""Schemes of live addresses, which cannot be read twice."""
LEAST_BIT_RATE = 1000
"""Bits a second below which the stated length is wrong, as the clock has jumped."""

OpenVideo = Callable[[Path | str], av.container.InputContainer]


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """Properties of a video, as its file states them."""

    path: Path | str
    """File, folder or pattern, or as text its address."""
    size_hw: tuple[int, int]
    """Height and width in pixels, upright."""
    orientation: tuple[int, int, int, int]
    """Orientation of its pictures, as `Picture.turned` takes it."""
    pixel_aspect: Fraction
    """Width of a pixel over its height, upright."""
    fps: Fraction
    """Average frame rate."""
    time_base: Fraction
    """Seconds a unit of `pts`."""
    start_s: float
    """Time of the first frame."""
    end_s: float | None
    """Time at which the last frame should end, if the file states it."""
    frame_count: int | None
    """Number of frames, if the file states it."""
    space: ColorSpace
    """Matrix and range of its samples, as tagged or assumed."""
    primaries: int
    """Colour primaries as tagged, as a code of H.273."""
    transfer: int
    """Transfer characteristics as tagged, as a code of H.273."""
    bits: int
    """Bits a sample."""
    chroma_left: bool = False
    """Whether samples of colour lie in the left column of their pixels, or in the middle."""
    stream_index: int = 0
    """Number of the file's stream that is labelled."""
    bit_rate: int | None = None
    """Bits a second of the pictures, if the file states it."""
    recorded: datetime | None = None
    """When it was recorded, in UTC, if the file states it."""
    left_out: tuple[str, ...] = ()
    """Other video streams of the file, in sentences."""
    images: tuple[Path, ...] = ()
    """The files, if it is a series of images."""

    @property
    def half_unit_s(self) -> float:
        """Half a unit of `pts` in seconds, within which a time is that of a frame."""
        return float(self.time_base) / 2

    @property
    def reopens(self) -> bool:
        """Whether it can be opened again, to read its sound and tags."""
        scheme = str(self.path).partition("://")[0]
        is_live = isinstance(self.path, str) and scheme in LIVE_SCHEMES
        return not self.images and not is_live


Decode = Callable[[VideoInfo, ReadLog, float, float | None], Iterator[Frame]]
"""Reads the frames of a video between two times, as `decode` does."""


def named(film: Path | str) -> Path | Url:
    """Return a video's name as `probe` takes it: an address is text, all else a path.

    Raises:
        ConfigError: It is empty, as a variable that is not set, or an address that cannot be.
    """
    check_named(film, "the name of a video")
    return film if isinstance(film, Path) else Url.if_one(film) or Path(film)


def probe(
    source: Path | str, image_fps: Fraction = USUAL_FPS, stream_index: int | None = None
) -> VideoInfo:
    """Open a video and return its properties.

    Args:
        source: File, folder or pattern of images, or as text an address.
        image_fps: Images a second, where it is a series of them.
        stream_index: Number of the stream to label; None chooses.

    Raises:
        VideoError: There is no such video, it is not one, or nothing in it decodes.
        ConfigError: The stream has no pictures.
    """
    source = named(source)
    if isinstance(source, Path):
        with read_errors(source):
            check_source(source)
            is_images = is_series(source) or is_picture(source)
        if is_images:
            return _probe_images(source, image_fps)
    with read_errors(source), open_input(source) as container:
        stream = film_stream(container, source, stream_index)
        first = next(all_frames(container, stream, ReadLog()), None)
        if first is None:
            raise VideoError(f"{source} holds no frame that decodes; give an intact video file")
        time_base = exact(stream.time_base)
        assert time_base is not None and first.pts is not None
        start_s = float(first.pts * time_base)
        is_stated = not 0 < (container.bit_rate or 0) < LEAST_BIT_RATE
        return VideoInfo(
            path=source,
            stream_index=stream.index,
            fps=stated_rate(stream) or USUAL_FPS,
            time_base=time_base,
            start_s=start_s,
            end_s=stated_end_s(stream, start_s) if is_stated else None,
            frame_count=stated_frames(stream),
            bit_rate=stream.codec_context.bit_rate or (container.bit_rate if is_stated else None),
            recorded=stated_date(container),
            left_out=others_said(container, stream) + lost_said(container, source),
            pixel_aspect=pixel_aspect_of(first, stream),
            **_properties_of(first),
        )


def _probe_images(source: Path, fps: Fraction) -> VideoInfo:
    paths = find_images(source)
    first = next(read_images(paths, fps, ReadLog()), None)
    if first is None:
        raise VideoError(f"{source} holds no image that can be read; give intact files")
    return VideoInfo(
        path=source,
        images=paths,
        fps=fps,
        time_base=1 / fps,
        start_s=0.0,
        end_s=float(len(paths) / fps),
        frame_count=len(paths),
        pixel_aspect=Fraction(1),
        **_properties_of(first),
    )


def _properties_of(frame: av.VideoFrame) -> dict[str, Any]:
    """Return the properties of a video that its first frame has, as fields of `VideoInfo`."""
    orientation = orientation_of(frame)
    lies = orientation[0] == 0
    return {
        "size_hw": (frame.width, frame.height) if lies else (frame.height, frame.width),
        "orientation": orientation,
        "space": color_space(frame),
        "chroma_left": has_chroma_left(frame),
        "primaries": int(frame.color_primaries),
        "transfer": int(frame.color_trc),
        "bits": max(component.bits for component in frame.format.components),
    }


def open_input(source: Path | str) -> av.container.InputContainer:
    """Open a file, an object in storage, or an address with a timeout."""
    timeout_s = NETWORK_TIMEOUT_S if isinstance(source, str) and not is_object(source) else None
    return open_for_reading(readable(source), timeout=timeout_s)


def decode(
    info: VideoInfo,
    log: ReadLog,
    start_s: float = 0.0,
    end_s: float | None = None,
    gpu: GpuDecoder | None = None,
    threads: int | None = None,
) -> Iterator[Frame]:
    """Yield the frames of a video, upright, each later than the one before.

    A packet that does not decode is skipped and counted in `log`. A frame without a time, or with
    one that does not increase, is placed right after the frame before it and counted too.

    Args:
        info: The video.
        log: Filled while reading.
        start_s: Leave out frames before this time, counted from the first frame.
        end_s: Stop at this time; None reads to the end.
        gpu: GPU that decodes what it can; None leaves all to the CPU.
        threads: Cores of a run, of which the decoder on the CPU takes half; None is all.

    Raises:
        VideoError: The video cannot be opened.
    """
    first_s, last_s = info.start_s + start_s, None if end_s is None else info.start_s + end_s
    from_s = first_s if start_s > 0 else None
    with read_errors(info.path):
        for decoded in _decode_by(gpu, info, log, from_s, threads):
            time_s = _time_s(decoded, info)
            if last_s is not None and time_s >= last_s - info.half_unit_s:
                return
            if time_s < first_s - info.half_unit_s:
                continue
            shown_s = float((decoded.duration or 0) * info.time_base) or float(1 / info.fps)
            log.read_until_s = time_s + shown_s
            assert decoded.pts is not None  # `all_frames` sees to it
            if log.first_pts is None:
                log.first_pts = decoded.pts
            picture = _picture(decoded, info, log, gpu)
            film_time = FilmTime(time_s - info.start_s, float(1 / info.fps))
            yield Frame(
                picture, decoded.pts, info.time_base, info.pixel_aspect, film_time=film_time
            )
        log.reached_end = True


def decode_keyframes(info: VideoInfo) -> Iterator[Picture]:
    """Yield the pictures of a video that decode without others, upright; of images, all.

    Raises:
        VideoError: The video cannot be opened.
    """
    log = ReadLog()
    if info.images:
        yield from (_upright_picture(i, info, log) for i in read_images(info.images, info.fps, log))
        return
    with read_errors(info.path), open_input(info.path) as container:
        stream = picture_stream(container, info.stream_index)
        stream.codec_context.skip_frame = "NONKEY"
        for decoded in all_frames(container, stream, log):
            yield _upright_picture(decoded, info, log)


def _decode_by(
    gpu: GpuDecoder | None,
    info: VideoInfo,
    log: ReadLog,
    from_s: float | None,
    threads: int | None,
) -> Iterator[av.VideoFrame]:
    """Yield the frames by a GPU's decoder, and by the CPU's from where that gives up."""
    last_s = -inf
    if gpu is not None:
        log.on_gpu = True
        try:
            for frame in _decode_from(info, log, from_s, gpu.open):
                log.decoder = gpu.name if gpu.holds(frame) else log.decoder
                last_s = from_s = _time_s(frame, info)
                yield frame
            return
        except (GpuGaveUp, av.FFmpegError) as error:
            log.hand_over(getattr(error, "strerror", None) or str(error), last_s - info.start_s)
        finally:
            log.on_gpu = False
    frames = _decode_from(info, log, from_s, open_input, threads)
    yield from (frame for frame in frames if _time_s(frame, info) > last_s)


def _decode_from(
    info: VideoInfo,
    log: ReadLog,
    from_s: float | None,
    open_video: OpenVideo,
    threads: int | None = None,
) -> Iterator[av.VideoFrame]:
    """Yield the frames from a keyframe at or before a time on, or all of them."""
    if info.images:
        yield from read_images(info.images, info.fps, log)
        return
    if from_s is not None:
        with open_video(info.path) as container:
            stream = picture_stream(container, info.stream_index, threads)
            frames = all_frames(container, stream, log, from_s)
            sought = read_from(
                container, stream, from_s, frames, lambda frame: _time_s(frame, info)
            )
            if sought is not None:
                yield from sought
                return
    # Some formats cannot seek, or seek past the time; then the video is read from its beginning.
    log.forget_faults()
    with open_video(info.path) as container:
        yield from all_frames(
            container, picture_stream(container, info.stream_index, threads), log, from_s
        )


def _time_s(frame: av.VideoFrame, info: VideoInfo) -> float:
    assert frame.pts is not None  # `all_frames` sees to it
    return float(frame.pts * info.time_base)


def _picture(
    frame: av.VideoFrame, info: VideoInfo, log: ReadLog, gpu: GpuDecoder | None
) -> AnyPicture:
    """Return a frame as an upright picture, where the decoder left it."""
    if gpu and log.on_gpu and gpu.holds(frame):
        return gpu.picture(frame, info.space)
    return _upright_picture(frame, info, log)


def _upright_picture(frame: av.VideoFrame, info: VideoInfo, log: ReadLog) -> Picture:
    """Return a frame as a picture of the video's size and colour space."""
    orientation = orientation_of(frame) if info.images else info.orientation
    size_hw = info.size_hw if orientation[0] else info.size_hw[::-1]
    log.interlaced_frames += frame.interlaced_frame
    log.resized_frames += (frame.height, frame.width) != size_hw
    return Picture.convert(frame, info.space, size_hw).turned(orientation)
