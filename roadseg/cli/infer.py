"""`roadseg infer`."""

import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Self
from urllib.parse import urlsplit

import typer

from roadseg.backends.weights import default_weights
from roadseg.cli.console import complain, echo
from roadseg.cli.options import (
    Alpha,
    AsJson,
    Backend,
    Classes,
    Every,
    FpsTarget,
    Legend,
    Only,
    Outline,
    Overwrite,
    Palette,
    Quiet,
    Realtime,
    Size,
    Steady,
    Weights,
    class_names,
    parse_rate,
    parse_size,
    parse_time,
)
from roadseg.errors import ConfigError, OutputBusy, RoadsegError
from roadseg.files import make_folder
from roadseg.infer.config import InferConfig
from roadseg.video.write.encoding import FORMATS, STDOUT, STILL_SUFFIXES

if TYPE_CHECKING:
    from roadseg.infer.offline import InferResult


LEAST_SHOWN_SHARE = 0.0005
"""Classes with less of the picture than this are left out of the summary's table."""


def infer(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="VIDEO",
            help="Films to label: files, addresses (https, rtsp), folders of images, patterns such "
            "as 'drive/*.png' in quotes, or - for standard input.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Film to write (.mp4, .mov, .mkv, .webm), or the folder for those of several "
            "films; a name such as frames/%06d.png (or .jpg) for images; - for standard output.",
            show_default="VIDEO.overlay.mp4 in the current folder; .mkv if VIDEO is one",
        ),
    ] = None,
    no_film: Annotated[
        bool, typer.Option("--no-film", help="Write no film, only --stats or --masks.")
    ] = False,
    weights: Weights = None,
    backend: Backend = InferConfig.backend,
    size: Size = None,
    steady: Steady = InferConfig.steady,
    every: Every = InferConfig.every,
    fps_target: FpsTarget = InferConfig.fps_target,
    realtime: Realtime = InferConfig.realtime,
    alpha: Alpha = InferConfig.alpha,
    classes: Classes = None,
    only: Only = None,
    palette: Palette = InferConfig.palette,
    outline: Outline = InferConfig.outline,
    legend: Legend = InferConfig.legend,
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="Put the original to the left.")
    ] = InferConfig.side_by_side,
    masks: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Also write each class map as a PNG of class ids; or give a name in .mkv for a "
            "lossless grey film of them.",
        ),
    ] = None,
    fps: Annotated[
        str, typer.Option(metavar="RATE", help="Images a second, such as 25 or 30000/1001.")
    ] = str(InferConfig.image_fps),
    stream: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Number of the video stream to label, of a file with several cameras.",
            show_default="the one marked as default, else the largest",
        ),
    ] = None,
    sound: Annotated[
        str,
        typer.Option(
            metavar="HOW",
            help="Sound: auto copies it where the format takes it and else encodes it; copy, aac "
            "(Opus in a .webm), none.",
        ),
    ] = InferConfig.sound,
    codec: Annotated[
        str | None,
        typer.Option(help="Codec: h264, hevc, vp9, av1.", show_default="h264; in a .webm vp9"),
    ] = None,
    crf: Annotated[
        int | None,
        typer.Option(
            help="Quality, less is better.",
            show_default="by the codec, at most about 1.5 times the film's bit rate",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="The encoder's trade of time for size: ultrafast..veryslow, or a number.",
            show_default="a quick one",
        ),
    ] = None,
    stats: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write what is in every frame (.jsonl or .csv): time, share of each class, "
            "boxes of poles, signs, cars and people. Of several films: drive.FILE, ...",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="Also write a page about the drive: the film, class shares over time, moments "
            "with people on the road. Of several films: drive.FILE.html, ...",
        ),
    ] = None,
    start: Annotated[
        str, typer.Option(metavar="TIME", help="Where to begin: seconds, or as 1:30 or 1:02:30.")
    ] = "0",
    end: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Where to stop, alike.", show_default="the end"),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first damage in the film.")
    ] = InferConfig.strict,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on from where an unfinished run with the same settings stopped."
        ),
    ] = InferConfig.resume,
    overwrite: Overwrite = InferConfig.overwrite,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write a film's overlay: every frame with its classes in colour, sound and timing kept."""
    settings = {
        "weights": weights or default_weights(),
        "backend": backend,
        "size_hw": parse_size(size) if size else None,
        "steady": steady,
        "every": every,
        "fps_target": fps_target,
        "realtime": realtime,
        "alpha": alpha,
        "classes": class_names(classes),
        "only": class_names(only),
        "palette": palette,
        "outline": outline,
        "legend": legend,
        "side_by_side": side_by_side,
        "image_fps": parse_rate(fps),
        "stream": stream,
        "sound": sound,
        "codec": codec,
        "crf": crf,
        "preset": preset,
        "start_s": parse_time(start, "--start"),
        "end_s": None if end is None else parse_time(end, "--end"),
        "strict": strict,
        "resume": resume,
        "overwrite": overwrite,
    }
    if as_json and out == STDOUT:
        raise ConfigError("--json and --out - both want standard output; choose one")
    if no_film and out is not None:
        raise ConfigError(f"--no-film and --out {out} contradict each other; leave out one")
    beside = Beside(masks=masks, stats=stats, report=report)
    with received(sources) as films:
        jobs = plan(films, out, beside, settings, no_film=no_film)
        results, failed = _run_all(jobs, silent=quiet or as_json)
    if as_json:
        summaries = [_as_json(result) for result in results]
        echo(json.dumps(summaries if len(jobs) > 1 else summaries[0], indent=2))
    if failed:
        complain(f"{failed} of {len(jobs)} films were not labelled")
        raise typer.Exit(1)


