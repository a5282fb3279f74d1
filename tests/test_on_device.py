"""Pictures and class maps on a device, which is the CPU here, held against the CPU's own."""

from dataclasses import replace
from functools import cache

import pytest

pytest.importorskip("torch")

import av
import numpy as np
import torch
from conftest import SAMPLE
from moving import panning

from roadseg.infer.ignored import leave_out
from roadseg.infer.stats import count_pixels, measure, sample_pixels
from roadseg.paint.boxes import Boxed
from roadseg.paint.config import OverlayConfig, Redaction
from roadseg.paint.cover import Cover
from roadseg.paint.overlay import Overlay
from roadseg.segmentation.confidence import Confidence
from roadseg.segmentation.flow import Motion, single_step, torn_cells
from roadseg.segmentation.grid import ON_HOST, grid_of
from roadseg.segmentation.grid_cuda import ON_DEVICE
from roadseg.segmentation.maps import Maps
from roadseg.segmentation.placement import Placement
from roadseg.segmentation.temporal_filter import GridWarp, SteadyFilter
from roadseg.spec import IGNORE_INDEX, UNSURE, ModelSpec
from roadseg.video.class_map_cuda import CudaClassMap
from roadseg.video.frame import Frame, SegmentedFrame
from roadseg.video.picture import ColorSpace, Picture, has_chroma_left
from roadseg.video.picture_cuda import CudaPicture
from roadseg.video.read.upright import picture_of

CPU = torch.device("cpu")
SPEC = ModelSpec(arch="unet", width=4)
SPACES = (ColorSpace(1, False), ColorSpace(6, False), ColorSpace(6, True), ColorSpace(9, False))


@cache
def sample_pictures(count: int) -> list[av.VideoFrame]:
    with av.open(SAMPLE) as container:
        decoded = list(container.decode(video=0))
    return decoded[:: len(decoded) // count][:count]


def in_space(space: ColorSpace) -> Picture:
    """A real picture whose numbers mean what a space says."""
    (frame,) = sample_pictures(1)
    return Picture.from_rgb(frame.to_ndarray(format="rgb24"), space)


def blobs(size_hw: tuple[int, int]) -> np.ndarray:
    """A class map of all classes, with edges of every slant."""
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]] / 23
    waves = np.sin(rows + np.cos(columns)) + np.cos(columns * 0.7 - rows * 0.3)
    return ((waves + 2) / 4 * 10.99).astype(np.uint8)


def uploaded(picture: Picture) -> CudaPicture:
    """On the device, and unable to look at what it came from."""
    chroma_left = has_chroma_left(picture.frame)
    there = CudaPicture.upload(picture, CPU, chroma_left=chroma_left)
    return CudaPicture(there.y, there.uv, there.space, there.chroma_left)


def planes_of(picture: CudaPicture) -> tuple[np.ndarray, ...]:
    return picture.y.numpy(), picture.uv[..., 0].numpy(), picture.uv[..., 1].numpy()


def half(picture: Picture) -> Picture:
    return picture.resized((270, 480))


def odd(picture: Picture) -> Picture:
    """A part of a picture whose sides are odd."""
    return picture.resized((271, 481))


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("change", [lambda p: p, odd], ids=["even", "odd"])
def test_picture_comes_back_as_it_went(space, change) -> None:
    picture = change(in_space(space))
    there = uploaded(picture)
    assert there.size_hw == picture.size_hw and there.space == picture.space
    np.testing.assert_array_equal(there.luma(), picture.luma())
    np.testing.assert_array_equal(there.rgb(), picture.rgb())
    mine, expected = (p.encodable().to_ndarray() for p in (there, picture))
    np.testing.assert_array_equal(mine, expected)
    mine, expected = (p.resized((90, 160)).rgb() for p in (there, picture))
    np.testing.assert_array_equal(mine, expected)


def test_picture_that_came_from_the_cpu_is_not_copied_back() -> None:
    picture = in_space(SPACES[0])
    assert CudaPicture.upload(picture, CPU).on_host is picture


