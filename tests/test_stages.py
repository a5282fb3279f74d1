import asyncio
import itertools
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import pytest
from conftest import patience
from hypothesis import given, settings
from hypothesis import strategies as st

from roadseg.infer.channel import Backlog, Channel
from roadseg.infer.loop_thread import LoopThread
from roadseg.infer.stages import Parallel, Pipeline, Stop, WatchThread


class Broken(Exception):
    pass


class Probe:
    """Counts, can fail at an item, and remembers on which threads it lived and died."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.fails_at = fails_at
        self.seen = 0
        self.opened_on = self.closed_on = 0

    def __call__(self, items: Iterator[int]) -> Iterator[int]:
        self.opened_on = threading.get_ident()
        try:
            for item in items:
                if self.seen == self.fails_at:
                    raise Broken(self.seen)
                self.seen += 1
                yield item
        finally:
            self.closed_on = threading.get_ident()


def pipeline_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("roadseg-")]


@given(
    count=st.integers(0, 30),
    stages=st.integers(1, 4),
    depth=st.integers(1, 4),
    failing=st.integers(0, 5),
    fails_at=st.integers(0, 30),
    stops_at=st.none() | st.integers(0, 30),
)
def test_every_ending_is_clean(
    count: int, stages: int, depth: int, failing: int, fails_at: int, stops_at: int | None
) -> None:
    probes = [Probe(fails_at if i + 1 == failing else None) for i in range(stages)]
    source = Probe(fails_at if failing == 0 else None)
    received: list[int] = []
    caught = None
    try:
        with Pipeline(source(iter(range(count))), *probes, depth=depth) as pipeline:
            for item in pipeline:
                received.append(item)
                if len(received) == stops_at:
                    break
    except Broken as error:
        caught = error
    assert not pipeline_threads()
    assert received == list(range(len(received)))  # order kept, nothing doubled or left out
    must_fail = failing <= stages and fails_at < count and (stops_at is None or stops_at == 0)
    if must_fail:
        assert caught is not None and len(received) <= fails_at
    elif stops_at is None or stops_at > count:
        assert caught is not None or received == list(range(count))
    if caught is not None:
        assert caught.args == (fails_at,)
        assert any("stage" in note for note in caught.__notes__)
    for probe in probes:
        assert probe.opened_on == probe.closed_on  # resources die on the thread they were made on


@given(depth=st.integers(1, 5), stages=st.integers(1, 3))
@settings(max_examples=20)
def test_no_more_items_are_alive_than_the_channels_hold(depth: int, stages: int) -> None:
    made = 0
    most_alive = 0

    def source() -> Iterator[int]:
        nonlocal made
        for item in range(60):
            made += 1
            yield item

    with Pipeline(source(), *(Probe() for _ in range(stages)), depth=depth) as pipeline:
        for done, _ in enumerate(pipeline):
            most_alive = max(most_alive, made - done)
    # Each channel holds `depth`, each stage one more, the reader one.
    assert most_alive <= (stages + 1) * (depth + 1) + 1


class Heavy:
    """An item that tells its bytes, as pictures do."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes


@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=40),
    most_bytes=st.integers(1, 30),
    stages=st.integers(1, 3),
    workers=st.integers(1, 3),
    held=st.integers(0, 4),
)
def test_source_waits_while_enough_bytes_wait_and_nothing_locks(
    sizes, most_bytes, stages, workers, held
) -> None:
    alive = most_alive = 0
    lock = threading.Lock()

    def change(by: int) -> None:
        nonlocal alive, most_alive
        with lock:
            alive += by
            most_alive = max(most_alive, alive)

    def source() -> Iterator[Heavy]:
        for size in sizes:
            change(size)
            yield Heavy(size)

    def holds_back(items: Iterator[Heavy]) -> Iterator[Heavy]:
        kept: list[Heavy] = []
        for item in items:
            kept.append(item)
            if len(kept) > held:
                yield kept.pop(0)
        yield from kept

    parallel = [Parallel(Probe(), workers) for _ in range(stages)]
    received: list[int] = []
    with Pipeline(source(), holds_back, *parallel, depth=9, most_bytes=most_bytes) as pipeline:
        for item in pipeline:
            received.append(item.nbytes)
            change(-item.nbytes)
    assert received == sizes
    # Beside what waits: what the source and the reader have, and what is in the stages' hands.
    in_hand = 2 + held + 1 + stages * workers
    assert most_alive < most_bytes + (in_hand + 1) * max(max(sizes), 1)


