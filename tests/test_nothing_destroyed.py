"""A run changes and removes nothing that it did not make, however files and options lie."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import CHECKPOINT, SAMPLE, WEIGHTS
from films import TENTH, Film, frame_times, pictures
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from roadseg.cli.infer import _how_it_ended
from roadseg.deploy.compile import CompileConfig, compile_model
from roadseg.errors import ConfigError, OutputBusy, OutputError, RoadsegError
from roadseg.files import Lock, new_folder, replacing
from roadseg.infer.config import InferConfig
from roadseg.infer.offline import infer
from roadseg.video.frame import Frame
from roadseg.video.picture import Picture
from roadseg.video.write.part import part_path
from roadseg.video.write.record import Recorder

FRAMES = (0, 1, 2)
PRECIOUS = b"precious"


@pytest.fixture
def short(plain, tmp_path) -> InferConfig:
    """A run on a film of three frames, in a folder that holds nothing else."""
    folder = tmp_path / "here"
    folder.mkdir()
    source = Film(times=FRAMES).write(folder / "drive.mp4")
    return replace(plain, source=source, out=folder / "out.mp4", preset="ultrafast")


def images(folder: Path, pattern: str = "%06d.png") -> Path:
    folder.mkdir()
    for number in FRAMES:
        _, data = cv2.imencode(".png", np.full((48, 64, 3), 60 * number, np.uint8))
        (folder / (pattern % number)).write_bytes(data.tobytes())
    return folder


Contents = dict[Path, bytes | str]


def contents(folder: Path) -> Contents:
    """What every name in a folder stands for: a file's bytes, or where a link leads."""
    names = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {p: str(p.readlink()) if p.is_symlink() else p.read_bytes() for p in names}


def interrupt(config: InferConfig) -> None:
    def stop(done: int, _total: int | None) -> None:
        if done == len(FRAMES):
            raise InterruptedError

    with pytest.raises((InterruptedError, OutputError)):
        infer(config, stop)


def assert_refused(config: InferConfig, error: type[RoadsegError], said: str) -> None:
    """The run is refused in a sentence, and leaves all as it was."""
    before = contents(config.weights.parent.parent)
    with pytest.raises(error, match=said):
        infer(config)
    assert contents(config.weights.parent.parent) == before


