"""Whether a GPU encodes pictures that lie on it."""

import av
import torch

from roadseg.errors import ConfigError
from roadseg.video.picture import ColorSpace
from roadseg.video.picture_cuda import CudaPicture
from roadseg.video.write.encoder import ON_GPU
from roadseg.video.write.hardware import TRIED_HW, hardware_codec, takes


def encodes_there(name: str, device: torch.device) -> bool:
    """Return whether the encoder in hardware that works here takes a GPU's pictures.

    Args:
        name: Key of `roadseg.video.write.encoding.HARDWARE`.
        device: The GPU; H100 and A100 have no encoder.
    """
    try:
        codec = hardware_codec(name)
        picture = CudaPicture.empty(TRIED_HW, ColorSpace(), device).gpu_frame()
    except (ConfigError, av.FFmpegError):
        return False
    return picture is not None and takes(codec, picture, ON_GPU)
