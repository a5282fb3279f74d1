"""`roadseg bench`."""

import json
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roadseg.backends.weights import DEFAULT_MODEL, weights_named
from roadseg.cli.completion import backends, models
from roadseg.cli.console import complain, echo
from roadseg.cli.option_groups import OptionGroup, grouped
from roadseg.cli.options import AsJson, Overwrite, Quiet, Report, parse_size
from roadseg.errors import ConfigError
from roadseg.measure.config import BenchConfig, Scenario
from roadseg.segmentation.config import CPU
from roadseg.spec import choose

if TYPE_CHECKING:
    from rich.console import Console

    from roadseg.measure.advice import Advice
    from roadseg.measure.record import Record

SAMPLE = Path(__file__).parent.parent.parent / "samples" / "drive.mp4"
"""The sample clip, where this is a checkout."""
FILM_SIZES = {"1080p": (1080, 1920), "4k": (2160, 3840)}
"""Heights and widths that `--video-size` knows by name."""
CUDA_GRAPHS = {"on": (True,), "off": (False,), "both": (True, False)}
"""Ways to start a call on a GPU, by what `--cuda-graph` is given."""
LEAST_IDLE = 0.1
"""Share of the cores that other processes may use without a warning."""


class OutputOptions(OptionGroup):
    """Where the results go."""

    panel = "Output"
    record: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Also write all samples to a file."),
    ] = None
    report: Report = None
    overwrite: Overwrite = False
    quiet: Quiet = False
    as_json: AsJson = False

    def check_new(self) -> None:
        """Raise `OutputError` for a file that exists or has another suffix."""
        from roadseg.files import check_new

        for flag, path, suffix in (
            ("--record", self.record, ".json"),
            ("--report", self.report, ".html"),
        ):
            if path:
                check_new(path, flag, (suffix,), overwrite=self.overwrite)

    def refuse_files(self) -> None:
        """Raise `ConfigError` if files are to be written where nothing is measured."""
        for flag, path in (("--record", self.record), ("--report", self.report)):
            if path:
                raise ConfigError(
                    f"{flag} is {path}, and --compare measures nothing to write; leave out one of "
                    "them, or keep the comparison with --json"
                )

    def save(self, measured: "Record") -> None:
        """Write the files that are wanted."""
        from roadseg.files import replacing
        from roadseg.measure.bench_page import bench_page

        if self.record:
            with replacing(self.record) as temporary:
                temporary.write_text(json.dumps(measured) + "\n")
        if self.report:
            with replacing(self.report) as temporary:
                temporary.write_text(bench_page(measured), encoding="utf-8")


@grouped
def bench(
    clip: Annotated[
        Path | None,
        typer.Argument(
            metavar="CLIP", help="Video to measure on.", show_default="the sample, in a checkout"
        ),
    ] = None,
    video_size: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Enlarge the video first: 1080p, 4k or WxH.",
            show_default="the video's own size",
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Model, the reference first; may be repeated.",
            show_default=f"the forms of {DEFAULT_MODEL}",
            autocompletion=models,
        ),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Runtime; may be repeated.",
            show_default="all there are but torch-compiled",
            autocompletion=backends,
        ),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WxH",
            help="Network input; may be repeated.",
            show_default="by the video's aspect ratio",
        ),
    ] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(
            metavar="N", help="Frames a call of the model alone; may be repeated.", show_default="1"
        ),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="GPU to measure on beside the CPU, as cuda:1, or cpu for none; may be repeated.",
            show_default="cuda:0, where there is one",
        ),
    ] = None,
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="How a model on a GPU is asked: single, offline or streams=K; may be repeated.",
            show_default="single and offline",
        ),
    ] = None,
    cuda_graph: Annotated[
        str | None,
        typer.Option(
            metavar="on|off|both",
            help="Start a call on a GPU as one CUDA graph.",
            show_default="as the runtime does",
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="auto",
            help="Also measure TensorRT's engines, built where they are missing.",
            show_default="no",
        ),
    ] = None,
    peer: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.xml",
            help="Also measure OpenVINO's road-segmentation-adas-0001.",
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            metavar="FPS", help="The camera's rate in live mode.", show_default="the video's"
        ),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Times that everything is measured, in turns.",
            show_default=f"{BenchConfig.rounds}",
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="How much of the video to label.",
            show_default=f"{BenchConfig.film_s:g}",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A short run of about a minute; too short for claims.")
    ] = False,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="OLD.json NEW.json",
            help="Measure nothing; compare the metrics of two records.",
        ),
    ] = None,
    *,
    output: OutputOptions,
) -> None:
    """Measure the model alone, the whole pipeline and a plain loop, in turns, against targets."""
    from roadseg.cli.tables import plain_console

    console = plain_console(quiet=output.quiet)
    if compare:
        from roadseg.measure.record_file import read_record

        output.refuse_files()
        before, after = map(read_record, compare)
        _compare(before, after, console, as_json=output.as_json)
        return
    lengths = {"rounds": rounds, "film_s": seconds}
    given: dict[str, Any] = {name: value for name, value in lengths.items() if value is not None}
    config = BenchConfig(
        film=clip or _sample(),
        film_hw=_film_size(video_size),
        weights=tuple(map(weights_named, weights or ())),
        backends=tuple(backend or ()),
        sizes_hw=tuple(map(parse_size, size or ())),
        batches=tuple(batch or (1,)),
        gpus=_gpus(device),
        scenarios=tuple(map(Scenario.parse, scenario)) if scenario else BenchConfig.scenarios,
        cuda_graphs=choose(CUDA_GRAPHS, cuda_graph, "--cuda-graph") if cuda_graph else (None,),
        builds_engines=_builds_engines(engine),
        peer=peer,
        rate=rate,
        **given,
    )
    if quick:
        config = replace(config.shortened(), **given)
    output.check_new()
    measured = _measure(config, quiet=output.quiet)
    output.save(measured)
    if output.as_json:
        echo(json.dumps(measured))
    else:
        _show(measured, console)


