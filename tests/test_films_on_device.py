"""Videos labelled with their pictures on a device, by the same stages as on the CPU.

The device is the CPU, whose tensors go the way that those of a GPU go.
"""

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

import av
import numpy as np
import torch
from conftest import CHECKPOINT, SAMPLE, WEIGHTS
from films import Film, frame_times, packets, pictures, repacked
from test_redact import sure, walk
from test_resume import interrupt_at
from typer.testing import CliRunner

import roadseg
from roadseg.backends.runtimes import BACKENDS
from roadseg.cli import app
from roadseg.errors import BackendUnavailable, ConfigError
from roadseg.infer import offline
from roadseg.infer.config import InferConfig, LiveConfig
from roadseg.infer.device import Device, device_for
from roadseg.infer.live import LiveSession
from roadseg.infer.offline import infer
from roadseg.infer.outputs import Outputs, encoded_on
from roadseg.paint.config import Redaction
from roadseg.segmentation.config import ModelConfig
from roadseg.video.picture import Picture
from roadseg.video.picture_cuda import CudaPicture
from roadseg.video.pyav import open_for_reading
from roadseg.video.read.decode_cuda import Nvdec, decode, unfit
from roadseg.video.read.faults import reading_faults
from roadseg.video.read.gpu_decoder import GpuGaveUp
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import decode as decode_on_cpu
from roadseg.video.read.source import probe
from roadseg.video.write.encoding import CODECS
from roadseg.video.write.hardware import hardware_codec
from roadseg.video.write.part import check_settings, note_settings

CPU = torch.device("cpu")


on_a_gpu = pytest.mark.usefixtures("plain", "gpu")


@pytest.fixture
def gpu(monkeypatch) -> None:
    """Have a GPU, which is the CPU under another name, and a backend that takes its tensors."""
    monkeypatch.setitem(BACKENDS, "brightness", BACKENDS["brightness"]._replace(on_device=True))
    monkeypatch.setattr("roadseg.infer.device_cuda.refusal", lambda _name: None)
    monkeypatch.setattr("roadseg.infer.device_cuda.device_of", lambda _name: CPU)


def both_ways(config: InferConfig) -> Iterator[InferConfig]:
    """The settings for the CPU and for the GPU, each with outputs of its own, already run."""
    folder = config.out.parent
    for device in ("cpu", "cuda"):
        own = replace(
            config,
            device=device,
            out=folder / f"{device}.mkv",
            masks=folder / f"masks of {device}",
            stats=folder / f"{device}.jsonl",
            report=folder / f"{device}.html",
        )
        result = infer(own)
        assert result.device == {"cpu": "cpu", "cuda": "cuda:0"}[device]
        assert result.decoder == "the CPU"
        yield own


def class_maps(config: InferConfig) -> np.ndarray:
    files = sorted(config.masks.iterdir())
    return np.stack([pictures(file)[0][..., 0] for file in files])


def shares(config: InferConfig) -> np.ndarray:
    rows = map(json.loads, config.stats.read_text().splitlines())
    return np.array([list(row["shares"].values()) for row in rows])


@on_a_gpu
@pytest.mark.parametrize(
    "change",
    [
        {"steady": 0.6},
        {"steady": 0},
        {"steady": 0.6, "every": 3, "side_by_side": True},
        {"steady": 0.6, "fps_target": 1e-3, "only": ("road", "car")},
        {"steady": 0.6, "every": "auto"},
        {"steady": 0.6, "ignore": ("0,150,384,66",)},
    ],
    ids=["steady", "alone", "every third, side by side", "by time", "auto", "ignoring"],
)
def test_film_is_labelled_as_on_the_cpu(plain, change) -> None:
    Film(size_hw=(216, 384), sounds=1, options=(("crf", "4"),)).write(plain.source)
    config = replace(plain, alpha=0.5, outline=True, legend="top-left", crf=0, **change)
    here, there = both_ways(config)
    assert (class_maps(here) == class_maps(there)).mean() > 0.998
    np.testing.assert_allclose(shares(here), shares(there), atol=0.002)
    assert frame_times(here.out) == frame_times(there.out)
    assert packets(here.out, "audio") == packets(there.out, "audio")
    for mine, other in zip(pictures(here.out), pictures(there.out), strict=True):
        assert (
            np.abs(mine.astype(int) - other) <= 4
        ).mean() > 0.99  # all but where a class differs
    assert there.report.stat().st_size > 0


@on_a_gpu
def test_objects_are_followed_and_boxed_as_on_the_cpu(plain) -> None:
    walk(plain.source, frames=8)
    config = replace(plain, boxes=True, side_by_side=True, alpha=0.5, crf=0)
    here, there = both_ways(config)
    mine, expected = (
        [json.loads(line)["objects"] for line in config.stats.read_text().splitlines()]
        for config in (there, here)
    )
    assert mine == expected and any(row[0]["track"] for row in mine if row)
    for mine, other in zip(pictures(there.out), pictures(here.out), strict=True):
        assert (np.abs(mine.astype(int) - other) <= 4).mean() > 0.99


