"""Networks that others trained, whatever their graph, become models that everything works with."""

import subprocess
import sys
from collections.abc import Collection
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from conftest import ROOT, SAMPLE, WEIGHTS, both, patience, write_pair
from foreign import CLASSES, FLOAT, KINDS, MEAN, Foreign

from roadseg.backends.runtimes import CLASS_MAP, Answer, Output, open_backend
from roadseg.cli import app
from roadseg.data.folder import FolderDataset
from roadseg.data.networks import NETWORKS, TO_CAMVID, read_class_list, read_mapping
from roadseg.deploy.adopt import adopt
from roadseg.deploy.adopt_config import AdoptConfig
from roadseg.errors import ConfigError, DatasetError, ModelFileError
from roadseg.infer.api import segment
from roadseg.measure.evaluate import evaluate
from roadseg.measure.matching import in_common_classes
from roadseg.measure.metrics import Scores
from roadseg.paint.overlay import class_ids
from roadseg.segmentation.config import ModelConfig
from roadseg.segmentation.label import label
from roadseg.segmentation.placement import input_size
from roadseg.spec import CLASS_NAMES, NUM_CLASSES, AdoptionRecord, ModelSpec
from roadseg.video.frame import Frame
from roadseg.video.read.upright import picture_of

PEER = ROOT.parent / "shared" / "peers" / "road-segmentation-adas-0001.xml"
ROAD, TREE, SKY = (CLASS_NAMES.index(name) for name in ("road", "tree", "sky"))
INKS = np.array([[210, 60, 40], [50, 190, 70], [40, 80, 200]], np.uint8)
"""Of road, vegetation and sky."""
RECORD = AdoptionRecord(
    source="theirs.onnx",
    source_sha256="0" * 64,
    layout="nchw",
    channels="rgb",
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    output="y",
    output_kind="logits",
    side_multiple=32,
    fixed_size=False,
)


def painted() -> tuple[np.ndarray, np.ndarray]:
    """A picture (64, 96, 3), sky above and road between trees below, and its ids."""
    ids = np.ones((64, 96), np.uint8)
    ids[32:, 32:64] = 0
    ids[:32] = 2
    return INKS[ids], ids


def adopted(network: Foreign, folder: Path) -> Path:
    (folder / "classes.csv").write_text(CLASSES)
    source = network.write(folder / "theirs.onnx")
    usual = {"classes": str(folder / "classes.csv"), "size_hw": (128, 192)}
    config = AdoptConfig(model=source, out=folder / "ours.onnx", **usual | network.options)
    assert adopt(config).agreement > 0.999
    return config.out


@pytest.fixture(params=KINDS, scope="module")
def weights(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adopted(KINDS[request.param], tmp_path_factory.mktemp("adopted"))


def test_any_kind_of_graph_labels_pictures_and_films(weights) -> None:
    picture, ids = painted()
    assert (segment(picture, weights=weights).class_map == ids).mean() > 0.97  # edges, enlarged
    frames = (Frame(picture_of(picture), n, Fraction(1, 15)) for n in range(3))
    with closing(open_backend(weights)) as model:
        assert model.spec.arch == "adopted" and model.spec.class_names[1] == "vegetation"
        steady = list(label(frames, model, ModelConfig(weights=weights, every=2)))
    assert [item.by_network for item in steady] == [True, False, True]
    assert all((item.class_map == ids).mean() > 0.95 for item in steady)


def test_any_kind_of_graph_is_measured_in_the_classes_of_the_data(weights, tmp_path) -> None:
    picture, ids = painted()
    write_pair(tmp_path, "val", "a_0", picture, np.array([ROAD, TREE, SKY], np.uint8)[ids])
    with closing(open_backend(weights)) as model:
        models, dataset = in_common_classes({"m": model}, FolderDataset.open(tmp_path, "val"), None)
        scores = evaluate(models["m"], dataset).scores
    assert scores.class_names == ("sky", "road", "tree")
    assert scores.miou > 0.9 and scores.calibration.pixels.sum() == ids.size


def test_logits_are_what_the_class_map_is_decided_by(weights) -> None:
    with closing(open_backend(weights)) as model:
        height, width = model.spec.size_hw
        frames = painted()[0][None].repeat(3, axis=1).repeat(3, axis=2)[:, :height, :width]
        class_map, logits = both(model, np.ascontiguousarray(frames))
    assert logits.dtype == np.float32 and logits.shape[1] == 3
    stride = model.spec.output_stride
    assert (class_map[:, ::stride, ::stride] == logits.argmax(axis=1)).mean() > 0.95


def test_record_says_what_the_network_was_and_takes(tmp_path) -> None:
    name = "dynamic, normalised, probabilities of stride 4, another head"
    with closing(open_backend(adopted(KINDS[name], tmp_path))) as model:
        spec = model.spec
    assert ModelSpec.from_json(spec.to_json(), tmp_path) == spec
    assert spec.output_stride == 4 and spec.fixed_hw is None and spec.side_multiple == 32
    assert (spec.adopted.output, spec.adopted.output_kind) == ("y", "probabilities")
    assert spec.adopted.mean == pytest.approx((127.5, 102, 76.5))


def test_softmax_of_what_a_sigmoid_gave_has_the_same_proportions(tmp_path) -> None:
    network = KINDS["probabilities of each class by itself"]
    with closing(open_backend(adopted(network, tmp_path))) as model:
        assert model.spec.adopted.output_kind == "probabilities"
        frames = np.zeros((1, 64, 96, 3), np.uint8)
        frames[..., 0] = 128
        logits = both(model, frames)[1][0, :, 0, 0]
    levels = (np.array([128, 0, 0]) / 255 - MEAN) / 0.1
    np.testing.assert_allclose(np.exp(logits), 1 / (1 + np.exp(-levels)), rtol=1e-3)


def test_input_smaller_than_the_squares_it_is_checked_on_is_one_square(tmp_path) -> None:
    network = Foreign([("Identity", "x", "y")])
    weights = adopted(network._replace(options=network.options | {"size_hw": (8, 192)}), tmp_path)
    with closing(open_backend(weights)) as model:
        assert model.spec.size_hw == (32, 192)


@pytest.mark.parametrize("kind", ["bf16", "u16", "u32", "u64", "i8", "i16"])
def test_network_of_openvino_may_give_any_kind_of_number(kind, tmp_path) -> None:
    ov = pytest.importorskip("roadseg.backends.openvino_silent").ov
    operators = ov.opset13
    given = operators.parameter([1, 3, 64, 96], np.float32, name="x")
    strongest = operators.topk(given, np.int64(1), 1, "max", "value", "i64").output(1)
    made = operators.convert(given if kind == "bf16" else strongest, kind)
    ov.save_model(ov.Model([made], [given]), tmp_path / "theirs.xml")
    (tmp_path / "classes.csv").write_text(CLASSES)
    config = AdoptConfig(
        model=tmp_path / "theirs.xml",
        classes=str(tmp_path / "classes.csv"),
        out=tmp_path / "ours.xml",
        input_range="0..255",
    )
    assert adopt(config).agreement > 0.999


def test_sizes_that_a_network_does_not_take_are_refused(tmp_path) -> None:
    odd, wide = (tmp_path / name for name in ("odd", "wide"))
    for folder, kind in ((odd, "odd size"), (wide, "multiples of 64")):
        folder.mkdir()
        adopted(KINDS[kind], folder)
    with closing(open_backend(odd / "ours.onnx")) as model:
        assert input_size((1080, 1920), Fraction(1), model.spec, None) == (65, 97)
        with pytest.raises(ConfigError, match=r"--size is 96x64, .* takes 97x65 alone"):
            input_size((1080, 1920), Fraction(1), model.spec, (64, 96))
    with closing(open_backend(wide / "ours.onnx")) as model:
        assert input_size((1080, 1920), Fraction(1), model.spec, None) == (128, 192)
        with pytest.raises(ConfigError, match="multiples of 64; leave"):
            input_size((1080, 1920), Fraction(1), model.spec, (96, 128))


TWO_HEADS = Foreign(
    [("Identity", "x", "main"), ("Identity", "x", "side")],
    outputs=(("main", FLOAT, 4), ("side", FLOAT, 4)),
)
BYTES = KINDS["NHWC bytes, logits"]
PLAIN = Foreign([("Identity", "x", "y")])


@pytest.mark.parametrize(
    ("network", "options", "said"),
    [
        (PLAIN, {"input_range": None}, "does not tell in which range; give the --mean and --std"),
        (PLAIN, {"input_range": "0..2"}, "--input-range is '0..2'; use one of: 0..1, 0..255"),
        (PLAIN, {"std": (0.0, 1.0, 1.0)}, "--std is .*above 0"),
        (
            PLAIN,
            {"input_range": "0..1", "mean": (123.7, 116.3, 103.5)},
            "--mean has 123.7, and --input-range is 0..1; .* leave out --input-range",
        ),
        (PLAIN, {"output": "z"}, r"--output is 'z'; .* has y \(float32 1x3x128x192\)"),
        (PLAIN, {"classes": "cityscapes"}, "gives y .* cityscapes names 19 classes"),
        (PLAIN, {"classes": "camvid"}, "no class list camvid; .* included: ade20k, bdd100k, city"),
        (BYTES, {"mean": (0.5, 0.5, 0.5)}, "levels from 0 to 255 as they are; leave out --mean"),
        (TWO_HEADS, {}, "gives main .*, side .*; choose one of these with --output"),
        (Foreign([("Identity", "x", "y")], (FLOAT, [1, 3, 64, 3])), {}, "give --layout nchw or"),
        (
            Foreign([("Identity", "x", "y")], (FLOAT, [4, 3, 64, 96])),
            {},
            "takes 4 pictures at once",
        ),
        (Foreign([("Identity", "x", "y")], (FLOAT, [3, 64, 96])), {}, "four dimensions"),
    ],
)
def test_what_a_graph_does_not_tell_is_asked_for(network, options, said, tmp_path) -> None:
    with pytest.raises(ConfigError, match=said):
        adopted(network._replace(options=network.options | options), tmp_path)
    assert not (tmp_path / "ours.onnx").exists()


def test_head_and_order_can_be_said(tmp_path) -> None:
    for network in (
        TWO_HEADS._replace(options=TWO_HEADS.options | {"output": "side"}),
        Foreign(
            [("Transpose", "x", "y", {"perm": [0, 3, 1, 2]})],
            (FLOAT, ["batch", "height", "width", "channels"]),
            options={"input_range": "0..255", "layout": "nhwc"},
        ),
    ):
        picture, ids = painted()
        weights = adopted(network, tmp_path)
        assert (segment(picture, weights=weights).class_map == ids).mean() > 0.97


def test_network_of_another_kind_is_to_be_exported(tmp_path) -> None:
    out = tmp_path / "ours.onnx"
    with pytest.raises(ConfigError, match=r"theirs\.pth is neither ONNX .* export the network"):
        adopt(AdoptConfig(model=tmp_path / "theirs.pth", classes="cityscapes", out=out))


@pytest.mark.parametrize("damage", ["empty", "text", "cut off", "missing"])
@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_file_that_holds_no_network_is_refused(damage, suffix, tmp_path) -> None:
    path = tmp_path / f"theirs{suffix}"
    whole = KINDS["ids with a channel"].model().SerializeToString()
    content = {"empty": b"", "text": b"<net>", "cut off": whole[: len(whole) // 2]}
    if damage in content:
        path.write_bytes(content[damage])
    if suffix == ".xml":
        pytest.importorskip("roadseg.backends.openvino")
    with pytest.raises(ModelFileError, match=f"theirs{suffix}"):
        adopt(AdoptConfig(model=path, classes="cityscapes", out=tmp_path / f"o{suffix}"))


def test_what_keeps_a_network_from_running_comes_with_a_way_out(tmp_path) -> None:
    path, model = tmp_path / "theirs.onnx", KINDS["weights stored in half precision"].model()
    config = AdoptConfig(model=path, classes="cityscapes", out=tmp_path / "ours.onnx")
    beside = {"save_as_external_data": True, "location": "theirs.data", "size_threshold": 0}
    onnx.save(model, path, **beside)
    (tmp_path / "theirs.data").unlink()
    with pytest.raises(ModelFileError, match="put the file of its weights beside it"):
        adopt(config)
    model = KINDS["ids with a channel"].model()
    model.ir_version = 99
    onnx.save(model, path)
    with pytest.raises(ModelFileError, match=r"IR version.*older version of ONNX") as caught:
        adopt(config)
    assert "::" not in str(caught.value)


def test_model_of_ours_is_not_adopted(tmp_path) -> None:
    with pytest.raises(ModelFileError, match="is a model of roadseg already"):
        adopt(AdoptConfig(model=WEIGHTS, classes="cityscapes", out=tmp_path / "ours.onnx"))


def roadseg(
    *arguments: object, cwd: Path, before: str = "pass"
) -> subprocess.CompletedProcess[str]:
    code = f"import sys; {before}; from roadseg.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=patience(100),
    )


def test_what_adopting_needs_is_named_where_it_is_missing(tmp_path) -> None:
    command = ["adopt", "theirs.onnx", "--classes", "cityscapes", "--out", "ours.onnx"]
    refused = roadseg(*command, cwd=tmp_path, before="sys.modules['onnx'] = None")
    assert refused.returncode == 1
    assert refused.stderr.endswith("needs; run: pip install onnx\n")
    assert refused.stderr.count("\n") == 1


def test_adopted_network_goes_through_infer_and_evaluate(tmp_path) -> None:
    KINDS["ids with a channel"].write(tmp_path / "theirs.onnx")
    (tmp_path / "rgb.csv").write_text(CLASSES)
    command = ["adopt", "theirs.onnx", "--classes", "rgb.csv", "--out", "ours.onnx"]
    refused = roadseg(*command, cwd=tmp_path)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    done = roadseg(*command, "--input-range", "0..255", "--frame", SAMPLE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 classes from ids" in done.stdout and "100.00% of pixels" in done.stdout
    film = ("infer", SAMPLE, "--end", "0.2", "--weights", "ours.onnx", "--size", "96x64")
    done = roadseg(*film, "--out", "film.mp4", "--classes", "sky,road", cwd=tmp_path)
    assert done.returncode == 0 and "vegetation" in done.stdout, done.stderr
    picture, ids = painted()
    write_pair(tmp_path, "val", "a_0", picture, np.array([ROAD, TREE, SKY], np.uint8)[ids])
    (tmp_path / "map.csv").write_text("model,data\nvegetation,pole\n")
    measure = ("evaluate", "--data", ".", "--weights", "ours.onnx", "--json")
    assert '"tree": 1.0' in roadseg(*measure, cwd=tmp_path).stdout
    assert '"tree"' not in roadseg(*measure, "--map", "map.csv", cwd=tmp_path).stdout
    assert '"tree": 1.0' in roadseg(*measure, "--video", cwd=tmp_path).stdout


def test_network_whose_first_channel_is_blue_is_given_it_first(tmp_path) -> None:
    # It takes the strongest channel for the class; turned, red is the third one's.
    KINDS["ids with a channel"].write(tmp_path / "theirs.onnx")
    (tmp_path / "classes.csv").write_text(CLASSES)
    command = ["adopt", str(tmp_path / "theirs.onnx"), "--classes", str(tmp_path / "classes.csv")]
    command += ["--input-range", "0..255", "--out", str(tmp_path / "ours.onnx"), "-q"]
    picture, ids = painted()
    app([*command, "--bgr"], standalone_mode=False)
    found = segment(picture, weights=tmp_path / "ours.onnx")
    assert (found.class_map == 2 - ids).mean() > 0.97


@pytest.mark.filterwarnings("ignore")  # the exporter's notes on its own deprecations
def test_network_of_pytorch_decides_as_it_does_there(tmp_path) -> None:
    torch = pytest.importorskip("torch")
    from roadseg.models.architectures import build_model
    from roadseg.models.segmenter import PIXEL_MEAN, PIXEL_SCALE, Segmenter

    network = build_model(ModelSpec(arch="deeplabv3plus", width=8)).eval()
    sides = {2: 32 * torch.export.Dim("rows", max=64), 3: 32 * torch.export.Dim("columns", max=64)}
    program = torch.onnx.export(
        network, (torch.zeros(1, 3, 96, 128),), dynamic_shapes=(sides,), dynamo=True, verbose=False
    )
    program.save(tmp_path / "theirs.onnx")
    names = "".join(f"{name}\n" for name in CLASS_NAMES[:NUM_CLASSES])
    (tmp_path / "classes.csv").write_text(f"name\n{names}")
    config = AdoptConfig(
        model=tmp_path / "theirs.onnx",
        classes=str(tmp_path / "classes.csv"),
        out=tmp_path / "ours.onnx",
        mean=(PIXEL_MEAN,) * 3,
        std=(1 / PIXEL_SCALE,) * 3,
        size_hw=(128, 192),
    )
    spec = adopt(config).spec
    assert (spec.output_stride, spec.palette[ROAD]) == (4, (128, 64, 128))
    frames = np.random.default_rng(0).integers(0, 256, (1, 96, 160, 3), np.uint8)
    with closing(open_backend(config.out)) as model, torch.inference_mode():
        expected = Segmenter(network)(torch.from_numpy(frames))
        class_map, logits = both(model, frames)
    np.testing.assert_allclose(logits, expected[1].numpy(), atol=2e-3)  # sums in another order
    assert (class_map == expected[0].numpy()).mean() > 0.999


@pytest.mark.skipif(not PEER.is_file(), reason="needs ../shared/peers")
def test_network_of_openvino_finds_the_road(tmp_path) -> None:
    pytest.importorskip("roadseg.backends.openvino")
    (tmp_path / "four.csv").write_text("name\nbackground\nroad\ncurb\nmark\n")
    config = AdoptConfig(
        model=PEER,
        classes=str(tmp_path / "four.csv"),
        out=tmp_path / "road.xml",
        bgr=True,
        input_range="0..255",
        frame=SAMPLE,
    )
    found = adopt(config)
    assert found.agreement > 0.999 and 0.3 < found.shares["road"] < 0.4
    assert found.spec.fixed_hw == (512, 896) and found.spec.adopted.output_kind == "probabilities"
    (tmp_path / "map.csv").write_text(
        "model,data\nbackground,sky|building|pole|pavement|tree|sign|fence|car|pedestrian|bicyclist\n"
        "mark,road\ncurb,pavement\n"
    )
    with closing(open_backend(config.out)) as model:
        class_map = segment(np.zeros((512, 896, 3), np.uint8), weights=config.out).class_map
        assert class_map.shape == (512, 896)
        picture = np.full((64, 96, 3), 120, np.uint8)
        write_pair(tmp_path, "val", "a_0", picture, np.full((64, 96), ROAD, np.uint8))
        data = FolderDataset.open(tmp_path, "val")
        models, data = in_common_classes({"m": model}, data, tmp_path / "map.csv")
        scores = evaluate(models["m"], data).scores
    assert scores.class_names == ("background", "road") and scores.confusion.sum() == 64 * 96


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "begins with ''; its first line must be model,data"),
        ("model,data\nsky,sky,blue\n", "the line 'sky,sky,blue'; give a class of the model and"),
        ("model,data\nplant,tree\nplant ,sky\n", r"two lines for plant; give one, with \| betw"),
    ],
)
def test_file_that_is_no_mapping_is_refused_with_the_line(tmp_path, text, said) -> None:
    (tmp_path / "map.csv").write_text(text)
    with pytest.raises(DatasetError, match=said):
        read_mapping(tmp_path / "map.csv")