@pytest.mark.parametrize("size_hw", [(270, 480), (96, 162)])
def test_encoder_sees_the_picture_without_a_copy(size_hw) -> None:
    expected = in_space(SPACES[2]).resized(size_hw)
    picture = CudaPicture.empty(size_hw, expected.space, CPU)
    for target, plane in zip(planes_of(picture), expected.planes, strict=True):
        target[:] = plane
    frame = picture.shared_frame()
    assert frame.format.name == "nv12" and (frame.height, frame.width) == size_hw
    assert (frame.colorspace, frame.color_range) == (6, 2)
    for row in (0, size_hw[0] - 1):
        picture.y[row] = 7  # after the frame was made
    expected.planes[0][[0, -1]] = 7
    del picture
    mine = frame.reformat(format="yuv420p").to_ndarray()
    np.testing.assert_array_equal(mine, expected.frame.to_ndarray())


def test_encoder_of_a_gpu_is_not_shown_what_it_does_not_take() -> None:
    for picture in (uploaded(in_space(SPACES[0])), CudaPicture.empty((271, 480), SPACES[0], CPU)):
        assert picture.shared_frame() is None
    assert CudaPicture.empty((270, 480), SPACES[0], CPU).gpu_frame() is None  # it is on the CPU
    assert in_space(SPACES[0]).gpu_frame() is None


@pytest.mark.parametrize("size_hw", [(540, 960), (1080, 1920), (271, 481), (48, 64), (90, 1200)])
def test_motion_is_found_on_the_same_small_picture(size_hw) -> None:
    picture = in_space(SPACES[0]).resized(size_hw)
    difference = uploaded(picture).small_luma().astype(int) - picture.small_luma()
    assert np.abs(difference).max() <= 1 and (difference == 0).mean() > 0.999


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("network_hw", [(320, 576), (96, 160), (704, 1088)])
def test_network_sees_what_it_sees_on_the_cpu(space, network_hw) -> None:
    picture = in_space(space)
    placement = Placement.fit(picture.size_hw, network_hw)
    found = uploaded(picture).network_input(placement).numpy()
    expected = picture.network_input(placement)
    assert found.shape == expected.shape and found.dtype == np.uint8
    difference = found.astype(int) - expected
    assert np.abs(difference).max() <= 1  # FFmpeg rounds in between
    assert np.abs(difference).mean() < 0.02 and np.abs(difference.mean(axis=(0, 1, 2))).max() < 0.02


def test_colour_lies_where_the_film_says() -> None:
    (tagged,) = sample_pictures(1)  # H.264 has its colour in the left column
    picture = Picture.convert(tagged, ColorSpace())
    assert has_chroma_left(picture.frame) and not has_chroma_left(in_space(ColorSpace()).frame)
    placement = Placement.fit(picture.size_hw, (320, 576))
    expected = picture.network_input(placement).astype(int)
    assert np.abs(uploaded(picture).network_input(placement).numpy() - expected).max() <= 1
    middle = CudaPicture.upload(picture, CPU).network_input(placement).numpy()
    assert np.abs(middle - expected).max() > 3


CONFIGS = {
    "all": OverlayConfig(min_region=0),
    "specks": OverlayConfig(min_region=0.003),
    "two classes": OverlayConfig(classes=("road", "car"), alpha=0.7),
    "only": OverlayConfig(only=("pedestrian", "tree")),
    "plain": OverlayConfig(alpha=0.3, outline=False, legend="none"),
    "nothing": OverlayConfig(alpha=0, outline=False, legend="none"),
}


