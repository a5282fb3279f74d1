"""Films strung together in one MP4 file, of which FFmpeg reads the first alone."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from films import Film, frame_times, repacked

from roadseg.infer.offline import infer
from roadseg.video.boxes import Box, boxes, has_another_film
from roadseg.video.read.faults import reading_faults
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import decode, probe


def film(path: Path, flags: str = "") -> bytes:
    """A film of two seconds with a keyframe every half second."""
    plain = Film(times=tuple(range(20)), options=(("g", "5"),)).write(path.with_stem("plain"))
    options = {"movflags": flags} if flags else {}
    return repacked(plain, path, **options).read_bytes()


def read(path: Path) -> tuple[int, list[str]]:
    """How many frames there are, and what is said of them."""
    info, log = probe(path), ReadLog()
    frames = sum(1 for _ in decode(info, log))
    return frames, list(reading_faults(log, info))


FRAGMENTED = "frag_keyframe+empty_moov+default_base_moof"


@pytest.mark.parametrize(
    ("suffix", "flags"), [(".mp4", ""), (".mov", ""), (".3gp", ""), (".mp4", "faststart")]
)
def test_film_behind_another_is_said_to_be_left_out(plain, tmp_path, suffix, flags) -> None:
    path = tmp_path / f"both{suffix}"
    path.write_bytes(2 * film(path, flags))
    result = infer(replace(plain, source=path))
    assert result.frames == len(frame_times(plain.out)) == 20
    (warning,) = result.warnings
    assert "another film follows the first" in warning


def test_film_behind_one_in_fragments_is_left_out_too_unless_it_goes_on_in_fragments(
    tmp_path,
) -> None:
    path = tmp_path / "a.mp4"
    pieces, plain = film(path, FRAGMENTED), film(path)
    path.write_bytes(pieces + plain)
    assert has_another_film(path)
    path.write_bytes(plain + pieces)
    assert has_another_film(path)
    head, moov, *rest = (pieces[box.begin : box.end] for box in boxes(io.BytesIO(pieces)))
    head += moov
    again = b"".join((head if piece[4:8] == b"moof" else b"") + piece for piece in rest)
    path.write_bytes(again)  # as recorders write that begin anew at any time
    assert read(path) == (20, [])


@pytest.mark.parametrize("tail", [b"", b"\0" * 5000, b"\xff" * 5000, b"junk", b"\0\0\0\7ftyp"])
def test_one_film_is_one_whatever_lies_behind_it(tmp_path, tail) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(film(path) + tail)
    assert read(path) == (20, [])


def test_boxes_are_told_apart_to_the_end_of_the_file() -> None:
    def box(name: bytes, length: int, data: bytes = b"") -> bytes:
        return length.to_bytes(4, "big") + name + data

    long = box(b"mdat", 1, (20).to_bytes(8, "big") + b"data")
    file = io.BytesIO(box(b"ftyp", 8) + long + box(b"free", 0, b"rest"))
    assert list(boxes(file)) == [
        Box(b"ftyp", 0, 8),
        Box(b"mdat", 8, 28),
        Box(b"free", 28, 40),
    ]
    assert [found.end for found in boxes(io.BytesIO(box(b"moof", 99)))] == [99]
    assert list(boxes(io.BytesIO(b"\0\0"))) == [Box(b"", 0, 8)]
