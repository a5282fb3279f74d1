from dataclasses import replace

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")

from conftest import scene
from hypothesis import given, settings
from hypothesis import strategies as st

from roadseg.spec import IGNORE_INDEX
from roadseg.train.augment import augment, low_frequencies_of, paste_classes
from roadseg.train.config import AugmentConfig
from roadseg.train.looks import LOOKS

GEOMETRY_ONLY = AugmentConfig(color=0, camera=0, weather=0)
EVERYTHING = AugmentConfig(camera=1.0, weather=1.0, mix=1.0)
RARE = (9, 10)


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000))
def test_picture_and_target_move_alike(seed) -> None:
    # Each pixel of a ramp says where it came from: the column is its level, its id the 22nd part.
    columns = np.broadcast_to(np.arange(240), (96, 240)).astype(np.uint8)
    ids = (columns // 22).astype(np.uint8)
    picture, target = augment(
        np.repeat(columns[..., None], 3, axis=2),
        ids,
        (64, 96),
        GEOMETRY_ONLY,
        RARE,
        np.random.default_rng(seed),
    )
    # The outermost pixels are mixed with the grey beyond the edge.
    inside = (
        cv2.erode((target != IGNORE_INDEX).astype(np.uint8), np.ones((3, 3)), borderValue=0) > 0
    )
    came_from = picture[..., 0].astype(float)[inside]
    first = target[inside] * 22.0
    assert ((came_from >= first - 0.5) & (came_from <= first + 22)).all()  # half: by rounding


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20)
def test_a_seed_gives_one_sample(seed) -> None:
    first, second = (
        augment(*scene(1), (64, 96), EVERYTHING, RARE, np.random.default_rng(seed))
        for _ in range(2)
    )
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


@pytest.mark.parametrize("seed", range(8))
def test_crop_of_the_whole_picture_is_the_picture_or_its_mirror_image(seed) -> None:
    image, target = scene(seed)
    still = replace(AugmentConfig.none(), flip=True)
    picture, moved = augment(image, target, target.shape, still, RARE, np.random.default_rng(seed))
    mirrored = (picture != image).any()
    np.testing.assert_array_equal(picture, image[:, ::-1] if mirrored else image)
    np.testing.assert_array_equal(moved, target[:, ::-1] if mirrored else target)


def test_beyond_the_edge_is_grey_and_ignored() -> None:
    shrunk = AugmentConfig(scale=(0.4, 0.4), rotation_deg=0, aspect=0, rare_crop=0)
    picture, target = augment(*scene(2), (96, 128), shrunk, RARE, np.random.default_rng(0))
    assert (picture[0, 0] == 127).all() and target[0, 0] == IGNORE_INDEX
    assert (target[40:50, 50:60] != IGNORE_INDEX).any()


def test_rare_crops_contain_the_rare_class() -> None:
    image, target = scene(3)
    target[10:13, 100:103] = 9  # a pedestrian far off
    config = AugmentConfig(scale=(1.5, 1.5), rare_crop=1.0)
    for seed in range(10):
        _, crop = augment(image, target, (64, 64), config, RARE, np.random.default_rng(seed))
        assert (crop == 9).any()


@pytest.mark.parametrize("seed", range(6))
def test_pasted_classes_bring_their_pixels_along(seed) -> None:
    below, above = scene(1), scene(2)
    above[1][10:13, 100:103] = 9
    picture, target = paste_classes(below, above, RARE, np.random.default_rng(seed))
    pasted = (picture != below[0]).any(axis=2)
    np.testing.assert_array_equal(picture[pasted], above[0][pasted])
    np.testing.assert_array_equal(target[pasted], above[1][pasted])
    np.testing.assert_array_equal(
        target[~pasted & (above[1] != 9)], below[1][~pasted & (above[1] != 9)]
    )
    assert (target[above[1] == 9] == 9).all()  # a rare class always comes along
    assert IGNORE_INDEX not in above[1][pasted]


def test_no_augmentation_leaves_colours_alone() -> None:
    image, target = scene(3)
    picture, moved = augment(
        image, target, target.shape, AugmentConfig.none(), RARE, np.random.default_rng(0)
    )
    np.testing.assert_array_equal(picture, image)
    np.testing.assert_array_equal(moved, target)


def test_low_frequencies_bring_the_light_of_a_stranger_and_keep_the_edges() -> None:
    picture = np.full((64, 96, 3), 60, np.uint8)
    picture[:, 48:] = 100
    bright = np.full((50, 70, 3), (220, 180, 140), np.uint8)
    for seed in range(5):
        changed = low_frequencies_of(bright, picture, np.random.default_rng(seed))
        assert changed.shape == picture.shape and changed.dtype == np.uint8
        assert (changed.mean(axis=(0, 1)) > picture.mean() + 10).all()  # lighter, and reddish
        assert changed[..., 0].mean() > changed[..., 2].mean()
        step = changed[:, 48].astype(int) - changed[:, 47]
        assert (step > 20).all()


def test_picture_keeps_its_looks_beside_itself() -> None:
    image, _ = scene(3)
    same = low_frequencies_of(image, image, np.random.default_rng(0))
    assert np.abs(same.astype(int) - image).max() <= 1


@pytest.mark.parametrize("name", LOOKS)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=10)
def test_look_changes_a_sample_by_its_seed_and_unlabels_only_what_it_hides(name, seed) -> None:
    image, target = scene(seed)
    first, again = (LOOKS[name]((image, target), np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(first[0], again[0])
    picture, labels = first
    assert picture.shape == image.shape and picture.dtype == labels.dtype == np.uint8
    changed = labels != target
    assert (labels[changed] == IGNORE_INDEX).all()
    if name in ("bonnet", "letterbox"):  # the rest of the picture stays as it is
        same = (picture == image).all(axis=2)
        hidden = np.isin(labels, IGNORE_INDEX)
        assert (same | hidden).all()
    else:
        assert not changed.any() and (picture != image).any()


def test_night_is_dark_but_for_its_lights() -> None:
    image, target = scene(1)
    for seed in range(6):
        dark, _ = LOOKS["night"]((image, target), np.random.default_rng(seed))
        assert dark.mean() < 0.7 * image.mean() and dark.max() > 200


def test_bonnet_lies_below_and_is_unlabelled() -> None:
    for seed in range(6):
        _, labels = LOOKS["bonnet"](scene(2), np.random.default_rng(seed))
        new = (labels == IGNORE_INDEX) & (scene(2)[1] != IGNORE_INDEX)
        assert new[-1].any() and not new[: len(new) // 2].any()


def test_share_of_a_look_is_that_of_the_samples() -> None:
    image, target = np.full((64, 96, 3), 100, np.uint8), np.full((64, 96), 3, np.uint8)
    still = replace(AugmentConfig.none(), letterbox=0.5)
    boxed = [
        (augment(image, target, (64, 96), still, (), np.random.default_rng(seed))[0] == 0).any()
        for seed in range(200)
    ]
    assert 60 < sum(boxed) < 140
