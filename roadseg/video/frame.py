"""Frames, as they pass between the stages of the pipeline."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from roadseg.spec import IGNORE_INDEX, ModelSpec
from roadseg.video.picture import AnyPicture, OnDevice


@dataclass(frozen=True)
class Arrival:
    """When a frame of a live source arrived."""

    number: int
    """Frames that arrived before it."""
    time_s: float
    """Its arrival on the clock of `time.monotonic`."""


@dataclass(frozen=True)
class FilmTime:
    """Time of a frame in its whole video, whichever part of it is read."""

    since_s: float
    """Seconds since the video's first frame."""
    usual_s: float
    """Usual duration of its frames, in seconds."""


@dataclass(frozen=True)
class Frame:
    """A picture and its time in a video."""

    picture: AnyPicture
    """The picture, upright."""
    pts: int
    """Presentation time, in units of `time_base`."""
    time_base: Fraction
    """Seconds a unit."""
    pixel_aspect: Fraction = Fraction(1)
    """Width of a pixel over its height."""
    arrival: Arrival | None = None
    """Its arrival, if its source is live."""
    film_time: FilmTime | None = None
    """Its time in its video file; None if it is not from one."""
    leads_in: bool = False
    """Whether it only leads in: it is labelled for the frames after it, and not written."""

    @classmethod
    def still(cls, picture: AnyPicture) -> Self:
        """Return a frame of a picture that is in no video."""
        return cls(picture, 0, Fraction(1))

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.picture.nbytes

    @property
    def time_s(self) -> float:
        """Presentation time in seconds."""
        return float(self.pts * self.time_base)

    @property
    def shown_hw(self) -> tuple[int, int]:
        """Height and width as it is to be seen: with square pixels."""
        height, width = self.picture.size_hw
        return height, max(round(width * self.pixel_aspect), 1)

    def rgb(self, size_hw: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """Return the picture as (H, W, 3) RGB, at its own size or the one wanted."""
        return self.picture.rgb(size_hw)


@dataclass(frozen=True, kw_only=True)
class Region:
    """An object as it lies in the picture."""

    name: str
    """Its class."""
    left: int
    """First column."""
    top: int
    """First row."""
    width: int
    """Columns."""
    height: int
    """Rows."""
    pixels: int
    """Its pixels in that box."""
    across_road: float | None
    """Position of its foot across the road: 0 is the left edge, 1 the right one; less or more is
    beside it. None where there is no road, or it is too narrow."""
    moved: tuple[float, float] | None = None
    """Columns and rows of its motion since the frame before; None if not known."""
    track: int | None = None
    """Number of the object, the same in all its frames; None if it is not followed, or not yet."""


@dataclass(frozen=True, kw_only=True)
class FrameStats:
    """Statistics of one frame."""

    pts: int
    """The frame's time in the source, in the source's units."""
    time_s: float
    """The same in seconds."""
    shares: dict[str, float]
    """Share of each class in all pixels."""
    objects: tuple[Region, ...]
    """Objects, class by class."""
    unsure: float = 0.0
    """Share of the pixels that are too unsure to be counted."""

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Self:
        """Read what `dataclasses.asdict` gives, with lists in place of tuples."""
        objects = (o | {"moved": o["moved"] and tuple(o["moved"])} for o in record["objects"])
        return cls(**{**record, "objects": tuple(Region(**o) for o in objects)})


class DeviceClassMap(Protocol):
    """A class map that lies on a device, as the picture that it belongs to."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes that it takes there."""
        ...

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

    def upload(self, mask: NDArray[np.bool_]) -> OnDevice:
        """Return a mask (H, W) on the same device."""
        ...

    def without(self, mask: OnDevice, instead: int = IGNORE_INDEX) -> Self:
        """Return the class map with another id where a mask is true that lies there too."""
        ...


Labels: TypeAlias = NDArray[np.uint8] | DeviceClassMap
"""A class map (H, W), in whichever memory it is."""


def on_host(labels: Labels) -> NDArray[np.uint8]:
    """Return a class map (H, W) on the CPU, copied there if it lies elsewhere."""
    return labels if isinstance(labels, np.ndarray) else labels.on_host


class Confidence(Protocol):
    """How sure a frame's labels are; see `roadseg.segmentation.confidence`."""

    def at(self, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
        """Return it at a size of the frame, (H, W), on the CPU; 255 is certain."""
        ...

    def shown(self, labels: Labels, least: float) -> Labels:
        """Return a class map (H, W) with `UNSURE` where it is less sure than `least`, 0..1."""
        ...


@dataclass(frozen=True)
class Link:
    """How a frame follows the one before it."""

    flow: NDArray[np.float32] | None
    """(h, w, 2) back to that frame, as in `roadseg.segmentation.flow`; None where no motion links
    the two, as at a cut, and in a video's first frame."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return 0 if self.flow is None else self.flow.nbytes


@dataclass(frozen=True)
class SegmentedFrame:
    """A frame and its class maps: those that `roadseg.segmentation.maps.Maps` asks for.

    | map | size | where labels are too unsure to be shown |
    | --- | --- | --- |
    | `labels` | the frame's | the strongest class, or `UNSURE` if only that is wanted |
    | `sure_labels` | the frame's | `UNSURE`; None if `labels` are so already |
    | `coarse_map` | the frame's in the network's input | `UNSURE`; None if it is not wanted |

    Where nothing larger than the coarse map is wanted, `labels` are of that size. Who writes or
    compares labels takes `class_map`, who paints them `shown`, and who counts them the coarse map,
    or else `shown`.
    """

    frame: Frame
    labels: Labels
    """(H, W) ids of the strongest classes, where the frame's picture lies."""
    spec: ModelSpec
    """The model's classes and palette."""
    by_network: bool = True
    """Whether the network predicted it; if not, its labels were moved from other frames."""
    coarse_map: Labels | None = None
    """(h, w) ids to measure objects and areas by, where the frame's picture lies."""
    confidence: Confidence | None = None
    """How sure the labels are; None if that is not known, or not wanted."""
    sure_labels: Labels | None = None
    """(H, W) ids as they are painted."""
    pixels: NDArray[np.int64] | None = None
    """Pixels of each id, (256,), of all or of a sample; None if they were not counted."""
    in_view: frozenset[int] | None = None
    """Ids of the classes that a legend names; None if they are not known."""
    stats: FrameStats | None = None
    """Its statistics; None if it was not measured."""
    link: Link | None = None
    """How it follows the frame before; None if that was not looked for, or is no longer needed."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        maps = self.labels.nbytes * (1 if self.sure_labels is None else 2)
        return self.frame.nbytes + maps + (self.link.nbytes if self.link else 0)

    @property
    def shown(self) -> Labels:
        """(H, W) ids as they are painted, where the picture lies."""
        return self.labels if self.sure_labels is None else self.sure_labels

    @property
    def class_map(self) -> NDArray[np.uint8]:
        """`labels` on the CPU, copied there if they lie elsewhere."""
        return on_host(self.labels)

    def sample(self, step: int) -> NDArray[np.uint8]:
        """Return every so many rows and columns of what is shown, on the CPU."""
        if isinstance(self.shown, np.ndarray):
            return np.ascontiguousarray(self.shown[::step, ::step])
        return self.shown.sample(step)


@dataclass(frozen=True)
class PaintedFrame:
    """A frame with its labels painted, and what is counted of them; the maps are let go of."""

    frame: Frame
    """The painted one."""
    spec: ModelSpec
    """The model's classes and palette."""
    by_network: bool
    """Whether the network predicted its labels."""
    pixels: NDArray[np.int64] | None
    """Pixels of each id, (256,), of all or of a sample; None if they were not counted."""

    @classmethod
    def of(cls, item: SegmentedFrame, picture: AnyPicture) -> Self:
        """Return a frame with its painted picture."""
        frame = replace(item.frame, picture=picture)
        return cls(frame, item.spec, item.by_network, item.pixels)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.frame.nbytes
