"""Label damaged films: does each end in a film or in a sentence?

    python benchmarks/fuzz.py --clips 500

Every clip is one of tests/cases, or a tiny film made here, with bytes flipped, its end cut off, or
a block cut out, doubled or zeroed. It is labelled by brightness, without a network, in processes of
their own, so that a crash is seen and named. The same seed gives the same clips.
"""

import argparse
import faulthandler
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import av

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from films import Film  # noqa: E402

from roadseg.backends.runtimes import BACKENDS, Runtime  # noqa: E402
from roadseg.errors import RoadsegError  # noqa: E402
from roadseg.infer.config import InferConfig  # noqa: E402
from roadseg.infer.offline import infer  # noqa: E402
from roadseg.measure.machine_record import machine_record  # noqa: E402
from roadseg.spec import ModelSpec  # noqa: E402

RECORD = ROOT / "benchmarks" / "fuzz" / "record.json"
CASES = ROOT / "tests" / "cases"
BATCH = 25
"""Clips that one process labels."""
LIMIT_S = 60
"""A clip that takes longer hangs: it takes a tenth of a second."""
LONGEST_S = 3600.0
"""No output may be longer; the clips have seconds."""
MADE = {
    ".mp4": Film(sounds=1),
    ".mov": Film(sounds=2, options=(("bf", "0"),)),
    ".mkv": Film(sounds=1, options=(("g", "4"),)),
    ".ts": Film(sounds=1, options=(("g", "4"),)),
    ".avi": Film(sounds=1, codec="mpeg4"),
    ".3gp": Film(sounds=1, codec="mpeg4"),
    ".webm": Film(codec="libvpx", options=(("b", "500000"),)),
}
"""Tiny films by suffix."""


@dataclass(frozen=True)
class Clip:
    """A damaged film to label."""

    base: str
    """The intact film's name."""
    damage: str
    """What was done to it."""
    source: str
    """Where it lies."""
    out: str
    """Where its overlay goes."""


@dataclass(frozen=True)
class Outcome:
    """How labelling a clip ended."""

    kind: str
    """`film` or `sentence`; or a fault: `traceback`, `crash`, `hang`, `sound`, `times`."""
    said: str
    """Frames, or what was said."""

    @property
    def is_fault(self) -> bool:
        """Whether it should not end so."""
        return self.kind not in ("film", "sentence")


def flip(data: bytearray, rng: random.Random) -> None:
    """Change some bytes."""
    for _ in range(rng.choice((1, 4, 16, 64))):
        data[rng.randrange(len(data))] = rng.randrange(256)


def cut_off(data: bytearray, rng: random.Random) -> None:
    """Leave out the end."""
    del data[rng.randrange(len(data)) :]


def cut_out(data: bytearray, rng: random.Random) -> None:
    """Leave out a block."""
    begin, end = _block(data, rng)
    del data[begin:end]


def double(data: bytearray, rng: random.Random) -> None:
    """Repeat a block."""
    begin, end = _block(data, rng)
    data[end:end] = data[begin:end]


def clear(data: bytearray, rng: random.Random) -> None:
    """Zero a block."""
    begin, end = _block(data, rng)
    data[begin:end] = bytes(end - begin)


DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip,
    cut_off,
    cut_out,
    double,
    clear,
)


def _block(data: bytearray, rng: random.Random) -> tuple[int, int]:
    begin = rng.randrange(len(data))
    return begin, min(begin + rng.choice((7, 188, 2000, 20000)), len(data))


def bases(folder: Path) -> list[Path]:
    """Return the intact films, of which the tiny ones are made in a folder."""
    made = [film.write(folder / f"tiny{suffix}") for suffix, film in MADE.items()]
    return [*made, *sorted(p for p in CASES.iterdir() if p.suffix in MADE)]


def make_clips(count: int, seed: int, folder: Path) -> Iterator[Clip]:
    """Write damaged films into a folder."""
    rng, films = random.Random(seed), bases(folder)  # noqa: S311
    for number in range(count):
        base, damage = films[number % len(films)], rng.choice(DAMAGES)
        data = bytearray(base.read_bytes())
        damage(data, rng)
        source = folder / f"{number}{base.suffix}"
        source.write_bytes(data)
        out = folder / f"{number}.out{rng.choice(('.mp4', '.mkv', '.mov'))}"
        yield Clip(base.name, damage.__name__, str(source), str(out))


