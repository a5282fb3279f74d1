"""Settings from files: TOML or JSON values made into the dataclasses that declare them."""

import difflib
import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from roadseg.errors import ConfigError

T = TypeVar("T")


def read_settings(path: Path) -> dict[str, Any]:
    """Read settings from a `.toml` file, or from a `.json` file such as a run's config.json.

    Raises:
        ConfigError: The file is missing, or is neither.
    """
    readers: dict[str, Callable[[str], dict[str, Any]]] = {
        ".toml": tomllib.loads,
        ".json": json.loads,
    }
    if path.suffix not in readers:
        raise ConfigError(f"--config {path} must end in .toml or .json")
    try:
        values = readers[path.suffix](path.read_text())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"--config {path} cannot be read ({reason}); correct it") from error
    if not isinstance(values, dict):
        raise ConfigError(f"--config {path} holds no settings by name; see a run's config.json")
    return values


def build_settings(cls: type[T], values: Mapping[str, Any]) -> T:
    """Build a dataclass of settings from JSON or TOML values; what is left out keeps its default.

    Raises:
        ConfigError: A name is unknown, or a value is of another type than declared; it is named.
    """
    hints = get_type_hints(cls)
    if unknown := sorted(set(values) - set(hints)):
        raise ConfigError(f"{unknown[0]!r} is no setting; {_near(unknown[0], list(hints))}")
    return cls(**{name: _converted(name, value, hints[name]) for name, value in values.items()})


def _near(name: str, known: list[str]) -> str:
    """Return what else could have been meant, in words."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"the settings are: {', '.join(known)}"


def _converted(name: str, value: Any, hint: Any) -> Any:
    """Return a JSON value as the type that a setting is declared with."""
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
    """Return what a value of a type looks like in a file."""
    arguments = get_args(hint)
    if get_origin(hint) is tuple and arguments[-1] is Ellipsis:
        return f"a list, each item {_in_words(arguments[0])}"
    if get_origin(hint) is tuple:
        return f"a list of {len(arguments)}, each {_in_words(arguments[0])}"
    words = {bool: "true or false", int: "a whole number", float: "a number"}
    words |= {str: "text in quotes", Path: "a path in quotes"}
    return words.get(hint, "a table of settings")
