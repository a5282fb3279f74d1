"""Start a training run as several processes on this machine, its ranks, and end them together.

Ranks find each other by the variables that `torchrun` sets, so either may start them.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from roadseg.backends.machine import core_count
from roadseg.errors import ConfigError, PeerLost

LAUNCHER = "ROADSEG_LAUNCHER"
"""Variable with the process that started the ranks, with which they end."""
PATIENCE_S = 15.0
"""Seconds in which the other ranks have to end when one has; by NCCL they may wait for ever."""
PR_SET_PDEATHSIG = 1
"""Linux's option to be sent a signal when the parent ends."""

Rank = subprocess.Popen[bytes]


def own_rank() -> int:
    """Return the number of this process among those of the run, the first being 0."""
    return int(os.environ.get("RANK", 0))


def rank_count() -> int:
    """Return how many processes the run has, on all machines."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_rank() -> bool:
    """Return whether this process was started as a rank, by us or by `torchrun`."""
    return "RANK" in os.environ


def check_gpus(count: int) -> None:
    """Raise `ConfigError` if a machine has GPUs, but fewer than ranks."""
    import torch

    if 0 < torch.cuda.device_count() < count:
        raise ConfigError(
            f"{count} processes on this machine need a GPU each, and it has "
            f"{torch.cuda.device_count()}; choose --devices {torch.cuda.device_count()}"
        )


def launch(count: int) -> int:
    """Run this program once more as several ranks, with the same command line.

    Returns:
        The exit code of the first that failed, which has said why, or else 0.

    Raises:
        ConfigError: There are GPUs, but too few, or the system starts no more processes, or does
            not tell which of them ended.
        PeerLost: A rank was killed.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    if not hasattr(os, "waitid"):  # as on Windows, and on macOS before Python 3.13
        raise ConfigError(
            f"--devices {count} cannot start several processes on {sys.platform}; start them with "
            f"torchrun --nproc-per-node {count} -m roadseg train and the other options"
        )
    check_gpus(count)
    sys.stdout.flush()
    # At a port that the system chooses; one that we chose might be taken before it is used.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    ranks = _start_all(count, store.port)
    try:
        failed = _first_failed(ranks)
    except (KeyboardInterrupt, SystemExit) as leaving:
        heeded = signal.SIGINT if isinstance(leaving, KeyboardInterrupt) else signal.SIGTERM
        _send(ranks, heeded)
        _first_failed(ranks)
        _end(ranks)
        raise
    if failed is None:
        return 0
    killed = _end(ranks)
    if killed:
        raise PeerLost(
            f"process {ranks.index(killed[0])} of {count} was ended by "
            f"{signal.Signals(-killed[0].returncode).name}; systems send SIGKILL when memory runs "
            "out; the same command goes on from the last checkpoint"
        )
    return failed.returncode


def end_with_launcher() -> None:
    """Have Linux end this rank when the process that started it is gone, however it went."""
    if LAUNCHER in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != int(os.environ[LAUNCHER]):  # it was gone before that
            os.kill(os.getpid(), signal.SIGKILL)


def _start_all(count: int, port: int) -> list[Rank]:
    """Start all ranks, or none: a Ctrl-C in between, or a system without room, ends those begun.

    Raises:
        ConfigError: The system starts no more processes.
    """
    ranks: list[Rank] = []
    try:
        for rank in range(count):
            ranks.append(_start(rank, count, port))
    except BaseException as error:
        _send(ranks, signal.SIGTERM)
        _end(ranks)
        if not isinstance(error, OSError):
            raise
        raise ConfigError(
            f"process {len(ranks)} of {count} cannot be started ({error.strerror}); end other "
            "programs, or choose a smaller --devices"
        ) from error
    return ranks


def _start(rank: int, count: int, port: int) -> Rank:
    variables = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": count,
        "LOCAL_WORLD_SIZE": count,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "TORCHELASTIC_USE_AGENT_STORE": True,  # the store is ours; no rank opens one
        "TORCHELASTIC_RESTART_COUNT": 0,
        LAUNCHER: os.getpid(),
    }
    threads = {"OMP_NUM_THREADS": str(max(core_count() // count, 1))}
    environment = threads | os.environ | {name: str(value) for name, value in variables.items()}
    # In a session of their own: a Ctrl-C that reached them twice would be a second one.
    return subprocess.Popen(sys.orig_argv, env=environment, start_new_session=True)  # noqa: S603


def _first_failed(ranks: Sequence[Rank]) -> Rank | None:
    """Wait until all have ended well, or one has not; return that one."""
    running = {rank.pid: rank for rank in ranks if rank.poll() is None}
    while running:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        assert ended is not None  # that would be the answer to WNOHANG
        rank = running.pop(ended.si_pid)
        if rank.wait():
            return rank
    return None


def _end(ranks: Sequence[Rank]) -> list[Rank]:
    """Wait a while for all ranks to end, and kill the rest; return those that others killed."""
    until_s = time.monotonic() + PATIENCE_S
    for rank in ranks:
        with contextlib.suppress(subprocess.TimeoutExpired):
            rank.wait(max(until_s - time.monotonic(), 0))
    killed = [rank for rank in ranks if (rank.returncode or 0) < 0]
    _send(ranks, signal.SIGKILL)
    for rank in ranks:
        rank.wait()
    return killed


def _send(ranks: Sequence[Rank], number: signal.Signals) -> None:
    for rank in ranks:
        rank.send_signal(number)  # to none that has ended
