"""Films labelled along their motion: with the real network, and with one that flickers."""

from dataclasses import replace
from fractions import Fraction
from itertools import islice

import cv2
import numpy as np
import pytest
from conftest import CAMVID, SAMPLE, WEIGHTS
from moving import FIFTEENTH, FlickeringBackend, panning, road, roads

from roadseg.backends.runtimes import open_backend
from roadseg.data.folder import FolderDataset
from roadseg.infer.stages import Pipeline
from roadseg.infer.steps import labelling
from roadseg.measure.metrics import Scores, confusion_matrix
from roadseg.segmentation.config import ModelConfig
from roadseg.segmentation.label import label
from roadseg.video.frame import Arrival, Frame, SegmentedFrame
from roadseg.video.picture import Picture
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import decode, probe

THIRTIETH = Fraction(1, 30)
ALONE = ModelConfig(steady=0, min_confidence=0)


def run(frames, backend, config: ModelConfig, *, can_wait: bool = True) -> list[SegmentedFrame]:
    return list(label(iter(frames), backend, config, can_wait=can_wait))


def maps(items: list[SegmentedFrame]) -> np.ndarray:
    return np.stack([item.class_map for item in items])


@pytest.fixture(scope="module")
def network():
    return open_backend(WEIGHTS)


def sample(count: int) -> list[Frame]:
    return list(islice(decode(probe(SAMPLE), ReadLog()), count))


def test_frames_alone_are_labelled_by_the_network_to_the_bit(network) -> None:
    frames = sample(21)[18:]  # among which no motion is lost
    config = replace(ALONE, size_hw=(96, 160))
    alone = run(frames, network, config)
    each = [item for frame in frames for item in run([frame], network, config)]
    np.testing.assert_array_equal(maps(alone), maps(each))
    every_2nd = replace(config, every=2)
    keys = run(frames, network, every_2nd)
    assert [item.by_network for item in keys] == [True, False, True]
    each = [item for frame in frames[::2] for item in run([frame], network, every_2nd)]
    np.testing.assert_array_equal(maps(keys)[::2], maps(each))
    # From the logits in one step; alone, from the class map that the network made of them.
    assert (maps(keys)[::2] == maps(alone)[::2]).mean() > 0.97


def test_plain_path_asks_for_no_logits_and_makes_no_flow(monkeypatch) -> None:
    backend = FlickeringBackend()
    monkeypatch.delattr("roadseg.segmentation.neighbours.Motion")
    monkeypatch.delattr("roadseg.segmentation.fuse.Motion")
    assert len(run(panning([0, 0, 0]), backend, ALONE)) == 3
    assert backend.wanted == {"class_map"}


def test_still_film_flips_nothing() -> None:
    still = [0] * 8
    flickering = FlickeringBackend(wrong=(3, 6))
    alone = maps(run(panning(still), FlickeringBackend(wrong=(3, 6)), ALONE))
    assert (alone[1:] != alone[:-1]).mean() > 0.3
    steady = maps(run(panning(still), flickering, replace(ALONE, steady=0.6)))
    assert not (steady[1:] != steady[:-1]).any()


def test_cut_lets_go_of_the_past() -> None:
    frames = [*panning([0] * 4), *panning([0] * 3, seed=1, times=[4, 5, 6])]
    backend = FlickeringBackend(wrong=(4,))  # the first frame of the new scene
    items = run(frames, backend, replace(ALONE, steady=0.9))
    expected = run(frames[4:5], FlickeringBackend(wrong=(0,)), replace(ALONE, steady=0.9))
    np.testing.assert_array_equal(items[4].class_map, expected[0].class_map)
    assert (items[4].class_map != items[3].class_map).any()


