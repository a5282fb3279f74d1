import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadseg.spec import ModelSpec
from roadseg.video.frame import Frame, SegmentedFrame
from roadseg.video.picture import LUMA_WEIGHTS, TO_RGB, ColorSpace, Picture

SPACES = [ColorSpace(matrix, full) for matrix in LUMA_WEIGHTS for full in (False, True)]


def photo(size_hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Something smooth in every colour, (H, W, 3) RGB."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return cv2.resize(coarse, size_hw[::-1], interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("space", SPACES)
def test_colours_turn_into_the_numbers_that_ffmpeg_makes_of_them(space) -> None:
    colors = np.random.default_rng(0).integers(0, 256, (50, 3), np.uint8)
    bands = colors[:, None].repeat(8, axis=0).repeat(4, axis=1)
    y, u, v = Picture.from_rgb(bands, space).planes
    made = np.stack([y[4::8, 1], u[2::4, 0], v[2::4, 0]], axis=1)
    assert np.abs(made.astype(int) - space.yuv(colors)).max() <= 1


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("size", [(60, 80), (61, 83)])
def test_rgb_comes_back_without_a_tint(space, size) -> None:
    rgb = photo(size)
    difference = Picture.from_rgb(rgb, space).rgb().astype(int) - rgb
    assert np.abs(difference.mean(axis=(0, 1))).max() < 1  # half a level of chroma
    assert np.abs(difference).mean() < 3  # chroma has a quarter of the samples


def test_small_rgb_is_that_of_the_picture_made_small() -> None:
    picture = Picture.from_rgb(photo((540, 960)))
    small = picture.rgb((320, 576))
    expected = cv2.resize(picture.rgb(), (576, 320), interpolation=cv2.INTER_AREA)
    assert small.shape == (320, 576, 3)
    assert np.abs(small.astype(int) - expected).mean() < 0.5


def test_8_bit_420_is_taken_without_a_copy() -> None:
    frame = av.VideoFrame(64, 48, "yuv420p")
    assert Picture.convert(frame, ColorSpace()).frame is frame


FORMATS = ["yuvj420p", "nv12", "yuv422p", "yuv444p", "yuv420p10le", "yuv444p12le", "gbrp", "rgba"]


@pytest.mark.parametrize("pixel_format", FORMATS)
@pytest.mark.parametrize("space", [ColorSpace(1), ColorSpace(6, True)])
def test_other_formats_keep_their_colours(pixel_format, space) -> None:
    rgb = photo((64, 96))
    is_rgb = av.VideoFormat(pixel_format).is_rgb
    original = Picture.from_rgb(rgb, space)
    frame = original.frame.reformat(
        format=pixel_format,
        src_color_range=space.color_range,
        dst_color_range=2 if is_rgb else space.color_range,
        interpolation=TO_RGB,
    )
    picture = Picture.convert(frame, space)
    assert picture.frame.format.name == "yuv420p" and picture.space == space
    for plane, expected in zip(picture.planes, original.planes, strict=True):
        difference = plane.astype(int) - expected
        assert abs(difference.mean()) < 0.6 and np.abs(difference).max() <= (8 if is_rgb else 4)


@given(
    size=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    matrix=st.sampled_from(
        [(a, 0, 0, d) for a in (-1, 1) for d in (-1, 1)]
        + [(0, b, c, 0) for b in (-1, 1) for c in (-1, 1)]
    ),
)
def test_turning_puts_every_pixel_where_the_matrix_says(size, matrix) -> None:
    picture = Picture.empty(size, ColorSpace())
    picture.planes[0][:] = np.arange(size[0] * size[1]).reshape(size)
    turned = picture.turned(matrix)
    a, b, c, d = matrix
    left, top = (
        min(0, a * (size[1] - 1) + c * (size[0] - 1)),
        min(0, b * (size[1] - 1) + d * (size[0] - 1)),
    )
    for row in range(size[0]):
        for column in range(size[1]):
            x, y = a * column + c * row - left, b * column + d * row - top
            assert turned.planes[0][y, x] == picture.planes[0][row, column]


def test_picture_stored_from_below_up_reads_right() -> None:
    rgb = photo((32, 48))
    source = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format="yuv420p")
    graph = av.filter.Graph()
    chain = (
        graph.add_buffer(template=None, width=48, height=32, format=source.format, time_base=1),
    )
    graph.link_nodes(*chain, graph.add("vflip"), graph.add("buffersink")).configure()
    graph.push(source)
    flipped = graph.pull()
    assert flipped.planes[0].line_size < 0
    one, other = Picture.convert(flipped, ColorSpace()), Picture.convert(source, ColorSpace())
    for a, b in zip(one.planes, other.planes, strict=True):
        np.testing.assert_array_equal(a, b[::-1])


@pytest.mark.parametrize("size_hw", [(64, 96), (63, 95)])
def test_picture_and_frame_know_what_memory_they_take(size_hw) -> None:
    picture = Picture.empty(size_hw, ColorSpace())
    samples = sum(plane.size for plane in picture.planes)
    assert samples <= picture.nbytes < 2 * samples  # rows may be padded
    spec = ModelSpec(arch="brightness", width=1)
    item = SegmentedFrame(Frame.still(picture), np.zeros(size_hw, np.uint8), spec)
    assert item.nbytes == picture.nbytes + size_hw[0] * size_hw[1]
