"""The classes of networks that others trained, and their names in a data set.

Both are CSV files. A class list is a class file (`roadseg.data.meaning`) whose ids, or else whose
order, are those of a network's output; the usual ones are in `roadseg/data/networks/`. A mapping
has the columns model and data, with a row for each class that has another name in the data:

    model,data
    vegetation,tree
    background,sky|building|fence
    train,

A class may match several of the data, or several may match one; a class with an empty cell matches
none.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from roadseg.data.meaning import CLASS_FILE, SET_SEPARATOR, LabelMeaning
from roadseg.data.sets import members
from roadseg.errors import ConfigError, DatasetError
from roadseg.spec import IGNORE_INDEX, UNLABELLED, SegClass

NETWORKS = Path(__file__).parent / "networks"
TO_CAMVID = NETWORKS / "to_camvid.csv"
"""CamVid's classes that match those of the usual lists."""
UNLABELLED_CLASS = SegClass(name=UNLABELLED, color=(0, 0, 0))
COLUMNS = ["model", "data"]


def read_class_list(name: str) -> dict[int, SegClass]:
    """Return the classes of a network by id.

    Args:
        name: A file, or the name of a shipped list.

    Raises:
        ConfigError: There is no such list, or it names a class twice.
        DatasetError: The file is not a class file.
    """
    path = _list_path(name)
    meaning = LabelMeaning.read(path)
    if not meaning.ids:
        return dict(enumerate(meaning.classes))
    if len(set(meaning.ids.values()) - {IGNORE_INDEX}) < sum(
        target != IGNORE_INDEX for target in meaning.ids.values()
    ):
        raise ConfigError(
            f"--classes {path} gives one name to several ids; a network's list names each of its "
            "classes once"
        )
    return {
        label_id: UNLABELLED_CLASS if target == IGNORE_INDEX else meaning.classes[target]
        for label_id, target in sorted(meaning.ids.items())
    }


def _list_path(name: str) -> Path:
    shipped = NETWORKS / f"{name}.csv"
    if shipped.is_file() and shipped != TO_CAMVID:
        return shipped
    if Path(name).is_file():
        return Path(name)
    known = ", ".join(sorted(p.stem for p in NETWORKS.glob("*.csv") if p != TO_CAMVID))
    raise ConfigError(
        f"there is no class list {name}; give the path of a file such as {CLASS_FILE}, or one of "
        f"those that are included: {known}"
    )


def matched_by_name(network: Sequence[str], others: Sequence[str]) -> list[tuple[str, ...]]:
    """Return which other classes each of a network's is, given the names of both.

    The one of its own name, or where there is none, those that are the same of CamVid's classes.
    """
    camvid = read_mapping()

    def match(name: str) -> tuple[str, ...]:
        if name in others:
            return (name,)
        same = camvid.get(name, (name,))
        return tuple(other for other in others if camvid.get(other, (other,)) == same)

    return [match(name) for name in network]


def read_mapping(path: Path = TO_CAMVID) -> Mapping[str, tuple[str, ...]]:
    """Return the names of a network's classes in some data, by their own names.

    Raises:
        DatasetError: The file is not a mapping; the line at fault is named.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            heading, *rows = [row for row in csv.reader(file, strict=True) if row] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"--map {path} cannot be read ({error}); correct it") from error
    if [cell.strip().casefold() for cell in heading] != COLUMNS:
        raise DatasetError(
            f"--map {path} begins with {','.join(heading)!r}; its first line must be "
            f"{','.join(COLUMNS)}"
        )
    if bad := next((row for row in rows if len(row) != len(COLUMNS)), None):
        raise DatasetError(
            f"--map {path} has the line {','.join(bad)!r}; give a class of the model and one of "
            "the data, with a comma between"
        )
    found: dict[str, tuple[str, ...]] = {}
    for model, data in rows:
        if (name := model.strip()) in found:
            raise DatasetError(
                f"--map {path} has two lines for {name}; give one, with {SET_SEPARATOR} between "
                "classes of the data"
            )
        found[name] = members(data) if data.strip() else ()
    return found
