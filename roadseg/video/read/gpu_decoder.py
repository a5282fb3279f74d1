"""What decodes videos on a GPU, as far as their reader needs to know it."""

from pathlib import Path
from typing import Protocol

import av

from roadseg.video.picture import AnyPicture, ColorSpace


class GpuGaveUp(Exception):
    """A GPU's decoder met what it does not decode; the CPU's goes on, and counts what it cannot."""


class GpuDecoder(Protocol):
    """The decoder of a GPU, for one video."""

    name: str
    """What to call it in a summary."""

    def open(self, source: Path | str) -> av.container.InputContainer:
        """Open the video to be decoded there. Raises FFmpeg's errors where it has no driver."""
        ...

    def holds(self, frame: av.VideoFrame) -> bool:
        """Return whether a frame is on the GPU, and can stay there as it is."""
        ...

    def picture(self, frame: av.VideoFrame, space: ColorSpace) -> AnyPicture:
        """Return a frame that it holds as a picture."""
        ...
