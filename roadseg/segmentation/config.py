"""Which model labels, and how: frozen and validated."""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from roadseg.backends.weights import default_weights
from roadseg.errors import ConfigError
from roadseg.spec import DEFAULT_PALETTE, palette_colors

AUTO_DEVICE, CPU = "auto", "cpu"
"""Devices besides the cards, which are called as PyTorch does: cuda, or cuda:1."""
MOST_BETWEEN = 12
"""Most frames of a video from one that the network looks at to the next."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which model labels, on what, at which size, and in which colours."""

    weights: Path = field(default_factory=default_weights)
    """Model file."""
    backend: str = "auto"
    """Runtime, or "auto" to go by the model file."""
    device: str = AUTO_DEVICE
    """Where pictures lie on their way: on the CPU, on a card, or on one where that is possible."""
    size_hw: tuple[int, int] | None = None
    """Network input; None chooses by the model and the video's aspect ratio."""
    palette: str = DEFAULT_PALETTE
    """Colours of the classes, a key of `PALETTES` or a file of them."""
    steady: float = 0.6
    """Weight of the past in a video's labels after a fifteenth of a second; 0 has no past."""
    every: int = 1
    """Frames of a video from one that the network looks at to the next."""
    fps_target: float | None = None
    """Frames a second to reach by letting the network look at fewer of them."""
    realtime: bool = False
    """Reach the video's own rate that way."""

    def __post_init__(self) -> None:
        """Check each value, naming the flag at fault."""
        palette_colors(self.palette)
        if not re.fullmatch(rf"{AUTO_DEVICE}|{CPU}|cuda(:\d+)?", self.device):
            raise ConfigError(
                f"--device is {self.device!r}; use {AUTO_DEVICE}, {CPU}, cuda or cuda:N"
            )
        if not 0 <= self.steady < 1:
            raise ConfigError(
                f"--steady is {self.steady}; it must be from 0 to below 1, such as 0.7"
            )
        if not 1 <= self.every <= MOST_BETWEEN:
            raise ConfigError(f"--every is {self.every}; it must be from 1 to {MOST_BETWEEN}")
        if self.fps_target is not None and not (
            self.fps_target > 0 and math.isfinite(self.fps_target)
        ):
            raise ConfigError(f"--fps-target is {self.fps_target}; it must be above 0, such as 25")
        ways = (self.every > 1, self.fps_target is not None, self.realtime)
        if sum(ways) > 1:
            raise ConfigError(
                "--every, --fps-target and --realtime each say how often the network looks; "
                "choose one"
            )

    @property
    def goes_by_motion(self) -> bool:
        """Whether labels follow the motion in a video, rather than each frame being a stranger."""
        return bool(self.steady or self.every > 1 or self.goes_by_time)

    @property
    def goes_by_time(self) -> bool:
        """Whether the frames that the network looks at are chosen by the time that is left."""
        return bool(self.fps_target or self.realtime)
