"""Films strung together in one WMV or FLV file, of which FFmpeg reads the first alone."""

from dataclasses import replace

import pytest
from films import Film, frame_times

from roadseg.infer.offline import infer
from roadseg.video.read.streams import ANOTHER

FILMS = {
    ".wmv": Film(codec="wmv2"),
    ".asf": Film(codec="msmpeg4", sounds=1),
    ".flv": Film(codec="libx264", sounds=1),
}
"""A film of each suffix."""


@pytest.mark.parametrize("suffix", FILMS)
def test_film_behind_another_is_said_to_be_left_out(plain, tmp_path, suffix) -> None:
    film = FILMS[suffix].write(tmp_path / f"one{suffix}").read_bytes()
    path = tmp_path / f"both{suffix}"
    path.write_bytes(2 * film)
    result = infer(replace(plain, source=path))
    assert result.frames == len(frame_times(plain.out)) == 10
    assert f"{path}: {ANOTHER}" in result.warnings


@pytest.mark.parametrize("suffix", FILMS)
@pytest.mark.parametrize("tail", [b"", b"\0" * 5000, b"\xff" * 5000, b"FL", b"\x09" * 12])
def test_one_film_is_one_whatever_lies_behind_it(plain, tmp_path, suffix, tail) -> None:
    path = FILMS[suffix].write(tmp_path / f"one{suffix}")
    path.write_bytes(path.read_bytes() + tail)
    result = infer(replace(plain, source=path))
    assert result.frames == 10
    assert not any(ANOTHER in warning for warning in result.warnings)