def label(clip: Clip, weights: Path) -> Outcome:
    """Label a clip in this process."""
    config = InferConfig(
        source=Path(clip.source), out=Path(clip.out), weights=weights, size_hw=(32, 64), steady=0
    )
    try:
        frames = infer(config).frames
    except RoadsegError as error:
        return _refused(config, str(error))
    except Exception:
        return Outcome("traceback", traceback.format_exc())
    return _looked_at(Path(clip.out), frames)


def _refused(config: InferConfig, said: str) -> Outcome:
    """Tell a film that cannot be read from one that was refused for its sound."""
    try:
        infer(replace(config, sound="none", overwrite=True))
    except RoadsegError:
        return Outcome("sentence", said)
    return Outcome("sound", said)


def _looked_at(out: Path, frames: int) -> Outcome:
    """See that an output has its frames, one after the other and none for hours."""
    with av.open(out) as container:
        times = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    is_right = len(times) == frames and all(a < b for a, b in pairwise(times))
    is_right = is_right and times[-1] - times[0] < LONGEST_S
    return Outcome("film" if is_right else "times", f"{frames} frames, times {times[:3]}..")


def work() -> None:
    """Label the clips that come on standard input, and write down each before and after."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "brightness.json")
        weights.write_text(ModelSpec(arch="brightness", width=1).to_json())
        BACKENDS["brightness"] = Runtime((".json",), "brightness_backend", "")
        for line in sys.stdin:
            clip = Clip(**json.loads(line))
            faulthandler.dump_traceback_later(LIMIT_S, exit=True)
            outcome = label(clip, weights)
            faulthandler.cancel_dump_traceback_later()
            print(json.dumps(asdict(outcome)), flush=True)


def run(clips: list[Clip]) -> Iterator[Outcome]:
    """Label clips in other processes; yield how each ended."""
    while clips:
        batch = clips[:BATCH]
        lines = "".join(json.dumps(asdict(clip)) + "\n" for clip in batch)
        command = [sys.executable, __file__, "--work"]
        ended = subprocess.run(  # noqa: S603
            command, input=lines, capture_output=True, text=True, check=False
        )
        found = [Outcome(**json.loads(line)) for line in ended.stdout.splitlines()]
        yield from found
        if len(found) < len(batch):
            found.append(_died(ended))
            yield found[-1]
        for clip in batch[: len(found)]:
            for path in (clip.source, clip.out):
                Path(path).unlink(missing_ok=True)
        clips = clips[len(found) :]


def _died(ended: "subprocess.CompletedProcess[str]") -> Outcome:
    if ended.returncode < 0:
        return Outcome("crash", signal.Signals(-ended.returncode).name)
    kind = "hang" if "Timeout" in ended.stderr else "traceback"
    return Outcome(kind, ended.stderr[-3000:])


def fuzz(count: int, seed: int) -> dict[str, object]:
    """Label damaged films; return the record."""
    folder = Path(tempfile.mkdtemp())
    try:
        clips = list(make_clips(count, seed, folder))
        outcomes = list(run(clips))
    finally:
        shutil.rmtree(folder)
    pairs = list(zip(clips, outcomes, strict=True))
    return {
        "clips": count,
        "seed": seed,
        "outcomes": dict(sorted(Counter(outcome.kind for outcome in outcomes).items())),
        "by_film": {
            base: dict(sorted(Counter(o.kind for c, o in pairs if c.base == base).items()))
            for base in sorted({clip.base for clip in clips})
        },
        "faults": [
            {"number": number, "film": c.base, "damage": c.damage, **asdict(o)}
            for number, (c, o) in enumerate(pairs)
            if o.is_fault
        ],
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work()
        return
    record = fuzz(given.clips, given.seed)
    given.record.write_text(json.dumps({**record, "machine": machine_record()}, indent=2) + "\n")
    print(json.dumps({"outcomes": record["outcomes"], "faults": record["faults"]}, indent=2))
    sys.exit(bool(record["faults"]))


if __name__ == "__main__":
    main()
