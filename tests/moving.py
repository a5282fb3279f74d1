"""Films of which it is known how everything moves, and a network that flickers."""

from collections.abc import Collection, Iterator, Sequence
from fractions import Fraction

import cv2
import numpy as np

from roadseg.backends.runtimes import CLASS_MAP, Answer, Output
from roadseg.spec import ModelSpec
from roadseg.video.frame import Frame
from roadseg.video.picture import Picture

FIFTEENTH = Fraction(1, 15)
SIZE_HW = (216, 384)


def texture(seed: int, size_hw: tuple[int, int] = (400, 800)) -> np.ndarray:
    """A picture that flow can hold on to, (H, W, 3) RGB."""
    noise = np.random.default_rng(seed).normal(size=size_hw).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    grey = np.clip(128 + 60 * smooth / smooth.std(), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def panning(
    steps: list[int], seed: int = 0, times: list[int] | None = None, start: int = 0
) -> Iterator[Frame]:
    """A camera that moves over a texture: `steps` are the columns it goes on before each frame."""
    large, (height, width), column = texture(seed), SIZE_HW, start
    for number, step in enumerate(steps):
        column += step
        view = large[50 : 50 + height, column : column + width]
        pts = times[number] if times else number
        yield Frame(Picture.from_rgb(np.ascontiguousarray(view)), pts, FIFTEENTH)


def roads(seeds: Sequence[int]) -> Iterator[Frame]:
    """A film of one place after the other, all laid out alike: bright above and dark below.

    Frames of one seed are the same; flow explains the brightness of one place by another.
    """
    for number, seed in enumerate(seeds):
        yield Frame(Picture.from_rgb(road(seed)), number, FIFTEENTH)


def road(seed: int) -> np.ndarray:
    """A place, (H, W, 3) RGB."""
    layout = np.linspace(200, 60, SIZE_HW[0], dtype=np.float32)[:, None]
    noise = np.random.default_rng(seed).normal(size=SIZE_HW).astype(np.float32)
    detail = cv2.GaussianBlur(noise, (0, 0), 6)
    grey = np.clip(layout + 14 * detail / detail.std(), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


class FlickeringBackend:
    """Right about the left and the right half of the input, but for single frames.

    Args:
        wrong: Numbers of the calls in which it says the opposite, though hesitantly.
    """

    spec = ModelSpec(arch="flicker", width=1, size_hw=(192, 352))

    def __init__(self, wrong: tuple[int, ...] = ()) -> None:
        self._wrong = wrong
        self.calls = 0
        self.wanted: set[Output] = set()

    def run(self, frames: np.ndarray, wants: Collection[Output] = CLASS_MAP) -> Answer:
        self.wanted |= set(wants)
        class_map, logits = self._decide(frames)
        found = {"class_map": class_map, "logits": logits}
        return Answer({output: found[output] for output in wants})

    def _decide(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        _, height, width, _ = frames.shape
        logits = np.zeros((1, 11, height // 2, width // 2), np.float32)
        strength = -1.0 if self.calls in self._wrong else 4.0
        logits[:, 3, :, : width // 4] = strength
        logits[:, 0, :, width // 4 :] = strength
        logits[:, 1:3] = logits[:, 4:] = -9
        self.calls += 1
        class_map = logits.argmax(axis=1).astype(np.uint8).repeat(2, axis=1).repeat(2, axis=2)
        return class_map, logits

    def close(self) -> None:
        pass