@pytest.mark.parametrize("can_wait", [True, False])
def test_cut_is_looked_at_at_once(can_wait) -> None:
    shots = [*panning([0] * 6), *panning([0] * 6, seed=1, times=list(range(6, 12)))]
    frames = [replace(frame, time_base=THIRTIETH) for frame in shots]
    items = run(frames, FlickeringBackend(), replace(ALONE, every=3), can_wait=can_wait)
    looked = [item.frame.pts for item in items if item.by_network]
    assert [item.frame.pts for item in items] == list(range(12))
    # A reader that waits has the last frame of a scene looked at as well, to fill up to it.
    assert looked == ([0, 3, 5, 6, 9, 11] if can_wait else [0, 3, 6, 9])


@pytest.mark.parametrize(
    "places",
    [[0, 0, 0, 0, 1, 1], [0, 1, 0, 1, 0, 1], [0, 0, 0, 1, 1, 1, 2, 2, 2], [0, 1, 2, 3, 4, 5]],
    ids=["a jump", "two places in turn", "frozen frames that jump", "time lapse"],
)
def test_first_frame_of_another_place_is_labelled_as_if_nothing_had_been_before(places) -> None:
    frames = list(roads(places))
    strangers = [n for n in range(1, len(places)) if places[n] != places[n - 1]]
    hesitant = strangers[::2]
    steady = replace(ALONE, steady=0.9)
    items = run(frames, FlickeringBackend(tuple(hesitant)), steady)
    for number in strangers:
        alone = FlickeringBackend((0,) if number in hesitant else ())
        expected = run([frames[number]], alone, steady)[0].class_map
        np.testing.assert_array_equal(items[number].class_map, expected)


@pytest.mark.parametrize("can_wait", [True, False])
def test_no_label_is_moved_to_another_place(can_wait) -> None:
    every = replace(ALONE, every=4)
    lapse = run(roads(range(6)), FlickeringBackend(), every, can_wait=can_wait)
    assert all(item.by_network for item in lapse)
    jump = run(roads([0, 0, 0, 1, 1, 1]), FlickeringBackend(), every, can_wait=can_wait)
    assert jump[3].by_network
    in_time = replace(ALONE, fps_target=1000.0)  # there is never time
    lapse = run(roads(range(6)), FlickeringBackend(), in_time, can_wait=False)
    assert all(item.by_network for item in lapse)


def test_dissolve_ends_in_labels_of_the_place_that_it_leads_to() -> None:
    shares = [0, 0, 0, *(n / 9 for n in range(1, 9)), 1, 1]
    blended = (cv2.addWeighted(road(1), share, road(0), 1 - share, 0) for share in shares)
    frames = [Frame(Picture.from_rgb(rgb), n, FIFTEENTH) for n, rgb in enumerate(blended)]
    after = tuple(number for number, share in enumerate(shares) if share > 0.5)
    found, alone = (
        maps(run(frames, FlickeringBackend(after), replace(ALONE, steady=strength)))
        for strength in (0.6, 0.001)
    )
    assert (found != alone)[after[0] + 4 :].mean() < 0.005  # the border moves by a column


@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not beside the project")
@pytest.mark.parametrize("order", [range(0, 101, 10), [0, 50] * 4], ids=["lapse", "in turn"])
def test_steady_labels_are_no_worse_than_each_frame_alone_where_a_drive_jumps(
    network, order
) -> None:
    drive = FolderDataset.open(CAMVID, "val")
    shots = [drive[index] for index in order]
    frames = [Frame(Picture.from_rgb(rgb), n, FIFTEENTH) for n, (rgb, _) in enumerate(shots)]
    mious = []
    for strength in (0.6, 0.0):
        items = run(frames, network, replace(ALONE, steady=strength, size_hw=(192, 256)))
        counts = sum(
            confusion_matrix(target, item.class_map, 11)
            for (_, target), item in zip(shots, items, strict=True)
        )
        mious.append(Scores(class_names=network.spec.class_names, confusion=counts).miou)
    assert mious[0] > mious[1] - 0.003