def test_a_large_item_finds_room_only_as_the_next() -> None:
    channel = Channel(9, Backlog(), most_bytes=8)
    channel.put(Heavy(8))
    waiting = threading.Thread(target=channel.put, args=(Heavy(8),))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()  # there are nine places, and it is too large for a second
    assert channel.get().nbytes == 8
    waiting.join(patience(10))
    assert not waiting.is_alive()


@pytest.mark.parametrize("workers", [1, 2])
def test_no_item_is_held_while_there_is_none_to_follow_it(workers) -> None:
    gone = threading.Event()

    def source() -> Iterator[Heavy]:
        first = Heavy(1)
        weakref.finalize(first, gone.set)
        yield first
        del first
        assert gone.wait(patience(10))
        yield Heavy(2)

    stage = Parallel(partial(map, lambda item: item), workers)
    with Pipeline(source(), stage, stage) as pipeline:
        assert next(pipeline).nbytes == 1
        assert next(pipeline).nbytes == 2


def test_source_that_waits_for_room_wakes_when_the_reader_leaves() -> None:
    with Pipeline(iter(lambda: Heavy(1), None), Probe(), most_bytes=1) as pipeline:
        next(pipeline)
    assert not pipeline_threads()


def test_camera_never_waits_however_much_does() -> None:
    made = threading.Event()

    def camera() -> Iterator[Heavy]:
        yield from (Heavy(1) for _ in range(100))
        made.set()
        yield Heavy(2)

    def slow(items: Iterator[Heavy]) -> Iterator[Heavy]:
        assert made.wait(patience(10))
        yield from items

    with Pipeline(camera(), slow, depth=1, most_bytes=1, newest=True) as pipeline:
        assert list(pipeline)[-1].nbytes == 2


@given(
    count=st.integers(0, 30),
    workers=st.integers(2, 4),
    depth=st.integers(1, 4),
    slow=st.sets(st.integers(0, 30)),
    fails_at=st.none() | st.integers(0, 30),
    stops_at=st.none() | st.integers(0, 30),
)
def test_parallel_stage_keeps_the_order_and_ends_cleanly(
    count, workers, depth, slow, fails_at, stops_at
) -> None:
    ends: list[bool] = []

    def double(items: Iterator[int]) -> Iterator[int]:
        thread = threading.get_ident()
        try:
            for item in items:
                if item == fails_at:
                    raise Broken(item)
                until = time.perf_counter() + (0.002 if item in slow else 0)
                while time.perf_counter() < until:
                    pass
                yield 2 * item
        finally:
            ends.append(thread == threading.get_ident())

    received: list[int] = []
    try:
        with Pipeline(range(count), Parallel(double, workers), Probe(), depth=depth) as pipeline:
            for item in pipeline:
                received.append(item)
                if len(received) == stops_at:
                    break
    except Broken as error:
        assert error.args == (fails_at,)
    else:
        assert len(received) == count or stops_at == len(received)
    assert received == list(range(0, 2 * len(received), 2))
    assert not pipeline_threads()
    assert all(ends)  # each worker's resources die on its own thread
    assert pipeline.stats[1].items >= len(received)


def test_parallel_stage_works_on_several_items_at_once() -> None:
    together = threading.Barrier(3, timeout=patience(10))

    def meet(items: Iterator[int]) -> Iterator[int]:
        for item in items:
            together.wait()
            yield item

    with Pipeline(range(6), Parallel(meet, 3), depth=1, names=["count", "meet"]) as pipeline:
        assert list(pipeline) == list(range(6))
    assert [(stats.name, stats.items) for stats in pipeline.stats] == [("count", 6), ("meet", 6)]


def test_quick_answers_wait_behind_a_slow_one_without_keeping_workers_from_the_next() -> None:
    slow = threading.Barrier(2, timeout=patience(10))

    def look(items: Iterator[int]) -> Iterator[int]:
        for item in items:
            if item % 4 == 0:
                slow.wait()  # two of these are at work at once, though three others lie between
            yield item

    with Pipeline(range(32), Parallel(look, 2), depth=4) as pipeline:
        assert list(pipeline) == list(range(32))