@pytest.mark.parametrize("work", ["part", "next.roadseg-part", "whole", "old"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_source_with_a_name_of_the_work_is_refused(short, work, overwrite) -> None:
    source = short.source.rename(short.source.with_name(f"roadseg-{work}.out.mp4"))
    config = replace(short, source=source, overwrite=overwrite)
    assert_refused(config, ConfigError, r"--out .*out\.mp4 needs the name .* the input's")


def test_old_scheme_of_names_gives_the_source_no_danger(short) -> None:
    source = short.source.rename(short.source.with_name("out.part.mp4"))
    film = source.read_bytes()
    infer(replace(short, source=source))
    assert source.read_bytes() == film and len(frame_times(short.out)) == len(FRAMES)


@pytest.mark.parametrize("link", [os.symlink, os.link])
@pytest.mark.parametrize("flag", ["out", "masks", "stats", "report"])
def test_output_that_is_the_source_by_another_name_is_refused(short, link, flag) -> None:
    suffixes = {"out": ".mp4", "masks": ".mkv", "stats": ".csv", "report": ".html"}
    other = short.out.with_name(f"other{suffixes[flag]}")
    link(short.source, other)
    assert short.source.samefile(other)
    config = {"source": short.source, "weights": short.weights, "overwrite": True}
    with pytest.raises(ConfigError, match=f"--{flag} is the input"):
        infer(replace(short, **{**config, flag: other}))
    link(short.weights, other.with_stem("model"))
    assert_refused(
        replace(short, **{**config, flag: other.with_stem("model")}), ConfigError, "is the input"
    )


@pytest.mark.parametrize("output", [{"out": "%06d.png"}, {"masks": ""}, {"stats": "colours.csv"}])
def test_file_that_a_run_reads_beside_the_video_is_not_written_over(short, output) -> None:
    folder = images(short.out.parent / "frames")
    (folder / "colours.csv").write_text("road,1,2,3\n")
    read = {"ignore": (str(folder / "000001.png"),), "palette": str(folder / "colours.csv")}
    named = {flag: folder / name for flag, name in output.items()}
    config = replace(short, overwrite=True, **read, **named)
    assert_refused(config, ConfigError, "is the input")


@pytest.mark.parametrize("change", [{"out": "%06d.png"}, {"masks": ""}])
@pytest.mark.parametrize("source", ["frames", "frames/*.png"])
def test_pictures_of_the_source_are_not_written_over(short, change, source) -> None:
    folder = images(short.out.parent / "frames")
    linked = folder.with_name("linked")
    linked.symlink_to(folder)
    for place in (folder, linked):
        named = {flag: place / name for flag, name in change.items()}
        config = replace(short, source=folder.parent / source, overwrite=True, **named)
        assert_refused(config, ConfigError, "is the input|among those of the input")


def test_images_may_go_among_others_of_another_name_than_the_source(short) -> None:
    folder = images(short.out.parent / "frames", "left_%d.png")
    before = contents(folder)
    infer(replace(short, source=folder / "left_*.png", out=folder / "out_%d.png"))
    assert before.items() <= contents(folder).items()
    assert len(list(folder.glob("out_*.png"))) == len(FRAMES)
    assert_refused(
        replace(short, source=folder, out=folder / "new_%d.png"), ConfigError, "among those"
    )


@pytest.mark.parametrize(
    "outputs",
    [
        {"out": "col/%06d.png", "masks": "col"},
        {"out": "col/%d.png", "masks": "col"},
        {"out": "col/%06d.png", "masks": "linked"},
        {"out": "a.mkv", "masks": "a.mkv"},
        {"out": "a.mkv", "masks": "col/../a.mkv"},
        {"out": "col/a.mkv", "masks": "linked/a.mkv"},
    ],
)
def test_two_outputs_under_one_name_are_refused(short, outputs) -> None:
    folder = short.out.parent
    (folder / "col").mkdir()
    (folder / "linked").symlink_to("col")
    named = {flag: folder / name for flag, name in outputs.items()}
    for overwrite in (False, True):
        config = replace(short, **named, overwrite=overwrite)
        assert_refused(config, ConfigError, "would write to the same files")


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_two_outputs_that_are_one_file_by_a_link_are_refused(short, link) -> None:
    one, other = short.out.with_name("one.csv"), short.out.with_name("other.html")
    one.write_bytes(PRECIOUS)
    link(one, other)
    config = replace(short, stats=one, report=other, overwrite=True)
    assert_refused(config, ConfigError, "would write to the same files")


def test_folder_and_file_under_one_name_are_refused(short) -> None:
    assert_refused(replace(short, masks=short.out), OutputError, "--out .* is a folder")
    assert_refused(replace(short, masks=short.out / "m"), OutputError, "--out .* is a folder")
    assert not short.out.exists()


WORK = [
    *(f"roadseg-{role}.out.mp4" for role in ("part", "whole", "old", "next.roadseg-part")),
    *(f"roadseg-part.out.mp4.{suffix}" for suffix in ("json", "lock")),
    *(f"roadseg-{role}.s.csv" for role in ("part", "old")),
    *(f"masks/roadseg-{role}.#-png" for role in ("part", "old")),
    "masks/roadseg-part.#-png.lock",
]
"""Names of the work of a run that writes out.mp4, s.csv and masks/."""


def make_file(path: Path, _target: Path) -> None:
    path.write_bytes(PRECIOUS)


MAKERS: dict[str, Callable[[Path, Path], None]] = {
    "file": make_file,
    "symlink": lambda path, target: path.symlink_to(target),
    "hard link": lambda path, target: path.hardlink_to(target),
    "folder": lambda path, _target: images(path),
}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("name", WORK)
def test_what_is_not_ours_is_neither_removed_nor_followed(short, name, kind) -> None:
    folder = short.out.parent
    target = folder / "target"
    target.write_bytes(PRECIOUS)
    (folder / "masks").mkdir()
    MAKERS[kind](folder / name, target)
    config = replace(short, stats=folder / "s.csv", masks=folder / "masks", overwrite=True)
    for resume in (False, True):
        assert_refused(replace(config, resume=resume), OutputError, "was not made by roadseg")
    assert _how_it_ended(OutputError("it was not made by roadseg"), short) is None


@pytest.mark.parametrize("name", ["roadseg-part.out.mp4", "roadseg-part.out.mp4.json"])
def test_link_in_the_place_of_an_unfinished_runs_work_is_not_followed(short, name) -> None:
    interrupt(short)
    work, target = short.out.with_name(name), short.out.with_name("target")
    work.rename(target)
    work.symlink_to(target)
    for resume in (False, True):
        assert_refused(replace(short, resume=resume), OutputError, "was not made by roadseg")


def test_copy_by_hard_link_of_an_unfinished_film_is_not_written_over(short) -> None:
    interrupt(short)
    keep = short.out.with_name("keep.mp4")
    keep.hardlink_to(part_path(short.out))
    film = keep.read_bytes()
    infer(short)
    assert keep.read_bytes() == film and len(frame_times(short.out)) == len(FRAMES)


def test_overwriting_replaces_a_link_and_not_what_it_leads_to(short) -> None:
    target = short.out.with_name("target.mp4")
    target.write_bytes(PRECIOUS)
    short.out.symlink_to(target)
    with pytest.raises(RoadsegError, match="exists"):
        infer(short)
    infer(replace(short, overwrite=True))
    assert target.read_bytes() == PRECIOUS and not short.out.is_symlink()
    short.out.unlink()
    short.out.symlink_to("nowhere")
    with pytest.raises(RoadsegError, match="exists"):
        infer(short)


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))  # the system takes no long ones


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has none of these in folders")
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (make_pipe, "named pipe"),
        (make_socket, "socket"),
        (lambda path: path.symlink_to(os.devnull), "device"),
    ],
)
@pytest.mark.parametrize(
    ("flag", "name"),
    [
        ("out", "a.mp4"),
        ("out", "shots/000001.png"),
        ("masks", "ids.mkv"),
        ("masks", "masks/000001.png"),
        ("stats", "s.csv"),
        ("report", "r.html"),
    ],
)
def test_what_is_no_file_is_not_replaced(short, make, kind, flag, name) -> None:
    path = short.out.parent / name
    path.parent.mkdir(exist_ok=True)
    make(path)
    named = {"out": path.with_name("%06d.png"), "masks": path.parent} if "/" in name else {}
    config = replace(short, overwrite=True, **{flag: named.get(flag, path)})
    before = path.lstat()
    with pytest.raises(OutputError, match=f"is a {kind}, which no file may replace"):
        infer(config)
    with (
        pytest.raises(OutputError, match=f"is a {kind}, which no file may replace"),
        replacing(path),
    ):
        pass
    assert os.path.samestat(before, path.lstat())
    assert not [other for other in path.parent.iterdir() if other.name.startswith("roadseg-")]


