"""Footage labelled to be learnt from: by teachers that agree, and for people to correct."""

import json
import shutil
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from brightness_backend import BRIGHTNESS
from typer.testing import CliRunner

from roadseg.cli import app
from roadseg.data.folder import FolderDataset
from roadseg.errors import ConfigError, DatasetError, OutputError
from roadseg.infer.data_folder import DataFolder
from roadseg.infer.pick import Candidate, PickConfig, chosen, pick
from roadseg.infer.pseudo_labels import LabelConfig, label_footage, possible_of
from roadseg.spec import CLASS_NAMES, IGNORE_INDEX, NUM_CLASSES, ModelSpec
from roadseg.video.frame import Frame
from roadseg.video.read.upright import picture_of

SIZE_HW = (96, 160)
ROAD, CAR = map(CLASS_NAMES.index, ("road", "car"))
NAMES = CLASS_NAMES[:NUM_CLASSES]


def level(class_id: int, classes: int = NUM_CLASSES) -> int:
    """Brightness that the network of these tests takes for a class."""
    return (2 * class_id + 1) * 128 // classes


def teacher(brightness: Path, *names: str) -> Path:
    """A network that tells these classes apart by brightness, the last the brightest."""
    path = brightness.with_name(f"{'-'.join(names)}.json")
    palette = tuple((i, i, i) for i in range(len(names)))
    path.write_text(replace(BRIGHTNESS, class_names=names, palette=palette).to_json())
    return path


def grey(levels: np.ndarray) -> np.ndarray:
    return np.repeat(levels.astype(np.uint8)[..., None], 3, axis=2)


@pytest.fixture
def brightness(plain) -> Path:
    """A network that takes brightness for a class, and is sure of it."""
    return plain.weights


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Pictures with a band of every class."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    bands = np.array([level(i) for i in range(NUM_CLASSES)])[np.arange(176) // 16]
    for name in ("one", "two"):
        cv2.imwrite(str(folder / f"{name}.png"), grey(np.tile(bands, (96, 1))))
    return folder


def film(path: Path, frames: list[np.ndarray]) -> Path:
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "4"})
        stream.height, stream.width = SIZE_HW
        for levels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey(levels), "rgb24")))
        container.mux(stream.encode(None))
    return path


def test_pictures_get_the_labels_of_a_sure_teacher_in_a_data_set_that_opens(
    tmp_path, brightness, pictures
) -> None:
    out = tmp_path / "labelled"
    config = LabelConfig(sources=(pictures,), teachers=(brightness,), out=out)
    result = label_footage(config)
    assert result.pictures == 2 and result.labelled > 0.9
    dataset = FolderDataset.open(out, "train")
    assert [c.name for c in dataset.meaning.classes] == list(NAMES)
    picture, target = dataset[1]
    expected = np.arange(176) // 16
    assert picture.shape == (96, 176, 3)
    middle = np.arange(8, 176, 16)
    np.testing.assert_array_equal(target[40, middle], expected[middle])
    shown = cv2.imread(str(next((out / "trainannot").iterdir())))
    assert (shown[40, 56] != shown[40, 8]).any() and shown.max() > 100  # in colours


def test_teachers_confirm_and_contradict_each_other(tmp_path, brightness, pictures) -> None:
    first = teacher(brightness, "road", "pavement", "sky", "building", "pole")
    second = teacher(brightness, "road", "background")  # road where the first says pavement too
    out = tmp_path / "labelled"
    label_footage(LabelConfig(sources=(pictures,), teachers=(first, second), out=out))
    dataset = FolderDataset.open(out, "train")
    _, target = dataset[0]
    names = [c.name for c in dataset.meaning.classes]
    columns = {8: "road", 56: None, 88: "sky", 168: "pole"}
    for column, name in columns.items():
        found = target[40, column]
        assert (None if found == IGNORE_INDEX else names[found]) == name