@pytest.mark.parametrize("too_many", [True, False])
def test_parallel_stage_that_breaks_its_promise_ends_in_an_error_and_not_in_a_hang(
    too_many,
) -> None:
    def broken(items: Iterator[int]) -> Iterator[int]:
        for item in items:
            if item != 3 or too_many:
                yield item
            if item == 3:
                yield item

    def lazy(items: Iterator[int]) -> Iterator[int]:
        for item in items:
            if item != 3:
                yield item

    with (
        pytest.raises(AssertionError),
        Pipeline(range(9), Parallel(broken if too_many else lazy, 2)) as pipeline,
    ):
        list(pipeline)
    assert not pipeline_threads()


def test_errors_of_all_workers_are_one_error() -> None:
    def cannot_open(_items: Iterator[int]) -> Iterator[int]:
        raise Broken("no model")
        yield

    with (
        pytest.raises(Broken, match="no model") as caught,
        Pipeline(range(9), Parallel(cannot_open, 3), names=["count", "model"]) as pipeline,
    ):
        list(pipeline)
    assert caught.value.__notes__ == ["in the pipeline's stage 'model'"]
    assert not pipeline_threads()


def test_none_is_an_item_like_any_other() -> None:
    with Pipeline(
        [None, None], lambda items: (item for item in items), names=["a", "b"]
    ) as pipeline:
        assert list(pipeline) == [None, None]


def test_stage_that_ends_early_stops_the_stages_before_it() -> None:
    source = Probe()

    def first_two(items: Iterator[int]) -> Iterator[int]:
        yield next(items)
        yield next(items)

    def forever() -> Iterator[int]:
        while True:
            yield 0

    with Pipeline(source(forever()), first_two, depth=1) as pipeline:
        assert list(pipeline) == [0, 0]
    assert source.closed_on


def test_error_of_a_stage_that_cannot_start_reaches_the_reader() -> None:
    def never_starts(_items: Iterator[int]) -> Iterator[int]:
        raise Broken("no such device")

    with pytest.raises(Broken, match="no such device"), Pipeline([1], never_starts) as pipeline:
        next(iter(pipeline))


def test_keyboard_interrupt_in_the_reader_joins_every_thread() -> None:
    with pytest.raises(KeyboardInterrupt), Pipeline(iter(int, 1), Probe()) as pipeline:
        next(pipeline)
        raise KeyboardInterrupt
    assert not pipeline_threads()


def test_thread_that_cannot_start_takes_the_others_with_it(monkeypatch) -> None:
    start = threading.Thread.start

    def second_fails(thread: threading.Thread) -> None:
        if thread.name.endswith("second"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", second_fails)
    pipeline = Pipeline(iter(int, 1), Probe(), depth=1, names=["first", "second"])
    with pytest.raises(RuntimeError, match="can't start"), pipeline:
        pass
    assert not pipeline_threads()


def beside() -> WatchThread:
    ended = threading.Event()
    return WatchThread(ended.wait, ended.set, "watch")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Pipeline(iter(int, 1), Probe(), names=["first", "second"]),
        lambda: LoopThread(asyncio.Event().wait, "loop"),
        beside,
    ],
    ids=["pipeline", "loop", "watch"],
)
def test_ctrl_c_while_a_thread_starts_leaves_none_behind(make) -> None:
    block = make()

    def break_off(frame, event, _arg) -> None:
        if event == "return" and frame.f_code is threading.Event.wait.__code__:  # it runs by now
            sys.setprofile(None)
            raise KeyboardInterrupt

    sys.setprofile(break_off)
    try:
        with pytest.raises(KeyboardInterrupt), block:
            pass
    finally:
        sys.setprofile(None)
    assert not pipeline_threads()


def test_time_of_a_slow_stage_is_counted_where_it_belongs() -> None:
    def slow(items: Iterator[int]) -> Iterator[int]:
        for item in items:
            until = time.perf_counter() + 0.01
            while time.perf_counter() < until:
                pass
            yield item

    def quick(items: Iterator[int]) -> Iterator[int]:
        yield from items

    with Pipeline(range(20), slow, quick, depth=1) as pipeline:
        assert len(list(pipeline)) == 20
    source_stats, slow_stats, quick_stats = pipeline.stats
    assert pipeline.bottleneck == slow_stats
    assert slow_stats.busy_s >= 0.2
    # How long the others are left to wait beside the spinning one is the interpreter's choice.
    assert source_stats.blocked_s > 10 * source_stats.busy_s
    assert quick_stats.starved_s > 10 * quick_stats.busy_s
    assert [stats.items for stats in pipeline.stats] == [20, 20, 20]