@contextlib.contextmanager
def received(sources: Sequence[str]) -> Iterator[list[Path | str]]:
    """Give films as `InferConfig` takes them; what comes on standard input is put into a file.

    Most formats can only be read by jumping about, and their sound is read beside the pictures.
    """
    from roadseg.video.read.source import named

    with contextlib.ExitStack() as stack:
        films: list[Path | str] = []
        for source in sources:
            if source == "-":
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                with (folder / "stdin").open("wb") as file:
                    shutil.copyfileobj(_standard_input(), file)
                films.append(folder / "stdin")
            else:
                films.append(named(source))
        yield films


def _standard_input() -> BinaryIO:
    """Return what is sent to the program.

    Raises:
        ConfigError: Nothing can be.
    """
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        raise ConfigError(
            "VIDEO is -, and standard input is a terminal, or closed; send a film to it"
        )
    return sys.stdin.buffer


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What is written beside a film, or beside each of several."""

    masks: Path | None
    """Folder, or film, of class maps; of several films, the folder of those."""
    stats: Path | None
    """File of what is in the frames; of several films, the end of its name."""
    report: Path | None
    """Page about the drive; of several films, the end of its name."""

    def of(self, film: str) -> Self:
        """Return the same for one of several films, given its name without a suffix."""
        return replace(
            self,
            masks=self.masks and self.masks / film,
            stats=self.stats and self.stats.with_name(f"{film}.{self.stats.name}"),
            report=self.report and self.report.with_name(f"{film}.{self.report.name}"),
        )


def plan(
    films: Sequence[Path | str],
    out: Path | None,
    beside: Beside,
    settings: Mapping[str, Any],
    *,
    no_film: bool,
) -> list[InferConfig]:
    """Return the settings for each film.

    Args:
        films: The films.
        out: Film to write, or the folder for those of several; None chooses a name.
        beside: What to write beside it.
        settings: All other settings.
        no_film: Write only what is beside it.

    Raises:
        ConfigError: A setting cannot be used, or two films would get the same name.
        OutputError: The folder for several films cannot be made.
    """
    if len(films) == 1:
        path = None if no_film else out or overlay_name(films[0])
        return [InferConfig(source=films[0], out=path, **vars(beside), **settings)]
    if out is not None and (out == STDOUT or out.suffix.lower() in (*FORMATS, *STILL_SUFFIXES)):
        raise ConfigError(f"--out is {out}, and there are {len(films)} films; give a folder")
    jobs: dict[str, InferConfig] = {}
    for film in films:
        overlay = overlay_name(film)
        name = overlay.stem.removesuffix(".overlay")
        if name in jobs:
            raise ConfigError(f"two films would be written to {overlay}; label them one by one")
        path = None if no_film else (out or Path()) / overlay
        jobs[name] = InferConfig(source=film, out=path, **vars(beside.of(name)), **settings)
    for folder in filter(None, (out, beside.masks)):
        make_folder(folder)
    return list(jobs.values())


def overlay_name(film: Path | str) -> Path:
    """Return the name of a film's overlay; an .mkv stays one, as it can hold what it held."""
    path = Path(urlsplit(str(film)).path) if isinstance(film, str) else film
    if any(w in path.name for w in "*?[") and not path.exists():
        path = path.parent  # the images of a folder
    suffix = ".mkv" if path.suffix.lower() == ".mkv" else ".mp4"
    return Path(f"{path.stem or path.resolve().stem or 'film'}.overlay{suffix}")


