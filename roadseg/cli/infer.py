"""`roadseg infer`."""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roadseg.cli.completion import one_of
from roadseg.cli.console import complain, echo
from roadseg.cli.films import Beside, plan, received
from roadseg.cli.infer_summary import as_json, show_result
from roadseg.cli.option_groups import OptionGroup, grouped
from roadseg.cli.options import (
    AsJson,
    End,
    ModelOptions,
    MotionOptions,
    OverlayOptions,
    OverwriteFilm,
    PositionOptions,
    Quiet,
    Resume,
    Start,
    out_option,
    parse_rate,
    parse_time,
)
from roadseg.errors import ConfigError, OutputBusy, RoadsegError
from roadseg.infer.config import MASK_FORMATS, InferConfig
from roadseg.video.write.encoding import CODECS, SOUNDS, STDOUT

if TYPE_CHECKING:
    from roadseg.infer.offline import InferResult


class OutputOptions(OptionGroup):
    """Outputs."""

    panel = "Output"
    out: Annotated[Path | None, out_option("overlay")] = None
    no_film: Annotated[
        bool, typer.Option("--no-film", help="Write no video, only what is beside it.")
    ] = False
    masks: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Also write each class map as a PNG of class ids; or give a name in .mkv for a "
            "lossless grey video of them.",
        ),
    ] = None
    mask_format: Annotated[
        str,
        typer.Option(
            metavar="HOW",
            help="PNGs of --masks: grey has ids as levels of grey, palette shows them in colour.",
            autocompletion=one_of(MASK_FORMATS),
        ),
    ] = InferConfig.mask_format
    stats: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write what is in every frame (.jsonl, .csv or .parquet): time, share of "
            "each class, boxes of poles, signs, cars and people. Of several videos: drive.FILE, "
            "...",
        ),
    ] = None
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="Also write a page about the drive: the video, class shares over time, moments "
            "with people on the road, where the model is out of its depth, the way. Of several "
            "videos: drive.FILE.html, ...",
        ),
    ] = None
    geojson: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write the way, the moments and where the model is out of its depth, for any "
            "map (.geojson). Of several videos: drive.FILE, ...",
        ),
    ] = None
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="Put the original to the left.")
    ] = InferConfig.side_by_side
    boxes: Annotated[
        bool,
        typer.Option(
            "--boxes", help="Draw the boxes of --stats, each with a number that stays its own."
        ),
    ] = InferConfig.boxes
    overwrite: OverwriteFilm = InferConfig.overwrite
    resume: Resume = InferConfig.resume

    @property
    def beside(self) -> Beside:
        """The outputs beside the overlay."""
        return Beside(masks=self.masks, stats=self.stats, report=self.report, geojson=self.geojson)

    def settings(self) -> dict[str, Any]:
        """Return the fields of an `InferConfig` that are the same for every video."""
        names = ("mask_format", "side_by_side", "boxes", "overwrite", "resume")
        return {name: getattr(self, name) for name in names}

    def check(self, *, as_json: bool) -> None:
        """Raise `ConfigError` for options that contradict each other."""
        if as_json and self.out == STDOUT:
            raise ConfigError("--json and --out - both want standard output; choose one")
        if self.no_film and self.out is not None:
            raise ConfigError(
                f"--no-film and --out {self.out} contradict each other; leave out one"
            )


class InputOptions(OptionGroup):
    """The part of a video to label, and how it is read."""

    panel = "Input"
    start: Start = "0"
    end: End = None
    stream: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Number of the video stream to label, of a file with several cameras.",
            show_default="the one marked as default, else the largest",
        ),
    ] = None
    fps: Annotated[
        str,
        typer.Option(
            metavar="RATE", help="Images a second of a folder of images, such as 25 or 30000/1001."
        ),
    ] = str(InferConfig.image_fps)
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT",
            help="Leave out a part of the picture: bonnet (all that never moves: bonnet, bars, "
            "clock), LEFT,TOP,WIDTH,HEIGHT in pixels, or a PNG that is white there; may be "
            "repeated.",
        ),
    ] = None
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first damage in the video.")
    ] = InferConfig.strict

    def settings(self) -> dict[str, Any]:
        """Return the fields of an `InferConfig` that they set.

        Raises:
            ConfigError: A time or the rate is not valid.
        """
        return {
            "start_s": parse_time(self.start, "--start"),
            "end_s": None if self.end is None else parse_time(self.end, "--end"),
            "stream": self.stream,
            "image_fps": parse_rate(self.fps),
            "ignore": tuple(self.ignore or ()),
            "strict": self.strict,
        }


class EncodingOptions(OptionGroup):
    """How videos are written; the fields are those of an `InferConfig`."""

    panel = "Encoding"
    codec: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Codec: h264, hevc, vp9, av1; h264:hw, hevc:hw for an encoder in hardware.",
            show_default="h264; in a .webm vp9",
            autocompletion=one_of(CODECS),
        ),
    ] = InferConfig.codec
    crf: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Quality, less is better.",
            show_default="by the codec, at most about 1.5 times the video's bit rate",
        ),
    ] = InferConfig.crf
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The encoder's trade of time for size: ultrafast..veryslow, or a number.",
            show_default="a quick one",
        ),
    ] = InferConfig.preset
    sound: Annotated[
        str,
        typer.Option(
            metavar="HOW",
            help="Sound: auto copies it where the format takes it and else encodes it; copy, aac "
            "(Opus in a .webm), none.",
            autocompletion=one_of(SOUNDS),
        ),
    ] = InferConfig.sound


