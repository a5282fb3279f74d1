"""Augmentations for footage that the data may lack: night, rain, a bonnet, letterbox bars.

Each change takes a sample and returns one of the same size. What hides the scene is unlabelled.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.spec import IGNORE_INDEX

Picture = NDArray[np.uint8]
"""(H, W, 3) RGB."""
Target = NDArray[np.uint8]
"""(H, W) ids of classes or sets, and `IGNORE_INDEX`."""
Sample = tuple[Picture, Target]
"""A picture and its target."""


def night(sample: Sample, rng: np.random.Generator) -> Sample:
    """Darken a day to a street lit by headlights and lamps, with the noise of a small sensor."""
    picture, target = sample
    day = picture.astype(np.float32) / 255
    sky_glow = np.float32(rng.uniform(0.02, 0.3))
    light = sky_glow + _headlights(target.shape, rng) + _lamps(target.shape, rng)
    dark = day ** rng.uniform(1.2, 2.2) * light[..., None]
    dark *= rng.uniform((0.8, 0.7, 0.5), 1).astype(np.float32)
    lamps = _lamps(target.shape, rng)[..., None]  # themselves, not their light
    dark += lamps**2 * np.array([1, 0.9, 0.7], np.float32)
    noise = np.float32(rng.uniform(0.01, 0.05))
    dark += noise * rng.standard_normal(day.shape, np.float32)
    return (dark.clip(0, 1) * 255).astype(np.uint8), target


def _headlights(size_hw: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the light on the road ahead, (H, W) 0..1: a soft cone from below."""
    height, width = size_hw
    cone = np.zeros((height, width), np.float32)
    middle, horizon = width * rng.uniform(0.4, 0.6), height * rng.uniform(0.45, 0.6)
    half_far, half_near = width * rng.uniform(0.1, 0.25), width * rng.uniform(0.4, 0.8)
    corners = [
        (middle - half_far, horizon),
        (middle + half_far, horizon),
        (middle + half_near, height),
        (middle - half_near, height),
    ]
    cv2.fillConvexPoly(cone, np.array(corners, np.int32), rng.uniform(0.4, 1.0))
    return np.asarray(cv2.GaussianBlur(cone, (0, 0), height / 12), np.float32)


def _lamps(size_hw: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the light of some lamps in the upper two thirds, (H, W) 0..1, with their halos."""
    height, width = size_hw
    points = np.zeros((height, width), np.float32)
    for _ in range(rng.integers(2, 9)):
        center = (int(rng.integers(width)), int(rng.uniform(0.1, 0.65) * height))
        cv2.circle(points, center, int(rng.integers(1, 2 + height // 90)), 1.0, -1)
    halo = cv2.GaussianBlur(points, (0, 0), height / 30)
    return np.clip(points + halo * rng.uniform(2, 6), 0, 1).astype(np.float32)


def rain(sample: Sample, rng: np.random.Generator) -> Sample:
    """Draw streaks over a picture that is greyer and softer, as through falling rain."""
    picture, target = sample
    height, width = target.shape
    drops = (rng.random((height, width)) > 1 - rng.uniform(0.001, 0.008)).astype(np.float32)
    length = int(rng.integers(5, 6 + height // 20))
    streak = np.zeros((length, length), np.float32)
    lean = int(rng.uniform(-0.4, 0.4) * length)
    cv2.line(streak, ((length - lean) // 2, 0), ((length + lean) // 2, length - 1), 1.0, 1)
    streaks = cv2.filter2D(drops, -1, streak)[..., None].clip(0, 1) * rng.uniform(0.15, 0.5)
    soft = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 1.2)).astype(np.float32)
    grey = soft + (rng.uniform(90, 150) - soft) * rng.uniform(0.1, 0.4)
    return (grey * (1 - streaks) + 220 * streaks).astype(np.uint8), target


def bonnet(sample: Sample, rng: np.random.Generator) -> Sample:
    """Lay the bonnet of one's own car along the lower edge; it mirrors a little of the scene."""
    picture, target = sample
    height, width = target.shape
    mask = np.zeros((height, width), np.uint8)
    center = (int(width * rng.uniform(0.35, 0.65)), int(height * rng.uniform(1.0, 1.1)))
    axes = (int(width * rng.uniform(0.45, 0.9)), int(height * rng.uniform(0.1, 0.3)))
    cv2.ellipse(mask, center, axes, 0, 180, 360, 1, -1)
    hidden = mask > 0
    mirrored = cv2.GaussianBlur(picture[::-1], (0, 0), height / 40).astype(np.float32)
    paint = rng.uniform(5, 200) * rng.uniform(0.8, 1.2, 3)
    gloss = rng.uniform(0.1, 0.5)
    body = (paint * (1 - gloss) + mirrored * gloss).clip(0, 255).astype(np.uint8)
    return np.where(hidden[..., None], body, picture), _unlabelled(target, hidden)


def letterbox(sample: Sample, rng: np.random.Generator) -> Sample:
    """Blacken bars above and below, or left and right."""
    picture, target = sample
    hidden = np.zeros(target.shape, bool)
    bars = hidden if rng.random() < 0.7 else hidden.T
    for side in (bars, bars[::-1]):
        side[: int(len(bars) * rng.uniform(0, 0.15))] = True
    return np.where(hidden[..., None], np.uint8(0), picture), _unlabelled(target, hidden)


def _unlabelled(target: Target, hidden: NDArray[np.bool_]) -> Target:
    return np.where(hidden, np.uint8(IGNORE_INDEX), target)


LOOKS: dict[str, Callable[[Sample, np.random.Generator], Sample]] = {
    "night": night,
    "rain": rain,
    "bonnet": bonnet,
    "letterbox": letterbox,
}
"""Changes by the names of their shares in the settings, in the order in which they are made."""
