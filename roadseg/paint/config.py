"""How class maps are painted: frozen and validated."""

from dataclasses import dataclass

from roadseg.errors import ConfigError


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
    """Draw a light line where one class ends."""
    legend: bool = True
    """Write the painted classes in a corner."""

    def __post_init__(self) -> None:
        """Check each value, naming the flag at fault."""
        if not 0 <= self.alpha <= 1:
            raise ConfigError(f"--alpha is {self.alpha}; it must be from 0 to 1, such as 0.5")
        if self.classes and self.only:
            raise ConfigError(
                "--classes and --only are both given; --only darkens what it does not name, "
                "--classes leaves it as it is; choose one"
            )
