"""The house is as its map says: rooms, what they are for, and who may know PyTorch."""

import ast
import re
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "roadseg"
MAP = (PACKAGE / "README.md").read_text(encoding="utf-8")
ROOMS = re.findall(r"^\| `(\w+)` \| (.*) \|$", MAP, flags=re.MULTILINE)
MAY_KNOW_TORCH = re.compile(
    r"(deploy|models|train)/|backends/(torch|tensorrt)\w*\.py|(\w+/)*\w+_cuda\.py"
)


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


def test_the_top_of_the_package_fits_at_a_glance() -> None:
    entries = [path for path in PACKAGE.iterdir() if not path.name.startswith((".", "__pycache__"))]
    assert len(entries) <= 20  # the twelve rooms, their map, four files and what Python wants
