"""Read class files: the name, id and colour of each class; see `roadseg.data.meaning`."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from roadseg.errors import DatasetError

Color = tuple[int, int, int]
"""RGB, 0..255."""
SYNONYMS = {"colour": "color", "red": "r", "green": "g", "blue": "b"}
"""Columns of a class file by other names of theirs."""
COLUMNS_UNSAID = {
    ("text", "number", "number", "number"): ("name", "r", "g", "b"),
    ("number", "number", "number", "text"): ("r", "g", "b", "name"),
    ("text", "color"): ("name", "color"),
}
"""Columns of a class file that does not name them, by what the cells of its first line are."""


def read_rows(path: Path) -> list[tuple[str, int | None, Color | None]]:
    """Return name, id and colour of each row of a class file, None for what it leaves out.

    Raises:
        DatasetError: It is no class file; the line at fault is named.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines, first_line = _named_cells(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read ({error}); correct it") from error
    if lines and "name" not in map(_column, lines[0]):
        raise DatasetError(
            f"{path} begins with the columns {', '.join(map(str, lines[0]))}; a class file has "
            "name,id,color, with commas between; correct its first line"
        )
    return [_row(line, f"{path}, line {number}") for number, line in enumerate(lines, first_line)]


def _row(line: Mapping[str, str | None], where: str) -> tuple[str, int | None, Color | None]:
    """Return name, id and colour of a line of a class file."""
    cells = {_column(key): (value or "").strip() for key, value in line.items()}
    name, label_id, color = (cells.get(key, "") for key in ("name", "id", "color"))
    color = color or _color_of_levels([cells.get(key, "") for key in "rgb"], where)
    if not name:
        raise DatasetError(f"{where} has no name; a class file has the columns name,id,color")
    if label_id and not (label_id.isdecimal() and int(label_id) <= 255):
        raise DatasetError(f"{where} has the id {label_id!r}; give a number from 0 to 255")
    if color and not _is_color(color):
        raise DatasetError(f"{where} has the colour {color!r}; give it as #rrggbb")
    return name, int(label_id) if label_id else None, _rgb(color) if color else None


def _named_cells(rows: Iterable[list[str]]) -> tuple[list[dict[str, str]], int]:
    """Return the lines of a class file by column, and the number of the first of them."""
    filled = [row for row in rows if row]
    headings = COLUMNS_UNSAID.get(tuple(map(_kind, filled[0]))) if filled else None
    if headings:
        return [dict(zip(headings, row, strict=False)) for row in filled], 1
    return [dict(zip(filled[0], row, strict=False)) for row in filled[1:]], 2


def _kind(cell: str) -> str:
    """Return whether a cell is a number, a color or other text."""
    cell = cell.strip()
    return "number" if cell.isdecimal() else "color" if _is_color(cell) else "text"


def _color_of_levels(levels: list[str], where: str) -> str:
    """Return a colour given as three numbers as #rrggbb, or nothing where there is none."""
    if not any(levels):
        return ""
    if not all(level.isdecimal() and int(level) <= 255 for level in levels):
        raise DatasetError(
            f"{where} has the colour {', '.join(levels)}; give r, g and b, each from 0 to 255"
        )
    return "#{:02x}{:02x}{:02x}".format(*map(int, levels))


def _column(heading: str | None) -> str:
    """Return what a column of a class file is called, however it is written."""
    plain = (heading or "").strip().casefold()
    return SYNONYMS.get(plain, plain)


def _is_color(text: str) -> bool:
    return (
        len(text) == 7 and text[0] == "#" and all(c in "0123456789abcdefABCDEF" for c in text[1:])
    )


def _rgb(text: str) -> Color:
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue
