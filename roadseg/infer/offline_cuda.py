"""Films labelled on the GPU alone: decoded, shrunk, labelled, painted and encoded there.

Where a step has no hardware, as encoding on GPUs for data centres, it is done on the CPU. All in
between is PyTorch, which computes the same on either. This is the fast lane for plain films: of
sound, tags, odd sides, rotation and unfinished runs, only `roadseg.infer.offline` knows.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Self

import av
import numpy as np
import torch
import torch.nn.functional as F
from av.codec.hwaccel import HWAccel
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from roadseg.backends.tensorrt_engine import Computes
from roadseg.errors import VideoError
from roadseg.files import replacing
from roadseg.paint.config import NO_LEGEND, OverlayConfig
from roadseg.paint.legend import LEGENDS_KEPT, Entry, legend_at
from roadseg.paint.overlay import DIMMED, OUTLINE_LEVEL, color_tables, legend_entries, shown_ids
from roadseg.segmentation.placement import Placement
from roadseg.spec import PADDING_VALUE, ModelSpec
from roadseg.video.errors import read_errors, write_errors
from roadseg.video.picture import LUMA_WEIGHTS, ColorSpace, Picture
from roadseg.video.pyav import open_for_reading
from roadseg.video.read.source import VideoInfo, probe

PITCH_BYTES = 256
"""Rows of pictures that are encoded begin at multiples of this."""
UPRIGHT = (1, 0, 0, 1)
ENCODERS = {
    "h264_nvenc": {"preset": "p4", "rc": "vbr", "cq": "23"},
    "libx264": {"preset": "veryfast", "crf": "20"},
}
"""Encoders and what they are given, the one to try first in front."""


@dataclass(frozen=True)
class Nv12:
    """A picture as GPUs decode and encode it: 8-bit 4:2:0, U and V in turns; sides are even."""

    y: Tensor
    """(H, W) uint8."""
    uv: Tensor
    """(H/2, W/2, 2) uint8."""
    space: ColorSpace
    """What the numbers mean."""

    @classmethod
    def empty(cls, size_hw: tuple[int, int], space: ColorSpace, device: torch.device) -> Self:
        """Return a new picture in one piece of memory, as encoders want it."""
        height, width = size_hw
        pitch = -(-width // PITCH_BYTES) * PITCH_BYTES
        rows = torch.empty(height * 3 // 2, pitch, dtype=torch.uint8, device=device)[:, :width]
        return cls(rows[:height], rows[height:].view(height // 2, width // 2, 2), space)

    @classmethod
    def of_frame(cls, frame: av.VideoFrame, space: ColorSpace, device: torch.device) -> Self:
        """Return a decoded frame as a picture; one that is on the GPU is not copied.

        Raises:
            VideoError: It has other than 8 bits, or odd sides.
        """
        if frame.width % 2 or frame.height % 2:
            raise VideoError(
                f"frames are {frame.width}x{frame.height}; the GPU takes even sides; label without"
            )
        if frame.format.name == "cuda":
            layout = frame.sw_format.name if frame.sw_format else "none"
            if layout != "nv12":
                raise VideoError(
                    f"frames are {layout} on the GPU; 8-bit 4:2:0 is needed; label without"
                )
        else:
            frame = Picture.convert(frame, space).frame.reformat(format="nv12")
        # PyTorch would ask planes on the GPU to wait for its stream, which PyAV refuses.
        y, uv = (from_dlpack(plane.__dlpack__()).to(device) for plane in frame.planes)
        return cls(y, uv, space)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.y.shape
        return height, width

    def network_frame(self, placement: Placement) -> Tensor:
        """Return the network's input (H, W, 3) uint8 RGB, as `laid` gives it."""
        y = _resized(self.y[None], placement.content_hw)[0]
        u, v = _resized(self.uv.permute(2, 0, 1), placement.content_hw)
        content = _rgb(y, u, v, self.space)
        height, width = placement.content_hw
        canvas = torch.full(
            (*placement.network_hw, 3), PADDING_VALUE, dtype=torch.uint8, device=content.device
        )
        rows = slice(placement.top, placement.top + height)
        canvas[rows, placement.left : placement.left + width] = content
        return canvas