class EdgeBackend(FlickeringBackend):
    """Class 3 left of a stripe that is in the picture, class 0 from there."""

    def _decide(self, frames):
        bright = frames[..., 0].astype(int).mean(axis=(0, 1))
        self.edge = int(bright.argmax())
        _, height, width, _ = frames.shape
        class_map = np.zeros((1, height, width), np.uint8)
        class_map[:, :, : self.edge] = 3
        self.calls += 1
        logits = np.full((1, 11, height, width), -4, np.float32)
        np.put_along_axis(logits, class_map[:, None].astype(int), 4.0, axis=1)
        return class_map, logits


def striped(steps: list[int]) -> list[Frame]:
    frames, column = [], 160
    for number, (step, frame) in enumerate(zip(steps, panning([0, *steps[1:]]), strict=True)):
        column -= step if number else 0  # the camera goes on, so things go back
        rgb = frame.rgb()
        rgb[:, column : column + 3] = 255
        frames.append(Frame(Picture.from_rgb(rgb), number, FIFTEENTH))
    return frames


@pytest.mark.parametrize("can_wait", [True, False])
def test_labels_between_looks_are_where_the_things_are(can_wait) -> None:
    stripes = striped([0, 4, 4, 4, 4, 4, 4, 4])
    frames = [replace(frame, time_base=THIRTIETH) for frame in stripes]
    alone = run(frames, EdgeBackend(), ALONE)
    backend = EdgeBackend()
    items = run(frames, backend, replace(ALONE, every=3), can_wait=can_wait)
    assert backend.calls == (4 if can_wait else 3)
    held = maps(alone)[[0, 0, 0, 3, 3, 3, 6, 6]]
    for moved, true, old in zip(maps(items), maps(alone), held, strict=True):
        wrong = (moved != true)[20:-20].mean()
        assert wrong < 0.01
        assert wrong < 0.5 * (old != true).mean() or not (old != true).any()


@pytest.mark.parametrize("can_wait", [True, False])
def test_film_is_looked_at_by_the_second_and_a_live_view_at_every_frame(can_wait) -> None:
    frames = [replace(frame, time_base=THIRTIETH) for frame in panning([0] * 8)]
    items = run(frames, FlickeringBackend(), ModelConfig(), can_wait=can_wait)
    looked = [item.frame.pts for item in items if item.by_network]
    assert looked == ([0, 2, 4, 6, 7] if can_wait else list(range(8)))  # and at the last


class HalvesBackend(FlickeringBackend):
    """In its first call sure of class 3 everywhere; in the next ones of class 0, less so."""

    def _decide(self, frames):
        _, height, width, _ = frames.shape
        logits = np.full((1, 11, height, width), -8, np.float32)
        logits[:, 3], logits[:, 0] = (4.0, 0.0) if not self.calls else (0.0, 2.0)
        self.calls += 1
        return logits.argmax(axis=1).astype(np.uint8), logits


def test_frame_that_both_looks_explain_gets_the_labels_of_the_surer_one() -> None:
    items = run(panning([0] * 3), HalvesBackend(), replace(ALONE, every=2))
    assert [item.class_map.mean() for item in items] == [3, 3, 0]


def test_place_that_one_look_explains_gets_the_labels_of_that_one() -> None:
    before, between, after = (frame.rgb().copy() for frame in panning([0] * 3))
    before[:, 320:] //= 2  # the right edge is another after the first frame
    frames = [
        Frame(Picture.from_rgb(rgb), number, FIFTEENTH)
        for number, rgb in enumerate((before, between, after))
    ]
    middle = run(frames, HalvesBackend(), replace(ALONE, every=2))[1]
    assert not middle.by_network
    assert (middle.class_map[:, :300] == 3).all()
    assert (middle.class_map[:, 345:] == 0).mean() > 0.95  # here and there both look alike


def test_film_of_one_frame_and_film_of_none() -> None:
    config = ModelConfig(steady=0.6, every=4)
    assert len(run(panning([0]), FlickeringBackend(), config)) == 1
    assert run([], FlickeringBackend(), config) == []


