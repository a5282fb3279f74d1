"""Read small files that users write: settings, and classes with their colours.

Settings are TOML or JSON, converted to the dataclasses that declare them. A class file is CSV with
the name, id and colour of a class in each row; see `roadseg.data.meaning`.
"""

import csv
import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from roadseg.errors import ConfigError, DatasetError

T = TypeVar("T")

Color = tuple[int, int, int]
"""RGB, 0..255."""
SYNONYMS = {"colour": "color", "red": "r", "green": "g", "blue": "b"}
"""Columns of a class file by their other names."""
HEADLESS_COLUMNS = {
    ("text", "number", "number", "number"): ("name", "r", "g", "b"),
    ("number", "number", "number", "text"): ("r", "g", "b", "name"),
    ("text", "color"): ("name", "color"),
}
"""Columns of a class file without a heading, by the kinds of cells in its first line."""


def read_settings(path: Path) -> dict[str, Any]:
    """Read settings from a `.toml` file, or from a `.json` file such as a run's config.json.

    Raises:
        ConfigError: The file is missing, or not valid.
    """
    readers: dict[str, Callable[[str], dict[str, Any]]] = {
        ".toml": tomllib.loads,
        ".json": json.loads,
    }
    if path.suffix not in readers:
        raise ConfigError(f"--config {path} must end in .toml or .json; give such a file")
    try:
        values = readers[path.suffix](path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"--config {path} cannot be read ({reason}); correct it") from error
    if not isinstance(values, dict):
        raise ConfigError(f"--config {path} holds no settings by name; see a run's config.json")
    return values


def build_settings(cls: type[T], values: Mapping[str, Any]) -> T:
    """Build a dataclass of settings from JSON or TOML values; missing ones keep their defaults.

    Raises:
        ConfigError: A name is unknown, or a value is of another type than declared; it is named.
    """
    hints = get_type_hints(cls)
    if unknown := sorted(set(values) - set(hints)):
        raise ConfigError(f"{unknown[0]!r} is no setting; {_near(unknown[0], list(hints))}")
    return cls(**{name: _converted(name, value, hints[name]) for name, value in values.items()})


def _near(name: str, known: list[str]) -> str:
    """Return a hint at the setting that was meant."""
    import difflib  # of use for mistakes alone

    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"the settings are: {', '.join(known)}"


def _converted(name: str, value: Any, hint: Any) -> Any:
    """Return a JSON value converted to the declared type of a setting."""
    arguments = get_args(hint)
    if type(None) in arguments:
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return None if value is None else _converted(name, value, inner)
    if get_origin(hint) is tuple and isinstance(value, list | tuple):
        inner = arguments[0]
        if arguments[-1] is Ellipsis or len(value) == len(arguments):
            return tuple(_converted(name, item, inner) for item in value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and type(value) is int:
        return float(value)
    if get_origin(hint) is Mapping and isinstance(value, Mapping):
        return value
    if isinstance(hint, type) and is_dataclass(hint) and isinstance(value, Mapping):
        return build_settings(hint, value)
    if type(value) is hint:
        return value
    raise ConfigError(f"{name} is {value!r}; it must be {_in_words(hint)}")


def _in_words(hint: Any) -> str:
    """Describe how a value of a type is written in a file."""
    arguments = get_args(hint)
    if get_origin(hint) is tuple and arguments[-1] is Ellipsis:
        return f"a list, each item {_in_words(arguments[0])}"
    if get_origin(hint) is tuple:
        return f"a list of {len(arguments)}, each {_in_words(arguments[0])}"
    words = {bool: "true or false", int: "a whole number", float: "a number"}
    words |= {str: "text in quotes", Path: "a path in quotes"}
    return words.get(hint, "a table of settings")


def read_class_file(path: Path) -> list[tuple[str, int | None, Color | None]]:
    """Return name, id and colour of each row of a class file, None for missing ones.

    Raises:
        DatasetError: It is not a class file; the line at fault is named.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            filled = [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not in UTF-8 ({error}); save it as UTF-8") from error
    except (OSError, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read ({error}); correct it") from error
    headings, lines = _headed(filled)
    if lines and "name" not in map(_column, headings):
        raise DatasetError(
            f"{path} begins with the columns {', '.join(headings)}; a class file has "
            "name,id,color, with commas between; correct its first line"
        )
    return [
        _row(dict(zip(headings, row, strict=False)), f"{path}, line {number}")
        for number, row in lines
    ]


def _row(line: Mapping[str, str], where: str) -> tuple[str, int | None, Color | None]:
    """Return name, id and colour of a line of a class file."""
    cells = {_column(key): value.strip() for key, value in line.items()}
    name, label_id, color = (cells.get(key, "") for key in ("name", "id", "color"))
    color = color or _color_of_levels([cells.get(key, "") for key in "rgb"], where)
    if not name:
        raise DatasetError(f"{where} has no name; a class file has the columns name,id,color")
    if label_id and not _is_byte(label_id):
        raise DatasetError(f"{where} has the id {label_id!r}; give a number from 0 to 255")
    if color and not _is_color(color):
        raise DatasetError(f"{where} has the colour {color!r}; give it as #rrggbb")
    return name, int(label_id) if label_id else None, _rgb(color) if color else None


def _headed(
    lines: list[tuple[int, list[str]]],
) -> tuple[Sequence[str], list[tuple[int, list[str]]]]:
    """Return the columns of a class file, and its numbered lines without a heading."""
    if not lines:
        return (), []
    (_, first), *others = lines
    columns = HEADLESS_COLUMNS.get(tuple(map(_kind, first)))
    return (columns, lines) if columns else (first, others)


def _kind(cell: str) -> str:
    """Return whether a cell is a number, a color or other text."""
    cell = cell.strip()
    return "number" if cell.isdecimal() else "color" if _is_color(cell) else "text"


def _color_of_levels(levels: list[str], where: str) -> str:
    """Return three numbers as #rrggbb, or an empty text if all are missing."""
    if not any(levels):
        return ""
    if not all(map(_is_byte, levels)):
        raise DatasetError(
            f"{where} has the colour {', '.join(levels)}; give r, g and b, each from 0 to 255"
        )
    return "#{:02x}{:02x}{:02x}".format(*map(int, levels))


def _column(heading: str) -> str:
    """Return the canonical name of a column of a class file."""
    plain = heading.strip().casefold()
    return SYNONYMS.get(plain, plain)


def _is_byte(text: str) -> bool:
    return text.isdecimal() and len(text) <= 9 and int(text) <= 255  # int refuses long numbers


def _is_color(text: str) -> bool:
    return (
        len(text) == 7 and text[0] == "#" and all(c in "0123456789abcdefABCDEF" for c in text[1:])
    )


def _rgb(text: str) -> Color:
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue
