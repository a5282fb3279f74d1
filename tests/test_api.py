"""The Python API, as other people's code would use it."""

import os
import pickle
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import av
import cv2
import numpy as np
import onnx
import pytest
from cameras import served
from conftest import SAMPLE, WEIGHTS

import roadseg
import roadseg.infer.pool
from roadseg.backends.runtimes import MOST_REPLICAS
from roadseg.errors import ConfigError, OutputError, PictureError, RoadsegError, VideoError
from roadseg.spec import CLASS_NAMES, NUM_CLASSES, PALETTES

SMALL = (96, 160)


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("roadseg-")]


def first_picture() -> np.ndarray:
    with av.open(SAMPLE) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def test_stream_gives_every_frame_of_the_cut_with_its_time() -> None:
    with av.open(SAMPLE) as container:
        expected = sorted(p.pts for p in container.demux(video=0) if p.pts is not None)[:10]
    results = list(roadseg.stream(SAMPLE, end_s=0.4, size_hw=SMALL))
    assert [result.pts for result in results] == expected
    assert results[5].time_s == pytest.approx(0.2)
    assert all(r.class_map.shape == r.picture.shape[:2] == (540, 960) for r in results)


def test_stream_takes_images_at_a_rate(tmp_path) -> None:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), first_picture())
    results = list(roadseg.stream(tmp_path / "*.png", size_hw=SMALL, image_fps=10))
    assert [result.time_s for result in results] == pytest.approx([0, 0.1, 0.2])


def test_stream_takes_an_address() -> None:
    with served(SAMPLE.parent) as address:
        results = list(roadseg.stream(f"{address}/{SAMPLE.name}", size_hw=SMALL, end_s=0.2))
    assert len(results) == 5


def test_stream_follows_the_motion_as_it_is_told() -> None:
    part = {"start_s": 0.72, "end_s": 1.08}
    alone, moved = (
        list(roadseg.stream(SAMPLE, **part, size_hw=SMALL, steady=0, every=every))
        for every in (1, 3)
    )
    assert [r.item.by_network for r in moved] == [n in (0, 3, 6, 8) for n in range(9)]  # the last
    for number in (0, 3, 6):  # frames alone go by the network's class map, others by its logits
        assert (moved[number].class_map == alone[number].class_map).mean() > 0.97
    with pytest.raises(ConfigError, match=r"^every is 0"):
        roadseg.stream(SAMPLE, every=0)


def test_part_of_a_film_is_looked_at_where_the_whole_is() -> None:
    def looks(**cut: float) -> list[float]:
        results = roadseg.stream(SAMPLE, size_hw=SMALL, **cut)
        return [result.time_s for result in results if result.item.by_network]

    whole = looks(start_s=0.08, end_s=1.2)
    assert whole == pytest.approx([n / 12.5 for n in range(1, 15)] + [1.16])  # and at the last
    for start_s in (0.36, 0.4):
        assert looks(start_s=start_s, end_s=1.2)[1:] == [t for t in whole if t > start_s + 0.001]


def test_leaving_the_loop_ends_the_threads() -> None:
    for result in roadseg.stream(str(SAMPLE), size_hw=SMALL):
        assert result.class_map.dtype == np.uint8 and threads()
        break
    assert not threads()


def test_overlay_shows_the_classes_asked_for_in_their_colours() -> None:
    result = next(roadseg.stream(SAMPLE, size_hw=SMALL, min_confidence=0))
    painted = result.overlay(alpha=1, classes=("road",), outline=False, legend=False)
    road = result.class_map == CLASS_NAMES.index("road")
    assert 0.1 < road.mean() < 0.9
    inside, outside = (cv2.erode(m.astype(np.uint8), np.ones((5, 5))) > 0 for m in (road, ~road))
    color = np.array(PALETTES["roadseg"]["road"])
    assert np.abs(painted[inside].astype(int) - color).max() <= 2  # YUV has fewer colours
    change = np.abs(painted[outside].astype(int) - result.picture[outside])
    assert np.percentile(change, 99) <= 1  # both come from YUV, whose colour four pixels share
    with pytest.raises(ConfigError, match="cat"):
        result.overlay(classes=("cat",))


def test_legend_of_a_picture_is_where_it_is_asked_for() -> None:
    result = next(roadseg.stream(SAMPLE, size_hw=SMALL))
    bare, first, last = (
        result.overlay(legend=corner) for corner in ("none", "top-left", "bottom-right")
    )
    np.testing.assert_array_equal(bare, result.overlay(legend=False))
    np.testing.assert_array_equal(first, result.overlay(legend=True))
    for painted, corner in ((first, np.s_[:270, :480]), (last, np.s_[270:, 480:])):
        changed = (painted != bare).any(axis=2)
        assert changed.any() and changed.sum() == changed[corner].sum()


def test_picture_from_memory_and_from_a_file_are_labelled_alike(tmp_path) -> None:
    picture = first_picture()
    path = tmp_path / "picture.png"
    assert cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    in_memory, from_file = roadseg.segment(picture), roadseg.segment(path)
    np.testing.assert_array_equal(in_memory.picture, from_file.picture)
    np.testing.assert_array_equal(in_memory.class_map, from_file.class_map)
    assert in_memory.class_names == CLASS_NAMES[:NUM_CLASSES]
    road = CLASS_NAMES.index("road")
    every = roadseg.segment(picture, min_confidence=0)
    assert every.class_shares["road"] == pytest.approx((in_memory.class_map == road).mean())
    assert in_memory.class_shares["road"] > 0.2


def test_picture_of_a_name_that_is_no_utf8_is_labelled(tmp_path) -> None:
    picture = first_picture()
    path = tmp_path / os.fsdecode(b"stra\xdfe.png")
    path.write_bytes(cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1])
    np.testing.assert_array_equal(
        roadseg.segment(path).class_map, roadseg.segment(picture).class_map
    )


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_picture_and_stream_of_it_have_the_same_class_map(suffix, tmp_path) -> None:
    path = tmp_path / f"picture{suffix}"
    assert cv2.imwrite(str(path), cv2.cvtColor(first_picture(), cv2.COLOR_RGB2BGR))
    (streamed,) = roadseg.stream(path, steady=0, weights=WEIGHTS)
    alone = roadseg.segment(path, weights=WEIGHTS)
    np.testing.assert_array_equal(alone.class_map, streamed.class_map)
    np.testing.assert_array_equal(alone.picture, streamed.picture)


def test_array_has_the_class_map_that_a_stream_of_it_has(tmp_path) -> None:
    picture = first_picture()
    path = tmp_path / "picture.png"
    assert cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    (streamed,) = roadseg.stream(path, steady=0, weights=WEIGHTS)
    np.testing.assert_array_equal(
        roadseg.segment(picture, weights=WEIGHTS).class_map, streamed.class_map
    )


def test_model_file_that_was_replaced_answers_no_more(tmp_path) -> None:
    def names() -> tuple[str, ...]:
        return roadseg.segment(first_picture(), weights=weights, size_hw=SMALL).class_names

    weights, other = tmp_path / "model.onnx", tmp_path / "other.onnx"
    weights.write_bytes(WEIGHTS.read_bytes())
    as_it_was = names()
    model = onnx.load(WEIGHTS)
    (record,) = (entry for entry in model.metadata_props if entry.key == "roadseg")
    record.value = record.value.replace('"road"', '"street"')
    onnx.save(model, other)
    other.replace(weights)
    assert names() == tuple("street" if name == "road" else name for name in as_it_was)
    weights.write_bytes(WEIGHTS.read_bytes())
    assert names() == as_it_was


def test_a_view_that_is_not_contiguous_is_a_picture_too() -> None:
    mirrored = first_picture()[:, ::-1]
    assert roadseg.segment(mirrored, size_hw=SMALL).class_map.shape == (540, 960)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((4, 4), np.uint8), r"\(4, 4\) of uint8"),
        (np.zeros((4, 4, 3), np.float32), "of float32"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
        ("none.png", r"none\.png cannot be read \(No such file"),
        (__file__, "is no picture"),
        ([[1, 2], [3, 4]], r"of type list; give .* numpy\.asarray\(image\)"),
        (None, "of type NoneType"),
    ],
)
def test_what_is_no_picture_is_refused(image, said) -> None:
    with pytest.raises(PictureError, match=said):
        roadseg.segment(image)


def test_missing_film_is_refused() -> None:
    with pytest.raises(VideoError, match="does not exist"):
        roadseg.stream("none.mp4")


def test_import_stays_light_and_says_what_there_is() -> None:
    code = (
        "import sys, roadseg\n"
        "assert not {'cv2', 'av', 'numpy', 'torch'} & set(sys.modules)\n"
        "assert callable(roadseg.stream) and callable(roadseg.segment)\n"
        "assert 'cv2' in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = roadseg.nothing


def test_package_shows_what_it_is_for() -> None:
    assert set(dir(roadseg)) == {"Model", "Result", "__version__", "load", "segment", "stream"}


def test_loaded_model_labels_as_the_functions_do_and_is_opened_once(monkeypatch) -> None:
    opened = []
    usual = roadseg.infer.pool.open_backend
    monkeypatch.setattr(
        roadseg.infer.pool, "open_backend", lambda *a: opened.append(a) or usual(*a)
    )
    picture = first_picture()
    with roadseg.load(WEIGHTS, size_hw=SMALL) as model:
        assert repr(model) == "<Model roads.onnx>"
        one, two = model.segment_batch([picture, picture[:, ::-1]])
        np.testing.assert_array_equal(model.segment(picture).class_map, one.class_map)
        assert (one.class_map != two.class_map).any()
        assert len(opened) == 1
        for _ in range(2):
            results = list(model.stream(SAMPLE, end_s=0.2, steady=0))
        assert len(opened) <= 1 + MOST_REPLICAS
    expected = list(roadseg.stream(SAMPLE, weights=WEIGHTS, size_hw=SMALL, end_s=0.2, steady=0))
    for result, other in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result.class_map, other.class_map)


