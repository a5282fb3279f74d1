"""The palettes: distinct colours, for people who lack a kind of cone too."""

from itertools import combinations

import cv2
import numpy as np
import pytest

from roadseg.errors import ConfigError
from roadseg.segmentation.config import ModelConfig
from roadseg.spec import CLASS_NAMES, NUM_CLASSES, PALETTES, ModelSpec

# Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision
# Deficiency" (2009), severity 1.0, on linear RGB.
SIGHT = {
    "all cones": np.eye(3),
    "no red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no blue": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def seen(colors: np.ndarray, sight: str) -> np.ndarray:
    """Colours (N, 3) as CIELAB, in which distance is difference to the eye."""
    srgb = colors / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    perceived = np.clip(linear @ np.array(SIGHT[sight]).T, 0, 1).astype(np.float32)
    return cv2.cvtColor(perceived[None], cv2.COLOR_LRGB2Lab)[0]


def least_difference(palette: str, sight: str) -> float:
    colors = [PALETTES[palette][name] for name in CLASS_NAMES[:NUM_CLASSES]]
    pairs = combinations(seen(np.array(colors), sight), 2)
    return min(float(np.linalg.norm(a - b)) for a, b in pairs)


@pytest.mark.parametrize("sight", SIGHT)
def test_colorblind_palette_keeps_any_two_classes_apart(sight) -> None:
    assert least_difference("colorblind", sight) > 25  # ten are told apart at a glance
    assert least_difference("colorblind", sight) > least_difference("camvid", sight)


@pytest.mark.parametrize("palette", PALETTES)
def test_no_two_classes_share_a_colour(palette) -> None:
    assert list(PALETTES[palette]) == list(CLASS_NAMES)
    assert len(set(PALETTES[palette].values())) == len(CLASS_NAMES)


def test_classes_of_other_models_keep_their_colours() -> None:
    spec = ModelSpec(
        arch="unet", width=4, class_names=("road", "cow"), palette=((1, 1, 1), (2, 2, 2))
    )
    assert spec.recolored("colorblind").palette == (PALETTES["colorblind"]["road"], (2, 2, 2))


def test_unknown_palette_is_named() -> None:
    with pytest.raises(ConfigError, match="--palette is 'pastel'; it must be one of: camvid, col"):
        ModelConfig(palette="pastel")
