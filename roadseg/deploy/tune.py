"""Find out by trying which runtime labels fastest on this machine, and in which precision.

What is installed is tried, on one thread each, as the copies of a network in a pipeline run. What
counts is CPU time, which is steadier than the clock's where other programs run.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.backends.machine import has_bfloat16_units, has_int8_units
from roadseg.backends.runtimes import LOGITS, Backend, open_backend, stated_spec
from roadseg.backends.tuned import RUNTIMES, Choice, cache_folder, keep_choice
from roadseg.backends.weights import shipped_model
from roadseg.deploy.builders import Source, open_builder
from roadseg.errors import BackendUnavailable, RoadsegError
from roadseg.files import make_folder, move_all, output_errors, sha256_of
from roadseg.spec import BuildRecord

SECONDS = 6.0
"""Time to measure for, all candidates together."""
LEAST_ROUNDS = 5
"""Times that each is measured, however long that takes."""
SHAPE = (1, 384, 672, 3)
"""Frames as they come from videos of 16:9."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A way to run the included model."""

    backend: str
    precision: str
    weights: Path

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.backend}, {self.precision}"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What was found of a candidate."""

    candidate: Candidate
    cpu_ms: float | None = None
    """CPU time of a call, the median; None if it does not run."""
    error: str = ""
    """Why it does not."""

    def record(self) -> dict[str, Any]:
        """Return it as JSON values."""
        values = asdict(self.candidate) | {"weights": self.candidate.weights.name}
        return values | {"cpu_ms": self.cpu_ms and round(self.cpu_ms, 2), "error": self.error}


@dataclass(frozen=True)
class Tuned:
    """What was measured, and what was chosen by it."""

    trials: tuple[Trial, ...]
    choice: Choice


def tune(
    seconds: float = SECONDS,
    least_rounds: int = LEAST_ROUNDS,
    on_step: Callable[[str], None] = lambda _: None,
) -> Tuned:
    """Measure what is installed, and keep the fastest as this machine's choice.

    Args:
        seconds: Time to measure for.
        least_rounds: Times that each candidate is measured at least.
        on_step: Called with a few words on what is being done.

    Raises:
        BackendUnavailable: Nothing runs.
        OutputError: The cache folder cannot be written to.
    """
    on_step("making ready what is installed")
    with ExitStack() as stack:
        opened: dict[Candidate, Backend] = {}
        trials: dict[Candidate, Trial] = {}
        for candidate in candidates():
            try:
                opened[candidate] = stack.enter_context(closing(_opened(candidate)))
            except RoadsegError as error:
                trials[candidate] = Trial(candidate=candidate, error=str(error))
        on_step(f"measuring {len(opened)} ways to run the network")
        times_ms = _times_ms(opened, seconds, least_rounds)
    for candidate, found in times_ms.items():
        trials[candidate] = Trial(candidate=candidate, cpu_ms=float(np.median(found)))
    return _chosen(tuple(trials.values()))


def candidates() -> Iterator[Candidate]:
    """Yield the ways to run the included model, of the runtimes that are installed.

    In 8 bits it is tried where that is known to be exact, in bfloat16 where it is computed at all.
    """
    precisions = ("fp32", "int8") if has_int8_units() else ("fp32",)
    for runtime in filter(find_spec, RUNTIMES):
        for precision in precisions:
            weights = shipped_model(precision)
            yield Candidate(backend=runtime, precision=precision, weights=weights)
    if find_spec("openvino") and has_bfloat16_units():
        weights = cache_folder() / f"{shipped_model().stem}.bf16.xml"
        yield Candidate(backend="openvino", precision="bf16", weights=weights)


def _opened(candidate: Candidate) -> Backend:
    """Open a candidate, built first where its precision is the machine's own, and call it once."""
    if candidate.precision == "bf16":
        _build_bfloat16(candidate.weights)
    backend = open_backend(candidate.weights, candidate.backend, 1)
    backend.run(_picture(), LOGITS)
    return backend


def _build_bfloat16(out: Path) -> None:
    """Write the model for OpenVINO, to be computed in bfloat16."""
    builder, model = open_builder("openvino"), shipped_model()
    spec = stated_spec(model)
    assert spec is not None  # what is included was exported by us
    build = BuildRecord(
        source_sha256=sha256_of(model),
        runtime="openvino",
        runtime_version=builder.version(),
        device=builder.device(),
        precision="bf16",
        shape=(1, *spec.size_hw),
    )
    make_folder(out.parent)
    # A run that is under way reads its weights from the file, which must stay as it is.
    with output_errors(out), TemporaryDirectory(dir=out.parent) as folder:
        draft = Path(folder) / out.name
        builder.build(Source(model, model, replace(spec, build=build), ()), draft)
        move_all(draft, out)


def _picture() -> NDArray[np.uint8]:
    """Return something smooth in every colour, as a frame (1, H, W, 3)."""
    _, height, width, channels = SHAPE
    coarse = np.random.default_rng(0).integers(0, 256, (5, 9, channels), np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(smooth[None], np.uint8)


def _times_ms(
    opened: dict[Candidate, Backend], seconds: float, least_rounds: int
) -> dict[Candidate, list[float]]:
    """Measure candidates in turns, so that whatever slows the machine slows them alike."""
    picture, until_s = _picture(), time.monotonic() + seconds
    times_ms: dict[Candidate, list[float]] = {candidate: [] for candidate in opened}
    rounds = 0
    while opened and (rounds < least_rounds or time.monotonic() < until_s):
        for candidate, backend in opened.items():
            since_s = time.process_time()
            backend.run(picture, LOGITS)
            times_ms[candidate].append(1000 * (time.process_time() - since_s))
        rounds += 1
    return times_ms


def _chosen(trials: tuple[Trial, ...]) -> Tuned:
    """Choose the fastest and keep it.

    Raises:
        BackendUnavailable: Nothing runs.
    """
    timed = [(trial.cpu_ms, trial.candidate) for trial in trials if trial.cpu_ms is not None]
    if not timed:
        reasons = "; ".join(trial.error for trial in trials)
        raise BackendUnavailable(f"no runtime runs the model here ({reasons}); see roadseg doctor")
    fastest = min(timed, key=lambda found: found[0])[1]
    choice = Choice(weights=fastest.weights.resolve(), backend=fastest.backend)
    keep_choice(choice, [trial.record() for trial in trials])
    return Tuned(trials, choice)