def test_what_a_teacher_says_is_a_set_of_the_classes() -> None:
    names = ("road", "pavement", "car", "sky")
    spec = ModelSpec(arch="adopted", width=0)

    def sets(*own: str) -> list[set[str]]:
        table = possible_of(replace(spec, class_names=own), names)
        return [{n for i, n in enumerate(names) if int(b) >> i & 1} for b in table[: len(own)]]

    assert sets("background", "road", "curb", "mark") == [
        {"car", "sky"},
        {"road"},
        {"pavement"},
        {"road"},
    ]
    assert sets("truck", "unlabelled", "sky") == [{"car"}, set(names), {"sky"}]
    assert sets("road", "sidewalk", "car", "sky", "train")[-1] == set()


def test_teacher_of_a_usual_list_names_its_own_classes() -> None:
    names = ("road", "sidewalk", "vegetation", "terrain", "car", "truck")

    def sets(*own: str) -> list[set[str]]:
        spec = ModelSpec(arch="adopted", width=0, class_names=own)
        table = possible_of(spec, names)
        return [{n for i, n in enumerate(names) if int(b) >> i & 1} for b in table[: len(own)]]

    assert sets(*names) == [{name} for name in names]
    assert sets("pavement", "tree", "car") == [{"sidewalk"}, {"vegetation", "terrain"}, {"car"}]


def test_class_called_unlabelled_is_in_no_label(tmp_path, brightness, pictures) -> None:
    unsure = teacher(brightness, "road", "car", "unlabelled", "sky")
    unsure.write_text(unsure.read_text().replace('"arch": "brightness"', '"arch": "unsure"'))
    second = teacher(brightness, "road", "background")
    out = tmp_path / "labelled"
    label_footage(LabelConfig(sources=(pictures,), teachers=(unsure, second), out=out))
    labels = [c.name for c in FolderDataset.open(out, "train").meaning.classes]
    assert labels == ["road", "car", "sky", "car|sky"]


def test_data_set_has_no_more_labels_than_can_be_read(tmp_path) -> None:
    picture = Frame.still(picture_of(np.zeros((*SIZE_HW, 3), np.uint8)))
    with DataFolder.written(tmp_path / "labelled", ModelSpec(arch="unet", width=8)) as folder:
        ids = [
            folder.label_of(members)
            for count in (2, 3, 4)
            for members in combinations(range(NUM_CLASSES), count)
        ]
        folder.add("one_1", picture, np.full(SIZE_HW, max(i for i in ids if i != IGNORE_INDEX)))
    assert ids.count(IGNORE_INDEX) > 0 and len(FolderDataset.open(tmp_path / "labelled", "train"))


def test_sets_of_classes_are_labels_of_their_own(tmp_path, brightness, pictures) -> None:
    unsure = teacher(brightness, *NAMES)
    unsure.write_text(unsure.read_text().replace('"arch": "brightness"', '"arch": "unsure"'))
    second = teacher(brightness, "road", "background")
    out = tmp_path / "labelled"
    config = LabelConfig(sources=(pictures,), teachers=(unsure, second), out=out)
    label_footage(config)
    dataset = FolderDataset.open(out, "train")
    assert dataset.meaning.has_sets
    _, target = dataset[0]
    names = [c.name for c in dataset.meaning.classes]
    assert names[target[40, 8]] == "road"
    assert names[target[40, 168]] == "|".join(n for n in NAMES if n != "road")


@pytest.fixture
def flickering(tmp_path) -> Path:
    """A drive past something that is a car in every other frame."""
    frames = []
    for number in range(24):
        levels = np.full(SIZE_HW, level(ROAD))
        levels[:, 100:] = level(9)
        levels[30:54, 30:60] = level(CAR) if number % 2 else level(7)
        frames.append(levels)
    return film(tmp_path / "my_drive.mp4", frames)