@pytest.mark.parametrize("space", SPACES[1:3])
@pytest.mark.parametrize(
    ("change", "side_by_side"), [(half, False), (odd, True)], ids=["even", "odd and beside"]
)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_painted_as_on_the_cpu(space, config, change, side_by_side) -> None:
    picture = change(in_space(space))
    class_map = blobs(picture.size_hw)
    class_map[20:24, 30:34] = class_map[100:103, 200:203] = 9  # specks
    class_map[120:160, 20:90] = UNSURE
    overlay = Overlay(SPEC, config, side_by_side=side_by_side)
    in_view = frozenset({0, 3, 8})
    expected = picture.paint(overlay, class_map, in_view)
    source = uploaded(picture)
    before = [plane.copy() for plane in planes_of(source)]
    found = source.paint(overlay, CudaClassMap(torch.from_numpy(class_map)), in_view)
    for mine, plane in zip(planes_of(found), expected.planes, strict=True):
        difference = np.abs(mine.astype(int) - plane)
        assert difference.max() <= 1  # halves are rounded in single precision here, in double there
        assert (difference == 0).mean() > 0.99
    for plane, was in zip(planes_of(source), before, strict=True):
        np.testing.assert_array_equal(plane, was)
    from_array = planes_of(source.paint(overlay, class_map, in_view))
    assert all(map(np.array_equal, from_array, planes_of(found)))


def test_class_map_is_read_as_on_the_cpu() -> None:
    ids = blobs((270, 481))
    frame = Frame.still(in_space(SPACES[0]))
    here = SegmentedFrame(frame, ids, SPEC)
    there = SegmentedFrame(frame, CudaClassMap(torch.from_numpy(ids)), SPEC)
    np.testing.assert_array_equal(there.class_map, ids)
    np.testing.assert_array_equal(there.sample(3), here.sample(3))
    assert there.labels.shape == ids.shape and there.nbytes == here.nbytes
    for count in (count_pixels, sample_pixels):
        np.testing.assert_array_equal(count(there), count(here))
    assert measure(there) == measure(here)


@pytest.mark.parametrize("maps", [Maps.FULL, Maps.COARSE, Maps.FULL | Maps.COARSE])
def test_what_is_ignored_is_unlabelled_as_on_the_cpu(maps) -> None:
    ids = blobs((96, 160))
    frame = Frame.still(in_space(SPACES[0]))
    placement = Placement.fit(frame.picture.size_hw, ids.shape)
    ignored = np.zeros(frame.picture.size_hw, np.bool_)
    ignored[400:, 100:700] = True
    found = []
    for given in (ids, torch.from_numpy(ids)):
        labels, coarse_map = maps.make(placement, grid_of(given).restored, given)
        (item,) = leave_out(
            iter([SegmentedFrame(frame, labels, SPEC, coarse_map=coarse_map)]), ignored=ignored
        )
        found.append(item)
    here, there = found
    assert isinstance(there.labels, CudaClassMap)
    mine, expected = there.class_map, here.class_map
    np.testing.assert_array_equal(mine == IGNORE_INDEX, expected == IGNORE_INDEX)
    assert mine.any() and (mine == expected).mean() > 0.999
    assert measure(there).shares == pytest.approx(measure(here).shares, abs=0.001)


def test_boxes_and_covers_are_those_of_the_cpu() -> None:
    picture = half(in_space(SPACES[0]))
    class_map = blobs(picture.size_hw)
    class_map[50:90] = IGNORE_INDEX
    (region, *_) = measure(SegmentedFrame(Frame.still(picture), class_map, SPEC)).objects
    boxed = Boxed(Overlay(SPEC, OverlayConfig()), SPEC, [replace(region, track=7)])
    for painter in (boxed, Cover(Redaction()), Cover(Redaction(cover="blur"))):
        expected = picture.paint(painter, class_map)
        found = uploaded(picture).paint(painter, CudaClassMap(torch.from_numpy(class_map)))
        for mine, plane in zip(found.planes, expected.planes, strict=True):
            assert np.abs(mine.astype(int) - plane).max() <= 1


@pytest.fixture
def logits() -> np.ndarray:
    """Of eleven classes, smooth, with places where they are close."""
    rows, columns, classes = np.meshgrid(
        np.arange(80) / 9, np.arange(144) / 13, np.arange(11), indexing="ij"
    )
    waves = np.sin(rows + classes) + np.cos(columns * 0.7 - classes * 1.7) + rows * classes / 40
    return np.ascontiguousarray((4 * waves).transpose(2, 0, 1).astype(np.float32))


