"""Options declared once, as dataclasses that any command can take."""

import inspect
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import MISSING, Field, fields, is_dataclass
from inspect import Parameter
from typing import Annotated, Any, ClassVar, Protocol, get_args, get_origin, get_type_hints


class OptionGroup(Protocol):
    """A dataclass, each of whose fields is annotated as an option."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    panel: ClassVar[str]
    """Title under which the help shows the options."""


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take groups of options: parameters whose type is an `OptionGroup`.

    Typer reads signatures and knows no dataclasses, so it is shown one with a parameter for each
    option.

    Args:
        command: Function that does the work; it gets each group as one object.
    """
    hints = get_type_hints(command, include_extras=True)
    taken = inspect.signature(command).parameters
    groups: dict[str, type[OptionGroup]] = {n: hints[n] for n in taken if is_dataclass(hints[n])}

    def run(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        command(**values)

    shown: list[Parameter] = []
    for name, parameter in taken.items():
        if name in groups:
            shown += _parameters(groups[name])
        else:
            shown.append(parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[name]))
    run.__name__, run.__doc__, run.__module__ = (
        command.__name__,
        command.__doc__,
        command.__module__,
    )
    vars(run)["__signature__"] = inspect.Signature(shown)
    return run


def _parameters(group: type[OptionGroup]) -> Iterator[Parameter]:
    """Yield a parameter for each field of a group, all in its panel."""
    hints = get_type_hints(group, include_extras=True)
    for field in fields(group):
        default = Parameter.empty if field.default is MISSING else field.default
        annotation = _in_panel(hints[field.name], group.panel)
        yield Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _in_panel(annotation: Any, panel: str) -> Any:
    """Return the annotation of an option with the panel in it."""
    assert get_origin(annotation) is Annotated, annotation
    kind, option = get_args(annotation)
    option = copy(option)
    option.rich_help_panel = panel
    return Annotated[kind, option]