def test_variable_frame_rate_goes_by_the_time_and_not_by_the_count() -> None:
    times = [0, 1, 31, 32]  # two seconds pass in between
    steady = replace(ALONE, steady=0.6)
    items = run(panning([0] * 4, times=times), FlickeringBackend(wrong=(2,)), steady)
    assert [item.frame.pts for item in items] == times
    changed = (maps(items)[1:] != maps(items)[:-1]).any(axis=(1, 2))
    assert changed.tolist() == [False, True, True]  # what was seen two seconds ago is forgotten


def test_frames_of_another_size_begin_anew() -> None:
    wide = list(panning([0, 0]))
    small = [Frame(frame.picture.resized((108, 192)), frame.pts + 2, FIFTEENTH) for frame in wide]
    items = run([*wide, *small], FlickeringBackend(), ModelConfig(steady=0.6, every=4))
    assert [item.class_map.shape for item in items] == [(216, 384)] * 2 + [(108, 192)] * 2


def test_reader_that_writes_into_a_class_map_changes_no_other() -> None:
    expected = maps(run(panning([0] * 3), FlickeringBackend(), replace(ALONE, every=3)))
    found = []
    config = replace(ALONE, every=3)
    for item in label(panning([0] * 3), FlickeringBackend(), config, can_wait=False):
        found.append(item.class_map.copy())
        item.class_map[:] = 7
    np.testing.assert_array_equal(np.stack(found)[:2], expected[:2])


def test_frames_that_a_camera_lost_do_not_count_as_time_to_spend(monkeypatch) -> None:
    asked = []

    class Asked:
        def due(self, situation):
            asked.append((situation.gap, situation.interval_s, situation.need()))
            return False

    monkeypatch.setattr("roadseg.segmentation.track.chooser_for", lambda _config, **_: Asked())
    frames = [
        replace(frame, arrival=Arrival(number, 0.0))
        for frame, number in zip(panning([0] * 3, times=[0, 3, 4]), (0, 3, 4), strict=True)
    ]
    run(frames, FlickeringBackend(), replace(ALONE, realtime=True), can_wait=False)
    assert [gap for gap, _, _ in asked] == [1, 2]
    assert [interval_s for _, interval_s, _ in asked] == pytest.approx([1 / 15, 1 / 15])
    assert max(need for _, _, need in asked) < 0.01


@pytest.mark.parametrize("mode", [{}, {"steady": 0.6}, {"every": 3}, {"steady": 0.6, "every": 3}])
def test_stages_on_their_threads_label_as_one_after_the_other(network, mode) -> None:
    frames = sample(11)
    config = replace(ALONE, weights=WEIGHTS, backend="onnxruntime", size_hw=(96, 160), **mode)
    stages = labelling(config)
    for name in {"motion", "enlarge"} & stages.keys():
        stages[name] = replace(stages[name], workers=3)  # as on a machine with more cores
    with Pipeline(frames, *stages.values(), depth=2) as pipeline:
        found = list(pipeline)
    expected = run(frames, network, config)
    assert [item.by_network for item in found] == [item.by_network for item in expected]
    assert [item.frame.pts for item in found] == [frame.pts for frame in frames]
    # One thread sums in another order than two, which flips a pixel here and there.
    assert (maps(found) == maps(expected)).mean() > 0.9995


def test_real_network_is_steadier_along_the_sample(network) -> None:
    frames = sample(10)
    config = replace(ALONE, size_hw=(192, 352))
    alone, steady = (maps(run(frames, network, c)) for c in (config, replace(config, steady=0.6)))
    flips = [(m[1:] != m[:-1]).mean() for m in (alone, steady)]
    assert flips[1] < 0.8 * flips[0]
    assert (alone != steady).mean() < 0.05
    assert Fraction(frames[1].pts - frames[0].pts) * frames[0].time_base == Fraction(1, 25)
