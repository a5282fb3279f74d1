"""The machines of a Ray cluster as workers: each task labels one chunk on one of them.

The driver keeps the account. Ray places tasks where cores are free and says what became of them;
it retries nothing. Machines see videos and outputs in the same folders, or the same buckets.
"""

import contextlib
import importlib
import ipaddress
import logging
import os
import pickle
import platform
import re
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from roadseg import __version__
from roadseg.backends.machine import core_count
from roadseg.errors import BackendUnavailable, ClusterError, ConfigError
from roadseg.infer.batch.on_node import absolute, pinned
from roadseg.infer.batch.own_folder import own_folder
from roadseg.infer.batch.relay import Relay
from roadseg.infer.batch.workers import Outcome, Task

LOCAL, AUTO = "local", "auto"
"""A cluster of this machine alone, for this run; and the one that this machine is part of."""
OUTSIDE = "ray://"
"""How the address of one begins that this machine is not part of."""
ADDRESS = re.compile(rf"({OUTSIDE})?(?P<host>[\w.-]+|\[[\da-fA-F:]+\]):(?P<port>\d{{1,5}})")
USUAL_THREADS = 2
"""Cores for a task. More of them would wait for each other, less would take more memory."""
AHEAD = 2
"""Tasks that are given away for each that can run at a time, so that no core waits for the next."""
TEMPORARY = Path("/tmp")  # noqa: S108  # folders in it are new and their user's alone
"""Where a cluster of this machine alone works: names of sockets have little room."""
STORE_BYTES = 80 << 20
"""Shared memory of a cluster of this machine alone: about the least, as it holds no pictures."""
ANSWER_S, CHECK_S = 10.0, 60.0
"""Seconds in which a cluster must answer, and after which it is seen whether it can work at all."""
ALONE = {"RAY_AUTH_MODE": "token", "RAY_prestart_worker_first_driver": "0"}
"""Settings of Ray for a cluster of this machine alone: no one else may use it, and processes
start when they have something to do."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",
}
"""Settings of Ray against messages to its makers and to the terminal."""
ON_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Setting of Ray which, being 0, keeps it from turning 127.0.0.1 into the address of a network."""
JOIN_IT = (
    "join this machine to the cluster with ray start --address=HOST:PORT, with the same Python, "
    "Ray and token as there, or give ray://HOST:10001 to stay outside"
)
LIKE_THERE = "see that Python, Ray, token and RAY_AUTH_MODE are the same as there, and try again"
TRY_AGAIN = (
    "Ray gives its daemons 15 seconds to start: try again when this machine is less busy, and see "
    "that /tmp has room"
)
"""What to do if a cluster cannot be joined, reached from outside, or started."""
JOIN = """
import sys, ray
try:
    ray.init(address=sys.argv[1], log_to_driver=False)
except Exception as error:
    print(error)
    sys.exit(1)
"""
"""Program that joins a cluster, and says why if that fails."""
VERSIONS = (__version__, "{}.{}".format(*sys.version_info))
"""Versions of roadseg and Python, which must be the same on all machines."""