def test_loaded_model_serves_several_threads_at_once() -> None:
    pictures = [first_picture()[:, : 500 + 100 * n] for n in range(4)]
    with roadseg.load(WEIGHTS, size_hw=SMALL) as model, ThreadPoolExecutor(4) as threads:
        together = list(threads.map(model.segment, pictures))
        alone = model.segment_batch(pictures)
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one.class_map, other.class_map)


@pytest.fixture(scope="module")
def result() -> roadseg.Result:
    return next(roadseg.stream(SAMPLE, size_hw=SMALL, start_s=1, weights=WEIGHTS))


def test_result_is_told_in_one_short_line(result) -> None:
    assert re.fullmatch(r"<Result at 1\.00 s, 960x540: (\w+ \d+%, ){3}\w+ \d+%>", repr(result))


def test_result_is_a_picture_to_notebooks_files_and_pillow(result, tmp_path) -> None:
    painted = result.overlay()
    shown = cv2.imdecode(np.frombuffer(result._repr_png_(), np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(shown, painted)
    result.save(tmp_path / "a.png", legend=False)
    saved = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(saved, result.overlay(legend=False))
    with pytest.raises(OutputError, match=r"a\.gif must end in"):
        result.save(tmp_path / "a.gif")
    pytest.importorskip("PIL")
    np.testing.assert_array_equal(np.asarray(result.to_pil(alpha=0.2)), result.overlay(alpha=0.2))


def test_objects_of_a_result_are_its_regions(result) -> None:
    assert any(o.name == "car" for o in result.objects)
    for o in result.objects:
        part = result.class_map[o.top : o.top + o.height, o.left : o.left + o.width]
        covered = (part == result.class_names.index(o.name)).sum()
        assert o.pixels <= 1.2 * covered + 50  # counted at the size of the network's input


def test_result_goes_through_a_pickle(result) -> None:
    copy = pickle.loads(pickle.dumps(result))
    np.testing.assert_array_equal(copy.class_map, result.class_map)
    np.testing.assert_array_equal(copy.overlay(), result.overlay())
    assert (copy.pts, copy.time_base, repr(copy)) == (result.pts, result.time_base, repr(result))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size_hw": (100, 100)}, r"^size_hw is \(100, 100\); give height and width, both mult"),
        ({"size_hw": 96}, r"^size_hw is 96"),
        ({"size_hw": (96.0, 160.0)}, r"^size_hw is \(96\.0, 160\.0\)"),
        ({"palette": "pink"}, r"^palette is 'pink'"),
        ({"backend": "abacus"}, r"^backend is 'abacus'"),
        ({"weights": "none.onnx"}, r"none\.onnx, the model, does not exist"),
    ],
)
def test_mistake_in_an_argument_is_raised_by_the_call_and_named_as_one(arguments, message) -> None:
    for call in (roadseg.load, partial(roadseg.stream, SAMPLE), partial(roadseg.segment, SAMPLE)):
        with pytest.raises(RoadsegError, match=message) as raised:
            call(**arguments)
        assert "--" not in str(raised.value)
    assert not threads()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steady": 2}, "^steady is 2"),
        ({"image_fps": 0}, "^image_fps is 0"),
        ({"start_s": -1.0}, r"^start_s is -1\.0"),
        ({"start_s": 2.0, "end_s": 1.0}, r"^end_s is 1\.0 and start_s is 2\.0"),
    ],
)
def test_mistake_about_a_film_is_raised_by_the_call_and_named_as_one(arguments, message) -> None:
    with pytest.raises(ConfigError, match=message):
        roadseg.stream(SAMPLE, **arguments)


def test_names_of_classes_are_not_taken_letter_by_letter(result) -> None:
    for argument in ("classes", "only"):
        with pytest.raises(ConfigError, match=rf"^{argument} is 'road'; give a tuple of names"):
            result.overlay(**{argument: "road"})
    with pytest.raises(ConfigError, match=r"^classes names rod; the model knows"):
        result.overlay(classes=("rod",))


def test_picture_that_lacks_a_part_is_labelled_with_a_warning(tmp_path) -> None:
    torn = tmp_path / "torn.jpg"
    cv2.imwrite(str(torn), np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8))
    torn.write_bytes(torn.read_bytes()[:-2000])
    with pytest.warns(UserWarning, match=f"{torn} is damaged; a part of the picture is missing"):
        assert roadseg.segment(torn, size_hw=SMALL).class_map.shape == (64, 96)