def test_included_lists_and_mapping_fit_each_other() -> None:
    counts = {"ade20k": 150, "bdd100k": 19, "cityscapes": 19, "coco-stuff": 171, "mapillary": 66}
    lists = {p.stem: read_class_list(p.stem) for p in NETWORKS.glob("*.csv") if p != TO_CAMVID}
    assert {name: len(classes) for name, classes in lists.items()} == counts
    assert all(list(classes) == list(range(len(classes))) for classes in lists.values())
    known = {c.name for classes in lists.values() for c in classes.values()} | {"mark"}
    assert read_mapping().keys() <= known
    assert {name for names in read_mapping().values() for name in names} <= set(CLASS_NAMES)


class Says:
    """A model of a usual list that calls everything one class of it."""

    def __init__(self, said: str, listed: str = "cityscapes") -> None:
        names = tuple(c.name for c in read_class_list(listed).values())
        self.spec = ModelSpec(
            arch="adopted",
            width=0,
            class_names=names,
            palette=((1, 2, 3),) * len(names),
            adopted=RECORD,
        )
        self._said = names.index(said)

    def run(self, frames: np.ndarray, wants: Collection[Output] = CLASS_MAP) -> Answer:
        count, height, width = frames.shape[:3]
        logits = np.zeros((count, self.spec.num_classes, height, width), np.float32)
        logits[:, self._said] = 1
        class_map = np.full((count, height, width), self._said, np.uint8)
        found = {"class_map": class_map, "logits": logits}
        return Answer({output: found[output] for output in wants})

    def close(self) -> None:
        pass