class TerminalOptions(OptionGroup):
    """Messages about the run."""

    panel = "Terminal"
    quiet: Quiet = False
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", help="Also say where the time went, stage by stage."),
    ] = False
    as_json: AsJson = False

    @property
    def silent(self) -> bool:
        """Whether no messages are printed."""
        return self.quiet or self.as_json


@grouped
def infer(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="VIDEO",
            help="Videos to label: files, addresses (https, rtsp), folders of videos or of images, "
            "patterns such as 'drive/*.png' in quotes, or - for standard input.",
        ),
    ],
    output: OutputOptions,
    input_: InputOptions,
    positions: PositionOptions,
    overlay: OverlayOptions,
    model: ModelOptions,
    motion: MotionOptions,
    encoding: EncodingOptions,
    terminal: TerminalOptions,
) -> None:
    """Write a video's overlay: every frame with its classes in colour, sound and timing kept."""
    output.check(as_json=terminal.as_json)
    settings = {
        **output.settings(),
        **input_.settings(),
        **positions.settings(),
        **overlay.settings(),
        **model.settings(),
        **motion.settings(),
        **encoding.settings(),
    }
    with received(sources) as films:
        jobs = plan(films, output.out, output.beside, settings, no_film=output.no_film)
        if output.resume and model.is_left_open:
            from roadseg.infer.outputs import as_begun

            jobs = [as_begun(job) for job in jobs]
        run_all(jobs, terminal)


def run_all(jobs: Sequence[InferConfig], terminal: TerminalOptions) -> None:
    """Label one video after the other, and say how that went.

    Raises:
        RoadsegError: A mistake in the options, or in the only video.
        Exit: A video of several was not labelled.
    """
    _check(jobs)
    results, failed = _run_each(jobs, terminal)
    if terminal.as_json:
        summaries = [as_json(result) for result in results]
        echo(json.dumps(summaries if len(jobs) > 1 else summaries[0], indent=2))
    if failed:
        complain(f"{failed} of {len(jobs)} videos were not labelled")
        raise typer.Exit(1)


def _check(jobs: Sequence[InferConfig]) -> None:
    """Refuse a mistake in the options of several videos once, and before any is read."""
    if len(jobs) > 1:
        from roadseg.infer.output_checks import check_options
        from roadseg.infer.steps import check_model

        check_model(jobs[0])
        check_options(jobs[0])


def _run_each(
    jobs: Sequence[InferConfig], terminal: TerminalOptions
) -> tuple[list["InferResult"], int]:
    """Label one video after the other; of several, a bad one does not stop the rest."""
    results, failed = [], 0
    spared = [job.source for job in jobs]
    for number, job in enumerate(jobs, 1):
        place = f" ({number} of {len(jobs)})" if len(jobs) > 1 else ""
        try:
            result = _run(replace(job, spared=tuple(spared)), place, quiet=terminal.silent)
        except RoadsegError as error:
            if len(jobs) == 1:
                raise
            complain(error)
            failed += 1
            continue
        results.append(result)
        spared += filter(None, (job.out, job.stats, job.report, job.geojson))
        if not terminal.silent:
            show_result(result, job, verbose=terminal.verbose)
        for warning in result.warnings:
            complain(f"warning: {warning}")
    return results, failed


def _run(config: InferConfig, place: str, *, quiet: bool) -> "InferResult":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from roadseg.cli.tables import PaceColumn, quiet_elsewhere
    from roadseg.infer.offline import infer as label

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames"),
        PaceColumn(),
    )
    with Progress(*columns, **quiet_elsewhere(quiet=quiet)) as progress:
        name = f"{Path(str(config.source)).name}{place}"
        task = progress.add_task(name, start=False, total=None)

        def on_frame(done: int, total: int | None) -> None:
            progress.start_task(task)  # at the first frame
            progress.update(task, completed=done, total=total)

        try:
            return label(config, on_frame)
        except BaseException as error:  # Ctrl-C too
            has_begun = progress.tasks[task].completed or not isinstance(error, RoadsegError)
            if has_begun and (ending := _how_it_ended(error, config)):
                progress.console.print(f"stopped; {ending}", style="bold", soft_wrap=True)
            raise


def _how_it_ended(error: BaseException, config: InferConfig) -> str | None:
    """Return what is left of a video that was stopped; None if the error says enough."""
    from roadseg.infer.output_checks import is_file
    from roadseg.infer.output_places import FilePlace, SeriesPlace

    out = config.out
    if isinstance(error, BrokenPipeError):
        return "whoever read the video is gone"
    if isinstance(error, OutputBusy):
        return None  # the files are the other run's
    if is_file(out):
        place = FilePlace("--out", out, is_film=True)
        if all(map(os.path.lexists, (place.part, place.lock))):  # else it is a file of the user's
            without = "".join(f" without {flag}" for flag in config.unresumed)
            return (
                f"what was labelled so far is in {place.part}, and --resume{without} goes on from "
                "there"
            )
    elif out is not None and out != STDOUT:
        folder = SeriesPlace("--out", out).part.parent
        if os.path.lexists(folder):
            return f"the images so far are in {folder}"
    if isinstance(error, Exception):
        return None
    return "the video ends there" if out == STDOUT else "nothing was written"
