"""What differs between the versions of PyAV reaches nothing else."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
from conftest import SAMPLE
from films import Film, repacked

from roadseg.infer.offline import infer
from roadseg.video.pyav import exact
from roadseg.video.read.source import probe

UNKNOWN = [None, Fraction(0)]
if hasattr(av, "AVRational"):
    UNKNOWN += [av.AVRational(0, 1), av.AVRational(1, 0), av.AVRational(0, 0)]


@pytest.mark.parametrize("number", UNKNOWN, ids=repr)
def test_what_is_not_known_is_none(number) -> None:
    assert exact(number) is None


def test_film_tells_its_rates_as_fractions() -> None:
    info = probe(SAMPLE)
    for number in (info.fps, info.time_base, info.pixel_aspect):
        assert type(number) is Fraction
    assert (info.fps, info.pixel_aspect) == (25, 1)


def tagged(bare: Path, path: Path, tag: str) -> Path:
    """Copy a film and give the same tag to the whole of it, its pictures and a chapter."""

    def describe(target, stream) -> None:
        target.metadata["title"] = stream.metadata["title"] = tag
        whole = {"id": 1, "start": 0, "end": 1000, "time_base": Fraction(1, 1000)}
        target.set_chapters([{**whole, "metadata": {"title": tag}}])

    return repacked(bare, path, describe)


def test_tags_that_are_not_utf8_are_made_so(plain, tmp_path) -> None:
    film = tagged(Film().write(tmp_path / "bare.mp4"), tmp_path / "tagged.mkv", "LUXURY")
    film.write_bytes(film.read_bytes().replace(b"LUXURY", "düsür!".encode("latin-1")))
    out = tmp_path / "out.mkv"
    infer(replace(plain, source=film, out=out))
    with av.open(out) as container:
        kept = (container, container.streams.video[0])
        titles = [each.metadata["title"] for each in kept]
        titles += [chapter["metadata"]["title"] for chapter in container.chapters()]
    assert titles == ["d\ufffds\ufffdr!"] * 3
