"""Tables that `roadseg bench` prints: medians over the rounds, in 80 columns."""

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from roadseg.measure.many_cores import CORES
from roadseg.measure.record import Record
from roadseg.measure.results import Round, has_energy, rounds_of, spread
from roadseg.measure.statistics import Interval
from roadseg.measure.targets import Change, Score, ceilings, scores_of

STYLES = {"met": "green", "not met": "red", "better": "green", "worse": "red"}
"""Colour of a verdict, by how it begins."""
MODEL_COLUMNS = (
    ("fps", "fps"),
    ("p50", "p50\nms"),
    ("p90", "p90\nms"),
    ("p95", "p95\nms"),
    ("p99", "p99\nms"),
    ("open", "open\nms"),
    ("first_call", "first\nms"),
    ("cpu", "CPU\nms"),
    ("peak_mb", "peak\nMB"),
)
FILM_COLUMNS = (
    ("fps", "fps"),
    ("whole_fps", "with\nstart"),
    ("first_frame", "first\ns"),
    ("p50", "p50\nms"),
    ("p95", "p95\nms"),
    ("cpu", "CPU\nms"),
    ("model_cpu", "model\nms"),
    ("outside_cpu", "else\nms"),
    ("peak_mb", "peak\nMB"),
)
STAGE_COLUMNS = (("fps", "fps"), ("cpu", "CPU ms"), ("peak_mb", "memory MB"))
ENERGY_COLUMNS = (("joules", "J a frame"),)
GPU_COLUMNS = (
    ("fps", "fps"),
    ("p50", "p50\nms"),
    ("p90", "p90\nms"),
    ("p99", "p99\nms"),
    ("copy_in", "in\nms"),
    ("compute", "compute\nms"),
    ("copy_out", "out\nms"),
)
GPU_LOAD_COLUMNS = (
    ("utilisation", "at work"),
    ("watts", "W"),
    ("gpu_joules", "J a frame"),
    ("sm_mhz", "MHz"),
    ("throttled", "held\ndown"),
    ("gpu_mb", "MB"),
)
GPU_MACHINE_COLUMNS = (
    ("tflops_half", "FP16\nTFLOP/s"),
    ("tflops_single", "FP32\nTFLOP/s"),
    ("gbytes", "copy\nGB/s"),
    ("gbytes_in", "in\nGB/s"),
    ("gbytes_out", "out\nGB/s"),
)
SHARES = ("dropped", "utilisation", "throttled")
"""Metrics that are shown in percent."""
LIVE_COLUMNS = (
    ("fps", "fps"),
    ("p50", "age p50\nms"),
    ("p95", "age p95\nms"),
    ("p99", "age p99\nms"),
    ("dropped", "dropped"),
)


def tables(record: Record) -> Iterator[Table]:
    """Yield all tables of a run, the targets last, where they stay in view."""
    rounds = rounds_of(record)
    by_job = {
        job: [name for name, case in record["contenders"].items() if case["job"] == job]
        for job in (
            *("model", "plain", "peer", "film", "loop", "live", "stages"),
            *("gpu", "gpu machine"),
        )
    }
    models = [*by_job["model"], *by_job["plain"], *by_job["peer"]]
    yield metric_table("The model alone, a call", rounds, models, MODEL_COLUMNS)
    films = [*by_job["loop"], *by_job["film"]]
    yield metric_table("Video to video, a frame once warm", rounds, films, FILM_COLUMNS)
    for stages in by_job["stages"]:
        yield stage_table(rounds, stages)
    if by_job["gpu"]:
        on_gpus = [name for name in by_job["film"] if "device" in record["contenders"][name]]
        loaded = [*by_job["gpu"], *on_gpus]
        yield metric_table("The model on a GPU, a query", rounds, by_job["gpu"], GPU_COLUMNS)
        yield metric_table("The GPU meanwhile", rounds, loaded, GPU_LOAD_COLUMNS)
        rates = by_job["gpu machine"]
        yield metric_table("GPUs by themselves", rounds, rates, GPU_MACHINE_COLUMNS)
    yield metric_table("Live: newest frame first", rounds, by_job["live"], LIVE_COLUMNS)
    yield ceiling_table(record)
    yield many_cores_table(record)
    if has_energy(record):
        yield metric_table("Energy", rounds, films, ENERGY_COLUMNS)
    yield target_table(scores_of(record))