@on_a_gpu
def test_redacted_as_on_the_cpu(plain, tmp_path) -> None:
    walk(plain.source, frames=8)
    config = replace(plain, redaction=Redaction(hold_s=0.2))
    shown = []
    for device in ("cpu", "cuda"):
        own = replace(config, device=device, out=tmp_path / f"{device}.mp4")
        assert infer(own, open_model=sure).device == {"cpu": "cpu", "cuda": "cuda:0"}[device]
        shown.append(pictures(own.out))
    for mine, other in zip(*shown, strict=True):
        assert mine.max() < 120
        assert ((mine < 16) == (other < 16)).mean() > 0.995


@on_a_gpu
def test_chunk_is_read_onto_the_gpu(plain) -> None:
    Film(size_hw=(96, 160), times=tuple(range(12))).write(plain.source)
    config = replace(plain, device="cuda:0", is_chunk=True, start_s=0.2, steady=0.6)
    info = probe(plain.source)
    frames = list(offline.frames_of(config, info, ReadLog(), Outputs(config, info)))
    assert frames and all(isinstance(frame.picture, CudaPicture) for frame in frames)


@on_a_gpu
def test_network_sees_the_sample_as_on_the_cpu(plain) -> None:
    config = replace(
        plain, source=SAMPLE, weights=CHECKPOINT, steady=0.6, size_hw=(96, 160), end_s=0.4
    )
    here, there = both_ways(config)
    assert (class_maps(here) == class_maps(there)).mean() > 0.998


@on_a_gpu
@pytest.mark.parametrize(("size", "degrees"), [((215, 383), 0), ((216, 384), 90)])
def test_odd_and_turned_films_are_labelled_too(plain, tmp_path, size, degrees) -> None:
    upright = Film(size_hw=size, pixel_format="yuv444p", times=(0, 1, 2)).write(tmp_path / "a.mp4")
    repacked(upright, plain.source, lambda _, stream: stream.set_display_rotation(degrees))
    here, there = both_ways(replace(plain, alpha=0.5, crf=0))
    assert (class_maps(here) == class_maps(there)).mean() > 0.998
    mine, other = (pictures(config.out, [0])[0] for config in (here, there))
    assert mine.shape == other.shape


@on_a_gpu
def test_run_on_a_gpu_goes_on_from_one_on_a_gpu_alone(plain) -> None:
    Film(times=tuple(range(60)), size_hw=(96, 160)).write(plain.source)
    config = replace(plain, device="cuda", resume=True, alpha=0.5)
    interrupt_at(40, config)
    with pytest.raises(ConfigError, match="device"):
        infer(replace(config, device="cpu"))
    result = infer(replace(config, device="auto"))
    assert result.frames == 60 and result.kept_frames >= 20
    assert len(frame_times(config.out)) == 60


def test_part_of_an_older_version_is_one_of_the_cpu(plain) -> None:
    out, record = plain.out, replace(plain, device="cpu").to_record()
    note_settings(out, {name: value for name, value in record.items() if name != "device"})
    check_settings(out, record)
    with pytest.raises(ConfigError, match=r"other settings \(device\)"):
        check_settings(out, replace(plain, device="cuda:1").to_record())


@on_a_gpu
def test_command_says_where_frames_were(tmp_path) -> None:
    source = Film(size_hw=(96, 160), times=(0, 1, 2)).write(tmp_path / "drive.mp4")
    arguments = ["infer", str(source), "--weights", str(CHECKPOINT), "--size", "160x96"]
    places = ["--out", str(tmp_path / "out.mp4"), "--device", "cuda"]
    done = CliRunner().invoke(app, [*arguments, *places])
    assert done.exit_code == 0 and "frames on cuda:0, from the CPU to libx264" in done.output


@pytest.fixture
def own_encoder(monkeypatch) -> Iterator[None]:
    """Have the GPU compress its pictures: x264, given tensors in the layout of NVENC's input."""
    codec = replace(
        CODECS["h264"], crf=1, large=None, pixel_format="nv12", on_gpu=True, holds_limit=False
    )
    for module in ("roadseg.video.write.hardware", "roadseg.infer.outputs"):
        monkeypatch.setattr(f"{module}.HARDWARE", {"h264": (codec,)})
    for module in ("encoder", "encoder_cuda"):
        monkeypatch.setattr(f"roadseg.video.write.{module}.ON_GPU", "nv12")
    monkeypatch.setattr(CudaPicture, "gpu_frame", CudaPicture.shared_frame)
    hardware_codec.cache_clear()
    yield
    hardware_codec.cache_clear()


