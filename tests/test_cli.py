"""The command line as a user meets it: real processes, real signals."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import av
import pytest
from conftest import (
    CHECKPOINT,
    SAMPLE,
    WEIGHTS,
    ended,
    heeding_rights,
    leaf_commands,
    patience,
    scene,
    wait_until,
    write_pair,
)


def roadseg(
    *args: object, cwd: Path, before: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, sys.executable, "-m", "roadseg", *map(str, args)],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"},
        capture_output=True,
        text=True,
        timeout=patience(100),
    )


@pytest.mark.parametrize("names", leaf_commands(), ids=" ".join)
def test_every_command_has_help_and_an_example_that_parses(names, tmp_path) -> None:
    done = roadseg(*names, "--help", cwd=tmp_path)
    assert done.returncode == 0
    example = re.search(rf"Example: roadseg {' '.join(names)} (.+)", done.stdout)
    assert example
    leaf_commands()[names].make_context(names[-1], example[1].split())


def test_help_is_quick_and_imports_neither_torch_nor_opencv(tmp_path) -> None:
    code = (
        "import sys; sys.argv = ['roadseg', '--help']\n"
        "from roadseg.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'cv2', 'av', 'numpy', 'onnxruntime'} & set(sys.modules)))"
    )
    typers_own = "import typer, typer.rich_utils; print([])"
    took_s = [(cpu_s(code, tmp_path), cpu_s(typers_own, tmp_path)) for _ in range(5)]
    help_s, typer_s = map(min, zip(*took_s, strict=True))
    # A third of a second, or on a slow CPU what Typer takes by itself and about as much again.
    assert help_s < max(0.33, 2.2 * typer_s)


def cpu_s(code: str, cwd: Path) -> float:
    """CPU seconds of a program that ends with the line [], not by the clock, as other jobs run."""
    before = os.times()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd)
    after = os.times()
    assert done.stdout.rstrip().endswith("[]")
    return sum(after[2:4]) - sum(before[2:4])


def test_infer_says_in_two_lines_what_it_did_and_more_when_asked(tmp_path) -> None:
    quick = ("infer", SAMPLE, "--end", "0.4", "--size", "96x64", "-o", "o.mp4")
    done = roadseg(*quick, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "o.mp4").is_file()
    how, what = done.stdout.splitlines()
    assert re.fullmatch(r"o\.mp4: 10 frames in .* s, .* fps; network at 96x64 on 6 frames", how)
    assert re.fullmatch(r"in view: (\w+ \d+%, )+\w+ \d+%", what) and "road" in what
    beside = ("--masks", "masks", "--stats", "stats.csv", "--report", "drive.html")
    more = roadseg(*quick, *beside, "--overwrite", "--verbose", cwd=tmp_path)
    listed = "also written: masks, stats.csv, drive.html"
    for word in ("in view: ", listed, "decode", "starved", "bottleneck"):
        assert word in more.stdout


def test_infer_can_say_it_in_json(tmp_path) -> None:
    done = roadseg(
        "infer", SAMPLE, "--out", "o.mp4", "--end", "0.4", "--size", "96x64", "--json", cwd=tmp_path
    )
    summary = json.loads(done.stdout)
    assert summary["frames"] == 10 and summary["out"] == "o.mp4"
    assert summary["network_size"] == {"height": 64, "width": 96}
    stages = "decode luma motion keyframes segment labels enlarge view overlay encode"
    assert [s["name"] for s in summary["stages"]] == stages.split()


def test_quiet_is_quiet(tmp_path) -> None:
    done = roadseg("infer", SAMPLE, "--end", "0.2", "--size", "96x64", "--quiet", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["infer", "none.mp4"], "none.mp4 does not exist"),
        (["infer", "0"], "run: roadseg live 0"),
        (["infer", SAMPLE, "--size", "500x333"], "use --size 512x320"),
        (["infer", SAMPLE, "--alpha", "2"], "--alpha is 2.0"),
        (["evaluate", "--data", ".", "--fps", "30"], "--fps are for videos; give --video too"),
        (["evaluate", "--data", ".", "--every", "2"], "--fps are for videos; give --video too"),
        (["infer", SAMPLE, "--classes", "road,cat"], "--classes names cat"),
        (["infer", SAMPLE, "--weights", "none.onnx"], "none.onnx, the model, does not exist"),
        (["infer", SAMPLE, "--backend", "tpu"], "--backend is 'tpu'"),
        (["infer", SAMPLE, "--out", "o.avi"], "'.avi'"),
        (["infer", SAMPLE, "a/drive.mp4"], "a/drive.mp4 would both be written as drive"),
        (["infer", SAMPLE, "a.mp4", "--out", "o.mp4"], "there are 2 videos; give a folder"),
        (["infer", SAMPLE, "--fps", "fast"], "--fps is 'fast'"),
        (["infer", SAMPLE, "--legend", "left"], "--legend is 'left'"),
        (["infer", SAMPLE, "--report", "r.html", "--gpx", "a.gpx"], "a.gpx does not exist"),
        (["infer", "*.avi"], "finds no video and no image"),
        (["compile"], "neither --data nor --film is given; the build is"),
        (["compile", "--data", ".", "--film", SAMPLE], "--data and --film are given; the build is"),
        (["evaluate", "--data", ".", "--size", "5"], "--size is '5'"),
        (["train", "--data", "nowhere"], "nowhere is no folder"),
        (["train", "--data", ".", "--epochs", "0"], "--epochs is 0"),
        (["train", "--data", ".", "--arch", "resnet"], "--arch is 'resnet'"),
        (["train", "--data", ".", "--arch", "unet", "--pretrained"], "leave out --pretrained"),
        (["train", "--data", ".", "--arch", "unet", "--encoder", "lite1"], "--encoder is lite1"),
        (["train", "--data", ".", "--pretrained", "--start-from", "a"], "choose one"),
        (["train", "--data", ".", "--augment", "colour=1"], "did you mean 'color'?"),
        (["train", "--data", ".", "--augment", "scale=1"], "give NAME=NUMBER, such as"),
        (["train", "--data", ".", "--augment", "mix=0.5,0.9"], "give NAME=NUMBER"),
        (["train", "--data", ".", "--augment", "flip=nan"], "flip=false"),
        (
            ["train", "--data", ".", "--loss", "focal"],
            "--loss is 'focal'; use one of: cross-entropy",
        ),
        (["train", "--data", ".", "--tracker", "wandb"], "--tracker is 'wandb'"),
        (["train"], "there is no --data"),
        (["train", "--data", ".", "--config", "none.toml"], "none.toml cannot be read"),
        (["train", "--data", ".", "--augment", "mix"], "--augment is 'mix'"),
        (["train", "--data", ".", "--augment", "fog=1"], "'fog' is no setting"),
        (["train", "--data", ".", "--accumulate", "3"], "a divisor of --batch-size"),
        (["data", "check", "nowhere"], "nowhere is no folder"),
        (["evaluate", "--data", "nowhere"], "nowhere is no folder"),
        (["train", "--data", ".", "--start-from", WEIGHTS], "is an exported model"),
        (["train", "--config", "none.toml"], "none.toml cannot be read (No such file"),
        (["data", "camvid", "new", "--url", "ftp://x"], "give an https address"),
        (["bench", "none.mp4"], "none.mp4 does not exist"),
        (["bench", SAMPLE, "--rounds", "0"], "--rounds is 0"),
        (["bench", SAMPLE, "--weights", "a.engine"], "name the model that it was built from"),
        (["bench", SAMPLE, "--device", "gpu"], "--device is 'gpu'"),
        (["bench", SAMPLE, "--scenario", "streams=0"], "--scenario is 'streams=0'"),
        (["bench", SAMPLE, "--cuda-graph", "maybe"], "use one of: on, off, both"),
        (["bench", SAMPLE, "--engine", "a.engine"], "give an engine that there is with --weights"),
        (["bench", SAMPLE, "--weights", "none.onnx"], "none.onnx, the model, does not exist"),
        (["bench", SAMPLE, "--peer", "none.xml"], "--peer none.xml does not exist"),
        (["bench", SAMPLE, "--report", "page.pdf"], "must end in .html"),
        (["bench", "--compare", "a.json", "b.json"], "a.json cannot be read (No such file"),
        (["export", "none.safetensors"], "none.safetensors does not exist"),
        (["export", CHECKPOINT, "--out", "mine.txt"], "--out mine.txt must end in .onnx"),
        (["export", CHECKPOINT, "--out", "no/mine.onnx"], "no/mine.onnx cannot be written"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_1(in_process, tmp_path, args, message) -> None:
    if args[0] in ("train", "export"):
        pytest.importorskip("torch")
    done = in_process(*args)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("roadseg: ") and done.stderr.count("\n") == 1
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["infer"], "missing argument 'VIDEO'; see roadseg infer --help"),
        (["infer", SAMPLE, "--no-such-flag"], "no such option: --no-such-flag"),
        (["infer", SAMPLE, "--alpha", "much"], "--alpha is 'much'; give a number; see"),
        (["bench", "--rounds", "2.5"], "--rounds is '2.5'; give a whole number; see roadseg bench"),
        (["infer", SAMPLE, "--out"], "'--out' requires an argument; see roadseg infer --help"),
        (["data", "check", ".", "more"], "see roadseg data check --help"),
        (["inver", SAMPLE], "no such command 'inver'. Did you mean 'infer'"),
        ([SAMPLE], "drive.mp4 is no command; run: roadseg infer "),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(in_process, args, message) -> None:
    done = in_process(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("roadseg: ") and done.stderr.count("\n") == 1
    assert message in done.stderr


@pytest.mark.parametrize("args", [[], ["data"]])
def test_no_command_shows_which_there_are(in_process, args) -> None:
    done = in_process(*args)
    assert done.returncode == 2 and "Commands" in done.stdout and done.stderr == ""


def started(*args: object, cwd: Path) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    """A run that goes on beside the test."""
    command = [sys.executable, "-m", "roadseg", *map(str, args)]
    return ended(subprocess.Popen(command, cwd=cwd, stderr=subprocess.PIPE, text=True))


@pytest.mark.usefixtures("heeds_signals")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_the_run_at_once_and_leaves_a_part_to_go_on_from(tmp_path, sent, code) -> None:
    with started("infer", SAMPLE, "--masks", "masks", cwd=tmp_path) as process:
        # It is well under way.
        wait_until((tmp_path / "roadseg-part.drive.overlay.mp4").exists, process)
        process.send_signal(sent)
        _, errors = process.communicate(timeout=patience(30))
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert "roadseg-part.drive.overlay.mp4, and --resume goes on" in errors
    assert not (tmp_path / "drive.overlay.mp4").exists()
    with av.open(tmp_path / "roadseg-part.drive.overlay.mp4") as part:
        assert len(list(part.decode(video=0))) >= 1


@pytest.mark.usefixtures("heeds_signals")
def test_second_run_says_in_one_line_what_the_first_left_and_drops_nothing(tmp_path) -> None:
    command = ("infer", SAMPLE, "--size", "96x64")
    part = tmp_path / "roadseg-part.drive.overlay.mp4"
    with started(*command, cwd=tmp_path) as process:
        wait_until(lambda: part.exists() and part.stat().st_size > 1_000_000, process)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=patience(30))
    kept = part.read_bytes()
    for more, said in (
        ((), "s of video that an unfinished run labelled; add --resume to go on from there"),
        (("--resume", "--palette", "camvid"), "was begun with other settings (palette)"),
    ):
        done = roadseg(*command, *more, cwd=tmp_path)
        assert done.returncode == 1 and done.stderr.startswith(f"roadseg: {part.name}")
        assert said in done.stderr and done.stderr.count("\n") == 1
    assert part.read_bytes() == kept


@pytest.mark.usefixtures("heeds_signals")
def test_run_in_the_background_goes_on_at_ctrl_c_and_ends_when_it_is_told(tmp_path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as shells start what runs in the background
    with started("infer", SAMPLE, cwd=tmp_path) as process:
        wait_until((tmp_path / "roadseg-part.drive.overlay.mp4").exists, process)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=patience(30))
    assert process.returncode == 143, errors
    assert "--resume goes on" in errors


def lines(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.mark.usefixtures("heeds_signals")
def test_interrupted_training_says_how_to_go_on_and_does(streets, tmp_path) -> None:
    pytest.importorskip("torch")
    sizes = ["--width", "6", "--crop", "32x32", "--size", "32x32", "--batch-size", "2"]
    command = ["train", "--data", str(streets), "--out", "run", "--no-pretrained", *sizes]
    log, errors = tmp_path / "run" / "metrics.jsonl", []
    for epochs in (1, 2):
        with started(*command, "--epochs", 5000, "--eval-every", 1000, cwd=tmp_path) as process:
            wait_until(lambda logged=epochs: lines(log) > logged, process)
            process.send_signal(signal.SIGINT)
            errors.append(process.communicate(timeout=patience(30))[1])
        assert process.returncode == 130, errors
    assert all("stopped; the same command goes on" in text for text in errors)
    assert "going on with step" in errors[1] and "going on" not in errors[0]
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert [r["epoch"] for r in records] == list(range(1, len(records) + 1))


def test_full_disk_is_one_line_and_leaves_what_it_took(tmp_path) -> None:
    # A limit on the size of files stands in for the disk: the kernel refuses the rest.
    done = subprocess.run(
        [
            "bash",
            "-c",
            'ulimit -f 256; exec "$0" -m roadseg infer "$1" --size 96x64',
            sys.executable,
            SAMPLE,
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=patience(60),
    )
    assert done.returncode == 1
    assert "drive.overlay.mp4 cannot be written (File too large)" in done.stderr
    assert "Traceback" not in done.stderr
    with av.open(tmp_path / "roadseg-part.drive.overlay.mp4") as part:
        assert next(part.decode(video=0)).width == 960


def test_several_films_go_into_a_folder_and_a_bad_one_does_not_stop_them(tmp_path) -> None:
    (tmp_path / "bad.mp4").write_text("no film")
    (tmp_path / "other.mp4").write_bytes(SAMPLE.read_bytes())
    films = (SAMPLE, "bad.mp4", "other.mp4")
    quick = ("--end", "0.2", "--size", "96x64", "--out", "labelled", "--masks", "masks")
    done = roadseg("infer", *films, *quick, "--json", cwd=tmp_path)
    assert done.returncode == 1
    assert "bad.mp4 cannot be read as a video" in done.stderr
    assert "1 of 3 videos were not labelled" in done.stderr and "Traceback" not in done.stderr
    assert [summary["frames"] for summary in json.loads(done.stdout)] == [5, 5]
    names = sorted(path.name for path in (tmp_path / "labelled").iterdir())
    assert names == ["drive.overlay.mp4", "other.overlay.mp4"]
    assert len(list((tmp_path / "masks" / "other").iterdir())) == 5


def test_folder_that_may_not_be_read_is_one_line(tmp_path) -> None:
    (tmp_path / "locked").mkdir(mode=0)
    done = roadseg("infer", "locked", "--out", "x.mp4", cwd=tmp_path, before=heeding_rights())
    assert (done.returncode, done.stderr) == (
        1,
        "roadseg: locked may not be read; change its permissions\n",
    )


def test_film_comes_from_standard_input(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "roadseg", "infer", "-", "--end", "0.2", "--size", "96x64"],
        cwd=tmp_path,
        input=SAMPLE.read_bytes(),
        capture_output=True,
        timeout=patience(60),
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["stdin.overlay.mp4"]


def test_evaluate_prints_a_table_json_and_a_page(streets, tmp_path) -> None:
    pytest.importorskip("torch")
    table = roadseg("evaluate", "--data", streets, cwd=tmp_path)
    assert table.returncode == 0, table.stderr
    for word in ("mIoU", "pixel accuracy", "cross entropy", "Confusion", "road", "bicyclist"):
        assert word in table.stdout
    on_export = ("evaluate", "--data", streets, "--weights", WEIGHTS, "--json")
    done = roadseg(*on_export, "--report", "val.html", cwd=tmp_path)
    figures = json.loads(done.stdout)
    assert 0 <= figures["miou"] <= 1 and len(figures["confusion"]) == 11
    page = (tmp_path / "val.html").read_text()
    assert 'class="plot"' in page and "pedestrian" in page
    on_checkpoint = roadseg(
        "evaluate", "--data", streets, "--weights", CHECKPOINT, "--json", cwd=tmp_path
    )
    other = json.loads(on_checkpoint.stdout)
    assert other["miou"] == pytest.approx(figures["miou"], abs=0.01)
    assert other["cross_entropy"] == pytest.approx(figures["cross_entropy"], rel=0.01)


def test_brackets_in_a_file_name_are_printed(streets, tmp_path) -> None:
    shutil.copy(WEIGHTS, tmp_path / "mine[v2].onnx")
    done = roadseg("evaluate", "--data", streets, "--weights", "mine[v2].onnx", cwd=tmp_path)
    assert done.stdout.startswith("mine[v2].onnx on val, 2 pictures\n"), done.stderr
    shutil.copy(SAMPLE, tmp_path / "drive [night].mp4")
    done = roadseg("infer", "drive [night].mp4", "--end", "0.2", "--size", "96x64", cwd=tmp_path)
    assert done.stdout.startswith("drive [night].overlay.mp4: "), done.stderr


def test_page_takes_no_other_files_place(streets, tmp_path) -> None:
    (tmp_path / "NOTES.md").write_text("mine")
    done = roadseg("evaluate", "--data", streets, "--report", "NOTES.md", cwd=tmp_path)
    assert done.returncode == 1 and "must end in .html" in done.stderr
    assert (tmp_path / "NOTES.md").read_text() == "mine"


def test_evaluation_of_few_words_leaves_its_page_alone(streets, tmp_path) -> None:
    done = roadseg("evaluate", "--data", streets, "--report", "val.html", "-q", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "pixel accuracy" in (tmp_path / "val.html").read_text()


def test_evaluate_sets_two_models_side_by_side(streets, tmp_path) -> None:
    pytest.importorskip("torch")
    both = ["evaluate", "--data", streets, "--weights", WEIGHTS]
    both += ["--against", CHECKPOINT, "--worst", "1"]
    table = roadseg(*both, "--report", "both.html", cwd=tmp_path)
    assert table.returncode == 0, table.stderr
    for word in (WEIGHTS.name, CHECKPOINT.name, "change", "calibration error", "lowest mIoU of"):
        assert word in table.stdout
    page = (tmp_path / "both.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 1 and f"against {CHECKPOINT.name}" in page
    assert (
        f"below {WEIGHTS.name} and {CHECKPOINT.name}" in page
        and "report: both.html" in table.stdout
    )
    done = roadseg(*both, "--json", cwd=tmp_path)
    figures = json.loads(done.stdout)
    assert set(figures) == {WEIGHTS.name, CHECKPOINT.name}
    assert all(len(found["worst"]) == 1 for found in figures.values())


def test_data_check_lists_classes_and_faults(streets, tmp_path) -> None:
    done = roadseg("data", "check", streets, "--report", "data.html", cwd=tmp_path)
    assert "no faults" in done.stdout and "pictures: 6 read of 6" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")
    assert "road" in done.stdout and "128x96 (6)" in done.stdout
    assert "report: data.html" in done.stdout
    assert "data:image/jpeg" in (tmp_path / "data.html").read_text()
    again = roadseg("data", "check", streets, "--report", "data.html", cwd=tmp_path)
    assert again.returncode == 1 and "--overwrite" in again.stderr and again.stdout == ""
    shutil.copytree(streets, tmp_path / "bad")
    (tmp_path / "bad" / "train" / "002.png").write_bytes(b"")
    done = roadseg("data", "check", "bad", cwd=tmp_path)
    assert done.returncode == 1 and "002.png cannot be read" in done.stdout
    whole = (tmp_path / "bad" / "train" / "003.png").read_bytes()
    (tmp_path / "bad" / "train" / "002.png").write_bytes(whole[: len(whole) // 2])
    done = roadseg("data", "check", "bad", cwd=tmp_path)
    assert done.returncode == 1 and "WARN" not in done.stderr
    assert "1 fault in bad" in done.stderr
    quiet = roadseg("data", "check", "bad", "-q", cwd=tmp_path)
    assert quiet.stdout.startswith("- ") and quiet.stdout.count("\n") == 1  # the fault alone
    assert quiet.stderr == done.stderr


def test_data_check_names_drives_that_are_measured_though_learnt_from(tmp_path) -> None:
    for number in range(20):
        write_pair(tmp_path, "train", f"{number:02d}_1", *scene(number))
    for number, drive in ((20, "07"), (21, "other")):
        write_pair(tmp_path, "val", f"{drive}_2", *scene(number))
    done = roadseg("data", "check", tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "in train and in val: 07; figures on val are flattering" in done.stdout
    assert "drives: 00 (1), 01 (1)," in done.stdout and ", 11 (1), 8 more\n" in done.stdout


def test_settings_come_from_a_file_and_flags_override_them(streets, tmp_path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "recipe.toml").write_text(
        f'data = "{streets}"\nwidth = 12\npretrained = false\nepochs = 9\nbatch_size = 2\n'
        'crop_hw = [64, 64]\nsize_hw = [96, 128]\nloss = "dice"\n[augment]\nmix = 0.25\n'
    )
    flags = ["--epochs", "1", "--augment", "color=0.1", "--crop", "32x64", "--out", "run"]
    done = roadseg("train", "--config", "recipe.toml", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (settings["epochs"], settings["loss"], settings["crop_hw"]) == (1, "dice", [64, 32])
    assert (settings["augment"]["mix"], settings["augment"]["color"]) == (0.25, 0.1)
    again = roadseg("train", "--config", "run/config.json", "--out", "again", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    logs = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("run", "again")]
    assert logs[0] == logs[1]
    other = ("--config", "run/config.json", "--out", "other")
    started = roadseg("train", *other, "--start-from", "run/best.safetensors", cwd=tmp_path)
    assert started.returncode == 0, started.stderr
    flags = ("--arch", "unet", "--width", "4", "--dry-run")
    rehearsed = roadseg("train", "--config", "run/config.json", *flags, cwd=tmp_path)
    assert rehearsed.returncode == 0 and "unet: " in rehearsed.stdout, rehearsed.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("data = 5", "data is 5; it must be a list, each item text in quotes"),
        (
            "data = []",
            "--data is (); it must be at least one folder that holds train/ and trainannot/",
        ),
        ("out = 3", "out is 3; it must be a path in quotes"),
        ("augment = 3", "augment is 3; it must be a table of settings"),
    ],
)
def test_setting_of_another_kind_is_named_with_its_file(in_process, tmp_path, line, said) -> None:
    data = "" if line.startswith("data") else 'data = "."\n'
    (tmp_path / "recipe.toml").write_text(f"{data}{line}\n")
    done = in_process("train", "--config", "recipe.toml", "--augment", "mix=0.5")
    assert done.returncode == 1
    assert done.stderr == f"roadseg: {said} (settings of recipe.toml and flags)\n"


def test_dry_run_tells_what_would_be_done(streets, tmp_path) -> None:
    pytest.importorskip("torch")
    small = ["--width", "12", "--no-pretrained", "--batch-size", "2", "--crop", "64x64"]
    done = roadseg("train", "--data", streets, "--dry-run", *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for word in ("bicyclist", "train 6, val 2", "180 steps", "nothing was written"):
        assert word in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_train_export_and_infer_go_hand_in_hand(streets, tmp_path) -> None:
    pytest.importorskip("torch")
    small = ["--width", "12", "--no-pretrained", "--epochs", "1", "--batch-size", "2"]
    sizes = ["--crop", "64x64", "--size", "128x96"]
    trained = roadseg("train", "--data", streets, "--out", "run", *small, *sizes, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "best mIoU" in trained.stdout
    exported = roadseg("export", "run/best.safetensors", "--out", "mine.onnx", cwd=tmp_path)
    assert (exported.returncode, exported.stderr) == (0, "")
    assert (
        roadseg("export", "run/best.safetensors", "--out", "mine.onnx", cwd=tmp_path).returncode
        == 1
    )
    labelled = roadseg(
        "infer", SAMPLE, "--weights", "mine.onnx", "--size", "96x64", "--end", "0.2", cwd=tmp_path
    )
    assert labelled.returncode == 0, labelled.stderr


def test_version_is_that_of_the_package(tmp_path) -> None:
    from roadseg import __version__

    for option in ("--version", "-V"):
        assert roadseg(option, cwd=tmp_path).stdout.strip() == f"roadseg {__version__}"


def test_compile_prints_what_it_proved_and_keeps_it(tmp_path) -> None:
    pytest.importorskip("torch")
    words = ("compile", "--film", SAMPLE, "--size", "96x64", "--backend", "onnxruntime")
    done = roadseg(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for word in (
        "yes: there was no such file",
        "in int8, as executed",
        "pixels as before",
        "times as fast",
    ):
        assert word in done.stdout
    name = "roads.onnxruntime-int8.onnx"
    assert {path.name for path in tmp_path.iterdir()} == {name, f"{name}.json"}
    again = roadseg(*words, cwd=tmp_path)
    assert "no: the file that was there still fits" in again.stdout