def metric_table(
    title: str,
    rounds: Sequence[Round],
    cases: Sequence[str],
    columns: Sequence[tuple[str, str]],
) -> Table:
    """Return metrics of cases, a row each."""
    table = _table(title, "", *(heading for _, heading in columns))
    for case in cases:
        cells = [_cell(rounds, case, metric) for metric, _ in columns]
        table.add_row(case, *cells)
    return table


def stage_table(rounds: Sequence[Round], case: str) -> Table:
    """Return what each stage does when it runs alone; the model's share of one stage is in it."""
    device = case.removeprefix("stages")
    title = f"Each stage alone, a frame{device and ' on' + device}"
    table = _table(title, "", *(heading for _, heading in STAGE_COLUMNS))
    metrics = dict.fromkeys(metric for measured in rounds for metric in measured.get(case, {}))
    for stage in (name.removesuffix(" fps") for name in metrics if name.endswith(" fps")):
        cells = [_cell(rounds, case, f"{stage} {metric}") for metric, _ in STAGE_COLUMNS]
        table.add_row(stage, *cells)
        if stage == "segment":
            table.add_row("  of it the model", "", _cell(rounds, case, "model cpu"), "")
    return table


def ceiling_table(record: Record) -> Table:
    """Return what bounds pipeline and models, and how near they come."""
    table = _table("Ceilings", "", "fps", "reached", "by")
    table.columns[3].justify = "left"
    for ceiling in ceilings(record):
        limit, reached = ceiling.limit_fps.median, ceiling.reached.median
        table.add_row(ceiling.name, f"{limit:.1f}", f"{reached:.0%}", ceiling.by)
    return table


def many_cores_table(record: Record) -> Table:
    """Return how much of the pipeline is sequential, and what that allows on many cores."""
    told = record.get("many_cores", {})
    headings = (f"fps on\n{cores}" for cores in CORES)
    title = "Many cores: what the largest sequential stage allows"
    table = _table(title, "", "stage", "CPU\nms", "of all", *headings)
    for name, scaling in told.items():
        limits = (f"{scaling['fps'][str(cores)]:.1f}" for cores in CORES)
        share = f"{scaling['sequential_share']:.0%}"
        table.add_row(name, scaling["stage"], f"{scaling['sequential_ms']:.1f}", share, *limits)
    return table


def target_table(scores: Sequence[Score]) -> Table:
    """Return the targets and whether they are met."""
    table = _table("Targets (ratios within a round: median, 95 % interval)", "target", "wanted")
    table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("", min_width=7)
    for score in scores:
        goal = score.goal
        sign = "≥" if goal.at_least else "≤"
        wanted = f"{sign} {goal.limit:.2f}{goal.unit}"
        measured = "" if score.interval is None else interval(score.interval, goal.unit)
        table.add_row(goal.name, wanted, measured, score.verdict, style=_style(score.verdict))
    return table


def change_table(changes: Sequence[Change]) -> Table:
    """Return what changed from one run to another."""
    table = _table("Change, after over before", "", "before", "after")
    table.add_column("ratio (95 %)", justify="right", no_wrap=True)
    table.add_column("p", justify="right")
    table.add_column("")
    for change in changes:
        table.add_row(
            change.name,
            f"{change.before:.4g}",
            f"{change.after:.4g}",
            interval(change.ratio),
            f"{change.p:.3f}",
            change.verdict,
            style=_style(change.verdict),
        )
    return table


def interval(found: Interval, unit: str = "") -> str:
    """Return a median and where it lies."""
    return f"{found.median:.2f}{unit} ({found.low:.2f}..{found.high:.2f})"


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    first, *others = headings
    table.add_column(first, overflow="fold")
    for heading in others:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _cell(rounds: Sequence[Round], case: str, metric: str) -> str:
    found = spread(rounds, case, metric)
    if found is None:
        return "n/a"
    if metric in SHARES:
        return f"{found.median:.0%}"
    return f"{found.median:.1f}" if found.median < 1000 else f"{found.median:.0f}"


def _style(verdict: str) -> str | None:
    return STYLES.get(verdict.partition(",")[0])
