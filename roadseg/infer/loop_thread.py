"""An asyncio event loop on a thread of its own, for what waits on many things at once."""

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

from roadseg.infer.stages import WatchThread


class LoopThread:
    """An asyncio event loop on a thread of its own, for as long as a block lasts.

    Leaving the block cancels every task of the loop, waits for their ends and joins the thread.
    Only then is the first error of a task or callback raised, so that nothing else stops for it.
    Ctrl-C does not hide it.

    Args:
        main: Makes the coroutine to run; tasks that it starts live on after it.
        name: Name of the thread.
    """

    def __init__(self, main: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self._main = main
        self._stopping = asyncio.Event()
        self._error: BaseException | None = None
        self._thread = WatchThread(self._run, lambda: self.call(self._stopping.set), name)

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._note_error)
        try:
            self._thread.__enter__()
        except RuntimeError:  # the system starts no more threads
            self._loop.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._thread.__exit__(kind, error, traceback)
        if self._error and not (kind and issubclass(kind, Exception)):
            raise self._error

    def call(self, function: Callable[[], None]) -> None:
        """Have the loop call a function soon."""
        self._loop.call_soon_threadsafe(function)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        main = asyncio.create_task(self._main())
        main.add_done_callback(self._note_end)
        await self._stopping.wait()

    def _note_end(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled():
            self._error = self._error or task.exception()

    def _note_error(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Keep the first error that asyncio reports; a report without one is only a log line."""
        error = context.get("exception")
        if not isinstance(error, asyncio.CancelledError):  # asyncio reports those of its streams
            self._error = self._error or error
