"""Settings of `adopt`: the network, and what its graph does not state."""

import math
from dataclasses import dataclass
from pathlib import Path

from roadseg.errors import ConfigError

LAYOUTS = ("nchw", "nhwc")
SUFFIXES = (".onnx", ".xml")
"""Of networks that can be adopted."""
INPUT_RANGES = {"0..1": 1.0, "0..255": 255.0}
"""Ranges of what a network's normalisation begins with, and their ends."""


@dataclass(frozen=True, kw_only=True)
class AdoptConfig:
    """Settings of `adopt`."""

    model: Path
    """ONNX file or OpenVINO IR of the network."""
    classes: str
    """Included list of its classes, or a file."""
    out: Path
    """File to write, of the same kind."""
    mean: tuple[float, float, float] | None = None
    """Taken from each of the network's channels, in their order; None is nothing."""
    std: tuple[float, float, float] | None = None
    """What they are then divided by; None is 1."""
    input_range: str | None = None
    """Range of what that is taken from; None goes by the size of the two."""
    bgr: bool = False
    """Whether blue is the network's first channel."""
    layout: str | None = None
    """Order of its input; None goes by its shape."""
    output: str | None = None
    """Output that labels come from; None takes the one that can be."""
    size_hw: tuple[int, int] = (512, 1024)
    """Input, height and width, whose area is not exceeded where the graph takes any."""
    frame: Path | None = None
    """Picture or video to check it on; None takes one that is made up."""

    def __post_init__(self) -> None:
        """Check each value, naming the flag at fault."""
        for flag, value, known in (
            ("--layout", self.layout, LAYOUTS),
            ("--input-range", self.input_range, tuple(INPUT_RANGES)),
        ):
            if value is not None and value not in known:
                raise ConfigError(f"{flag} is {value!r}; use one of: {', '.join(known)}")
        for flag, numbers in (("--mean", self.mean), ("--std", self.std)):
            if numbers is not None and not all(map(math.isfinite, numbers)):
                raise ConfigError(f"{flag} is {numbers}; give three numbers")
        if self.std is not None and min(self.std) <= 0:
            raise ConfigError(f"--std is {self.std}; each number must be above 0")
        if self.mean and self.input_range:
            most = max(map(abs, self.mean))
            if most > INPUT_RANGES[self.input_range]:
                raise ConfigError(
                    f"--mean has {most:g}, and --input-range is {self.input_range}; a mean lies "
                    "within the range; correct one of them, or leave out --input-range"
                )
        if self.model.suffix not in SUFFIXES:
            raise ConfigError(
                f"{self.model} is neither ONNX (.onnx) nor OpenVINO IR (.xml); export the network "
                "as one"
            )
        if self.out.suffix != self.model.suffix:
            raise ConfigError(
                f"--out {self.out} must end in {self.model.suffix}, as the network does"
            )