def _resized(planes: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Return planes (C, H, W) at another size, as float32; what is made small is averaged."""
    rows = _weights(planes.shape[1], size_hw[0], planes.device)  # (h, H)
    columns = _weights(planes.shape[2], size_hw[1], planes.device)  # (w, W)
    return rows @ planes.float() @ columns.T  # (C, h, w)


@lru_cache(maxsize=16)  # a run has four: rows and columns, of brightness and of colour
def _weights(source: int, target: int, device: torch.device) -> Tensor:
    """Return how much of each sample of a line goes into each of the resized one: (target, source).

    A line is made shorter by averaging what lies under each new sample, as FFmpeg's area filter
    does and no mode of `F.interpolate`, and longer by joining the old ones with straight lines.
    """
    scale = source / target
    places = torch.arange(source, dtype=torch.float64)
    if scale > 1:
        starts = torch.arange(target, dtype=torch.float64)[:, None] * scale
        overlap = (starts + scale).minimum(places + 1) - starts.maximum(places)
        weights = overlap.clamp(min=0) / scale
    else:
        centers = (torch.arange(target, dtype=torch.float64)[:, None] + 0.5) * scale - 0.5
        weights = (1 - (centers.clamp(0, source - 1) - places).abs()).clamp(min=0)
    return weights.float().to(device)


def _rgb(y: Tensor, u: Tensor, v: Tensor, space: ColorSpace) -> Tensor:
    """Return planes (H, W) as (H, W, 3) RGB (H.273, section 8.3, the other way round)."""
    red_weight, blue_weight = LUMA_WEIGHTS[space.matrix]
    floor, luma_span, chroma_span = (0, 255, 255) if space.full_range else (16, 219, 224)
    luma = (y - floor) * (255 / luma_span)
    red = luma + (v - 128) * (510 / chroma_span * (1 - red_weight))
    blue = luma + (u - 128) * (510 / chroma_span * (1 - blue_weight))
    green = (luma - red_weight * red - blue_weight * blue) / (1 - red_weight - blue_weight)
    return torch.stack([red, green, blue], dim=-1).round().clamp(0, 255).to(torch.uint8)


def full_size(class_map: Tensor, placement: Placement, num_classes: int) -> Tensor:
    """Return the frame's class map (H, W) from the network's, as `Placement.restore` does."""
    height, width = placement.content_hw
    rows = slice(placement.top, placement.top + height)
    ids = class_map[rows, placement.left : placement.left + width].long()
    members = F.one_hot(ids, num_classes).permute(2, 0, 1)[None].float()  # (1, C, h, w)
    strengths = F.interpolate(members, size=placement.frame_hw, mode="bilinear")
    return strengths[0].argmax(dim=0)  # (H, W)


class Painter:
    """Paints as `roadseg.paint.overlay.Overlay` does, where the pictures are.

    Two things differ: specks have outlines too, and the legend names all painted classes.

    Args:
        spec: Names and colours of the classes.
        config: What to paint, and how.

    Raises:
        ConfigError: The model does not know a class.
    """

    def __init__(self, spec: ModelSpec, config: OverlayConfig) -> None:
        self._spec = spec
        self._config = config
        self._shown = shown_ids(spec, config)

    def draw(self, picture: Nv12, class_map: Tensor) -> Nv12:
        """Return a painted copy of a picture, given its class map (H, W) int64."""
        device = picture.y.device
        paints = _paints(self._spec.palette, self._shown, picture.space, device)
        canvas = Nv12.empty(picture.size_hw, picture.space, device)
        ground_y, ground_uv = self._ground(picture, paints)
        half_map = class_map[::2, ::2]  # four pixels share a colour: that of the top left one
        for plane, ground, colors, ids, target in (
            (picture.y, ground_y, paints.y, class_map, canvas.y),
            (picture.uv, ground_uv, paints.uv, half_map, canvas.uv),
        ):
            painted = torch.lerp(plane.float(), colors[ids], self._config.alpha).round()
            shown = paints.shown[ids].view(*ids.shape, *(1,) * (plane.dim() - 2))
            target.copy_(torch.where(shown, painted, ground))
        if self._config.outline:
            self._add_outline(canvas.y, class_map, paints)
        if self._config.legend != NO_LEGEND:
            self._add_legend(canvas)
        return canvas

    def _ground(self, picture: Nv12, paints: "Paints") -> tuple[Tensor, Tensor]:
        """Return what shows where nothing is painted: the planes, or their dark grey."""
        if not self._config.only:
            return picture.y, picture.uv
        dark = (picture.y * DIMMED + paints.black * (1 - DIMMED)).round()
        return dark, torch.full_like(picture.uv, paints.grey)

    def _add_outline(self, y: Tensor, class_map: Tensor, paints: "Paints") -> None:
        """Lighten the pixels that differ from their left or upper neighbour, in place."""
        regions = torch.where(paints.shown[class_map], class_map, 255)
        edges = torch.zeros_like(regions, dtype=torch.bool)
        edges[:, 1:] = regions[:, 1:] != regions[:, :-1]
        edges[1:] |= regions[1:] != regions[:-1]
        y.masked_fill_(edges, paints.light)

    def _add_legend(self, canvas: Nv12) -> None:
        """Lay the legend over a corner, in place."""
        entries = legend_entries(self._spec, self._shown)
        place = self._config.legend, canvas.size_hw
        for layer in _legend(entries, *place, canvas.space, canvas.y.device):
            plane = canvas.y if layer.kept.dim() == 2 else canvas.uv
            rows, columns = layer.kept.shape[:2]
            corner = plane[layer.top : layer.top + rows, layer.left : layer.left + columns]
            corner.copy_((corner * layer.kept + layer.added).round())


@dataclass(frozen=True)
class Paints:
    """What is painted with, on a device, in a colour space."""

    y: Tensor
    """(256,) float32, by class id."""
    uv: Tensor
    """(256, 2) float32, by class id."""
    shown: Tensor
    """(256,) bool, by class id: whether it is painted."""
    black: int
    """Level of Y."""
    grey: int
    """Level of U and V."""
    light: int
    """Level of Y of outlines."""


@lru_cache(maxsize=4)  # a run has one
def _paints(
    palette: tuple[tuple[int, int, int], ...],
    shown: tuple[int, ...],
    space: ColorSpace,
    device: torch.device,
) -> Paints:
    y, u, v = (torch.from_numpy(table).float() for table in color_tables(palette, space))
    member = torch.zeros(256, dtype=torch.bool)
    member[list(shown)] = True
    levels = space.yuv(np.array([[0] * 3, [OUTLINE_LEVEL] * 3], np.uint8)).tolist()
    return Paints(
        y=y.to(device),
        uv=torch.stack([u, v], dim=-1).to(device),
        shown=member.to(device),
        black=levels[0][0],
        grey=levels[0][1],
        light=levels[1][0],
    )


class LegendLayer(NamedTuple):
    """What is laid over Y, or over U and V: what is there times `kept`, plus `added`."""

    kept: Tensor
    added: Tensor
    top: int
    left: int


@lru_cache(maxsize=LEGENDS_KEPT)
def _legend(
    entries: tuple[Entry, ...],
    corner: str,
    size_hw: tuple[int, int],
    space: ColorSpace,
    device: torch.device,
) -> tuple[LegendLayer, ...]:
    """Return the layers for Y and for U and V; none where there is no room for a legend."""
    legend = legend_at(corner, entries, tuple(name for name, _ in entries), size_hw, space)
    if legend is None:
        return ()
    y, u, v = legend.layers
    kept, added = (np.stack(pair, axis=-1) for pair in zip(u, v, strict=True))
    return tuple(
        LegendLayer(
            kept=torch.from_numpy(kept).to(device),
            added=torch.from_numpy(added).to(device),
            top=legend.top // step,
            left=legend.left // step,
        )
        for kept, added, step in ((y.kept, y.added, 1), (kept, added, 2))
    )


def decode_nv12(info: VideoInfo, device: torch.device) -> Iterator[tuple[Nv12, int]]:
    """Yield the pictures of a film and their times, decoded on the GPU if it is one and can.

    Raises:
        VideoError: The film is not for the GPU: rotated, of odd sides, or of more than 8 bits.
    """
    if info.images or info.orientation != UPRIGHT:
        raise VideoError(
            f"{info.path} is a series of images, rotated or mirrored; the GPU takes upright films; "
            "label without"
        )
    with read_errors(info.path), _open(info, device) as container:
        for frame in container.decode(_pictures(container, info)):
            if frame.pts is not None:
                yield Nv12.of_frame(frame, info.space, device), frame.pts


def _open(info: VideoInfo, device: torch.device) -> av.container.InputContainer:
    """Open a film with the GPU's decoder, or without where there is none."""
    if device.type == "cuda":
        accelerator = HWAccel("cuda", allow_software_fallback=True, is_hw_owned=True)
        try:
            return open_for_reading(info.path, hwaccel=accelerator)
        except PermissionError:  # how FFmpeg says that it finds no driver
            pass
    container = open_for_reading(info.path)
    _pictures(container, info).thread_type = "AUTO"
    return container


def _pictures(container: av.container.InputContainer, info: VideoInfo) -> av.VideoStream:
    stream = container.streams[info.stream_index]
    assert isinstance(stream, av.VideoStream)
    return stream


def encoder_for(device: torch.device, size_hw: tuple[int, int]) -> str:
    """Return the encoder to use: the GPU's, or x264 where there is none, as on an H100."""
    if device.type == "cuda":
        context = av.CodecContext.create("h264_nvenc", "w")
        assert isinstance(context, av.VideoCodecContext)
        context.height, context.width = size_hw
        context.pix_fmt, context.time_base = "nv12", Fraction(1, 25)
        try:
            context.open()
            return "h264_nvenc"
        except av.FFmpegError:
            pass
    return "libx264"


class Nv12Writer:
    """A film of pictures alone, H.264, encoded where they are if that can be.

    Args:
        container: File to write into.
        info: Film that the pictures come from.
        device: Where they are.
    """

    def __init__(
        self, container: av.container.OutputContainer, info: VideoInfo, device: torch.device
    ) -> None:
        self.encoder = encoder_for(device, info.size_hw)
        self._container = container
        self._time_base = info.time_base
        self._on_gpu = self.encoder == "h264_nvenc"
        self._cuda = av.video.frame.CudaContext(device.index or 0) if self._on_gpu else None
        stream = container.add_stream(self.encoder, info.fps, options=ENCODERS[self.encoder])
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = info.size_hw
        stream.pix_fmt = "cuda" if self._on_gpu else "yuv420p"
        stream.time_base = stream.codec_context.time_base = info.time_base
        stream.codec_context.sample_aspect_ratio = info.pixel_aspect
        stream.codec_context.colorspace = info.space.matrix
        stream.codec_context.color_range = info.space.color_range
        self._stream = stream

    def write(self, picture: Nv12, pts: int) -> None:
        """Encode a picture. The encoder holds on to its memory for as long as it reads it."""
        planes = (picture.y, picture.uv)
        if not self._on_gpu:
            planes = (picture.y.cpu(), picture.uv.cpu())
        frame = av.VideoFrame.from_dlpack(planes, format="nv12", cuda_context=self._cuda)
        frame.pts, frame.time_base = pts, self._time_base
        frame.colorspace, frame.color_range = picture.space.matrix, picture.space.color_range
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Write what the encoder still holds."""
        self._container.mux(self._stream.encode(None))


def label(
    film: Path, out: Path, engine: Computes, spec: ModelSpec, config: OverlayConfig
) -> tuple[int, str]:
    """Write the overlay of a film, pictures alone, by an engine on the device where it is.

    Args:
        film: Film to label.
        out: Film to write, all or nothing.
        engine: Engine that takes one frame or more at a time; one is given.
        spec: Its record.
        config: What to paint, and how.

    Returns:
        The number of frames and the encoder.

    Raises:
        VideoError: The film cannot be read, or not on the GPU.
        OutputError: The film cannot be written.
        ConfigError: The model does not know a class.
    """
    info = probe(film)
    device = engine.frames.device
    _, height, width = engine.frames.shape[:3]
    placement = Placement.fit(info.size_hw, (height, width), info.pixel_aspect)
    painter = Painter(spec, config)
    count = 0
    with replacing(out) as temporary, write_errors(out), av.open(temporary, "w") as container:
        writer = Nv12Writer(container, info, device)
        with torch.inference_mode(), _stream(device) as stream:
            for picture, pts in decode_nv12(info, device):
                if stream is not None:  # the decoder works on the default stream
                    stream.wait_stream(torch.cuda.default_stream(device))
                engine.frames[0] = picture.network_frame(placement)
                engine.run()
                class_map = full_size(engine.class_map[0], placement, spec.num_classes)
                painted = painter.draw(picture, class_map)
                if stream is not None:  # the encoder does not wait for ours
                    stream.synchronize()
                writer.write(painted, pts)
                count += 1
        writer.finish()
    return count, writer.encoder


@contextlib.contextmanager
def _stream(device: torch.device) -> Iterator[torch.cuda.Stream | None]:
    """Make a stream of its own the current one, where there is a GPU."""
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        yield stream