@on_a_gpu
@pytest.mark.usefixtures("own_encoder")
def test_pictures_are_compressed_where_they_are_painted(plain, monkeypatch) -> None:
    Film(size_hw=(216, 382), times=tuple(range(30)), sounds=1).write(plain.source)
    config = replace(plain, alpha=0.5, outline=True, legend="top-left", side_by_side=True)
    shown = []
    for device in ("cpu", "cuda"):
        own = replace(config, device=device, out=plain.out.with_name(f"{device}.mp4"))
        if device == "cpu":
            own = replace(own, crf=1)  # as the GPU's encoder has it
        else:
            monkeypatch.setattr(CudaPicture, "on_host", property(lambda _: pytest.fail("copied")))
        result = infer(own)
        shown.append(own.out)
    assert result.encoder == result.hardware_encoder == "libx264"
    here, there = shown
    assert frame_times(here) == frame_times(there)
    assert packets(here, "audio") == packets(there, "audio")
    for mine, other in zip(pictures(there), pictures(here), strict=True):
        assert (np.abs(mine.astype(int) - other) <= 8).mean() > 0.99


@on_a_gpu
@pytest.mark.usefixtures("own_encoder")
@pytest.mark.parametrize(
    ("change", "codec"),
    [
        ({}, "h264:hw"),
        ({"out": Path("-")}, "h264:hw"),
        ({"crf": 20}, None),
        ({"preset": "fast"}, None),
        ({"codec": "hevc"}, "hevc"),
        ({"out": Path("out.webm")}, None),
        ({"out": Path("%06d.png")}, None),
        ({"out": None, "masks": Path("masks")}, None),
    ],
)
def test_encoder_of_the_gpu_is_taken_unless_something_is_asked_for(plain, change, codec) -> None:
    assert encoded_on(Device("cuda:0"), replace(plain, **change)).codec == codec
    assert encoded_on(Device("cpu"), replace(plain, **change)).codec == change.get("codec")


@on_a_gpu
def test_gpu_without_an_encoder_leaves_it_to_the_cpu(plain) -> None:
    Film(size_hw=(96, 160), times=(0, 1)).write(plain.source)
    result = infer(replace(plain, device="cuda"))
    assert result.encoder == "libx264" and result.hardware_encoder is None


@on_a_gpu
def test_full_gpu_is_said_in_a_line_and_no_thread_hangs(plain, monkeypatch) -> None:
    def full(*_arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 ...")

    monkeypatch.setattr("roadseg.paint.overlay_cuda.CudaOverlay.draw", full)
    Film(size_hw=(96, 160), times=(0, 1, 2)).write(plain.source)
    with pytest.raises(BackendUnavailable, match=r"memory is full \(CUDA out of memory\); close"):
        infer(replace(plain, device="cuda", alpha=0.5))


@on_a_gpu
def test_python_gets_arrays_of_what_lies_on_a_gpu(plain) -> None:
    Film(size_hw=(96, 160), times=(0, 1)).write(plain.source)
    options = {"weights": plain.weights, "steady": 0}
    here = list(roadseg.stream(plain.source, **options))
    there = list(roadseg.stream(plain.source, device="cuda", **options))
    for mine, other in zip(there, here, strict=True):
        assert isinstance(mine.item.frame.picture, CudaPicture)
        np.testing.assert_array_equal(mine.picture, other.picture)
        assert (mine.class_map == other.class_map).mean() > 0.998
        assert np.abs(mine.overlay().astype(int) - other.overlay()).mean() < 1


@on_a_gpu
def test_live_view_labels_on_the_gpu(plain) -> None:
    Film(size_hw=(96, 160), times=(0, 1, 2)).write(plain.source)
    config = LiveConfig(source=str(plain.source), weights=plain.weights, device="cuda")
    with LiveSession(config, notify=lambda _text: None) as session:
        items = [item for item, _ in session]
    assert len(items) == 3
    assert all(isinstance(item.frame.picture, CudaPicture) for item in items)


def test_without_a_gpu_the_cpu_takes_over_and_says_so_once(plain, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    Film(size_hw=(96, 160), times=(0, 1)).write(plain.source)
    monkeypatch.setitem(BACKENDS, "brightness", BACKENDS["brightness"]._replace(on_device=True))
    result = infer(replace(plain, device="cuda"))
    assert result.device == "cpu"
    (warning,) = result.warnings
    assert "frames stay on the CPU, as PyTorch" in warning and "no NVIDIA GPU" in warning
    assert infer(replace(plain, device="auto", overwrite=True)).warnings == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weights": WEIGHTS}, "the onnxruntime backend, .* give a model for torch or"),
        ({"weights": CHECKPOINT, "device": "cuda:9"}, "there is no GPU 9; PyTorch finds 1"),
    ],
)
def test_what_a_gpu_cannot_do_is_said(monkeypatch, change, said) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    device = device_for(ModelConfig(**{"device": "cuda", **change}))
    assert device.name == "cpu" and device.excuse is not None
    assert re.search(said, device.excuse)
    assert device_for(ModelConfig(weights=CHECKPOINT, device="auto")).name == "cuda:0"
    assert device_for(ModelConfig(weights=WEIGHTS, device="auto")).excuse is None


