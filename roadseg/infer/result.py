"""What the Python API gives: a frame or a picture with its labels."""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from roadseg.errors import BackendUnavailable, OutputError
from roadseg.files import replacing
from roadseg.infer.arguments import check_names, speaking_of_arguments
from roadseg.infer.stats import count_pixels, measure, shares_of
from roadseg.paint.config import NO_LEGEND, OverlayConfig
from roadseg.paint.in_view import InView
from roadseg.paint.overlay import Overlay
from roadseg.video.encoded import JpegQuality, encoded
from roadseg.video.frame import Region, SegmentedFrame
from roadseg.video.write.encoding import STILL_SUFFIXES

if TYPE_CHECKING:
    import PIL.Image

FEW_CLASSES = 4
"""Classes that the short form of a result names."""


@dataclass(frozen=True, repr=False)
class Result:
    """A frame of a video, or a picture, with its labels."""

    item: SegmentedFrame
    """The frame, its class map and the model's record, as the pipeline carries them."""

    def __repr__(self) -> str:
        height, width = self.class_map.shape
        largest = sorted(self.class_shares.items(), key=lambda entry: -entry[1])[:FEW_CLASSES]
        shares = ", ".join(f"{name} {share:.0%}" for name, share in largest if share)
        return f"<Result at {self.time_s:.2f} s, {width}x{height}: {shares}>"

    def _repr_png_(self) -> bytes:
        """Return the overlay for notebooks, as a PNG."""
        return encoded(self.overlay(), JpegQuality.OUTPUT, ".png")

    def __getstate__(self) -> dict[str, Any]:
        return {"item": self.item}  # the rest is made of it

    @cached_property
    def picture(self) -> NDArray[np.uint8]:
        """(H, W, 3) RGB; colour has half the resolution, as videos have it."""
        return self.item.frame.rgb()

    @property
    def class_map(self) -> NDArray[np.uint8]:
        """(H, W) ids of the strongest classes: positions in `class_names`."""
        return self.item.class_map

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes by id."""
        return self.item.spec.class_names

    @cached_property
    def confidence(self) -> NDArray[np.float32] | None:
        """(H, W) how sure the class map is, 0..1; None if the model gives ids only.

        It is the probability of the strongest class, averaged over the surroundings of that class,
        and in a video over the moments before.
        """
        if self.item.confidence is None:
            return None
        levels = self.item.confidence.at(self.item.frame.picture.size_hw)
        return np.asarray(levels / np.float32(255), np.float32)

    @property
    def class_shares(self) -> dict[str, float]:
        """Share of each class in the picture, without what is too unsure to be shown."""
        return shares_of(count_pixels(self.item), self.item.spec)

    @property
    def pts(self) -> int:
        """Presentation time as the video has it, in units of `time_base`; 0 for a picture."""
        return self.item.frame.pts

    @property
    def time_base(self) -> Fraction:
        """Seconds a unit of `pts`."""
        return self.item.frame.time_base

    @property
    def time_s(self) -> float:
        """Presentation time in seconds."""
        return self.item.frame.time_s

    @property
    def objects(self) -> tuple[Region, ...]:
        """Poles, signs, cars and people, each with its box in pixels."""
        return measure(self.item).objects

    def to_pil(self, **painting: Any) -> "PIL.Image.Image":
        """Return the overlay as a picture of Pillow; the arguments are those of `overlay`.

        Raises:
            BackendUnavailable: Pillow is not installed.
            ConfigError: As `overlay`.
        """
        try:
            from PIL import Image
        except ImportError as error:
            raise BackendUnavailable(
                "Pillow is not installed, and to_pil needs it; run: pip install pillow"
            ) from error
        return Image.fromarray(self.overlay(**painting))

    def save(self, path: Path | str, **painting: Any) -> None:
        """Write the overlay as a PNG or JPEG, in place of what is there.

        Args:
            path: File; its suffix chooses the format.
            painting: Arguments of `overlay`.

        Raises:
            OutputError: The file has another suffix, or cannot be written.
            ConfigError: As `overlay`.
        """
        path = Path(path)
        if path.suffix.lower() not in STILL_SUFFIXES:
            raise OutputError(
                f"{path} must end in {' or '.join(STILL_SUFFIXES)}; choose another name"
            )
        data = encoded(self.overlay(**painting), JpegQuality.OUTPUT, path.suffix)
        with replacing(path) as file:
            file.write_bytes(data)

    @speaking_of_arguments()
    def overlay(
        self,
        *,
        alpha: float = OverlayConfig.alpha,
        classes: tuple[str, ...] = OverlayConfig.classes,
        only: tuple[str, ...] = OverlayConfig.only,
        outline: bool = OverlayConfig.outline,
        min_region: float = OverlayConfig.min_region,
        legend: str | bool = OverlayConfig.legend,
    ) -> NDArray[np.uint8]:
        """Return a painted copy of the picture, (H, W, 3) RGB.

        Args:
            alpha: Share of the colour in a painted pixel, 0..1.
            classes: Names of the classes to paint; none means all.
            only: Names of the classes to paint while the rest turns to dark grey.
            outline: Draw a light line where one class ends.
            min_region: Share of the picture; a smaller region has no outline.
            legend: Corner with the painted classes that are in view: top-left, top-right,
                bottom-left, bottom-right or none. True and False are the first and the last.

        Raises:
            ConfigError: The model does not know a class, or a setting is out of its range.
        """
        check_names("classes", classes)
        check_names("only", only)
        if isinstance(legend, bool):
            legend = OverlayConfig.legend if legend else NO_LEGEND
        config = OverlayConfig(
            alpha=alpha,
            classes=classes,
            only=only,
            outline=outline,
            min_region=min_region,
            legend=legend,
        )
        in_view = InView().update(count_pixels(self.item), self.time_s)
        overlay = Overlay(self.item.spec, config)
        return self.item.frame.picture.paint(overlay, self.item.shown, in_view).rgb()
