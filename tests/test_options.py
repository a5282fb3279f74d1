"""Options: declared once, one name for one thing, help that can be read, old names for a while."""

from typing import Annotated, Any

import pytest
import typer
from conftest import SAMPLE, leaf_commands
from typer.testing import CliRunner

from roadseg.cli import app
from roadseg.cli.option_groups import OptionGroup, grouped
from roadseg.cli.options import ModelOptions, MotionOptions, OverlayOptions
from roadseg.cli.renamed import RENAMED, Renamed, with_new_names

COMMANDS = leaf_commands()


def options(names: tuple[str, ...]) -> list[Any]:
    """The options of a command, `--help` included, as Click has them."""
    command = COMMANDS[names]
    params = command.get_params(typer.Context(command))
    return [param for param in params if param.param_type_name == "option"]


def help_of(*names: str, columns: int) -> str:
    environment = {"COLUMNS": str(columns), "NO_COLOR": "1"}
    done = CliRunner(env=environment).invoke(app, [*names, "-h"], prog_name="roadseg")
    assert done.exit_code == 0, done.output
    return done.stdout


class Paint(OptionGroup):
    """A group of options."""

    panel = "Paint"
    color: Annotated[str, typer.Option("--color", "-c", metavar="NAME", help="Its colour.")]
    coats: Annotated[int, typer.Option(metavar="N", help="How many.")] = 2


def test_command_gets_a_group_of_options_as_one_object() -> None:
    taken = []

    @grouped
    def paint(wall: Annotated[str, typer.Argument()], how: Paint) -> None:
        """Paint a wall."""
        taken.append((wall, vars(how)))

    program = typer.Typer()
    program.command()(paint)
    run = CliRunner().invoke(program, ["north", "-c", "red"], catch_exceptions=False)
    assert (run.exit_code, taken) == (0, [("north", {"color": "red", "coats": 2})])
    assert CliRunner().invoke(program, ["north"]).exit_code == 2  # the colour has no default
    shown = CliRunner().invoke(program, ["--help"]).output
    assert "Paint a wall." in shown and "─ Paint ─" in shown and "[default: 2]" in shown


@pytest.mark.parametrize("group", [ModelOptions, MotionOptions, OverlayOptions])
def test_films_and_live_views_share_their_options(group) -> None:
    both = []
    for name in ("infer", "live"):
        shown = [option for option in options((name,)) if option.name in vars(group)]
        assert {option.rich_help_panel for option in shown} == {group.panel}
        both.append([(o.opts, o.secondary_opts, o.default, o.help) for o in shown])
    assert both[0] == both[1]


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("names", [(), ("data",), *COMMANDS], ids=" ".join)
def test_help_fits_the_terminal_and_names_no_types(names, columns) -> None:
    shown = help_of(*names, columns=columns)
    assert max(map(len, shown.splitlines())) <= columns
    assert "…" not in shown and "<" not in shown


def test_help_names_every_option_of_infer_in_a_panel() -> None:
    for option in options(("infer",)):
        assert option.rich_help_panel or option.name == "help"


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_one_thing_has_one_name_in_every_command(names) -> None:
    by_flag = {flag: option for option in options(names) for flag in option.opts}
    assert not {"--page", "--runtime", "--model", "--dataset", "--silent"} & set(by_flag)
    for flag, short in (("--out", "-o"), ("--quiet", "-q"), ("--verbose", "-v")):
        if flag in by_flag:
            assert short in by_flag[flag].opts
    if "--json" in by_flag:
        assert by_flag["--json"].is_flag
    for flag, ending in (("--report", ".html"), ("--record", ".json")):
        if flag in by_flag:
            assert by_flag[flag].metavar.endswith(ending)


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_whatever_makes_something_can_be_quiet(names) -> None:
    only_tells = names in {("doctor",), ("batch", "status")}
    assert only_tells != any("--quiet" in option.opts for option in options(names))