def scores_of(models: list[Says], root: Path, mapping: Path | None = None) -> list[Scores]:
    named = {str(number): model for number, model in enumerate(models)}
    matched, data = in_common_classes(named, FolderDataset.open(root, "val"), mapping)
    return [evaluate(model, data).scores for model in matched.values()]


@pytest.fixture
def half_trees(tmp_path: Path) -> Path:
    """A picture of a tree, and a pole beside it."""
    target = np.full((32, 64), TREE, np.uint8)
    target[:, 32:] = CLASS_NAMES.index("pole")
    write_pair(tmp_path, "val", "a_0", np.zeros((32, 64, 3), np.uint8), target)
    return tmp_path


@pytest.mark.parametrize("said", ["vegetation", "terrain"])
def test_several_classes_of_a_model_are_one_of_the_data(said, half_trees) -> None:
    (scores,) = scores_of([Says(said)], half_trees)
    assert set(scores.class_names) == {*CLASS_NAMES}  # the train has no counterpart
    assert scores.iou[scores.class_names.index("tree")] == scores.pixel_accuracy == 0.5


def test_what_data_do_not_have_is_missed_and_not_measured(half_trees) -> None:
    (scores,) = scores_of([Says("train")], half_trees)
    assert scores.class_names[-1] == "unlabelled" and np.isnan(scores.iou[-1])
    assert np.isnan(scores.boundary_f1[-1])
    assert scores.miou == scores.pixel_accuracy == 0 and scores.confusion.sum() == 32 * 64


