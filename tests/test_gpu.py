"""What the GPU does with films, done by the same code on the CPU and held against the rest."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

pytest.importorskip("torch")

import av
import numpy as np
import torch
from conftest import CHECKPOINT, SAMPLE
from test_tensorrt import Stub

from roadseg.errors import ConfigError, VideoError
from roadseg.infer.offline_cuda import (
    Nv12,
    Painter,
    _open,
    decode_nv12,
    encoder_for,
    full_size,
    label,
)
from roadseg.models.checkpoint import load_model
from roadseg.paint.config import OverlayConfig
from roadseg.paint.overlay import Overlay
from roadseg.segmentation.placement import Placement
from roadseg.spec import ModelSpec
from roadseg.video.picture import ColorSpace, Picture
from roadseg.video.read.source import probe

CPU = torch.device("cpu")
SPEC = ModelSpec(arch="unet", width=4)
SPACES = (ColorSpace(1, False), ColorSpace(6, False), ColorSpace(6, True), ColorSpace(9, False))


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


def planes_of(picture: Nv12) -> tuple[np.ndarray, ...]:
    return picture.y.numpy(), picture.uv[..., 0].numpy(), picture.uv[..., 1].numpy()


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("pixel_format", ["yuv420p", "nv12", "yuvj420p", "yuv444p10le"])
def test_a_frame_is_what_it_is_without_a_gpu(pixel_format, space) -> None:
    original = in_space(space)
    frame = original.frame.reformat(
        format=pixel_format, src_color_range=space.color_range, dst_color_range=space.color_range
    )
    found = planes_of(Nv12.of_frame(frame, space, CPU))
    for mine, expected in zip(found, Picture.convert(frame, space).planes, strict=True):
        np.testing.assert_array_equal(mine, expected)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("network_hw", [(320, 576), (384, 512), (96, 160)])
def test_network_sees_what_it_sees_without_a_gpu(space, network_hw) -> None:
    picture = in_space(space)
    placement = Placement.fit(picture.size_hw, network_hw)
    found = Nv12.of_frame(picture.frame, space, CPU).network_frame(placement).numpy()
    expected = picture.network_input(placement)[0]
    assert found.shape == (*network_hw, 3) and found.dtype == np.uint8
    difference = found.astype(int) - expected
    assert np.abs(difference.mean(axis=(0, 1))).max() < 0.2  # no tint
    assert np.abs(difference).mean() < 0.3  # FFmpeg rounds in between
    padded = Picture.from_rgb(np.zeros((540, 960, 3), np.uint8)).network_input(placement)[0] == 127
    assert (found[padded] == 127).all()


@pytest.mark.parametrize("network_hw", [(320, 576), (384, 512)])
def test_class_map_comes_back_at_full_size_as_without_a_gpu(network_hw) -> None:
    placement = Placement.fit((540, 960), network_hw)
    small = blobs(network_hw)
    found = full_size(torch.from_numpy(small).int(), placement, 11).numpy()
    assert (found == placement.restore(small)).mean() > 0.998  # strengths there have eight bits


CONFIGS = {
    "all": OverlayConfig(min_region=0),
    "two classes": OverlayConfig(classes=("road", "car"), alpha=0.7, min_region=0),
    "only": OverlayConfig(only=("pedestrian", "tree"), min_region=0),
    "plain": OverlayConfig(alpha=0.3, outline=False, legend="none"),
    "nothing": OverlayConfig(alpha=0, outline=False, legend="none"),
}


@pytest.mark.parametrize("space", SPACES[1:3])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_painted_as_without_a_gpu(space, config) -> None:
    picture = in_space(space)
    class_map = blobs(picture.size_hw)
    expected = Overlay(SPEC, config).draw(picture, class_map)
    source = Nv12.of_frame(picture.frame, space, CPU)
    before = [plane.copy() for plane in planes_of(source)]
    found = Painter(SPEC, config).draw(source, torch.from_numpy(class_map).long())
    for mine, plane in zip(planes_of(found), expected.planes, strict=True):
        difference = np.abs(mine.astype(int) - plane)
        assert difference.max() <= 1  # halves are rounded in single precision here, in double there
        assert (difference == 0).mean() > 0.99
    for plane, was in zip(planes_of(source), before, strict=True):
        np.testing.assert_array_equal(plane, was)
    if config is CONFIGS["nothing"]:
        assert all(map(np.array_equal, planes_of(found), before))


def test_unknown_class_is_named() -> None:
    with pytest.raises(ConfigError, match="--classes names cat"):
        Painter(SPEC, OverlayConfig(classes=("cat",)))


@pytest.fixture(scope="module")
def short_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight frames of the sample, small, at uneven times, in a space of their own."""
    path = tmp_path_factory.mktemp("films") / "short.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", 25, options={"crf": "12", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.colorspace, stream.codec_context.color_range = 1, 1
        for i, frame in enumerate(sample_pictures(8)):
            small = frame.reformat(320, 180, "yuv420p")
            small.pts, small.time_base = 40 * i + i * i, Fraction(1, 1000)
            container.mux(stream.encode(small))
        container.mux(stream.encode(None))
    return path


def read(path: Path) -> tuple[list[Fraction], list[Picture]]:
    with av.open(path) as container:
        frames = list(container.decode(video=0))
    space = ColorSpace(frames[0].colorspace, frames[0].color_range == 2)
    return [f.pts * f.time_base for f in frames], [Picture.convert(f, space) for f in frames]


def test_film_is_labelled_as_without_a_gpu(short_film, tmp_path) -> None:
    network, spec = load_model(CHECKPOINT)
    engine = Stub(network, (1, 96, 160))
    config = OverlayConfig(alpha=0.5, min_region=0)
    out = tmp_path / "out.mp4"
    assert label(short_film, out, engine, spec, config) == (8, "libx264")
    times, found = read(out)
    expected_times, sources = read(short_film)
    assert times == expected_times
    assert found[0].space == sources[0].space == ColorSpace(1, False)
    overlay = Overlay(spec, config)
    for mine, source in zip(found, sources, strict=True):
        placement = Placement.fit((180, 320), (96, 160))
        engine.frames[0] = torch.from_numpy(source.network_input(placement)[0])
        engine.run()
        class_map = placement.restore(engine.class_map[0].numpy().astype(np.uint8))
        expected = overlay.draw(source, class_map)
        error = (mine.planes[0].astype(float) - expected.planes[0]) ** 2
        # x264, and pixels along edges: at so small an input the network is seldom sure.
        assert 10 * np.log10(255**2 / error.mean()) > 25
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_films_for_which_there_is_no_way_are_refused(short_film, tmp_path) -> None:
    info = probe(short_film)
    with pytest.raises(VideoError, match="rotated or mirrored"):
        next(decode_nv12(replace(info, orientation=(0, 1, -1, 0)), CPU))
    odd = av.VideoFrame(321, 180, "yuv420p")
    with pytest.raises(VideoError, match="321x180; the GPU takes even sides"):
        Nv12.of_frame(odd, SPACES[0], CPU)
    with pytest.raises(ConfigError):
        label(
            short_film,
            tmp_path / "x.mp4",
            Stub(load_model(CHECKPOINT)[0], (1, 96, 160)),
            SPEC,
            OverlayConfig(classes=("cat",)),
        )
    assert list(tmp_path.iterdir()) == []


def test_without_a_driver_the_cpu_decodes_and_encodes(short_film) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    gpu = torch.device("cuda")  # FFmpeg is asked for one and says in its own words that it has none
    assert encoder_for(gpu, (180, 320)) == "libx264"
    with _open(probe(short_film), gpu) as container:
        assert len(list(container.decode(video=0))) == 8
