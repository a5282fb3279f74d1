"""Read a video onto a GPU: decoded there where it can be, else on the CPU and copied.

The frames are those of `roadseg.video.read.source.decode`, with their pictures on the device.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import torch
from av.codec.hwaccel import HWAccel

from roadseg.video.frame import Frame
from roadseg.video.objects import readable
from roadseg.video.picture import BITS, ColorSpace, Picture, has_chroma_left
from roadseg.video.picture_cuda import CudaPicture
from roadseg.video.pyav import open_for_reading
from roadseg.video.read import source
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import VideoInfo
from roadseg.video.read.upright import QUARTER_TURNS


class Nvdec:
    """The decoder of an NVIDIA GPU, for one video.

    Args:
        info: The video; frames of another size than it says are brought to that elsewhere.
        device: The GPU.
    """

    def __init__(self, info: VideoInfo, device: torch.device) -> None:
        self.name = "NVDEC"
        self._info = info
        self._index = str(device.index or 0)

    def open(self, source: Path | str) -> av.container.InputContainer:
        """Open the video; a codec that the GPU does not know is decoded on the CPU."""
        accelerator = HWAccel("cuda", self._index, allow_software_fallback=True, is_hw_owned=True)
        return open_for_reading(readable(source), hwaccel=accelerator)

    def holds(self, frame: av.VideoFrame) -> bool:
        """Return whether a frame is on the GPU in 8 bits and in the video's size."""
        layout = frame.sw_format.name if frame.format.name == "cuda" and frame.sw_format else None
        return layout == "nv12" and (frame.height, frame.width) == self._info.size_hw

    def picture(self, frame: av.VideoFrame, space: ColorSpace) -> CudaPicture:
        """Return a frame that it holds as a picture."""
        return CudaPicture.of_gpu(frame, space, chroma_left=self._info.chroma_left)


def decode(
    info: VideoInfo,
    log: ReadLog,
    start_s: float = 0.0,
    end_s: float | None = None,
    *,
    device: torch.device,
) -> Iterator[Frame]:
    """Yield the frames of a video as `source.decode` does, with their pictures on a device.

    Args:
        info: The video.
        log: Filled while reading.
        start_s: Leave out frames before this time, counted from the first frame.
        end_s: Stop at this time; None reads to the end.
        device: Where the pictures are to lie; one without a decoder, as the CPU, is copied to.

    Raises:
        VideoError: The video cannot be opened.
    """
    gpu = None
    if device.type == "cuda" and not info.images:
        log.off_gpu = unfit(info)
        gpu = None if log.off_gpu else Nvdec(info, device)
    return uploaded(source.decode(info, log, start_s, end_s, gpu), device)


def uploaded(frames: Iterator[Frame], device: torch.device) -> Iterator[Frame]:
    """Yield frames with their pictures on a device, copied there from the CPU where they are."""
    chroma_left: bool | None = None

    def there(frame: Frame) -> Frame:
        nonlocal chroma_left
        picture = frame.picture
        if isinstance(picture, Picture):
            if chroma_left is None:  # as in the first frame, so in all
                chroma_left = has_chroma_left(picture.frame)
            picture = CudaPicture.upload(picture, device, chroma_left=chroma_left)
        if isinstance(picture, CudaPicture):
            picture.start_small_luma()
        return replace(frame, picture=picture)

    yield from map(there, frames)


def unfit(info: VideoInfo) -> str | None:
    """Return why a video is not for a GPU's decoder; None if it may be."""
    if info.bits != BITS:
        return f"it has {info.bits} bits a sample"
    if info.orientation != QUARTER_TURNS[0]:
        return "it is to be turned"
    if any(side % 2 for side in info.size_hw):
        return "a side is odd"
    return None
