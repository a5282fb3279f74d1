"""Settings of the labels: which model makes them, and how. Frozen and validated."""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from roadseg.backends.weights import default_weights
from roadseg.errors import ConfigError
from roadseg.spec import DEFAULT_PALETTE, ModelSpec, palette_colors

AUTO_DEVICE, CPU = "auto", "cpu"
"""Devices besides the GPUs, which are called as PyTorch does: cuda, or cuda:1."""
MOST_BETWEEN = 12
"""Largest distance between key frames, in frames."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Model, runtime, input size, colours, and how labels use the motion."""

    weights: Path = field(default_factory=default_weights)
    """Model file."""
    backend: str = "auto"
    """Runtime, or "auto" to go by the model file."""
    device: str = AUTO_DEVICE
    """Where pictures lie on their way: on the CPU, on a GPU, or on one where that is possible."""
    size_hw: tuple[int, int] | None = None
    """Network input; None chooses by the model and the video's aspect ratio."""
    palette: str = DEFAULT_PALETTE
    """Colours of the classes, a key of `PALETTES` or a file of them."""
    steady: float = 0.6
    """Weight of the past in a video's labels after a fifteenth of a second; 0 ignores it."""
    every: int | Literal["auto"] = "auto"
    """Distance between key frames, on which the network runs, in frames; "auto" goes by the second,
    and takes all frames where the past has no weight or a later key frame cannot be waited for."""
    min_confidence: float = 0.65
    """Confidence, 0..1, below which a pixel is neither shown nor counted; 0 shows all."""
    keeps_confidence: bool = False
    """Find the confidence even if nothing is left out by it."""
    fps_target: float | None = None
    """Frames a second to reach by running the network on fewer of them."""
    realtime: bool = False
    """Reach the video's own rate in the same way."""
    threads: int | None = None
    """Cores to use; None takes all that the process has."""

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
        if not 0 <= self.min_confidence < 1:
            raise ConfigError(
                f"--min-confidence is {self.min_confidence}; it must be from 0 to below 1, such as "
                f"{ModelConfig.min_confidence}"
            )
        if self.every != "auto" and self.every not in range(1, MOST_BETWEEN + 1):
            raise ConfigError(
                f"--every is {self.every}; it must be auto, or from 1 to {MOST_BETWEEN}"
            )
        if self.fps_target is not None and not (
            self.fps_target > 0 and math.isfinite(self.fps_target)
        ):
            raise ConfigError(f"--fps-target is {self.fps_target}; it must be above 0, such as 25")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"--threads is {self.threads}; it must be 1 or more")
        ways = (self._counts, self.fps_target is not None, self.realtime)
        if sum(ways) > 1:
            raise ConfigError(
                "--every, --fps-target and --realtime each say how often the network runs; "
                "choose one"
            )

    def wants_confidence_of(self, spec: ModelSpec) -> bool:
        """Whether the confidence of a model's labels is wanted, and known."""
        return bool(self.min_confidence or self.keeps_confidence) and not spec.gives_ids

    @property
    def goes_by_motion(self) -> bool:
        """Whether labels follow the motion; if not, each frame is labelled alone."""
        return bool(self.steady or self._counts or self.goes_by_time)

    @property
    def goes_by_time(self) -> bool:
        """Whether key frames are chosen by the time that is left."""
        return bool(self.fps_target or self.realtime)

    @property
    def _counts(self) -> bool:
        """Whether key frames lie a given number of frames apart."""
        return self.every not in (1, "auto")
