"""Settings of the overlay: frozen and validated."""

from collections.abc import Sequence
from dataclasses import dataclass

from roadseg.errors import ConfigError

CORNERS = ("top-left", "top-right", "bottom-left", "bottom-right")
NO_LEGEND = "none"
LEGENDS = (*CORNERS, NO_LEGEND)
"""Positions of a legend."""


HIDEABLE = {
    "people": ("pedestrian", "person", "rider", "bicyclist", "motorcyclist", "other rider"),
    "cars": (
        *("car", "bus", "truck", "van", "caravan", "trailer", "other vehicle", "autorickshaw"),
        *("motorcycle", "bicycle", "minibike"),
    ),
    "signs": (
        *("sign", "signboard", "stop sign", "traffic sign", "traffic sign (front)"),
        *("traffic sign (back)", "traffic sign frame", "billboard", "banner"),
    ),
}
"""What can be hidden, and the classes that models have for it."""
COVERS = ("black", "pixelate", "blur")
"""How it is hidden."""


@dataclass(frozen=True, kw_only=True)
class Redaction:
    """What is hidden of a video, and how: what may be there is hidden, and not what is likely."""

    hide: tuple[str, ...] = tuple(HIDEABLE)
    """Keys of `HIDEABLE`."""
    cover: str = "black"
    """One of `COVERS`."""
    probability: float = 0.1
    """Probability of being one of these from which a place is hidden."""
    margin: float = 0.015
    """What is hidden around it too, as a share of the picture's height."""
    hold_s: float = 0.5
    """Seconds for which it stays hidden, moving on; half of that it is hidden beforehand."""
    keep_tags: bool = False
    """Keep tags, chapters, telemetry and subtitles, which may tell place and time."""

    def __post_init__(self) -> None:
        """Check each value, naming the flag at fault."""
        unknown = [name for name in self.hide if name not in HIDEABLE]
        if unknown or not self.hide:
            raise ConfigError(
                f"--hide is {','.join(self.hide)!r}; name some of: {', '.join(HIDEABLE)}"
            )
        if self.cover not in COVERS:
            raise ConfigError(f"--cover is {self.cover!r}; use one of: {', '.join(COVERS)}")
        if not 0 < self.probability <= 0.5:
            raise ConfigError(
                f"--probability is {self.probability}; it must be above 0, at most 0.5"
            )
        if not 0 <= self.margin <= 0.2:
            raise ConfigError(f"--margin is {self.margin}; it must be from 0 to 0.2")
        if not 0 <= self.hold_s <= 10:
            raise ConfigError(f"--hold is {self.hold_s}; it must be from 0 to 10 seconds")

    def hidden_ids(self, class_names: Sequence[str]) -> tuple[int, ...]:
        """Return the ids of the classes that are hidden, given the names of a model's classes.

        Raises:
            ConfigError: The model does not know something that is to be hidden.
        """
        for name in self.hide:
            if not set(HIDEABLE[name]) & set(class_names):
                raise ConfigError(
                    f"--hide names {name}, and the model knows nothing of the kind, only "
                    f"{', '.join(class_names)}; take other weights, or hide something else"
                )
        hidden = {name for wanted in self.hide for name in HIDEABLE[wanted]}
        return tuple(i for i, name in enumerate(class_names) if name in hidden)


@dataclass(frozen=True, kw_only=True)
class OverlayConfig:
    """How class maps are painted over pictures."""

    alpha: float = 0.5
    """Share of the colour in a painted pixel."""
    classes: tuple[str, ...] = ()
    """Names of the classes to paint; none means all."""
    only: tuple[str, ...] = ()
    """Names of the classes to paint while the rest of the picture turns to dark grey."""
    outline: bool = True
    """Draw a light line between classes."""
    min_region: float = 0.0002
    """Share of the picture; a smaller region has no outline and is no object."""
    legend: str = "top-left"
    """Corner with the names of the painted classes that are in view, one of `LEGENDS`."""

    def __post_init__(self) -> None:
        """Check each value, naming the flag at fault."""
        if not 0 <= self.alpha <= 1:
            raise ConfigError(f"--alpha is {self.alpha}; it must be from 0 to 1, such as 0.5")
        if self.classes and self.only:
            raise ConfigError(
                "--classes and --only are both given; --only darkens what it does not name, "
                "--classes leaves it as it is; choose one"
            )
        if not 0 <= self.min_region < 1:
            raise ConfigError(
                f"--min-region is {self.min_region}; it must be a share of the picture from 0 to "
                "below 1, such as 0.0002"
            )
        if self.legend not in LEGENDS:
            raise ConfigError(f"--legend is {self.legend!r}; use one of: {', '.join(LEGENDS)}")
