"""A whole backend without a network: the class of a pixel is its brightness. Quick and exact."""

from pathlib import Path

import numpy as np

from roadseg.config import ModelSpec

DIVISIBLE = True


class BrightnessBackend:
    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    def segment(self, frames: np.ndarray) -> np.ndarray:
        return (frames[..., 1].astype(np.uint16) * len(self.spec.class_names) // 256).astype(
            np.uint8
        )

    def logits(self, frames: np.ndarray) -> np.ndarray:
        ids = np.arange(len(self.spec.class_names))[:, None, None]
        return (self.segment(frames)[:, None] == ids).astype(np.float32)

    def close(self) -> None:
        pass


def open_model(path: Path, _threads: int | None = None) -> BrightnessBackend:
    return BrightnessBackend(ModelSpec.from_json(path.read_text(), path))
