"""Settings of the overlay: frozen and validated."""

from dataclasses import dataclass

from roadseg.errors import ConfigError

CORNERS = ("top-left", "top-right", "bottom-left", "bottom-right")
NO_LEGEND = "none"
LEGENDS = (*CORNERS, NO_LEGEND)
"""Positions of a legend."""


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
