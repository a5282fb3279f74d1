"""How films are encoded: the encoder in hardware that is taken, and what it is given."""

import contextlib
import json
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from conftest import SAMPLE
from films import Film, frame_times, pictures
from test_documents import run

from roadseg.errors import ConfigError
from roadseg.infer.offline import infer
from roadseg.video.write import hardware
from roadseg.video.write.encoding import CODECS, HARDWARE, Codec, Encoding
from roadseg.video.write.hardware import encodes, first_that, hardware_codec
from roadseg.video.write.part import note_settings, settings_path
from roadseg.video.write.priority import THREADS

KINDS = ("nvenc", "qsv", "vaapi", "videotoolbox", "amf")


@pytest.mark.parametrize("name", ["h264", "hevc"])
def test_first_encoder_in_hardware_that_works_is_taken(name) -> None:
    for first in range(len(KINDS)):
        working = {f"{name}_{kind}" for kind in KINDS[first:]}
        found = first_that(lambda codec: codec.encoder in working, name)  # noqa: B023
        assert found.encoder == f"{name}_{KINDS[first]}"
        assert found.mp4_tag == CODECS[name].mp4_tag


def test_where_no_encoder_in_hardware_works_it_is_said_which_were_tried() -> None:
    tried = ", ".join(f"hevc_{kind}" for kind in KINDS)
    with pytest.raises(ConfigError, match=rf"--codec is hevc:hw.*\(tried {tried}\).*--codec hevc"):
        first_that(lambda _codec: False, "hevc")


def test_encoder_that_is_missing_or_has_no_driver_does_not_work() -> None:
    assert encodes(CODECS["h264"])
    assert not encodes(Codec(encoder="h264_of_nobody"))
    assert not encodes(replace(CODECS["h264"], options={"profile": "of nobody"}))


def test_encoders_in_hardware_are_given_a_quality_in_their_own_terms() -> None:
    given = {codec.encoder: codec.given(20, codec.preset) for codec in HARDWARE["h264"]}
    assert given["h264_nvenc"] == {"rc": "vbr", "b": "0", "cq": "20", "preset": "p4"}
    assert given["h264_qsv"] == {"global_quality": "20", "preset": "veryfast"}
    assert given["h264_videotoolbox"] == {"flags": "+qscale", "global_quality": str(60 * 118)}
    assert all("crf" not in options for options in given.values())


def test_bit_rate_is_held_by_encoders_that_can() -> None:
    nvenc, qsv, *_ = HARDWARE["h264"]
    options = [Encoding().options(c, Fraction(25), 960 * 540, 4e6) for c in (nvenc, qsv)]
    assert ["maxrate" in given for given in options] == [True, False]


def test_effort_goes_by_the_size_of_the_picture_unless_a_preset_is_named() -> None:
    h264, hevc = CODECS["h264"], CODECS["hevc"]

    def given(codec: Codec, pixels: int, **settings) -> tuple[str, str, bool, bool]:
        options = Encoding(**settings).options(codec, Fraction(25), pixels, None)
        return options["preset"], options["crf"], "bf" in options, "partitions" in options

    assert given(h264, 1280 * 720) == ("veryfast", "20", False, False)
    for pixels in (1920 * 1080, 3840 * 2160):
        assert given(h264, pixels) == ("superfast", "22", True, True)
        assert given(h264, pixels, crf=18) == ("superfast", "18", True, True)
        assert given(h264, pixels, preset="veryfast") == ("veryfast", "20", False, False)
        assert given(hevc, pixels) == (hevc.preset, str(hevc.crf), False, False)


@pytest.fixture
def in_hardware(monkeypatch) -> Codec:
    """An encoder that takes the layout of those in hardware, and stands behind one that fails."""
    works = replace(CODECS["h264"], pixel_format="nv12", holds_limit=False)
    kinds = {"h264": (replace(works, encoder="h264_of_nobody"), works)}
    monkeypatch.setattr(hardware, "HARDWARE", kinds)
    hardware_codec.cache_clear()
    yield works
    hardware_codec.cache_clear()


def test_film_encoded_in_hardware_is_the_one_encoded_without(plain, tmp_path, in_hardware) -> None:
    plain = replace(plain, crf=10)
    Film(times=tuple(range(30))).write(plain.source)
    infer(plain)
    chosen = replace(plain, codec="h264:hw", out=tmp_path / "hardware.mp4")
    assert infer(chosen).hardware_encoder == in_hardware.encoder
    assert frame_times(chosen.out) == frame_times(plain.out)
    for one, other in zip(pictures(plain.out), pictures(chosen.out), strict=True):
        assert abs(one.astype(int) - other).mean() < 1


def test_part_of_one_encoder_in_hardware_is_not_finished_by_another(plain, in_hardware) -> None:
    class Interrupted(Exception):
        pass

    def stop(done: int, _total: int | None) -> None:
        if done == 15:
            raise Interrupted

    Film(times=tuple(range(30))).write(plain.source)
    chosen = replace(plain, codec="h264:hw")
    with pytest.raises(Interrupted):
        infer(chosen, stop)
    settings = json.loads(settings_path(chosen.out).read_text())
    assert settings["hardware encoder"] == in_hardware.encoder
    note_settings(chosen.out, settings | {"hardware encoder": "h264_nvenc"})
    with pytest.raises(ConfigError, match=r"other settings \(hardware encoder\)"):
        infer(replace(chosen, resume=True))


@pytest.mark.parametrize(
    ("codec", "suffix", "said"),
    [
        ("vp9:hw", ".webm", "takes one of: vp9, av1$"),
        ("h264:gpu", ".mp4", "takes one of: h264, hevc, vp9, av1, h264:hw, hevc:hw$"),
        ("hevc:hw", ".webm", "takes one of: vp9, av1$"),
    ],
)
def test_codec_that_there_is_not_in_hardware_is_refused(codec, suffix, said) -> None:
    with pytest.raises(ConfigError, match=said):
        Encoding(codec=codec).codec_for(Path(f"out{suffix}"))


def test_summary_names_the_encoder_or_the_command_says_that_there_is_none(tmp_path) -> None:
    sample = Path(__file__).parent.parent / "samples" / "drive.mp4"
    done = run(
        ["infer", str(sample), "--codec", "h264:hw", "--end", "0.2", "--size", "64x32"], tmp_path
    )
    if done.returncode:
        assert done.stderr.count("\n") == 1 and "no encoder in hardware works here" in done.stderr
    else:
        assert "; encoded by h264_" in done.stdout


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="Linux alone has this")
def test_encoder_that_makes_threads_real_time_leaves_them_as_they_were(plain) -> None:
    policies = set()

    def note(*_: object) -> None:
        for thread in (int(path.name) for path in THREADS.iterdir()):
            with contextlib.suppress(ProcessLookupError):  # it has ended since it was listed
                policies.add(os.sched_getscheduler(thread))

    infer(replace(plain, source=SAMPLE, end_s=0.4, codec="av1"), note)
    assert policies == {os.sched_getscheduler(0)} == {os.SCHED_OTHER}