HOLDER = """
import sys
from pathlib import Path
from roadseg.files import Lock

with Lock(Path(sys.argv[1]), "--out", Path(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("name", ["out.mp4", "s.csv"])
def test_second_run_is_refused_while_the_first_lives_and_not_when_it_is_killed(short, name) -> None:
    config = replace(short, stats=short.out.with_name("s.csv"))
    interrupt(config)
    lock = short.out.with_name(f"roadseg-part.{name}.lock")
    command = [sys.executable, "-c", HOLDER, lock, short.out]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout.readline() == b"held\n"
        for resume in (False, True):
            assert_refused(replace(config, resume=resume), OutputError, "by another run of roadseg")
        first.kill()
    result = infer(replace(config, resume=True))
    assert result.frames == len(FRAMES)
    assert not list(short.out.parent.glob("roadseg-*"))


def test_run_beside_another_in_one_process_is_refused_too(short) -> None:
    def again(done: int, _total: int | None) -> None:
        if done == 1:
            with pytest.raises(OutputBusy, match="by another run of roadseg") as refused:
                infer(replace(short, overwrite=True))
            assert _how_it_ended(refused.value, short) is None  # not with the other's part

    assert infer(short, again).frames == len(FRAMES)
    assert len(frame_times(short.out)) == len(FRAMES)


def test_lock_follows_its_file_when_that_is_removed_and_made_anew(tmp_path) -> None:
    path, target = tmp_path / "roadseg-part.a.lock", tmp_path / "a"
    with Lock(path, "--out", target) as first:
        first.remove()
        with Lock(path, "--out", target) as second:
            assert not second.was_there
            with pytest.raises(OutputError, match="another run"), Lock(path, "--out", target):
                pass
    with Lock(path, "--out", target) as third:
        assert third.was_there


def test_nothing_is_published_when_one_output_cannot_be(short) -> None:
    folder = short.out.parent
    (folder / "masks").mkdir()
    before = {folder / "masks" / "000001.png": b"old", short.out: b"old"}
    for path, data in before.items():
        path.write_bytes(data)
    config = replace(short, masks=folder / "masks", stats=folder / "s.csv", overwrite=True)

    def get_in_the_way(done: int, _total: int | None) -> None:
        if done == len(FRAMES):
            (folder / "s.csv").mkdir()
            (folder / "s.csv" / "file").write_bytes(PRECIOUS)
            (folder / "roadseg-old.s.csv").mkdir()
            (folder / "roadseg-old.s.csv" / "file").write_bytes(PRECIOUS)

    with pytest.raises(OutputError, match=r"s\.csv cannot be written"):
        infer(config, get_in_the_way)
    found = contents(folder)
    assert before.items() <= found.items()
    assert [path.name for path in (folder / "masks").glob("*.png")] == ["000001.png"]
    assert found[folder / "s.csv" / "file"] == PRECIOUS


def test_file_that_comes_to_be_during_the_run_is_not_replaced(short) -> None:
    def appear(done: int, _total: int | None) -> None:
        if done == 1:
            short.out.write_bytes(PRECIOUS)

    with pytest.raises(OutputError, match="came to be during the run"):
        infer(short, appear)
    assert short.out.read_bytes() == PRECIOUS
    short.out.unlink()
    assert infer(replace(short, resume=True)).frames == len(FRAMES)


def test_what_a_killed_run_put_aside_comes_back(short) -> None:
    interrupt(short)
    short.out.with_name("roadseg-old.out.mp4").write_bytes(PRECIOUS)  # killed as it published
    with pytest.raises(OutputError, match="an unfinished run could not replace it"):
        infer(short)
    assert short.out.read_bytes() == PRECIOUS
    infer(replace(short, overwrite=True))
    assert sorted(path.name for path in short.out.parent.iterdir()) == ["drive.mp4", "out.mp4"]


def test_part_of_an_older_version_is_refused_and_stays(short) -> None:
    part = short.out.with_name("out.part.mp4")
    part.write_bytes(PRECIOUS)
    part.with_suffix(".json").write_text("{}")
    assert_refused(replace(short, resume=True), ConfigError, "left by an older roadseg")
    infer(short)
    assert part.read_bytes() == PRECIOUS


def test_output_of_one_film_is_not_the_input_of_another(tmp_path) -> None:
    shutil.copy(SAMPLE, tmp_path / "a.mp4")
    shutil.copy(SAMPLE, tmp_path / "a.overlay.mp4")
    args = ("infer", "a.mp4", "a.overlay.mp4", "--overwrite", "--end", "0.1", "--size", "96x64")
    process = subprocess.run(
        [sys.executable, "-m", "roadseg", *args], cwd=tmp_path, capture_output=True, text=True
    )
    assert process.returncode == 1 and "--out is the input, a.overlay.mp4" in process.stderr
    assert (tmp_path / "a.overlay.mp4").read_bytes() == SAMPLE.read_bytes()


def test_file_written_whole_leaves_users_files_of_like_names_alone(tmp_path) -> None:
    precious = [tmp_path / name for name in (".a.part.csv", "a.part.csv", "roadseg-part.a.csv")]
    for path in precious:
        path.write_bytes(PRECIOUS)
    with replacing(tmp_path / "a.csv") as temporary:
        temporary.write_text("new")
    assert all(path.read_bytes() == PRECIOUS for path in precious)
    assert len(list(tmp_path.iterdir())) == 4


def test_model_is_not_exported_or_compiled_over_itself(tmp_path) -> None:
    pytest.importorskip("torch")
    from roadseg.deploy.export import export_onnx

    model = tmp_path / "model.safetensors"
    shutil.copy(CHECKPOINT, model)
    (tmp_path / "other.onnx").hardlink_to(model)
    for out in (model, tmp_path / "other.onnx"):
        with pytest.raises(ConfigError, match="--out is the input"):
            export_onnx(model, out)
    shutil.copy(WEIGHTS, tmp_path / "graph.onnx")
    config = CompileConfig(runtime="onnxruntime", film=SAMPLE, model=tmp_path / "graph.onnx")
    with pytest.raises(ConfigError, match="--out is the input"):
        compile_model(replace(config, out=config.model))
    for name in ("mine.onnx", "voice.onnx.json", "other.onnx.json"):
        (tmp_path / name).write_bytes(PRECIOUS)
    (tmp_path / "other.onnx.json").write_text('["build"]')
    for name in ("mine.onnx", "voice.onnx", "other.onnx"):
        with pytest.raises(ConfigError, match="was not made by roadseg compile"):
            compile_model(replace(config, out=tmp_path / name))
    assert (tmp_path / "voice.onnx.json").read_bytes() == PRECIOUS
    assert model.read_bytes() == CHECKPOINT.read_bytes()
    assert config.model.read_bytes() == WEIGHTS.read_bytes()


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "curves.html", "pictures"])
def test_training_does_not_write_over_files_of_a_folder_that_is_no_run(tmp_path, name) -> None:
    pytest.importorskip("torch")
    from roadseg.train.config import TrainConfig
    from roadseg.train.loop import train

    (tmp_path / name).write_bytes(PRECIOUS)
    with pytest.raises(ConfigError, match=rf"holds {name} and no last\.pt"):
        train(TrainConfig(data=tmp_path, out=tmp_path))
    assert (tmp_path / name).read_bytes() == PRECIOUS


def test_two_recordings_do_not_share_a_name(short) -> None:
    picture = Picture.from_rgb(np.zeros((48, 64, 3), np.uint8))
    frame = Frame(picture=picture, pts=0, time_base=TENTH)
    with Recorder(short.out) as first, Recorder(short.out) as second:
        first.write(frame, picture)
        with pytest.raises(OutputError, match="by another run of roadseg"):
            second.write(frame, picture)
    assert len(frame_times(short.out)) == 1
    with Recorder(short.out, segment_s=1) as first, Recorder(short.out, segment_s=1) as second:
        short.out.with_stem("out-0001").write_bytes(PRECIOUS)  # since the recorder began
        first.write(frame, picture)
    assert first.written == [short.out.with_stem("out-0002")] and not second.written
    assert short.out.with_stem("out-0001").read_bytes() == PRECIOUS


NAMES = [
    *("out.mp4", "out.part.mp4", "out.part.json", ".out.part.mp4", "s.csv", "s.part.csv", "r.html"),
    *("masks/000001.png", "masks/1.png", "masks/note.txt", "shots/1.png", "shots/000002.png"),
    *("ids.mkv", "linked.mp4", *WORK),
]
OPTIONS = st.fixed_dictionaries(
    {
        "out": st.sampled_from(
            ["out.mp4", "linked.mp4", "ids.mkv", "shots/%d.png", "masks/%06d.png", "drive.mp4"]
        ),
        "masks": st.sampled_from([None, "masks", "shots", "ids.mkv", "frames"]),
        "stats": st.sampled_from([None, "s.csv"]),
        "report": st.sampled_from([None, "r.html"]),
        "overwrite": st.booleans(),
        "resume": st.booleans(),
    }
)
LAYOUT = st.dictionaries(
    st.sampled_from(NAMES),
    st.tuples(
        st.sampled_from(["file", "symlink", "hard link"]),
        st.sampled_from(["target", "drive.mp4", "frames/000000.png"]),
    ),
    max_size=4,
)


def may_change(name: str, options: dict[str, object]) -> bool:
    """Whether a file may be replaced: it has a name asked for, and `overwrite` is on."""
    folder, _, last = name.rpartition("/")
    number, _, suffix = last.rpartition(".")
    series = {str(options["out"]).rpartition("/")[0]} if "%" in str(options["out"]) else set()
    series.add(str(options["masks"]))
    is_image = folder in series and suffix == "png" and number.isdecimal()
    return bool(options["overwrite"]) and (name in options.values() or is_image)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example({"out.mp4": ("hard link", "drive.mp4")}, {"out": "out.mp4", "overwrite": True}, False)
@example({}, {"out": "masks/%06d.png", "masks": "masks", "overwrite": True}, True)
@given(LAYOUT, OPTIONS, st.booleans())
def test_no_file_that_a_run_did_not_make_changes_or_disappears(
    short, layout, options, of_images
) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        shutil.copy(short.source, folder / "drive.mp4")
        images(folder / "frames")
        (folder / "target").write_bytes(PRECIOUS)
        for name, (kind, target) in layout.items():
            (folder / name).parent.mkdir(exist_ok=True)
            MAKERS[kind](folder / name, folder / target)
        before = contents(folder)
        named = {
            flag: folder / value if isinstance(value, str) else value
            for flag, value in options.items()
        }
        source = folder / ("frames" if of_images else "drive.mp4")
        try:
            config = replace(short, source=source, **named)
            infer(config)
        except RoadsegError:
            after = contents(folder)
            assert before.items() <= after.items()
        else:
            after = contents(folder)
            assert_complete(config)
            assert not [path for path in folder.rglob("roadseg-*") if path not in before]
        for path, data in before.items():
            name = str(path.relative_to(folder))
            assert after.get(path) == data or may_change(name, options), name


def assert_complete(config: InferConfig) -> None:
    """Every output is there and what it should be, whatever else was written."""
    masks = config.masks
    if "%" in config.out.name:
        assert all(config.out.with_name(config.out.name % n).is_file() for n in FRAMES)
    else:
        assert len(frame_times(config.out)) == len(FRAMES)
    if masks and masks.suffix:
        assert len(pictures(masks)) == len(FRAMES)
    elif masks:
        shapes = {cv2.imread(str(masks / f"{n:06d}.png"), -1).shape for n in FRAMES}
        assert shapes == {(48, 64)}  # class maps, not overlays
    assert not config.stats or config.stats.read_text().startswith("pts,")
    assert not config.report or "<html" in config.report.read_text()


def test_new_folder_is_there_whole_or_not_at_all_and_others_stay(tmp_path) -> None:
    theirs, full = tmp_path / "roadseg-next.set", tmp_path / "full"
    for folder in (theirs, full):
        folder.mkdir()
        (folder / "a.txt").write_text("theirs")
    with new_folder(tmp_path / "set") as folder:
        (folder / "a.txt").write_text("ours")
        assert not (tmp_path / "set").exists()
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "other") as folder:
        (folder / "a.txt").write_text(str(1 // 0))
    with pytest.raises(OutputError, match="full cannot be written"), new_folder(full) as folder:
        (folder / "a.txt").write_text("ours")
    with pytest.raises(OutputError, match=r"^\. is no name for a new folder"), new_folder(Path()):
        pass
    assert {path.name: (path / "a.txt").read_text() for path in tmp_path.iterdir()} == {
        "roadseg-next.set": "theirs",
        "full": "theirs",
        "set": "ours",
    }
