"""Random changes of a picture and its target: geometry of both, colour of the picture.

All randomness comes from the given generator, so a sample is a pure function of its seed.
"""

from collections.abc import Sequence
from math import cos, exp, log, radians, sin

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from roadseg.spec import IGNORE_INDEX, PADDING_VALUE
from roadseg.train.config import AugmentConfig
from roadseg.train.looks import LOOKS, Picture, Sample, Target

FOURIER_REACH = (0.005, 0.03)
"""Bounds of the highest frequency that is taken from another picture, in cycles a pixel."""
FOURIER_STRENGTH = (0.3, 1.0)
"""Bounds of the share of the other picture's amplitudes there."""


def augment(
    picture: Picture,
    target: Target,
    crop_hw: tuple[int, int],
    config: AugmentConfig,
    rare: Sequence[int],
    rng: np.random.Generator,
) -> Sample:
    """Return a random crop of a sample, augmented.

    Args:
        picture: (H, W, 3) RGB.
        target: (H, W) ids.
        crop_hw: Height and width of the crop.
        config: Strengths.
        rare: Ids of the classes around which crops are centred.
        rng: Source of all randomness.

    Returns:
        The picture (*crop_hw, 3) and the target crop_hw; beyond the picture's edge they are grey
        and `IGNORE_INDEX`.
    """
    if config.color:
        picture = _color(picture, config.color, rng)
    if rng.random() < config.weather:
        picture = _weather(picture, rng)
    if rng.random() < config.camera:
        picture = _camera(picture, rng)
    for name, change in LOOKS.items():
        share = getattr(config, name)
        if share and rng.random() < share:  # draws nothing if it is off
            picture, target = change((picture, target), rng)
    matrix = _random_affine(target, crop_hw, config, rare, rng)
    size_wh = crop_hw[::-1]
    picture = cv2.warpAffine(  # type: ignore[assignment]
        picture,
        matrix,
        size_wh,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(PADDING_VALUE,) * 3,
    )
    target = cv2.warpAffine(  # type: ignore[assignment]
        target,
        matrix,
        size_wh,
        flags=cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=IGNORE_INDEX,
    )
    return picture, target


