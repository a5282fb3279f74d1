"""A frame of a live view as the page gets it: its picture, its class map, and facts about it."""

import time
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roadseg.infer.http import part
from roadseg.infer.live import Reading
from roadseg.infer.stats import count_pixels, shares_of, unsure_share
from roadseg.paint.config import OverlayConfig
from roadseg.paint.overlay import shown_ids
from roadseg.paint.specks import on_grid, speck_grid, specks_among
from roadseg.settings import Color
from roadseg.spec import PALETTES, ModelSpec
from roadseg.video.encoded import JpegQuality, encoded
from roadseg.video.frame import SegmentedFrame

PICTURE_WIDTH, CLASS_MAP_WIDTH = 1280, 960
"""Largest widths sent."""


@dataclass(frozen=True)
class Shown:
    """A frame as it is sent; it is encoded once, for the first viewer."""

    item: SegmentedFrame
    reading: Reading
    overlay: OverlayConfig
    """How a viewer sees it at first."""

    @cached_property
    def parts(self) -> bytes:
        """The picture as JPEG, the class map and its specks, as parts of a form."""
        height, width = self.item.frame.shown_hw
        shown_width = min(width, PICTURE_WIDTH)
        rgb = self.item.frame.rgb((max(round(height * shown_width / width), 1), shown_width))
        jpeg = encoded(rgb, JpegQuality.LIVE)
        maps = {"classes": self._small_class_map, "specks": self._specks}
        deflated = (part(name, zlib.compress(ids.tobytes(), 1)) for name, ids in maps.items())
        return b"".join([part("picture", jpeg), *deflated])

    @property
    def _specks(self) -> NDArray[np.uint8]:
        """255 on each pixel of a speck of the class map, and 0 elsewhere."""
        ids = self._small_class_map
        grid = speck_grid(on_grid(ids), self.overlay.min_region)
        specks = specks_among(ids, grid, top=0)
        return np.zeros_like(ids) if specks is None else specks

    @cached_property
    def _small_class_map(self) -> NDArray[np.uint8]:
        step = -(-self.item.shown.shape[1] // CLASS_MAP_WIDTH)
        return self.item.sample(step)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Facts about the frame for the page."""
        spec, pixels = self.item.spec, count_pixels(self.item)
        colors = map(hex_color, spec.palette)
        return {
            "classes": list(zip(spec.class_names, colors, strict=True)),
            "palettes": palettes_for(spec),
            "shares": list(shares_of(pixels, spec).values()),
            "unsure": unsure_share(pixels),
            "map_hw": self._small_class_map.shape,
            "start": {
                "alpha": self.overlay.alpha,
                "outline": self.overlay.outline,
                "shown": shown_ids(spec, self.overlay),
            },
            "fps": self.reading.fps,
            "dropped": self.reading.dropped,
        }

    @property
    def age_s(self) -> float:
        """Time since the frame arrived."""
        assert self.item.frame.arrival is not None
        return time.monotonic() - self.item.frame.arrival.time_s


def palettes_for(spec: ModelSpec) -> dict[str, list[str]]:
    """Return the colours of a model's classes by the name of each palette that has them."""
    return {
        name: [hex_color(colors[known]) for known in spec.class_names]
        for name, colors in PALETTES.items()
        if colors.keys() >= set(spec.class_names)
    }


def hex_color(color: Color) -> str:
    """Return a colour in the form that the page calculates with."""
    return "#{:02x}{:02x}{:02x}".format(*color)