@pytest.mark.parametrize(
    ("command", "change"),
    [
        (name, change)
        for name, found in RENAMED.items()
        for change in found
        if isinstance(change, Renamed)
    ],
)
def test_old_name_of_an_option_still_works_with_a_hint(command, change, capsys) -> None:
    (names,) = (names for names in COMMANDS if names[-1] == command)
    flags = {flag for option in options(names) for flag in option.opts}
    assert change.new in flags and (change.old not in flags or change.value_suffix)
    value = f"x{change.value_suffix}"
    assert with_new_names(command, ["a", change.old, value]) == ["a", change.new, value]
    hint = f"hint: {change.old} is {change.new} now; the next version drops the old name"
    assert capsys.readouterr().err == f"roadseg: {hint}\n"
    assert with_new_names(command, [f"{change.old}={value}"]) == [f"{change.new}={value}"]


@pytest.mark.parametrize(
    ("arguments", "meant", "hints"),
    [
        ("a.mp4 --legend none", "a.mp4 --legend none", 0),
        ("a.mp4 --legend=bottom-left", "a.mp4 --legend=bottom-left", 0),
        ("a.mp4 --legend=nowhere", "a.mp4 --legend=nowhere", 0),
        ("a.mp4 --legend left", "a.mp4 --legend left", 0),  # and no video called left
        ("a.mp4 --no-legend", "a.mp4 --legend=none", 1),
        ("--legend a.mp4", "--legend=top-left a.mp4", 1),
        ("a.mp4 --legend --no-film", "a.mp4 --legend=top-left --no-film", 1),
        ("a.mp4 --legend", "a.mp4 --legend=top-left", 1),
        ("-- --no-legend --legend", "-- --no-legend --legend", 0),
    ],
)
def test_old_switches_for_the_legend_work_with_a_hint(arguments, meant, hints, capsys) -> None:
    for command in ("infer", "live"):
        assert with_new_names(command, arguments.split()) == meant.split()
        said = capsys.readouterr().err.splitlines()
        assert len(said) == hints
        assert all("the next version drops the old name" in line for line in said)


def test_new_names_and_what_follows_a_double_dash_stay_as_they_are(capsys) -> None:
    for arguments in (["--report", "a.html", "--json"], ["--json", "film.mp4"], ["--", "--page"]):
        assert with_new_names("bench", arguments) == arguments
    assert with_new_names("infer", ["--page"]) == ["--page"] and not capsys.readouterr().err


def test_command_with_an_old_name_does_what_it_did(streets, tmp_path) -> None:
    page = tmp_path / "data.html"
    done = CliRunner().invoke(app, ["data", "check", str(streets), "--page", str(page)])
    assert done.exit_code == 0 and page.is_file()
    assert "--page is --report now" in done.stderr and "hint" not in done.stdout


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (("--backend", "tpu"), "--backend is 'tpu'"),
        (("--weights", "none.onnx"), r"none\.onnx, the model, does not exist"),
        (("--classes", "cat"), "--classes names cat"),
        (("--only", "road,cat"), "--only names cat"),
        (("--codec", "xvid"), "--codec is 'xvid'"),
        (("--crf", "99"), "--crf is 99"),
        (("--stats", "stats.txt"), r"--stats stats\.txt must end in"),
        (("--report", "page.pdf"), r"--report page\.pdf must end in"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_mistake_in_an_option_is_told_before_a_name_that_is_taken(
    mistake, said, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("taken.mp4", "taken.csv"):
        (tmp_path / name).touch()
    taken = ("--out", "taken.mp4", "--stats", "taken.csv")
    with pytest.raises(Exception, match=said):
        CliRunner().invoke(app, ["infer", str(SAMPLE), *taken, *mistake], catch_exceptions=False)
    with pytest.raises(Exception, match="exists; choose another name"):
        CliRunner().invoke(app, ["infer", str(SAMPLE), *taken], catch_exceptions=False)


def test_shells_complete_commands_and_options() -> None:
    def completed(*words: str) -> set[str]:
        environment = {"_ROADSEG_COMPLETE": "complete_bash", "COMP_CWORD": str(len(words))}
        environment["COMP_WORDS"] = " ".join(("roadseg", *words))
        done = CliRunner(env=environment).invoke(app, prog_name="roadseg")
        return set(done.stdout.split())

    assert completed("ev") == {"evaluate"}
    assert completed("infer", "--re") == {"--realtime", "--report", "--resume"}
    assert completed("evaluate", "--pa") == set()  # old names are not offered