def test_label_that_a_model_has_no_class_for_is_unlabelled(half_trees, tmp_path) -> None:
    mapping = tmp_path / "map.csv"
    mapping.write_text("model,data\nvegetation,tree\npole,\n")
    (scores,) = scores_of([Says("vegetation")], half_trees, mapping)
    assert "pole" not in scores.class_names
    assert scores.confusion.sum() == 32 * 32 and scores.miou == 1


def test_class_that_is_several_of_the_data_is_measured_as_one(half_trees, tmp_path) -> None:
    mapping = tmp_path / "map.csv"
    mapping.write_text("model,data\nvegetation,tree|pole\npole,\n")
    (scores,) = scores_of([Says("vegetation")], half_trees, mapping)
    assert "vegetation" in scores.class_names and "tree" not in scores.class_names
    assert scores.confusion.sum() == 32 * 64 and scores.miou == 1


def test_models_of_different_lists_are_measured_in_the_same_classes(half_trees) -> None:
    first, second = scores_of([Says("pole"), Says("utility pole", "mapillary")], half_trees)
    assert first.class_names == second.class_names
    assert first.miou == second.miou and first.pixel_accuracy == 0.5


def test_sets_of_classes_are_told_in_those_of_a_model(half_trees) -> None:
    rows = f"name,id\nroad|tree,{TREE}\nsky|helicopter,{CLASS_NAMES.index('pole')}\n"
    (half_trees / "classes.csv").write_text(rows)
    (scores,) = scores_of([Says("vegetation")], half_trees)
    assert scores.sets.names == ("road|tree",) and scores.sets.within.tolist() == [1]
    assert scores.pixel_accuracy == 1  # what may be a helicopter is unlabelled


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "begins with ''"),
        ("a,b\nc,d\n", "begins with 'a,b'; its first line must be model,data"),
        ("model,data\nroad\n", "has the line 'road'"),
        ("model,data\nroad,motorway\n", "'motorway', which is not among sky, building"),
        ("model,data\nstreet,road\n", "'street', which is not among road, sidewalk"),
    ],
)
def test_mapping_that_is_none_is_refused(text, said, half_trees, tmp_path) -> None:
    (tmp_path / "map.csv").write_text(text)
    with pytest.raises(DatasetError, match=said):
        scores_of([Says("road")], half_trees, tmp_path / "map.csv")


def test_list_with_one_name_for_two_channels_is_refused(tmp_path) -> None:
    (tmp_path / "classes.csv").write_text("name,id\nroad,0\nsign,1\nsign,2\n")
    with pytest.raises(ConfigError, match="gives one name to several ids"):
        read_class_list(str(tmp_path / "classes.csv"))


def test_class_called_unlabelled_is_not_painted() -> None:
    assert class_ids((), Says("road", "mapillary").spec) == frozenset(range(65))
