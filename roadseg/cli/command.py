"""Base classes of all commands: plain help, old names of options, `-h`."""

from typing import TYPE_CHECKING, Any

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from roadseg.cli.renamed import with_new_names

if TYPE_CHECKING:
    from typer._click.core import Context

SETTINGS = {"help_option_names": ["-h", "--help"]}
"""Settings of Click for the program, and so for its commands."""


class Command(TyperCommand):
    """A command."""

    def get_params(self, ctx: "Context") -> list[Any]:
        """Return the parameters, `--help` included."""
        return _plain(super().get_params(ctx))

    def parse_args(self, ctx: "Context", args: list[str]) -> list[str]:
        """Take the arguments."""
        return super().parse_args(ctx, with_new_names(self.name or "", args))


class Group(TyperGroup):
    """Commands under one name."""

    def get_params(self, ctx: "Context") -> list[Any]:
        """Return the parameters, `--help` included."""
        return _plain(super().get_params(ctx))


def _plain(params: list[Any]) -> list[Any]:
    """Remove types without information from the help: those of switches and of arguments."""
    for param in params:
        if isinstance(param, TyperOption) and param.is_flag:
            param.metavar = ""
        elif isinstance(param, TyperArgument):
            param.display_type_rich = lambda ctx: ""  # type: ignore[method-assign]  # noqa: ARG005
    return params
