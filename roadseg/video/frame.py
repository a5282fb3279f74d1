"""What travels between the stages of the pipeline."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from roadseg.spec import ModelSpec
from roadseg.video.picture import AnyPicture


@dataclass(frozen=True)
class Arrival:
    """When a frame of a live source came in."""

    number: int
    """Frames that came before it."""
    time_s: float
    """Reading of `time.monotonic`."""


@dataclass(frozen=True)
class Place:
    """Where a frame lies in its film, whichever part of that is read."""

    since_s: float
    """Seconds since the film's first frame."""
    usual_s: float
    """Seconds that a frame of the film usually lasts."""


@dataclass(frozen=True)
class Frame:
    """One picture of a film."""

    picture: AnyPicture
    """What it shows, upright."""
    pts: int
    """Presentation time, in units of `time_base`."""
    time_base: Fraction
    """Seconds a unit."""
    pixel_aspect: Fraction = Fraction(1)
    """Width of a pixel over its height."""
    arrival: Arrival | None = None
    """When it came in, if its source is live."""
    place: Place | None = None
    """Where it lies in its film, if it is of one."""
    leads_in: bool = False
    """Whether it is there for the labels of those after it alone, and not to be written."""

    @classmethod
    def still(cls, picture: AnyPicture) -> Self:
        """Return a frame of a picture that belongs to no video."""
        return cls(picture, 0, Fraction(1))

    @property
    def time_s(self) -> float:
        """Presentation time in seconds."""
        return float(self.pts * self.time_base)

    def rgb(self, size_hw: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """Return the picture as (H, W, 3) RGB, at its own size or the one wanted."""
        return self.picture.rgb(size_hw)


class DeviceClassMap(Protocol):
    """A class map that lies on a device, as the picture that it belongs to."""

    @property
    def on_host(self) -> NDArray[np.uint8]:
        """The ids (H, W) on the CPU; copied once."""
        ...

    def sample(self, step: int) -> NDArray[np.uint8]:
        """Return every so many rows and columns of it."""
        ...

    def pixels(self) -> NDArray[np.int64]:
        """Return the pixels of each id, (256,)."""
        ...


def on_host(labels: NDArray[np.uint8] | DeviceClassMap) -> NDArray[np.uint8]:
    """Return a class map (H, W) on the CPU, copied there if it lies elsewhere."""
    return labels if isinstance(labels, np.ndarray) else labels.on_host


@dataclass(frozen=True)
class SegmentedFrame:
    """A frame and what the model sees in it."""

    frame: Frame
    labels: NDArray[np.uint8] | DeviceClassMap
    """(H, W) ids, at the frame's size, where its picture lies."""
    spec: ModelSpec
    """The model's classes and palette."""
    by_network: bool = True
    """Whether the network looked at this frame, or its labels were moved here from others."""
    in_view: frozenset[int] | None = None
    """Ids of the classes that a legend names; None if nobody followed that."""

    @property
    def class_map(self) -> NDArray[np.uint8]:
        """(H, W) ids on the CPU, copied there if they lie elsewhere."""
        return on_host(self.labels)

    def sample(self, step: int) -> NDArray[np.uint8]:
        """Return every so many rows and columns of the class map."""
        if isinstance(self.labels, np.ndarray):
            return self.labels[::step, ::step]
        return self.labels.sample(step)
