"""What names carry does not steer the terminal."""

import os

import pytest
from rich.progress import Progress, TextColumn
from test_cli import roadseg

from roadseg.cli.console import complain, counted, echo, typed, visible
from roadseg.cli.tables import PaceColumn, class_share_table, plain_console

TITLE = "\x1b]0;owned\x07"
NAMES = (f"a{TITLE}b", "a\x9b31mb", "a\rb", "a\x08b", "a\u202eb", "a\udcffb", "a\x7fb")


@pytest.mark.parametrize("name", NAMES)
def test_no_code_gets_through(name, capsys) -> None:
    echo(name)
    complain(f"{name}\nroadseg: done")
    printed = capsys.readouterr()
    assert printed.out.startswith("a?") and printed.out.endswith("b\n")
    assert printed.err.count("\n") == 1
    assert not set(printed.out + printed.err) & set("\x1b\x07\x9b\r\x08\u202e\udcff\x7f")


@pytest.mark.parametrize(
    "name", ["Straße 1.mp4", "道路\u3000夜.mp4", "a [b] {c}.mp4", "👩\u200d🚒.mp4"]
)
def test_names_of_all_languages_stay(name) -> None:
    assert visible(name) == name


def test_tables_and_progress_keep_their_own_codes_alone(monkeypatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    console = plain_console()
    name = f"car{TITLE}"
    with console.capture() as capture:
        console.print(class_share_table({name: 0.5}, {name: (1, 2, 3)}))
        console.print(name)
        with Progress(TextColumn("{task.description}"), console=console) as progress:
            progress.add_task(name, total=1)
    printed = capture.get()
    assert "car?" in printed and "]0;owned" in printed
    assert "\x1b[" in printed and "\x1b]" not in printed and "\x07" not in printed


def test_error_about_such_a_file_is_one_harmless_line(tmp_path) -> None:
    done = roadseg("infer", f"x{TITLE}\ny.mp4", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "roadseg: x?]0;owned??y.mp4 does not exist; check the path\n"


@pytest.mark.skipif(os.name == "nt", reason="names of files are text there")
def test_name_that_is_no_utf8_is_printed_all_the_same(capsys) -> None:
    echo(os.fsdecode(b"recorded \xff.mp4"))
    assert capsys.readouterr().out == "recorded ?.mp4\n"


def test_pace_counts_neither_kept_frames_nor_the_rush_of_the_first_moments() -> None:
    now_s = 0.0
    pace = PaceColumn()
    progress = Progress(pace, get_time=lambda: now_s)
    progress.add_task("drive.mp4", start=False, total=None)
    (task,) = progress.tasks
    shown = []
    for moment in ((0.7, 501), (0.8, 509), (2.7, 541), (4.7, 581)):  # 500 were kept
        now_s, done = moment
        progress.start_task(task.id)
        progress.update(task.id, completed=done, total=1001)
        shown.append(pace.render(task).plain)
    assert shown[:2] == ["    - fps -:--:--"] * 2
    assert shown[2:] == [" 20.0 fps 0:00:23", " 20.0 fps 0:00:21"]


def test_one_thing_is_one_and_names_are_typed_as_a_shell_takes_them() -> None:
    assert [counted(n, "frame") for n in (0, 1, 2)] == ["0 frames", "1 frame", "2 frames"]
    names = ["drive.mp4", "my drive.mp4", "-x.mp4", "--my page.mp4"]
    typed_names = ["drive.mp4", "'my drive.mp4'", "./-x.mp4", "'./--my page.mp4'"]
    assert [typed(name) for name in names] == typed_names
