"""Generators on threads of their own, joined by bounded channels. Knows no video and no model.

A stage is a function from an iterator to an iterator. It opens what it needs with `with` in its own
body, so each resource lives and dies on one thread. What is guaranteed:

- Items keep their order, and at most `depth` wait between two stages, fewer where they are large.
- The source adds no item while `most_bytes` wait between stages, all of them together.
- The first error of any stage is raised as itself in the reading thread, with a note that names the
  stage, after every item that had passed the last stage was handed out or dropped.
- Leaving the `with` block joins every thread, whether the items ran out, a stage raised, the reader
  broke off or Ctrl-C came. Generators are closed on their own threads, so their `with` blocks end.
- Nothing polls and nothing sleeps.

A `for` loop holds its item until the next one comes, and a picture in 4K takes 12 MB. So a stage
that makes one item of another is a `map`, and one that passes items on lets go of each; tracking
alone keeps the last frame.

A stage that gives one item for each that it takes, and needs only that one, can run on several
threads at once (`Parallel`): each takes the next item when it is free. Their results wait for those
before them, `depth` at most, and then for their turn.

Where the world sets the pace, as a camera does, `newest=True` lets the source run freely: of the
items that no stage has taken yet only the newest is kept. A source that must wait for a time waits
on a `Stop`, which wakes it when the pipeline ends. `WatchThread` is for what waits beside the rest,
`roadseg.infer.loop_thread` for what waits on many things at once, as a server does.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from roadseg.infer.channel import Backlog, Cancelled, Channel

Stage = Callable[[Iterator[Any]], Iterable[Any]]

MOST_BYTES = 16 << 20
"""Bytes that may wait in a pipeline before its source does: one or two pictures in 4K."""


@dataclass(frozen=True)
class Parallel:
    """A stage on several threads, each of which calls it anew."""

    stage: Stage
    """Must yield one item for each that it takes, before it takes another."""
    workers: int
    """Threads, at least one."""

    def __post_init__(self) -> None:
        """Check that somebody is there to do the work."""
        assert self.workers >= 1


@dataclass
class StageStats:
    """What a stage did with its time; of a stage on several threads, the mean of their times."""

    name: str
    items: int = 0
    """Items handed on."""
    busy_s: float = 0.0
    """Seconds at work."""
    starved_s: float = 0.0
    """Seconds waiting for the stage before it."""
    blocked_s: float = 0.0
    """Seconds waiting for room behind it, the items before its own included."""
    cpu_s: float = 0.0
    """CPU seconds of the stage's own threads, all together; a library's are not in it."""
    parallel: bool = False
    """Whether several threads can share it, however many did."""


def _merged(workers: list[StageStats]) -> StageStats:
    return StageStats(
        name=workers[0].name,
        items=sum(stats.items for stats in workers),
        busy_s=sum(stats.busy_s for stats in workers) / len(workers),
        starved_s=sum(stats.starved_s for stats in workers) / len(workers),
        blocked_s=sum(stats.blocked_s for stats in workers) / len(workers),
        cpu_s=sum(stats.cpu_s for stats in workers),
        parallel=workers[0].parallel,
    )


class Stop:
    """The end of a pipeline, for a stage that waits for a time rather than for an item."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Wake whoever waits, now and from now on."""
        self._event.set()

    def wait(self, seconds: float) -> None:
        """Wait. Raises `Cancelled` as soon as the pipeline ends."""
        if self._event.wait(max(seconds, 0.0)):
            raise Cancelled