class Cluster:
    """The machines of a cluster that this process is connected to, as `Workers`.

    Args:
        ray: The module.
        threads: Cores for each task; None goes by the machines.
        on_wait: Called with a sentence if no machine can take a task.
        relay: How what they make comes here; None where all see the same folders.

    Raises:
        ClusterError: No machine has so many cores.
    """

    def __init__(
        self,
        ray: Any,
        threads: int | None,
        on_wait: Callable[[str], None],
        relay: Relay | None = None,
    ) -> None:
        self._ray = ray
        self._relay = relay
        self._on_wait = on_wait
        cores = self._cores()  # none of a head that only keeps the others together
        self._threads = threads or min([USUAL_THREADS, *filter(None, cores)])
        self._task = ray.remote(
            max_retries=0, num_cpus=self._threads, scheduling_strategy="SPREAD"
        )(_portable())
        self._running = 0
        self._done: SimpleQueue[tuple[Task, Future[Any]]] = SimpleQueue()
        if not any(count >= self._threads for count in cores):
            raise ClusterError(
                f"a task takes {self._threads} cores, and no machine of the cluster has more than "
                f"{max(cores)} for Ray; give less with --threads, or have a machine with more join"
            )

    def has_room(self) -> bool:
        """Return whether fewer tasks than `AHEAD` are there for each that can run at a time."""
        return self._running < AHEAD * max(self._slots(), 1)

    def submit(self, task: Task) -> None:
        """Have Ray place a task."""
        config = pinned(absolute(task.config), self._threads, self._relay)
        options = {"num_gpus": 1} if task.config.device.startswith("cuda") else {}
        result = self._task.options(**options).remote(VERSIONS, pickle.dumps(config))
        result.future().add_done_callback(lambda future: self._done.put((task, future)))
        self._running += 1

    def next_done(self) -> tuple[Task, Outcome]:
        """Wait for the next task that ends.

        Raises:
            ClusterError: The cluster is gone, or a machine in it is not as it must be.
        """
        task, future = self._wait()
        self._running -= 1
        outcome = self._outcome(future)
        if isinstance(outcome.error, ClusterError) and not outcome.is_lost:
            raise outcome.error
        return task, outcome

    def _wait(self) -> tuple[Task, "Future[Any]"]:
        # On a queue and not in Ray, whose calls turn the exception of a signal into another.
        while True:
            try:
                return self._done.get(timeout=CHECK_S)
            except Empty:
                if not self._slots():
                    self._on_wait(
                        f"no machine of the cluster has {self._threads} cores for Ray any more; "
                        "waiting for one to join"
                    )

    def _outcome(self, future: "Future[Any]") -> Outcome:
        exceptions = self._ray.exceptions
        try:
            machine, versions, found = future.result()
        except exceptions.RayTaskError as error:  # a bug
            bug = error.cause if isinstance(error.cause, Exception) else error
            bug.add_note(error.traceback_str)
            return Outcome(machine="", error=bug)
        except exceptions.RayError as error:
            self._cores()  # asks whether the cluster is still there
            return Outcome(machine="", error=ClusterError(_loss(exceptions, error)), is_lost=True)
        if versions != VERSIONS:
            raise _other_versions(machine, versions)
        outcome: Outcome = found
        return outcome

    def _cores(self) -> list[int]:
        """Return the cores of each machine. Raises `ClusterError` if the cluster is gone."""
        try:
            nodes = self._ray.nodes()
        except Exception as error:  # Ray's errors for this share no base class but this
            raise ClusterError(
                f"the cluster is gone ({_first_line(error)}); start it anew, and then the same "
                "command: it goes on where it was"
            ) from error
        return [int(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]] or [0]

    def _slots(self) -> int:
        """Return how many tasks can run at a time."""
        return sum(cores // self._threads for cores in self._cores())


@contextlib.contextmanager
def cluster(
    where: str,
    threads: int | None,
    on_wait: Callable[[str], None],
    relay: Relay | None = None,
) -> Iterator[Cluster]:
    """Connect to a cluster, or start one on this machine, while the block lasts.

    Args:
        where: `LOCAL`, `AUTO`, host:port of the head, or ray://host:port to drive from outside.
        threads: Cores for each task; None goes by the machines.
        on_wait: Called with a sentence if no machine can take a task.
        relay: How what the machines make comes here; None where all see the same folders.

    Raises:
        ConfigError: It is none of these.
        BackendUnavailable: Ray is not installed.
        ClusterError: It cannot be reached or started.
    """
    address = ADDRESS.fullmatch(where)
    if address is None and where not in (LOCAL, AUTO):
        raise ConfigError(
            f"--cluster is {where!r}; give {LOCAL} for this machine alone, {AUTO} for the cluster "
            "that it is part of, or an address such as 10.0.0.1:6379 or ray://10.0.0.1:10001"
        )
    with contextlib.ExitStack() as stack:
        if address is not None:
            _check_answer(where, address["host"].strip("[]"), int(address["port"]))
        options = {"address": where}
        if where == LOCAL:
            options = _alone(stack.enter_context(own_folder(TEMPORARY)))
        ray = _import_ray(is_local=where == LOCAL or _is_loopback(address))
        if where != LOCAL and not where.startswith(OUTSIDE):
            _check_joined(where)
        stack.callback(ray.shutdown)
        _connect(ray, where, options)
        yield Cluster(ray, threads, on_wait, relay)


def _import_ray(*, is_local: bool) -> Any:
    """Import Ray, which reads its settings from the environment as it is imported."""
    os.environ.update(QUIET)
    if is_local:
        os.environ[ON_LOOPBACK] = "0"
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise BackendUnavailable(
            f"--cluster needs Ray ({error}); run: pip install '.[ray]' in a checkout of roadseg"
        ) from error
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    return ray


def _alone(folder: Path) -> dict[str, Any]:
    """Return settings of a cluster on loopback that only this run can use, without dashboard."""
    os.environ |= {**ALONE, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    return {
        "address": LOCAL,
        "num_cpus": core_count(),
        "include_dashboard": False,
        "object_store_memory": STORE_BYTES,
        "_temp_dir": str(folder),
    }


def _connect(ray: Any, where: str, options: dict[str, Any]) -> None:
    """Start or join a cluster. Raises `ClusterError`."""
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    try:
        with _signals_kept(), _silent():
            ray.init(**options, **quiet)
    except Exception as error:  # Ray's errors for this share no base class but this
        raise _unusable(where, _first_line(error)) from error


def _check_joined(where: str) -> None:
    """See that this machine is part of a cluster, in another process, which Ray ends if it is not.

    Raises:
        ClusterError: It is not.
    """
    command = [sys.executable, "-c", JOIN, where]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")  # noqa: S603
    if done.returncode:
        reason = done.stdout.strip().splitlines() or ["Ray finds no daemon of it on this machine"]
        raise _unusable(where, reason[0])


def _unusable(where: str, reason: str) -> ClusterError:
    advice = TRY_AGAIN if where == LOCAL else JOIN_IT
    if where.startswith(OUTSIDE):
        advice = LIKE_THERE
    return ClusterError(f"--cluster {where} cannot be used ({reason.rstrip('.')}); {advice}")


def _check_answer(where: str, host: str, port: int) -> None:
    """See that something listens at an address, for which Ray would wait long."""
    try:
        socket.create_connection((host, port), ANSWER_S).close()
    except (OSError, UnicodeError) as error:  # the latter at a name that no host can have
        raise ClusterError(
            f"--cluster {where} does not answer ({error}); start the head there with ray start "
            "--head, and see that this machine reaches it"
        ) from error


def _is_loopback(address: re.Match[str] | None) -> bool:
    host = address["host"].strip("[]") if address else ""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Restore what signals do, of which Ray makes its own."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Drop what is written to standard error, where Ray's libraries say what Ray raises as well."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123  # no path, a device
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _portable() -> Callable[..., Any]:
    """Return what a machine runs for a task, in a form that any version there can read."""

    def on_machine(versions: tuple[str, str], config: bytes) -> tuple[str, tuple[str, str], Any]:
        import pickle
        import platform
        import sys

        try:
            from roadseg import __version__ as version
        except ImportError:
            version = ""
        found = version, "{}.{}".format(*sys.version_info)
        if found != versions:
            return platform.node(), found, None
        from roadseg.infer.batch.on_node import label_on_node

        return platform.node(), found, label_on_node(pickle.loads(config))  # noqa: S301  # ours

    return on_machine


def _other_versions(machine: str, found: tuple[str, str]) -> ClusterError:
    version, python = found
    there = f"roadseg {version} with Python {python}" if version else f"no roadseg in its {python}"
    return ClusterError(
        f"{machine} has {there}, and {platform.node()} has roadseg {VERSIONS[0]} with Python "
        f"{VERSIONS[1]}; install the same on all machines"
    )


def _loss(exceptions: Any, error: Exception) -> str:
    """Say in a few words how a worker was lost."""
    if isinstance(error, exceptions.OutOfMemoryError):
        return "its machine ran out of memory"
    if isinstance(error, exceptions.NodeDiedError | exceptions.LocalRayletDiedError):
        return "its machine left the cluster"
    if isinstance(error, exceptions.WorkerCrashedError):
        return "its process was killed"
    return _first_line(error)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
