"""`roadseg redact`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from roadseg.cli.completion import one_of
from roadseg.cli.films import Beside, plan, received
from roadseg.cli.infer import EncodingOptions, TerminalOptions, run_all
from roadseg.cli.option_groups import OptionGroup, grouped
from roadseg.cli.options import (
    End,
    ModelOptions,
    OverwriteFilm,
    Resume,
    Start,
    class_names,
    out_option,
    parse_time,
)
from roadseg.infer.config import InferConfig
from roadseg.paint.config import COVERS, Redaction

NOTHING_BESIDE = Beside(masks=None, stats=None, report=None)


class OutputOptions(OptionGroup):
    """Outputs."""

    panel = "Output"
    out: Annotated[Path | None, out_option("redacted")] = None
    keep_tags: Annotated[
        bool,
        typer.Option(
            "--keep-tags",
            help="Keep tags, chapters, telemetry and subtitles, which may tell place and time.",
        ),
    ] = Redaction.keep_tags
    overwrite: OverwriteFilm = InferConfig.overwrite
    resume: Resume = InferConfig.resume
    start: Start = "0"
    end: End = None

    def settings(self) -> dict[str, Any]:
        """Return the fields of an `InferConfig` that are the same for every video.

        Raises:
            ConfigError: A time is not valid.
        """
        return {
            "overwrite": self.overwrite,
            "resume": self.resume,
            "start_s": parse_time(self.start, "--start"),
            "end_s": None if self.end is None else parse_time(self.end, "--end"),
        }


class RedactionOptions(OptionGroup):
    """What to hide, and how."""

    panel = "Redaction"
    hide: Annotated[
        str, typer.Option(metavar="NAME,...", help="What to hide: people, cars, signs.")
    ] = ",".join(Redaction.hide)
    cover: Annotated[
        str,
        typer.Option(
            metavar="HOW",
            help="black leaves nothing; pixelate, blur leave a little.",
            autocompletion=one_of(COVERS),
        ),
    ] = Redaction.cover
    probability: Annotated[
        float,
        typer.Option(
            metavar="0..0.5", help="Hide what is this likely to be one of these, in any one frame."
        ),
    ] = Redaction.probability
    margin: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Hide around it, as a share of the picture's height."),
    ] = Redaction.margin
    hold: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="Keep a place hidden, moving along, and half as long before it is found.",
        ),
    ] = Redaction.hold_s


@grouped
def redact(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="VIDEO",
            help="Videos to redact: files, addresses, folders of videos or of images, patterns in "
            "quotes, or - for standard input.",
        ),
    ],
    output: OutputOptions,
    redaction: RedactionOptions,
    model: ModelOptions,
    encoding: EncodingOptions,
    terminal: TerminalOptions,
) -> None:
    """Hide people, cars and signs in a video: no guarantee, so look at what comes out.

    Number plates and faces are hidden only with the cars and people that the model finds.
    """
    settings = {
        **output.settings(),
        **model.settings(),
        **encoding.settings(),
        "steady": 0.0,
        "legend": "none",
        "redaction": Redaction(
            hide=class_names(redaction.hide),
            cover=redaction.cover,
            probability=redaction.probability,
            margin=redaction.margin,
            hold_s=redaction.hold,
            keep_tags=output.keep_tags,
        ),
    }
    with received(sources) as films:
        run_all(plan(films, output.out, NOTHING_BESIDE, settings), terminal)