def test_what_flickers_in_a_video_is_not_learnt(tmp_path, brightness, flickering) -> None:
    out = tmp_path / "labelled"
    result = label_footage(LabelConfig(sources=(flickering,), teachers=(brightness,), out=out))
    names = sorted(path.name for path in (out / "train").iterdir())
    assert result.pictures == 3 and all(name.startswith("my-drive_") for name in names)
    for _, target in FolderDataset.open(out, "train"):
        assert (target[34:50, 34:56] == IGNORE_INDEX).all()
        assert (target[70:, :90] == ROAD).mean() > 0.95


def test_user_says_for_how_long_a_label_must_stay(tmp_path, brightness, flickering) -> None:
    words = ["label", str(flickering), "--teacher", str(brightness)]
    words += ["--step", "0.5"]
    labelled = []
    for seconds in ("0", "0.3"):
        out = tmp_path / seconds
        done = CliRunner().invoke(app, [*words, "--steady-for", seconds, "--out", str(out)])
        assert done.exit_code == 0, done.output
        targets = [target[34:50, 34:56] for _, target in FolderDataset.open(out, "train")]
        labelled.append(np.mean(np.stack(targets) != IGNORE_INDEX))
    assert labelled[0] > 0.95 and labelled[1] == 0


def test_mistakes_are_told_before_the_work(tmp_path, brightness, pictures) -> None:
    config = LabelConfig(sources=(pictures,), teachers=(brightness,), out=tmp_path / "labelled")
    with pytest.raises(ConfigError, match=r"knows none of the classes sky.*roadseg adopt"):
        label_footage(replace(config, teachers=(brightness, teacher(brightness, "cat", "dog"))))
    with pytest.raises(OutputError, match=r"pictures exists; choose another folder"):
        label_footage(replace(config, out=pictures))
    with pytest.raises(DatasetError, match=r"sure of nothing.*lower --min-confidence"):
        label_footage(
            replace(config, teachers=(brightness, teacher(brightness, *NAMES[1:], NAMES[0])))
        )
    (tmp_path / "copy").mkdir()
    copy = Path(shutil.copy(brightness, tmp_path / "copy"))
    for twice in (brightness, copy):
        with pytest.raises(ConfigError, match=rf"{twice} are the same model.*give it once"):
            label_footage(replace(config, teachers=(brightness, twice)))
    assert not config.out.exists()
    with pytest.raises(ConfigError, match="two of the sources are called pictures"):
        replace(config, sources=(pictures, tmp_path / "else" / "pictures"))


def test_frames_are_picked_for_their_worth_and_their_unlikeness() -> None:
    def candidate(number: int, worth: float, class_id: int) -> Candidate:
        look = np.zeros((6, 8, 3), np.float32)
        look[..., class_id] = 1
        return Candidate(number=number, time_s=number, worth=worth, look=look)

    found = [candidate(0, 0.1, 0), candidate(1, 0.9, 1), candidate(2, 0.8, 1), candidate(3, 0.2, 2)]
    assert [c.number for c in chosen(found, 1)] == [1]
    assert [c.number for c in chosen(found, 3)] == [0, 1, 3]  # 2 looks like 1
    assert [c.number for c in chosen(found, 9)] == [0, 1, 2, 3]


def test_picked_frames_come_with_labels_to_correct(tmp_path, brightness) -> None:
    frames = [np.full(SIZE_HW, level(ROAD if number < 10 else CAR)) for number in range(30)]
    drive = film(tmp_path / "drive.mp4", frames)
    out = tmp_path / "picked"
    found = pick(PickConfig(source=drive, out=out, count=2, weights=brightness))
    dataset = FolderDataset.open(out, "train")
    assert len(found) == len(dataset) == 2
    assert {int(np.median(target)) for _, target in dataset} == {ROAD, CAR}
    with pytest.raises(ConfigError, match="--count is 0; it must be at least 1"):
        PickConfig(source=drive, out=out, count=0)