@pytest.mark.parametrize("frame_hw", [(540, 960), (1080, 1918), (375, 1242)])
def test_classes_at_full_size_are_those_of_the_cpu(logits, frame_hw) -> None:
    placement = Placement.fit(frame_hw, (320, 576))
    levels, there = ON_HOST.levels_of(logits), ON_DEVICE.levels_of(torch.from_numpy(logits))
    assert np.abs(there.numpy().astype(int) - levels).max() <= 1  # at halves
    expected = ON_HOST.enlarged(placement, levels)
    found = ON_DEVICE.enlarged(placement, torch.from_numpy(levels)).on_host
    assert found.dtype == np.uint8 and (found == expected).mean() > 0.9999
    class_map = blobs((320, 576))
    found = ON_DEVICE.restored(placement, torch.from_numpy(class_map)).on_host
    assert (found == ON_HOST.restored(placement, class_map)).mean() > 0.9999


def test_what_is_unsure_is_left_out_as_on_the_cpu(logits) -> None:
    placement = Placement.fit((540, 960), (320, 576))
    rgb = np.full((540, 960, 3), 90, np.uint8)
    rgb[:200] = 3  # too dark to show anything
    picture = picture_of(rgb)
    mine, theirs = (
        Confidence.of(given, placement, picture) for given in (logits, torch.from_numpy(logits))
    )
    assert theirs.plane.dtype == torch.uint8
    assert np.abs(theirs.plane.numpy().astype(int) - mine.plane).max() <= 1
    labels = ON_HOST.enlarged(placement, ON_HOST.levels_of(logits))
    for ids in (labels, labels[::2, ::2]):
        expected = mine.shown(ids, 0.8)
        found = theirs.shown(CudaClassMap(torch.from_numpy(ids)), 0.8)
        assert 0.1 < (expected == UNSURE).mean() < 0.9
        assert isinstance(found, CudaClassMap) and (found.on_host == expected).mean() > 0.98


@pytest.mark.parametrize("grid_hw", [(80, 144), (400, 8), (60, 1), (1, 60)])
def test_confidence_is_that_of_the_cpu_however_narrow_the_picture(logits, grid_hw) -> None:
    given = np.ascontiguousarray(np.resize(logits, (11, *grid_hw)))
    found = ON_DEVICE.confidence_of(torch.from_numpy(given)).numpy()
    np.testing.assert_allclose(found, ON_HOST.confidence_of(given), atol=1e-2)


def test_labels_move_and_mix_as_on_the_cpu(logits) -> None:
    lumas = [frame.picture.small_luma() for frame in panning([0, 3, 4])]
    placement = Placement.fit((216, 384), (320, 576))
    flow = Motion().between(lumas[1], lumas[0])
    warp = single_step(lumas[1], lumas[0], flow, torn_cells(flow), 1 / 15)
    assert grid_of(logits) is ON_HOST and grid_of(torch.from_numpy(logits)) is ON_DEVICE
    here, there = SteadyFilter(0.6), SteadyFilter(0.6)
    for given in (logits, logits[::-1].copy(), logits):
        expected = here.update(given, GridWarp.of(warp, placement, given))
        given = torch.from_numpy(given)
        found = there.update(given, GridWarp.of(warp, placement, given)).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-3)
    levels = ON_HOST.levels_of(logits)
    on_grid, back = np.full((80, 144, 2), 1.3, np.float32), np.full((80, 144, 2), -0.6, np.float32)
    expected = ON_HOST.moved(levels, on_grid)
    there = torch.from_numpy(levels)
    found = ON_DEVICE.moved(there, ON_DEVICE.beside(on_grid, there))
    assert np.abs(found.numpy().astype(int) - expected).max() <= 1
    share = (blobs((80, 144)) / 10).astype(np.float32)
    others = levels[::-1].copy()
    expected = ON_HOST.between(levels, on_grid, others, back, share)
    mixed = ON_DEVICE.between(there, on_grid, torch.from_numpy(others), back, share).numpy()
    apart = np.abs(mixed.astype(int) - expected)
    assert apart.max() <= 2 and apart.mean() < 0.2  # what was moved is rounded before it is mixed
