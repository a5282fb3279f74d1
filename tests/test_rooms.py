"""The house is as its map says: rooms, their sizes, and what may be used where."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "roadseg"
MAP = (PACKAGE / "README.md").read_text(encoding="utf-8")
ROOMS = re.findall(r"^\| `(\w+)` \| (.*) \|$", MAP, flags=re.MULTILINE)
MAY_KNOW_TORCH = re.compile(
    r"(deploy|models|train)/|backends/(torch|tensorrt)\w*\.py|(\w+/)*\w+_cuda\.py"
)


MODULES = {p.relative_to(PACKAGE).as_posix(): p.read_text("utf-8") for p in PACKAGE.rglob("*.py")}
MOST_LINES, MOST_BODY_LINES, MOST_PARAMETERS = 450, 60, 20


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function of the package, with its module and name."""
    for module, text in MODULES.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{module}: {node.name}", node


def imported(path: Path) -> set[str]:
    """The top names of all that a module imports, wherever in it that is."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_the_map_names_every_room_and_no_other() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert {name for name, _ in ROOMS} == folders


@pytest.mark.parametrize(("room", "sentence"), ROOMS)
def test_a_room_opens_with_the_sentence_of_the_map(room, sentence) -> None:
    opening = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text()))
    assert opening is not None
    assert re.sub(r"\W", "", sentence).lower() in re.sub(r"\W", "", opening).lower()


def test_torch_is_imported_only_where_files_lie_that_may() -> None:
    knowing = [
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if "torch" in imported(path)
    ]
    assert knowing  # or this looks for the wrong thing
    assert [path for path in knowing if not MAY_KNOW_TORCH.match(path)] == []


@pytest.mark.parametrize(
    ("runtime", "importers"),
    [
        ("openvino", {"backends/openvino_silent.py"}),
        ("onnxruntime", {"backends/onnxruntime_silent.py", "deploy/build_onnxruntime.py"}),
    ],
)
def test_runtimes_are_imported_where_they_are_silenced(runtime, importers) -> None:
    assert {module for module in MODULES if runtime in imported(PACKAGE / module)} == importers


def test_the_top_of_the_package_fits_at_a_glance() -> None:
    entries = [path for path in PACKAGE.iterdir() if not path.name.startswith((".", "__pycache__"))]
    assert len(entries) <= 20  # the twelve rooms, their map, four files and what Python wants


def test_files_and_functions_are_short() -> None:
    long = [name for name, text in MODULES.items() if len(text.splitlines()) > MOST_LINES]
    for name, function in functions():
        first = function.body[min(1, len(function.body) - 1) if ast.get_docstring(function) else 0]
        parameters = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        if function.end_lineno - first.lineno >= MOST_BODY_LINES:
            long.append(f"{name} has a long body")
        if len(parameters) > MOST_PARAMETERS:
            long.append(f"{name} has {len(parameters)} parameters")
    assert long == []


def test_threads_are_made_in_one_file() -> None:
    making = [name for name, text in MODULES.items() if "Thread(target" in re.sub(r"\s", "", text)]
    assert making == ["infer/stages.py"]


def test_caches_have_a_limit() -> None:
    assert [name for name, text in MODULES.items() if re.search(r"import .*\bcache\b", text)] == []
    unlimited = re.compile(  # of what has arguments
        r"@(functools\.)?(lru_cache(\(\))?|cache)\n(?!def \w+\(\))|maxsize=None"
    )
    assert [name for name, text in MODULES.items() if unlimited.search(text)] == []
