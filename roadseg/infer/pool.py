"""Models that stay open between one use and the next."""

from collections.abc import Collection
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from roadseg.backends.runtimes import CLASS_MAP, Answer, Backend, Output, open_backend
from roadseg.spec import ModelSpec


class Pool:
    """Copies of a model, each lent to one thread at a time; as many as were in use at once.

    Args:
        keeps: Whether copies stay open; if not, each is closed when it is given back.
    """

    def __init__(self, *, keeps: bool = True) -> None:
        self.turn = Lock()
        """Held by whoever labels single pictures: one copy has all the cores for them."""
        self._lock = Lock()
        self._idle: dict[int | None, list[Backend]] = {}
        self._keeps = keeps

    def open_model(self, weights: Path, backend: str, threads: int | None = None) -> Backend:
        """Return a copy of the model, as `open_backend` does; closing it gives it back.

        All copies in a pool are of one model file and runtime.
        """
        with self._lock:
            idle = self._idle.get(threads)
            kept = idle.pop() if idle else None
        return _Lent(kept or open_backend(weights, backend, threads), threads, self)

    def give_back(self, backend: Backend, threads: int | None) -> None:
        """Take a copy back, which nobody uses any more."""
        with self._lock:
            if self._keeps:
                self._idle.setdefault(threads, []).append(backend)
                return
        backend.close()

    def close(self) -> None:
        """Close all copies, those in use when they are given back."""
        with self._lock:
            self._keeps = False
            idle = [backend for backends in self._idle.values() for backend in backends]
            self._idle.clear()
        for backend in idle:
            backend.close()


class _Lent:
    """A copy of the model in somebody's use."""

    def __init__(self, backend: Backend, threads: int | None, pool: Pool) -> None:
        self._backend = backend
        self._threads = threads
        self._pool = pool

    @property
    def spec(self) -> ModelSpec:
        """Classes, palette and default input size."""
        return self._backend.spec

    def run(self, frames: NDArray[np.uint8], wants: Collection[Output] = CLASS_MAP) -> Answer:
        """Run the network once, as `Backend.run` does."""
        return self._backend.run(frames, wants)

    def close(self) -> None:
        """Give the copy back."""
        self._pool.give_back(self._backend, self._threads)