def _run_all(jobs: Sequence[InferConfig], *, silent: bool) -> tuple[list["InferResult"], int]:
    """Label one film after the other; of several, a bad one does not stop the rest."""
    results, failed = [], 0
    spared = [job.source for job in jobs]
    for number, job in enumerate(jobs, 1):
        place = f" ({number} of {len(jobs)})" if len(jobs) > 1 else ""
        try:
            result = _run(replace(job, spared=tuple(spared)), place, quiet=silent)
        except RoadsegError as error:
            if len(jobs) == 1:
                raise
            complain(error)
            failed += 1
            continue
        results.append(result)
        spared += filter(None, (job.out, job.stats, job.report))
        if not silent:
            _show(result, job)
        for warning in result.warnings:
            complain(f"warning: {warning}")
    return results, failed


def _run(config: InferConfig, place: str, *, quiet: bool) -> "InferResult":
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from roadseg.cli.tables import plain_console
    from roadseg.infer.offline import infer as label

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames"),
        TextColumn("{task.fields[fps]:5.1f} fps"),
        TimeRemainingColumn(),
    )
    console = plain_console(stderr=True)
    hidden = quiet or not console.is_terminal
    with Progress(*columns, console=console, disable=hidden, transient=True) as progress:
        task = progress.add_task(f"{Path(str(config.source)).name}{place}", total=None, fps=0.0)

        def on_frame(done: int, total: int | None) -> None:
            elapsed_s = progress.tasks[task].elapsed or 0
            fps = done / elapsed_s if elapsed_s else 0.0
            progress.update(task, completed=done, total=total, fps=fps)

        try:
            return label(config, on_frame)
        except BaseException as error:  # Ctrl-C and a full disk alike
            if ending := _how_it_ended(error, config.out):
                console.print(f"stopped; {ending}", style="bold", soft_wrap=True)
            raise


def _how_it_ended(error: BaseException, out: Path | None) -> str | None:
    """Return what there is of a film that was stopped; None if the error says enough."""
    from roadseg.infer.outputs import is_file
    from roadseg.infer.places import SeriesPlace
    from roadseg.video.write.part import part_path

    if isinstance(error, BrokenPipeError):
        return "whoever read the film is gone"
    if isinstance(error, OutputBusy):
        return None  # what there is comes from the other run
    if is_file(out):
        part = part_path(out)
        if part.exists():
            return f"what was labelled so far is in {part}, and --resume goes on from there"
    elif out is not None and out != STDOUT:
        folder = SeriesPlace("--out", out).part.parent
        if folder.exists():
            return f"the images so far are in {folder}"
    if isinstance(error, Exception):
        return None
    return "the film ends there" if out == STDOUT else "nothing was written"


def _show(result: "InferResult", config: InferConfig) -> None:
    from roadseg.cli.tables import class_share_table, plain_console, stage_table

    console = plain_console(stderr=config.out == STDOUT)
    name = "standard output" if config.out == STDOUT else config.out or config.source
    height, width = result.network_hw
    console.print(
        f"{name}: {result.frames} frames in {result.wall_s:.1f} s, "
        f"{result.fps:.1f} fps, network input {width}x{height}, {_looks(result)}",
        soft_wrap=True,
    )
    shares = {n: s for n, s in result.class_shares.items() if s >= LEAST_SHOWN_SHARE}
    console.print(class_share_table(shares, result.colors))
    console.print(stage_table(result.stages, result.bottleneck))


def _looks(result: "InferResult") -> str:
    """Say how many of the frames labelled now the network looked at."""
    labelled = result.frames - result.kept_frames
    which = (
        "every frame" if result.network_frames == labelled else f"{result.network_frames} frames"
    )
    return f"the network looked at {which}"


def _as_json(result: "InferResult") -> dict[str, object]:
    from dataclasses import asdict

    return {
        "out": None if result.out is None else str(result.out),
        "frames": result.frames,
        "kept_frames": result.kept_frames,
        "network_frames": result.network_frames,
        "wall_s": round(result.wall_s, 3),
        "fps": round(result.fps, 3),
        "network_size": {"height": result.network_hw[0], "width": result.network_hw[1]},
        "bottleneck": result.bottleneck,
        "stages": [asdict(stats) for stats in result.stages],
        "class_shares": result.class_shares,
        "warnings": list(result.warnings),
    }