@pytest.mark.parametrize("source", [".", "../pictures", "*.png", "../*/two.png", "../.pictures"])
def test_pictures_are_named_by_their_folder_however_it_is_given(
    tmp_path, brightness, pictures, monkeypatch, source
) -> None:
    monkeypatch.chdir(pictures)
    Path("../.pictures").symlink_to("pictures")
    config = LabelConfig(sources=(Path(source),), teachers=(brightness,), out=tmp_path / "labelled")
    label_footage(config)
    names = {path.name.partition("_")[0] for path in config.out.glob("train/*")}
    assert names == {"pictures" if source != "../*/two.png" else tmp_path.stem.replace("_", "-")}
    assert len(FolderDataset.open(config.out, "train")) > 0


def test_both_commands_say_what_they_wrote(tmp_path, brightness, pictures) -> None:
    words = ["label", str(pictures), "--teacher", str(brightness), "--out", str(tmp_path / "a")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0 and "a: 2 pictures, " in done.output and "labels: " in done.output
    words = ["pick", str(pictures), "--weights", str(brightness), "--out", str(tmp_path / "b")]
    done = CliRunner().invoke(app, words)
    assert "b: 2 pictures with labels to correct" in done.output
    assert "there are no more to pick from; --count is 50" in done.output


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize(("command", "model"), [("label", "--teacher"), ("pick", "--weights")])
def test_a_terminal_is_told_that_it_takes_a_while(
    tmp_path, brightness, pictures, command, model, quiet
) -> None:
    words = [command, str(pictures), model, str(brightness), "--out", str(tmp_path / "out")]
    terminal = CliRunner(env={"FORCE_COLOR": "1", "TERM": "xterm"})
    done = terminal.invoke(app, [*words, *["-q"] * quiet])
    assert done.exit_code == 0, done.output
    assert ("looking at every frame" in done.stderr) != quiet


def test_training_labels_footage_once_and_measures_nothing_on_it(
    tmp_path, brightness, pictures, streets, monkeypatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "0")  # or the process would start again with it
    out = tmp_path / "run"
    words = ["train", "--data", str(streets), "--unlabelled", f"{pictures}=0.5", "--out", str(out)]
    words += ["--teacher", str(brightness), "--no-pretrained", "--epochs", "1", "--crop", "64x64"]
    words += ["--batch-size", "2", "--size", "96x64", "--workers", "0", "--pictures", "0"]
    first = CliRunner().invoke(app, words)
    assert first.exit_code == 0, first.output
    folder = tmp_path / "run.labels" / "pictures"
    assert f"{folder}: 2 pictures" in first.output
    config = json.loads((out / "config.json").read_text())
    assert config["data"] == [str(streets), f"{folder}=0.5"]
    (line,) = (out / "metrics.jsonl").read_text().splitlines()
    assert "pictures" not in json.loads(line) and "val" in json.loads(line)
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 0 and "2 pictures" not in again.output
    other = CliRunner().invoke(app, [*words, "--teacher", str(teacher(brightness, *NAMES))])
    assert isinstance(other.exception, ConfigError)
    assert "was labelled with other settings or teachers" in str(other.exception)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--unlabelled", "film.mp4"], "--unlabelled and --teacher need each other"),
        (["--unlabelled", "a.mp4", "--teacher", "b.onnx", "--dry-run"], "label first"),
        (
            ["--unlabelled", "a.mp4=7", "--teacher", "b.onnx"],
            "--unlabelled a.mp4=7 gives the share",
        ),
        (["--unlabelled", "a.mp4:idd", "--teacher", "b.onnx"], "a.mp4:idd does not exist"),
        (
            ["--unlabelled", "a/x.mp4", "--unlabelled", "b/x.mp4", "--teacher", "b.onnx"],
            "two of --unlabelled are called x; rename one",
        ),
    ],
)
def test_what_training_cannot_label_is_told(tmp_path, words, said) -> None:
    words = ["train", "--data", "CamVid", "--out", str(tmp_path / "run"), *words]
    assert said in str(CliRunner().invoke(app, words).exception)
