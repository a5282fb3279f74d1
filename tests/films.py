"""Films for tests, made with PyAV, and what PyAV finds in a film."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation

UNBIASED = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
"""FFmpeg's conversion to RGB without its usual error of two levels."""
TENTH = Fraction(1, 10)


def scene(time: int, size_hw: tuple[int, int]) -> np.ndarray:
    """A gradient that tells the corners apart, with a bar that moves; (H, W, 3) RGB."""
    height, width = size_hw
    rows, columns = np.mgrid[:height, :width]
    picture = np.stack([rows * 200 // height, columns * 200 // width, rows * 0 + 90], axis=2)
    picture[:, (time * 5) % width :][:, :4] = 230
    return picture.astype(np.uint8)


@dataclass(frozen=True, kw_only=True)
class Film:
    """What to make."""

    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    size_hw: tuple[int, int] = (48, 64)
    times: tuple[int, ...] = tuple(range(10))
    """In tenths of a second."""
    time_base: Fraction = TENTH
    sounds: int = 0
    """Streams of sound, one packet a frame and more."""
    sound_s: float | None = None
    """Length of the sound; None is the pictures'."""
    options: tuple[tuple[str, str], ...] = ()
    color: tuple[int, int, int, int] | None = None
    """Matrix, range, primaries, transfer."""

    def write(self, path: Path) -> Path:
        with av.open(path, "w") as container:
            stream = container.add_stream(self.codec, rate=10, options=dict(self.options))
            stream.height, stream.width = self.size_hw
            stream.pix_fmt = self.pixel_format
            stream.time_base = stream.codec_context.time_base = self.time_base
            context = stream.codec_context
            if self.color:
                context.colorspace, context.color_range = self.color[:2]
                context.color_primaries, context.color_trc = self.color[2:]
            voices = [container.add_stream("aac", rate=8000) for _ in range(self.sounds)]
            for voice in voices:
                voice.layout = "mono"
            self._write_sound(container, voices)
            for time in self.times:
                frame = av.VideoFrame.from_ndarray(scene(time, self.size_hw), "rgb24")
                frame.pts = round(time * TENTH / self.time_base)
                frame.time_base = self.time_base
                container.mux(stream.encode(self._converted(frame)))
            container.mux(stream.encode(None))
        return path

    def _converted(self, frame: av.VideoFrame) -> av.VideoFrame:
        matrix, color_range = self.color[:2] if self.color else (6, 1)
        converted = frame.reformat(
            format=self.pixel_format,
            dst_color_range=color_range,
            dst_colorspace=matrix,
            interpolation=UNBIASED,
        )
        converted.pts, converted.time_base = frame.pts, frame.time_base
        return converted

    def _write_sound(self, container, voices) -> None:
        seconds = self.sound_s or (self.times[-1] + 1) / 10
        for number, voice in enumerate(voices):
            samples = np.arange(int(8000 * seconds))
            tone = np.sin(samples * (0.2 + 0.1 * number)).astype(np.float32)[None]
            for start in range(0, tone.shape[1], 1024):
                block = np.ascontiguousarray(tone[:, start : start + 1024])
                frame = av.AudioFrame.from_ndarray(block, "fltp", "mono")
                frame.sample_rate, frame.pts, frame.time_base = 8000, start, Fraction(1, 8000)
                container.mux(voice.encode(frame))
            container.mux(voice.encode(None))


def repacked(
    source: Path,
    path: Path,
    describe: Callable[[av.container.OutputContainer, av.VideoStream], object] = lambda *_: None,
    **options: str,
) -> Path:
    """A film's pictures, as they are encoded, in another file of which other things are said."""
    with av.open(source) as film, av.open(path, "w", container_options=options) as target:
        stream = target.add_stream_from_template(film.streams.video[0])
        describe(target, stream)
        for packet in film.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return path


def with_wide_pixels(source: Path, path: Path) -> Path:
    """The same film, whose pixels are shown twice as wide as high."""

    def widen(_target: av.container.OutputContainer, stream: av.VideoStream) -> None:
        stream.codec_context.sample_aspect_ratio = stream.sample_aspect_ratio = Fraction(2)

    return repacked(source, path, widen)


def rich_film(path: Path) -> Path:
    """Two languages of sound, subtitles, chapters, and tags as phones and dashcams write them."""
    plain = Film(sounds=2, times=tuple(range(60))).write(path.with_name("bare.mp4"))
    with av.open(plain) as source, av.open(path, "w") as target:
        target.metadata.update(
            {
                "creation_time": "2024-05-06T07:08:09.000000Z",
                "title": "To work",
                "location": "+48.2082+016.3738/",
            }
        )
        seconds = Fraction(1, 1000)
        target.set_chapters(
            [
                {
                    "id": i,
                    "start": 2000 * i,
                    "end": 2000 * (i + 1),
                    "time_base": seconds,
                    "metadata": {"title": f"part {i}"},
                }
                for i in range(3)
            ]
        )
        streams = [target.add_stream_from_template(s, opaque=True) for s in source.streams]
        streams[1].metadata["language"], streams[2].metadata["language"] = "deu", "fra"
        subtitles = target.add_mux_stream("subrip")
        subtitles.time_base = seconds
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
        for start in (500, 2500, 4500):
            packet = av.Packet(f"at {start}".encode())
            packet.stream, packet.time_base = subtitles, seconds
            packet.pts = packet.dts = start
            packet.duration = 800
            target.mux(packet)
    return path


def frame_times(path: Path) -> list[Fraction]:
    """Times of the frames that decode, in seconds."""
    with av.open(path) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def packets(path: Path, kind: str, number: int = 0) -> list[tuple[Fraction, bytes]]:
    """Times in seconds and contents of a stream's packets, in order of time."""
    with av.open(path) as container:
        stream = [s for s in container.streams if s.type == kind][number]
        found = [p for p in container.demux(stream) if p.pts is not None]
        return sorted((p.pts * p.time_base, bytes(p)) for p in found)


def pictures(path: Path, numbers: Iterable[int] | None = None) -> list[np.ndarray]:
    """Frames as RGB: those of these numbers, or all."""
    wanted = None if numbers is None else set(numbers)
    with av.open(path) as container:
        frames = enumerate(container.decode(video=0))
        return [
            f.to_ndarray(format="rgb24", interpolation=UNBIASED)
            for i, f in frames
            if wanted is None or i in wanted
        ]