def _gpus(given: list[str] | None) -> tuple[str, ...]:
    """Return the GPUs to measure on; unless some are named, the first if there is one."""
    if given:
        named = ("cuda:0" if name == "cuda" else name for name in given if name != CPU)
        return tuple(dict.fromkeys(named))
    from roadseg.measure.machine_record import gpu_names

    if not gpu_names() or find_spec("torch") is None:
        return ()
    from roadseg.infer.device_cuda import refusal

    return () if refusal("cuda") else ("cuda:0",)


def _builds_engines(given: str | None) -> bool:
    if given not in (None, "auto"):
        raise ConfigError(
            f"--engine is {given!r}; use auto, which builds what is missing, or give an engine "
            "that there is with --weights"
        )
    return given == "auto"


def _film_size(given: str | None) -> tuple[int, int] | None:
    """Return the height and width that the video is to have; None leaves it as it is."""
    if given is None:
        return None
    return FILM_SIZES.get(given.lower()) or parse_size(given, "--video-size", 2)


def _sample() -> Path:
    if not SAMPLE.is_file():
        raise ConfigError(
            "there is no CLIP, and no sample beside an installed roadseg; name a video"
        )
    return SAMPLE


def _measure(config: BenchConfig, *, quiet: bool) -> "Record":
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from roadseg.cli.tables import quiet_elsewhere
    from roadseg.measure.bench import bench as measure

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, **quiet_elsewhere(quiet=quiet)) as progress:
        task = progress.add_task("opening the video", total=None)
        return measure(config, lambda step: progress.update(task, description=step))


def _show(record: "Record", console: "Console") -> None:
    from roadseg.cli import bench_tables
    from roadseg.measure.advice import advice_on
    from roadseg.measure.results import has_energy, others_share

    film = record["film"]
    gpus = "".join(f", {name}: {gpu['name']}" for name, gpu in record["gpus"].items())
    console.print(
        f"{film['name']}, {film['size_hw'][1]}x{film['size_hw'][0]}, on {record['machine']['cpu']} "
        f"with {record['machine']['cores']} cores{gpus}; reference {record['reference']}; rounds "
        f"{len(record['rounds'])}; medians over rounds",
    )
    for table in bench_tables.tables(record):
        console.print(table)
    for name, check in record["checks"].items():
        if "error" in check:
            console.print(f"not measured: {name}: {check['error']}")
    for name, result in record["rounds"][0]["results"].items():
        if "error" in result:
            console.print(f"not measured: {name}: {result['error']}")
    if not has_energy(record):
        console.print("energy of the CPU: not available on this machine")
    if advice := advice_on(record):
        _show_advice(advice, console)
    others = others_share(record)
    if others is not None and others > LEAST_IDLE:
        complain(
            f"warning: other processes took {others:.0%} of the cores; what depends on free "
            "cores, such as the pipeline's efficiency, was not to be had"
        )


def _show_advice(advice: "Advice", console: "Console") -> None:
    low, high = advice.fps.low, advice.fps.high
    console.print(
        f"On this machine take {advice.weights} with {advice.runtime} on {advice.device}; "
        f"expect {advice.fps.median:.1f} frames a second ({low:.1f} to {high:.1f}), "
        f"{advice.realtime:.1f} times the video's own rate:"
    )
    console.print(f"  {advice.command}", soft_wrap=True)


def _compare(before: "Record", after: "Record", console: "Console", *, as_json: bool) -> None:
    from roadseg.cli import bench_tables
    from roadseg.measure.targets import changes, differences

    others, changed = differences(before, after), changes(before, after)
    if as_json:
        rows = [{**asdict(change), "verdict": change.verdict} for change in changed]
        echo(json.dumps({"differences": others, "changes": rows}))
        return
    for difference in others:
        console.print(difference)
    console.print(bench_tables.change_table(changed))