@pytest.mark.parametrize(("waiting", "kept"), [(1, [99]), (3, [97, 98, 99])])
def test_newest_item_wins_where_the_source_may_not_wait(waiting, kept) -> None:
    taken, all_made = threading.Event(), threading.Event()

    def camera() -> Iterator[int]:
        yield 0
        taken.wait()
        yield from range(1, 100)
        all_made.set()

    def slow(items: Iterator[int]) -> Iterator[int]:
        yield next(items)
        taken.set()
        all_made.wait()
        yield from items

    with Pipeline(camera(), slow, depth=1, newest=True, waiting=waiting) as pipeline:
        assert list(pipeline) == [0, *kept]
    assert pipeline.stats[0].items == 100 and pipeline.stats[0].blocked_s < 0.5


def test_source_that_waits_for_a_time_wakes_when_the_pipeline_ends() -> None:
    stop = Stop()

    def once_an_hour() -> Iterator[int]:
        while True:
            yield 0
            stop.wait(3600)

    with Pipeline(once_an_hour(), Probe(), stop=stop) as pipeline:
        assert next(pipeline) == 0
    assert not pipeline_threads()


def test_wait_that_is_not_stopped_ends_by_itself() -> None:
    since = time.monotonic()
    Stop().wait(0.02)
    assert time.monotonic() - since >= 0.02
    Stop().wait(-1)


def test_loop_runs_what_it_is_given_and_cancels_what_is_left() -> None:
    ended: list[str] = []
    called = threading.Event()

    async def forever(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async def main() -> None:
        task = asyncio.create_task(forever("task"))
        await forever("main")
        await task

    with LoopThread(main, "test") as loop:
        loop.call(called.set)
        assert called.wait(10)
        assert [t.name for t in pipeline_threads()] == ["roadseg-test"]
    assert sorted(ended) == ["main", "task"]
    assert not pipeline_threads()


def test_error_on_the_loop_reaches_the_thread_that_holds_it() -> None:
    async def main() -> None:
        raise Broken("port taken")

    with pytest.raises(Broken, match="port taken"), LoopThread(main, "test"):
        pass

    async def quiet() -> None:
        pass

    def fails() -> None:
        raise Broken("callback")

    with pytest.raises(Broken, match="callback"), LoopThread(quiet, "test") as loop:
        loop.call(fails)
    assert not pipeline_threads()


def test_loop_without_a_thread_is_closed(monkeypatch) -> None:
    made: list[asyncio.AbstractEventLoop] = []
    new = asyncio.new_event_loop

    def kept() -> asyncio.AbstractEventLoop:
        made.append(new())
        return made[-1]

    def fails(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        pass

    monkeypatch.setattr(asyncio, "new_event_loop", kept)
    monkeypatch.setattr(threading.Thread, "start", fails)
    with pytest.raises(RuntimeError, match="can't start"), LoopThread(main, "test"):
        pass
    assert [loop.is_closed() for loop in made] == [True]


def test_item_that_shrinks_while_it_waits_leaves_no_bytes_behind() -> None:
    backlog = Backlog()
    channel, item = Channel(4, backlog, most_bytes=8), SimpleNamespace(nbytes=8)
    for _ in range(2):
        channel.put(item)
        item.nbytes -= 1
        assert channel.get() is item
    waiting = threading.Thread(target=backlog.wait_below, args=(1,), daemon=True)
    waiting.start()
    waiting.join(patience(10))
    assert not waiting.is_alive()


def test_whatever_call_a_signal_breaks_off_no_lock_stays_held() -> None:
    for stop in itertools.count():
        channel, calls = Channel(4, Backlog()), itertools.count()
        channel.put("item")

        def break_off(_frame, event, _arg, stop=stop, calls=calls) -> None:
            # Python looks for signals as it enters a function and as it comes back from one.
            if event in ("call", "return", "c_return") and next(calls) == stop:
                raise KeyboardInterrupt

        sys.setprofile(break_off)
        try:
            channel.get()
        except KeyboardInterrupt:
            pass
        finally:
            sys.setprofile(None)
        with ThreadPoolExecutor(1) as other:
            other.submit(channel.cancel).result(timeout=10)
        if next(calls) <= stop:
            break
    assert stop > 10