def paste_classes(
    below: Sample, above: Sample, rare: Sequence[int], rng: np.random.Generator
) -> Sample:
    """Paste some classes of one sample on another of the same size.

    ClassMix (Olsson et al., arXiv 2007.07936) with labels for its predictions: half of the classes
    present are pasted, drawn at random, and every rare one.
    """
    present = np.setdiff1d(np.unique(above[1]), IGNORE_INDEX)
    chosen = rng.permutation(present)[: len(present) // 2]
    pasted = np.isin(above[1], [*chosen, *rare])
    picture = np.where(pasted[..., None], above[0], below[0])
    return picture, np.where(pasted, above[1], below[1])


def low_frequencies_of(stranger: Picture, picture: Picture, rng: np.random.Generator) -> Picture:
    """Return a picture with some of the low Fourier amplitudes of another one, at its own phases.

    So it keeps its shapes and takes on the other's light and haze (FDA; Yang and Soatto, arXiv
    2004.05498, equations 1 and 2).

    Args:
        stranger: (any height and width, 3).
        picture: (H, W, 3).
        rng: Source of how far the change goes.
    """
    reach, strength = rng.uniform(*FOURIER_REACH), rng.uniform(*FOURIER_STRENGTH)
    height, width = picture.shape[:2]
    stranger = cv2.resize(stranger, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    rows = _low_waves(height, reach)  # (R, H)
    columns = _low_waves(width, reach)
    columns = columns[: len(columns) // 2 + 1]  # (C, W); the others are these, mirrored
    own, other = (_low_frequencies(p, rows, columns) for p in (picture, stranger))
    amplitude = own.abs()
    change = strength * (other.abs() - amplitude) / amplitude.clamp(min=1e-6) * own
    change[..., 1:] *= 2  # for the mirrored columns
    by_row = (change @ columns.conj()).transpose(1, 2).reshape(len(rows), -1)  # (R, W * 3)
    added = rows.real.T @ by_row.real + rows.imag.T @ by_row.imag
    changed = picture + added.view(picture.shape).numpy() / (height * width)
    return np.asarray(changed.round().clip(0, 255), np.uint8)


def _low_frequencies(picture: Picture, rows: Tensor, columns: Tensor) -> Tensor:
    """Return what a picture has of some waves, (R, 3, C) complex, in less than a whole transform.

    PyTorch multiplies on one thread where samples are prepared beside each other; NumPy would take
    all cores in each process.
    """
    height, width, _ = picture.shape
    pixels = torch.from_numpy(picture.astype(np.float32).reshape(height, -1))
    by_row = torch.complex(rows.real @ pixels, rows.imag @ pixels).view(len(rows), width, 3)
    return by_row.transpose(1, 2) @ columns.T


def _low_waves(count: int, reach: float) -> Tensor:
    """Return the waves of a Fourier transform up to a frequency, from 0 on, then the negative."""
    last = int(reach * count)
    order = np.r_[0 : last + 1, -last:0] if last else np.zeros(1, int)
    waves = np.exp(-2j * np.pi * np.outer(order, np.arange(count)) / count)
    return torch.from_numpy(waves.astype(np.complex64))


def _random_affine(
    target: Target,
    crop_hw: tuple[int, int],
    config: AugmentConfig,
    rare: Sequence[int],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return the 2x3 matrix that takes picture coordinates to the crop's."""
    height, width = target.shape
    scale = exp(rng.uniform(log(config.scale[0]), log(config.scale[1])))
    aspect = exp(rng.uniform(-config.aspect, config.aspect) / 2)
    scale_x, scale_y = scale * aspect, scale / aspect
    angle = radians(rng.uniform(-config.rotation_deg, config.rotation_deg))
    mirror = -1.0 if config.flip and rng.random() < 0.5 else 1.0
    linear = np.array(
        [
            [mirror * scale_x * cos(angle), -scale_y * sin(angle)],
            [mirror * scale_x * sin(angle), scale_y * cos(angle)],
        ]
    )
    focus = _rare_pixel(target, rare, rng) if rng.random() < config.rare_crop else None
    if focus is None:
        focus = (rng.uniform(0, width - 1), rng.uniform(0, height - 1))
    center = np.array(
        [
            _keep_inside(focus[0], width, crop_hw[1] / scale_x),
            _keep_inside(focus[1], height, crop_hw[0] / scale_y),
        ]
    )
    crop_center = np.array([(crop_hw[1] - 1) / 2, (crop_hw[0] - 1) / 2])
    shift = crop_center - linear @ center
    return np.column_stack([linear, shift])


def _rare_pixel(
    target: Target, rare: Sequence[int], rng: np.random.Generator
) -> tuple[float, float] | None:
    """Return (x, y) of a random pixel of a random rare class present, or None."""
    present = [c for c in rare if (target == c).any()]
    if not present:
        return None
    rows, columns = np.nonzero(target == rng.choice(present))
    chosen = rng.integers(len(rows))
    return float(columns[chosen]), float(rows[chosen])


def _keep_inside(center: float, side: float, window: float) -> float:
    """Move a window's centre so that the window stays within a side, or centre it if it cannot."""
    last = side - 1  # coordinates are of pixels' centres, so a side goes from 0 to its last one
    if window >= side:
        return last / 2
    return min(max(center, (window - 1) / 2), last - (window - 1) / 2)


def _color(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Change hue and saturation, then gamma, contrast and brightness through one table."""
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
    hue_shift = round(rng.uniform(-1, 1) * strength * 25)  # of 180
    saturation = 1 + rng.uniform(-1, 1) * strength
    tables = np.arange(256)[:, None].repeat(3, axis=1).astype(np.float64)
    tables[:, 0] = (tables[:, 0] + hue_shift) % 180
    tables[:, 1] = np.clip(tables[:, 1] * saturation, 0, 255)
    hsv = cv2.LUT(hsv, tables.astype(np.uint8)[None])
    picture = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)  # type: ignore[assignment]
    level = np.linspace(0, 1, 256) ** exp(rng.uniform(-1, 1) * strength / 2)
    middle = level[round(float(np.mean(picture)))]  # contrast turns about the picture's own level
    level = (level - middle) * (1 + rng.uniform(-1, 1) * strength) + middle
    level = level + rng.uniform(-1, 1) * strength / 4
    tint = 1 + rng.uniform(-1, 1, 3) * strength / 4  # white balance
    table = np.clip(level[:, None] * tint * 255, 0, 255).astype(np.uint8)
    return cv2.LUT(picture, table[None])  # type: ignore[return-value]


def _camera(picture: Picture, rng: np.random.Generator) -> Picture:
    """Add one trace of a cheap camera: blur, noise or JPEG blocks."""
    kind = rng.integers(3)
    if kind == 0:
        return cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.5, 1.5))  # type: ignore[return-value]
    if kind == 1:
        noise = np.float32(rng.uniform(3, 15)) * rng.standard_normal(picture.shape, np.float32)
        return np.clip(picture + noise, 0, 255).astype(np.uint8)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 70))]
    _, data = cv2.imencode(".jpg", picture, quality)  # channel order is kept by the round trip
    return cv2.imdecode(data, cv2.IMREAD_COLOR)  # type: ignore[return-value]


def _weather(picture: Picture, rng: np.random.Generator) -> Picture:
    """Add one trace of sun or rain: a cast shadow, haze, or drops on the windscreen."""
    kind = rng.integers(3)
    if kind == 0:
        return _shadow(picture, rng)
    if kind == 1:
        return _haze(picture, rng)
    return _drops(picture, rng)


def _shadow(picture: Picture, rng: np.random.Generator) -> Picture:
    """Darken a polygon with a soft edge, as the shadow of a house or a tree does."""
    height, width = picture.shape[:2]
    corners = rng.uniform(-0.2, 1.2, (4, 2)) * (width, height)
    mask = np.zeros((height, width), np.float32)
    cv2.fillConvexPoly(mask, cv2.convexHull(corners.astype(np.int32)), 1.0)
    mask = cv2.GaussianBlur(mask, (0, 0), rng.uniform(1, 8))  # type: ignore[assignment]
    light = 1 - mask[..., None] * rng.uniform(0.3, 0.7)
    return (picture * light).astype(np.uint8)


def _haze(picture: Picture, rng: np.random.Generator) -> Picture:
    """Fade the picture to grey, more so towards its upper part, where things are far."""
    rows = np.linspace(1, 0, picture.shape[0]) ** rng.uniform(0.5, 2)
    density = (rng.uniform(0.2, 0.6) * rows)[:, None, None]
    return (picture * (1 - density) + rng.uniform(150, 230) * density).astype(np.uint8)


def _drops(picture: Picture, rng: np.random.Generator) -> Picture:
    """Blur and shift what is behind some ellipses, as drops on glass do."""
    height, width = picture.shape[:2]
    behind = cv2.GaussianBlur(np.roll(picture, rng.integers(-9, 10, 2), (0, 1)), (0, 0), 4)
    mask = np.zeros((height, width), np.float32)
    for _ in range(rng.integers(10, 60)):
        center = (int(rng.integers(width)), int(rng.integers(height)))
        axes = (int(rng.integers(2, 10)), int(rng.integers(2, 14)))
        cv2.ellipse(mask, center, axes, 0, 0, 360, 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 1)[..., None]  # type: ignore[assignment]
    return (
        (picture * (1 - mask) + behind * mask * rng.uniform(0.8, 1.2)).clip(0, 255).astype(np.uint8)
    )
