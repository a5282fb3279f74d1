"""Options declared once, in groups that any command can take."""

import inspect
from collections.abc import Callable, Iterator
from copy import copy
from inspect import Parameter
from typing import Annotated, Any, ClassVar, get_args, get_origin, get_type_hints


class OptionGroup:
    """Options that belong together: each annotated attribute is one, its value the default.

    Like a dataclass, but without generated methods, which would slow down every start.
    """

    panel: ClassVar[str]
    """Title under which the help shows them."""

    def __init__(self, **values: Any) -> None:
        vars(self).update(values)

    def settings(self) -> dict[str, Any]:
        """Return what they set by the names of a configuration's fields.

        A group whose options are not written as the fields are has a method of its own.
        """
        return dict(vars(self))


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take groups of options: parameters whose type is an `OptionGroup`.

    Typer reads signatures, so the result has one with a parameter for each option.

    Args:
        command: Function that does the work; it gets each group as one object.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, list[str]] = {}
    shown: list[Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        options = [parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[name])]
        if _is_group(hints[name]):
            options = list(_options(hints[name]))
            groups[name] = [option.name for option in options]
        shown += options

    def run(**values: Any) -> None:
        for name, options in groups.items():
            values[name] = hints[name](**{option: values.pop(option) for option in options})
        command(**values)

    run.__name__, run.__doc__, run.__module__ = (
        command.__name__,
        command.__doc__,
        command.__module__,
    )
    vars(run)["__signature__"] = inspect.Signature(shown)
    return run


def _is_group(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, OptionGroup)


def _options(group: type[OptionGroup]) -> Iterator[Parameter]:
    """Yield a parameter for each option of a group, all in its panel."""
    for name, hint in get_type_hints(group, include_extras=True).items():
        if get_origin(hint) is Annotated:
            kind, option = get_args(hint)
            option = copy(option)
            option.rich_help_panel = group.panel
            yield Parameter(
                name,
                Parameter.KEYWORD_ONLY,
                default=getattr(group, name, Parameter.empty),
                annotation=Annotated[kind, option],
            )
