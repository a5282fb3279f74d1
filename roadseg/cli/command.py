"""Base classes of all commands: plain help, old names of options, `-h`, hints after mistakes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer._click.exceptions import NoSuchOption, UsageError
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from roadseg.cli.console import typed
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
        if not ctx.resilient_parsing:  # as it is while a shell completes a line
            args = with_new_names(self.name or "", args)
        try:
            return super().parse_args(ctx, [*args])  # it takes them out of the list
        except UsageError as error:
            error.ctx = error.ctx or ctx  # its help is worth a look
            files = [arg for arg in args if arg.startswith("-") and Path(arg).exists()]
            if isinstance(error, NoSuchOption) and files:
                error.message += f"; the file is {typed(files[0])}"
            raise


class Group(TyperGroup):
    """Commands under one name."""

    def get_params(self, ctx: "Context") -> list[Any]:
        """Return the parameters, `--help` included."""
        return _plain(super().get_params(ctx))

    def resolve_command(self, ctx: "Context", args: list[str]) -> tuple[Any, Any, list[str]]:
        """Find the command; of a video in its place, say what to run."""
        try:
            return super().resolve_command(ctx, args)
        except UsageError as error:
            if "infer" in self.commands and Path(args[0]).exists():
                error.message = f"{args[0]} is no command; run: roadseg infer {typed(args[0])}"
            raise


def _plain(params: list[Any]) -> list[Any]:
    """Remove types without information from the help: those of switches and of arguments."""
    for param in params:
        if isinstance(param, TyperOption) and param.is_flag:
            param.metavar = ""
        elif isinstance(param, TyperArgument):
            param.display_type_rich = lambda ctx: ""  # type: ignore[method-assign]  # noqa: ARG005
    return params
