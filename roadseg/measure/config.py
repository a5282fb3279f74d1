"""Settings of a run of measurements: frozen and validated."""

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from roadseg.backends.weights import default_weights
from roadseg.errors import ConfigError
from roadseg.segmentation.config import ModelConfig
from roadseg.video.rates import LONGEST_S

ENGINE = ".engine"
"""Suffix of TensorRT's engines."""
LEAST_SIDE = 64
"""Pixels of a side of a video that is enlarged, at least."""


@dataclass(frozen=True)
class Scenario:
    """How a model on a GPU is asked, in the terms of MLPerf Inference (Reddi et al. 2020)."""

    name: str
    """single, offline or streams=K."""

    @property
    def streams(self) -> int:
        """Frames of a query of MLPerf's multi-stream, one of each stream; 0 in other scenarios."""
        return int(self.name.partition("=")[2] or 0)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `--scenario` was given. Raises `ConfigError`."""
        if not re.fullmatch(r"single|offline|streams=[1-9]\d{0,3}", text):
            raise ConfigError(
                f"--scenario is {text!r}; use single, offline or streams=K, such as streams=4"
            )
        return cls(text)


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """Settings of one run of measurements."""

    film: Path
    """Video to measure on."""
    film_hw: tuple[int, int] | None = None
    """Height and width that the video is enlarged to first; None takes it as it is."""
    weights: tuple[Path, ...] = ()
    """Model files, the reference first; none means those that are included.

    Checkpoints are the better reference, and taken for it wherever they stand."""
    backends: tuple[str, ...] = ()
    """Runtimes; none means all that are installed and read the files."""
    sizes_hw: tuple[tuple[int, int], ...] = ()
    """Network inputs; none means the one that `roadseg infer` would choose."""
    batches: tuple[int, ...] = (1,)
    """Frames a call, where the model is measured alone."""
    gpus: tuple[str, ...] = ()
    """GPUs to measure on beside the CPU, as PyTorch calls them: cuda:0."""
    scenarios: tuple[Scenario, ...] = (Scenario("single"), Scenario("offline"))
    """How models on a GPU are asked."""
    cuda_graphs: tuple[bool | None, ...] = (None,)
    """Whether a model's launches on a GPU are one CUDA graph; None leaves it to the runtime."""
    builds_engines: bool = False
    """Also measure TensorRT's engines, one for each GPU and batch, built where they are missing."""
    peer: Path | None = None
    """Road segmentation of the Open Model Zoo to measure beside."""
    rate: float | None = None
    """Frames a second of the camera in live mode; None takes the video's."""
    rounds: int = 5
    """Times that everything is measured, in turns."""
    film_s: float | None = 4.0
    """Seconds of the video to label; None labels it whole."""
    call_s: float = 1.5
    """Seconds for which a model is called, once it is warm."""
    live_s: float = 3.0
    """Seconds of live mode."""

    def __post_init__(self) -> None:
        """Check each value, naming the flag at fault."""
        if self.weights and self.weights[0].suffix == ENGINE:
            raise ConfigError(
                f"--weights {self.weights[0]} comes first, as the reference; an engine computes in "
                "half precision, on a GPU alone; name the model that it was built from before it"
            )
        names = [path.name for path in self.weights]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(
                f"--weights names {twice} twice; results are told apart by the names of files; "
                "give each model once, under a name of its own"
            )
        for gpu in self.gpus:
            if not re.fullmatch(r"cuda:\d+", gpu):
                raise ConfigError(f"--device is {gpu!r}; use cpu or a GPU such as cuda:0")
        if self.film_hw and any(side < LEAST_SIDE or side % 2 for side in self.film_hw):
            height, width = self.film_hw
            raise ConfigError(
                f"--video-size is {width}x{height}; both sides must be even and at least "
                f"{LEAST_SIDE}; use 1080p, 4k or one such as 1280x720"
            )
        if self.peer is not None and not self.peer.is_file():
            raise ConfigError(f"--peer {self.peer} does not exist; give the model's .xml file")
        if self.rounds < 1:
            raise ConfigError(f"--rounds is {self.rounds}; it must be at least 1")
        if any(batch < 1 for batch in self.batches):
            raise ConfigError(f"--batch is {min(self.batches)}; it must be at least 1")
        if self.rate is not None and not (self.rate > 0 and math.isfinite(self.rate)):
            raise ConfigError(f"--rate is {self.rate}; it must be above 0, such as 30")
        if self.film_s is not None and not 0 < self.film_s <= LONGEST_S:
            raise ConfigError(
                f"--seconds is {self.film_s:g}; it must be above 0 and at most {LONGEST_S:g}, such "
                "as 4"
            )

    def shortened(self) -> Self:
        """Return settings that measure everything in about a minute; too short for claims."""
        return replace(
            self,
            weights=self.weights or (default_weights(),),
            backends=self.backends or (ModelConfig.backend,),
            rounds=2,
            film_s=1.0,
            call_s=0.3,
            live_s=1.0,
        )
