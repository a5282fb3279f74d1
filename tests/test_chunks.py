"""A film labelled in chunks is the film of one run: frames, times, class maps, stats and sound."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from conftest import SAMPLE
from films import Film, frame_times, packets, pictures

from roadseg.errors import NoFrames
from roadseg.infer.batch.chunks import (
    Chunk,
    chunk_config,
    chunk_folder,
    chunks_of,
    join,
    label,
    make_chunk_folder,
)
from roadseg.infer.config import InferConfig
from roadseg.infer.offline import infer
from roadseg.infer.stats import read_stats
from roadseg.video.read.chunk import Around, decode_chunk
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import probe

OPEN_GROUPS = (("g", "12"), ("bf", "3"), ("x264-params", "open-gop=1:scenecut=0"))
FILMS = {
    "sound": Film(times=tuple(range(120)), sounds=2, options=(("g", "10"),)),
    "variable rate": Film(times=tuple(t for t in range(160) if t % 7 and t % 11), sounds=1),
    "open groups": Film(times=tuple(range(120)), sounds=1, options=OPEN_GROUPS),
}
LEAST_S = 3.0


@pytest.fixture(params=FILMS)
def film(request, plain, tmp_path) -> InferConfig:
    config = replace(plain, alpha=0.5, crf=10, masks=tmp_path / "masks")
    config = replace(config, stats=tmp_path / "stats.jsonl", source=tmp_path / "film.mkv")
    film = FILMS[request.param]
    if not film.options:
        film = replace(film, options=(("g", "8"),))
    film.write(config.source)
    return config


def in_chunks(config: InferConfig, least_s: float = LEAST_S) -> list[Chunk]:
    """Label a film in chunks, the last one first, and join them."""
    chunks = chunks_of(config, least_s)
    make_chunk_folder(config)
    labelled = [label(chunk_config(config, chunk)) for chunk in reversed(chunks)]
    join(config, chunks, labelled[::-1])
    assert not chunk_folder(config).exists()
    return chunks


def beside(config: InferConfig, name: str) -> InferConfig:
    """The same run to other places."""
    folder = config.out.parent
    masks, stats = config.masks, config.stats
    return replace(
        config,
        out=config.out.with_stem(name),
        masks=masks and (folder / name / "masks").with_suffix(masks.suffix),
        stats=stats and stats.with_stem(name),
    )


def class_maps(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    for path in sorted(folder.iterdir()):
        yield path.name, cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def share_that_differs(one: InferConfig, other: InferConfig) -> float:
    """Share of the pixels of all class maps; the files and their names are the same."""
    pairs = list(zip(class_maps(one.masks), class_maps(other.masks), strict=True))
    assert all(a[0] == b[0] for a, b in pairs)
    return float(np.mean([np.mean(a[1] != b[1]) for a, b in pairs]))


def assert_same_film(one: InferConfig, other: InferConfig) -> None:
    assert frame_times(one.out) == frame_times(other.out)
    with av.open(one.out) as container:
        voices = len(container.streams.audio)
    for number in range(voices):
        assert packets(one.out, "audio", number) == packets(other.out, "audio", number)
    for a, b in zip(pictures(one.out), pictures(other.out), strict=True):
        assert cv2.PSNR(a, b) > 33  # the encoder began anew in between


@pytest.mark.parametrize("motion", [{"every": 3}, {"steady": 0.6, "every": 4}])
def test_a_film_in_chunks_is_that_of_one_run(film, motion) -> None:
    config = replace(film, **motion)
    assert len(in_chunks(config)) >= 3
    whole = beside(config, "whole")
    infer(whole)
    assert_same_film(config, whole)
    assert share_that_differs(config, whole) <= 1e-4


@pytest.mark.parametrize("suffix", [".mkv", ".mov"])
def test_chunks_are_joined_in_every_format(film, suffix) -> None:
    config = replace(film, out=film.out.with_suffix(suffix))
    in_chunks(config)
    whole = beside(config, "whole")
    infer(whole)
    assert_same_film(config, whole)
    assert config.stats.read_text() == whole.stats.read_text()


def test_a_cut_in_chunks_is_that_of_one_run(film) -> None:
    config = replace(film, start_s=1.5, end_s=9.75)
    assert len(in_chunks(config, 2.0)) >= 3
    whole = beside(config, "whole")
    infer(whole)
    assert_same_film(config, whole)
    assert config.stats.read_text() == whole.stats.read_text()


def test_class_maps_and_stats_alone_are_joined_in_their_other_forms(film, tmp_path) -> None:
    config = replace(film, out=None, masks=tmp_path / "ids.mkv", stats=tmp_path / "stats.csv")
    in_chunks(config)
    folder = tmp_path / "whole"
    folder.mkdir()
    whole = replace(config, masks=folder / "ids.mkv", stats=folder / "stats.csv")
    infer(whole)
    assert frame_times(config.masks) == frame_times(whole.masks)
    for one, other in zip(pictures(config.masks), pictures(whole.masks), strict=True):
        np.testing.assert_array_equal(one, other)
    assert config.stats.read_text() == whole.stats.read_text()


def test_chunks_begin_at_key_frames_and_have_their_length(film) -> None:
    chunks = chunks_of(film, LEAST_S)
    with av.open(film.source) as container:
        stream = container.streams.video[0]
        keys = {p.pts * p.time_base for p in container.demux(stream) if p.is_keyframe}
    times = frame_times(film.source)
    ends = [*(chunk.start_s for chunk in chunks[1:]), float(times[-1] + Fraction(1, 10))]
    assert {Fraction(c.start_s).limit_denominator(1000) + times[0] for c in chunks[1:]} <= keys
    lengths = [end - chunk.start_s for chunk, end in zip(chunks, ends, strict=True)]
    assert min(lengths) >= LEAST_S - 0.05


def test_behind_a_chunk_come_frames_to_the_first_that_is_far_enough(film) -> None:
    info = probe(film.source)
    frames = list(decode_chunk(info, ReadLog(), 3.0, 6.0, Around(1.0, 0.35)))
    times = [float(time) for time in frame_times(film.source)]
    behind = [time for time in times if time >= info.start_s + 6.0 - info.half_unit_s]
    far = next(time for time in behind if time >= info.start_s + 6.35 - info.half_unit_s)
    led_in = [frame.time_s for frame in frames if frame.leads_in and frame.time_s in behind]
    assert led_in == behind[: behind.index(far) + 1]
    alone = list(decode_chunk(info, ReadLog(), 3.0, 6.0, Around(0.0, 0.0)))
    assert [f.time_s for f in alone] == [f.time_s for f in frames if not f.leads_in]


def test_a_chunk_behind_the_end_of_a_torn_film_adds_nothing(film) -> None:
    behind = Chunk(number=9, start_s=500.0, end_s=None)
    make_chunk_folder(film)
    assert label(chunk_config(film, behind)).frames == 0
    with pytest.raises(NoFrames, match="no frame"):
        join(film, [behind], [label(chunk_config(film, behind))])


@pytest.mark.parametrize("every", [4, "auto"])
def test_the_network_says_the_same_in_chunks_of_a_drive(tmp_path, every) -> None:
    places = {"out": None, "masks": tmp_path / "masks", "stats": tmp_path / "stats.jsonl"}
    config = InferConfig(source=SAMPLE, every=every, end_s=6.0, **places)
    assert len(in_chunks(config, 2.0)) >= 2
    whole = replace(config, masks=tmp_path / "whole" / "masks", stats=tmp_path / "whole.jsonl")
    infer(whole)
    assert share_that_differs(config, whole) <= 1e-4
    unsure = [[frame.unsure for frame in read_stats(run.stats)] for run in (config, whole)]
    for shares in unsure:
        shares.pop()  # before --end, which a chunk alone looks beyond
    assert max(unsure[1]) > 0.01 and unsure[0] == pytest.approx(unsure[1], abs=1e-3)
