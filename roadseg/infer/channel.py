"""What joins the stages of a pipeline: bounded queues, and what waits in all of them together.

A signal's handler may raise in the main thread at any call. So `with` holds the lock itself, taken
and released in one step, and not the condition, whose methods are Python functions: left in the
middle of one, the lock would be held for ever, and no thread would end.
"""

import threading
from typing import Any, NamedTuple

QUEUE_BYTES = 8 << 20
"""Bytes from which on a queue is full: one picture in 4K, two or three at 1080p."""


class Cancelled(BaseException):
    """Raised at a channel's ends when the pipeline stops early.

    Not an `Exception`, so that a stage that catches those does not catch this by mistake.
    """


class Backlog:
    """The bytes of all items that wait in a pipeline's channels, for its source to go by.

    So what grows on its way is bounded as a whole, wherever it piles up. Only the source waits for
    it, and whatever lies in a channel leaves it sooner or later: nothing can lock.
    """

    def __init__(self) -> None:
        self._bytes = 0
        self._cancelled = False
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)

    def wait_below(self, most_bytes: int) -> None:
        """Wait until fewer bytes than these wait. Raises `Cancelled`."""
        with self._lock:
            while self._bytes >= most_bytes and not self._cancelled:
                self._changed.wait()
            if self._cancelled:
                raise Cancelled

    def add(self, count: int) -> None:
        """Count the bytes of an item that begins to wait."""
        with self._lock:
            self._bytes += count

    def remove(self, count: int) -> None:
        """Count them no more."""
        with self._lock:
            self._bytes -= count
            self._changed.notify_all()

    def cancel(self) -> None:
        """Wake whoever waits."""
        with self._lock:
            self._cancelled = True
            self._changed.notify_all()


class _Waiting(NamedTuple):
    """An item in a channel."""

    item: Any
    bytes: int
    """What the item said of itself as it came, as arrays do; it may hold more or less since."""


class Channel:
    """A bounded queue whose end is a state and not an item.

    Args:
        depth: Items that may wait.
        backlog: Counts those that do.
        most_bytes: Bytes of waiting items from which on only the next to be taken may be added.
        newest: Let a new item take the place of the oldest rather than wait for room.
    """

    def __init__(
        self, depth: int, backlog: Backlog, *, most_bytes: int = QUEUE_BYTES, newest: bool = False
    ) -> None:
        self._items: dict[int, _Waiting] = {}
        self._depth = depth
        self._newest = newest
        self._backlog = backlog
        self._bytes, self._most_bytes = 0, most_bytes
        self._next_in = 0
        self._next_out = 0
        self._taken = 0
        self._ended = False
        self._cancelled = False
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)

    def put(self, item: Any, turn: int | None = None) -> None:
        """Add an item; make room or wait for it. Raises `Cancelled`.

        Args:
            item: What to add.
            turn: How many items come before it, where they are not added in their order. The one
                that is to be taken next always has room.
        """
        with self._lock:
            while not self._has_room(turn) and not self._cancelled:
                self._changed.wait()
            if self._cancelled:
                raise Cancelled
            if len(self._items) == self._depth:  # only the newest may come in then
                self._pop()
            waiting = _Waiting(item, int(getattr(item, "nbytes", 0)))
            self._backlog.add(waiting.bytes)
            self._bytes += waiting.bytes
            self._items[self._next_in if turn is None else turn] = waiting
            self._next_in += 1
            self._changed.notify_all()

    def _has_room(self, turn: int | None) -> bool:
        number = self._next_in if turn is None else turn
        if self._newest or number == self._next_out:
            return True
        return number < self._next_out + self._depth and self._bytes < self._most_bytes

    def _pop(self) -> Any:
        """Take out the next item."""
        item, count = self._items.pop(self._next_out)
        self._backlog.remove(count)
        self._bytes -= count
        self._next_out += 1
        return item

    def get(self) -> Any:
        """Take the next item; wait for one. Raises `Cancelled`, and `StopIteration` at the end."""
        return self.take()[1]

    def take(self) -> tuple[int, Any]:
        """Take the next item as `get` does, with the number of those taken before it."""
        with self._lock:
            while self._next_out not in self._items and not self._ended and not self._cancelled:
                self._changed.wait()
            if self._cancelled:
                raise Cancelled
            if self._next_out not in self._items:
                raise StopIteration
            item = self._pop()
            self._taken += 1
            self._changed.notify_all()
            return self._taken - 1, item

    def end(self) -> None:
        """Say that no item will follow."""
        with self._lock:
            self._ended = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """Drop what waits and wake both ends."""
        with self._lock:
            self._cancelled = True
            while self._items:
                self._backlog.remove(self._items.popitem()[1].bytes)
            self._changed.notify_all()