def test_unknown_device_is_refused() -> None:
    with pytest.raises(ConfigError, match="--device is 'gpu'; use auto, cpu, cuda or cuda:N"):
        ModelConfig(device="gpu")


class Pretended:
    """A GPU that decodes on the CPU, and is lost after some frames."""

    name = "a GPU"

    def __init__(self, most: int = 1 << 30) -> None:
        self._most = most
        self._seen: set[int | None] = set()

    def open(self, source: Path | str) -> av.container.InputContainer:
        return open_for_reading(source)

    def holds(self, frame: av.VideoFrame) -> bool:
        self._seen.add(frame.pts)
        if len(self._seen) > self._most:
            raise GpuGaveUp("it fell off the bus")
        return frame.format.name == "yuv420p"

    def picture(self, frame: av.VideoFrame, space) -> CudaPicture:
        return CudaPicture.upload(Picture.convert(frame, space), CPU)


def frames_of(source: Path, reader, start_s: float = 0.0) -> tuple[list, ReadLog]:
    log = ReadLog()
    return list(decode_on_cpu(probe(source), log, start_s, gpu=reader)), log


def test_gpu_that_decodes_all_of_a_film_is_named(plain) -> None:
    Film(times=(0, 1, 2)).write(plain.source)
    frames, log = frames_of(plain.source, Pretended())
    assert log.decoder == "a GPU" and not log.off_gpu
    assert all(isinstance(frame.picture, CudaPicture) for frame in frames)


@pytest.mark.parametrize("start_s", [0.0, 1.0])
def test_decoder_lost_in_mid_film_is_followed_by_the_cpus(plain, start_s) -> None:
    Film(times=tuple(range(40)), options=(("g", "10"),)).write(plain.source)
    expected, _ = frames_of(plain.source, None, start_s)
    found, log = frames_of(plain.source, Pretended(6), start_s)
    assert [frame.pts for frame in found] == [frame.pts for frame in expected]
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine.picture.luma(), other.picture.luma())
    assert isinstance(found[5].picture, CudaPicture) and isinstance(found[6].picture, Picture)
    (sentence,) = reading_faults(log, probe(plain.source))
    assert "decoded on the CPU, not on the GPU: it fell off the bus after" in sentence


def test_damage_is_left_to_the_cpu_to_find(plain) -> None:
    Film(times=tuple(range(40)), options=(("g", "10"), ("bf", "0"))).write(plain.source)
    with av.open(plain.source) as container:
        place = [p.pos for p in container.demux(video=0) if p.pos][15]
    data = bytearray(plain.source.read_bytes())
    data[place + 8 : place + 60] = bytes(52)
    plain.source.write_bytes(data)
    expected, expected_log = frames_of(plain.source, None)
    found, log = frames_of(plain.source, Pretended())
    assert expected_log.damaged and log.off_gpu
    assert [frame.pts for frame in found] == [frame.pts for frame in expected]
    for name in ("damaged_packets", "damaged_frames", "first_damage_s"):
        assert getattr(log, name) == getattr(expected_log, name)


def test_without_a_driver_the_film_is_decoded_on_the_cpu(plain) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    Film(times=(0, 1, 2)).write(plain.source)
    info = probe(plain.source)
    frames, log = frames_of(plain.source, Nvdec(info, torch.device("cuda")))
    assert len(frames) == 3 and log.decoder == "the CPU"
    assert log.off_gpu == "Operation not permitted"


def test_films_that_no_gpu_decodes_are_told_before(plain) -> None:
    info = probe(Film(times=(0,)).write(plain.source))
    assert unfit(info) is None
    assert unfit(replace(info, bits=10)) == "it has 10 bits a sample"
    assert unfit(replace(info, orientation=(0, 1, -1, 0))) == "it is to be turned"
    assert unfit(replace(info, size_hw=(47, 64))) == "a side is odd"


def test_every_picture_is_put_on_the_device(plain) -> None:
    Film(times=(0, 1, 2)).write(plain.source)
    info = probe(plain.source)
    expected = decode_on_cpu(info, ReadLog())
    for mine, other in itertools.zip_longest(decode(info, ReadLog(), device=CPU), expected):
        assert isinstance(mine.picture, CudaPicture) and mine.pts == other.pts
        np.testing.assert_array_equal(mine.rgb(), other.rgb())