class _Inlet:
    """The iterator a stage reads from; counts the time it waits."""

    def __init__(self, channel: Channel, stats: StageStats) -> None:
        self._channel = channel
        self._stats = stats
        self.number = -1
        """How many items were taken, by whichever thread, before the last one taken here."""
        self.taken = 0
        """Items taken here."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        since = time.perf_counter()
        try:
            self.number, item = self._channel.take()
            self.taken += 1
            return item
        finally:
            self._stats.starved_s += time.perf_counter() - since


class Pipeline:
    """A source and stages on threads of their own; iterating it yields what the last stage yields.

    Args:
        source: Iterable that feeds the first stage; a generator is started on its own thread.
        stages: Functions from iterator to iterator, in order, some of them perhaps `Parallel`.
        depth: Items that may wait between two stages.
        most_bytes: Bytes of waiting items from which on the source waits.
        names: Names of the source and the stages for notes and statistics; None takes the
            functions' own.
        newest: Never let the source wait; only its newest items wait for the first stage.
        waiting: How many these are.
        stop: Set when the pipeline ends.
    """

    def __init__(
        self,
        source: Iterable[Any],
        *stages: Stage | Parallel,
        depth: int = 4,
        most_bytes: int = MOST_BYTES,
        names: list[str] | None = None,
        newest: bool = False,
        waiting: int = 1,
        stop: Stop | None = None,
    ) -> None:
        parts = [Parallel(lambda _: source, 1), *map(_as_parallel, stages)]
        names = names or [_name(source), *(_name(part.stage) for part in parts[1:])]
        shared = [False, *(isinstance(stage, Parallel) for stage in stages)]
        self._stats = [
            [StageStats(name, parallel=is_shared) for _ in range(part.workers)]
            for name, part, is_shared in zip(names, parts, shared, strict=True)
        ]
        self._backlog = Backlog()
        self._most_bytes = None if newest else most_bytes
        depths = [waiting if newest else depth, *(depth for _ in stages)]
        self._channels = [
            Channel(depth, self._backlog, newest=newest and index == 0)
            for index, depth in enumerate(depths)
        ]
        self._stop_waiting = stop or Stop()
        self._error: BaseException | None = None
        self._error_raised = False
        self._lock = threading.Lock()
        self._at_work = [part.workers for part in parts]
        self._threads = [
            threading.Thread(
                target=self._run, args=(index, part, worker), name=f"roadseg-{names[index]}"
            )
            for index, part in enumerate(parts)
            for worker in range(part.workers)
        ]

    def __enter__(self) -> Self:
        try:
            for thread in self._threads:
                thread.start()
        except BaseException:  # no thread to be had, or Ctrl-C between two of them
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()
        if kind is None:
            self._raise_error()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return self._channels[-1].get()
        except Cancelled:
            pass  # so that the stage's error does not seem to come of this one
        self._raise_error()
        raise StopIteration

    @property
    def stats(self) -> list[StageStats]:
        """What the source and each stage did; complete once the block is left."""
        return [_merged(workers) for workers in self._stats]

    @property
    def bottleneck(self) -> StageStats:
        """The stage that was at work longest, for which the others waited."""
        return max(self.stats, key=lambda stats: stats.busy_s)

    def _run(self, index: int, part: Parallel, worker: int) -> None:
        """Drive one stage to its end on this thread, or one worker of it."""
        stats, outlet = self._stats[index][worker], self._channels[index]
        inlet_channel = self._channels[index - 1] if index else None
        inlet = _Inlet(inlet_channel, stats) if inlet_channel else None
        started_s, started_cpu_s = time.perf_counter(), time.thread_time()
        try:
            self._pump(part, inlet, outlet, stats)
        except Cancelled:
            outlet.cancel()
        except BaseException as error:  # whatever it is, the reading thread must hear of it
            self._fail(error, stats.name)
        finally:
            if self._is_last_at_work(index):
                outlet.end()
                if inlet_channel:
                    inlet_channel.cancel()  # a stage that ends early stops those before it
            total_s = time.perf_counter() - started_s
            stats.busy_s = total_s - stats.starved_s - stats.blocked_s
            stats.cpu_s = time.thread_time() - started_cpu_s

    def _is_last_at_work(self, index: int) -> bool:
        """Note that a worker of a stage is done; return whether all of them are."""
        with self._lock:
            self._at_work[index] -= 1
            return not self._at_work[index]

    def _pump(
        self, part: Parallel, inlet: _Inlet | None, outlet: Channel, stats: StageStats
    ) -> None:
        """Move a stage's items to the next channel; close its generator whatever happens."""
        items = part.stage(inlet or iter(()))
        turns = inlet if part.workers > 1 else None
        try:
            for item in items:
                since = time.perf_counter()
                try:
                    if inlet is None and self._most_bytes is not None:
                        self._backlog.wait_below(self._most_bytes)
                    # With a result too few, the reader would wait for ever.
                    assert turns is None or turns.taken == stats.items + 1
                    outlet.put(item, turns.number if turns else None)
                finally:
                    stats.blocked_s += time.perf_counter() - since
                stats.items += 1
                del item  # it would be held until there is another
            assert turns is None or turns.taken == stats.items
        finally:
            if isinstance(items, Generator):
                items.close()

    def _fail(self, error: BaseException, stage: str) -> None:
        with self._lock:
            if self._error is None:
                error.add_note(f"in the pipeline's stage {stage!r}")
                self._error = error
        self._cancel()

    def _stop(self) -> None:
        """Cancel every channel and wait for every thread that was started."""
        self._cancel()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _cancel(self) -> None:
        self._stop_waiting.set()
        self._backlog.cancel()
        for channel in self._channels:
            channel.cancel()

    def _raise_error(self) -> None:
        with self._lock:
            error, raised = self._error, self._error_raised
            self._error_raised = True
        if error is not None and not raised:
            raise error


class WatchThread:
    """A function on a thread of its own, for as long as a block lasts.

    Leaving the block waits for the function's end.

    Args:
        watch: The function, which must not raise.
        end: Has the function return; called when the block is left.
        name: Name of the thread.
    """

    def __init__(self, watch: Callable[[], None], end: Callable[[], object], name: str) -> None:
        self._end = end
        self._thread = threading.Thread(target=watch, name=f"roadseg-{name}")

    def __enter__(self) -> Self:
        try:
            self._thread.start()
        except BaseException:  # no thread to be had, or Ctrl-C while it starts
            self._leave()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        self._end()
        if self._thread.is_alive():
            self._thread.join()


def _as_parallel(stage: Stage | Parallel) -> Parallel:
    return stage if isinstance(stage, Parallel) else Parallel(stage, 1)


def _name(part: object) -> str:
    return getattr(part, "__name__", type(part).__name__)
