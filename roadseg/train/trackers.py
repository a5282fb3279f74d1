"""Experiment trackers, which get the metrics of each epoch.

All of them write into the run's folder and use no network, unless the user names a server. A
resumed run continues its records. Each tracker is an optional package, imported on demand.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any, Protocol

from roadseg.errors import BackendUnavailable, OutputError
from roadseg.files import replacing
from roadseg.spec import choose
from roadseg.train.config import TrainConfig

Record = Mapping[str, Any]
"""One epoch of a run's log."""
SERVER_OF_MLFLOW = "MLFLOW_TRACKING_URI"
"""Variable with the address of the user's server."""


class Tracker(Protocol):
    """A tracker of metrics."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Store the metrics of a step, named as in "val/iou/car"."""

    def close(self, error: BaseException | None) -> None:
        """Write what is pending; the error is that of the run, if it failed."""


def check_trackers(names: Sequence[str]) -> None:
    """Check early that the trackers of a run can be opened.

    Raises:
        ConfigError: There is no such tracker.
        BackendUnavailable: Its package is not installed.
    """
    for name in names:
        choose(TRACKERS, name, "--tracker")
        if find_spec(name) is None:
            raise _missing(name)


@contextmanager
def open_trackers(config: TrainConfig, step: int) -> Iterator[Callable[[Record], None]]:
    """Open the trackers of a run and yield a function that logs a record to all of them.

    Args:
        config: Settings, which name the trackers and the run's folder.
        step: Step from which the run goes on.

    Raises:
        ConfigError: There is no such tracker.
        BackendUnavailable: Its package is not installed.
        OutputError: MLflow's server or database fails, here or when a record is logged.
    """
    with ExitStack() as stack:
        trackers = []
        for name in dict.fromkeys(config.trackers):
            tracker = choose(TRACKERS, name, "--tracker")(config, step)
            stack.push(_closing(tracker))
            trackers.append(tracker)

        def track(record: Record) -> None:
            for tracker in trackers:
                tracker.log(flatten(record), record["step"])

        yield track


def _closing(tracker: Tracker) -> Callable[..., None]:
    """Return an exit callback for an `ExitStack`."""
    return lambda _kind, error, _traceback: tracker.close(error)


def flatten(record: Record, prefix: str = "") -> dict[str, float]:
    """Return the numbers of a record by path, such as "val/iou/car", without those in lists."""
    metrics: dict[str, float] = {}
    for name, value in record.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            metrics.update(flatten(value, f"{path}/"))
        elif isinstance(value, int | float):
            metrics[path] = float(value)
    return metrics


class _TensorBoard:
    """Event files for `tensorboard --logdir`."""

    def __init__(self, config: TrainConfig, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise _missing("tensorboard") from error
        # Events from after the checkpoint are hidden when a run goes on.
        self._writer = SummaryWriter(config.out / "tensorboard", purge_step=step + 1)
        self._writer.add_text("settings", f"```\n{json.dumps(config.to_dict(), indent=2)}\n```")

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self, error: BaseException | None) -> None:
        del error
        self._writer.close()


class _MLflow:
    """A run in a SQLite file in the run's folder, or on the user's server."""

    def __init__(self, config: TrainConfig, step: int) -> None:
        del step  # values of a repeated step are added
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when it is imported
        try:
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise _missing("mlflow") from error
        self._folder = config.out.resolve()
        # It logs every table that it creates.
        logging.getLogger("alembic").setLevel(logging.WARNING)
        self._database = self._folder / "mlflow.db"
        self._server = os.environ.get(SERVER_OF_MLFLOW)
        with self._errors():
            uri = self._server or f"sqlite:///{self._database}"
            self._client = MlflowClient(tracking_uri=uri)
            self._run_id = self._begun_run(config)

    def _begun_run(self, config: TrainConfig) -> str:
        """Return the id of the run, which is noted in the folder for when it goes on."""
        note = self._folder / "mlflow.run"
        if note.is_file():
            run_id = note.read_text()
            self._client.update_run(run_id, status="RUNNING")
            return run_id
        run_id = self._new_run(config)
        with replacing(note) as temporary:
            temporary.write_text(run_id)
        return run_id

    def _new_run(self, config: TrainConfig) -> str:
        found = self._client.get_experiment_by_name("roadseg")
        experiment_id = found.experiment_id if found else self._client.create_experiment("roadseg")
        run_id = self._client.create_run(experiment_id, run_name=self._folder.name).info.run_id
        for name, value in config.to_dict().items():
            self._client.log_param(run_id, name, value)
        return str(run_id)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Translate the errors of MLflow, whose messages may hold the password in an address."""
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (MlflowException, SQLAlchemyError) as error:
            reason = str(error).strip().partition("\n")[0]
            if self._server:
                reason = reason.replace(self._server.rstrip("/"), SERVER_OF_MLFLOW)
                advice = f"check {SERVER_OF_MLFLOW}, and that the server runs and knows the run"
            else:
                advice = f"move {self._database} and mlflow.run beside it away to start new ones"
            raise OutputError(f"--tracker mlflow failed ({reason}); {advice}") from error

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now_ms = round(time.time() * 1000)
        logged = [Metric(name, value, now_ms, step) for name, value in metrics.items()]
        with self._errors():
            self._client.log_batch(self._run_id, metrics=logged)

    def close(self, error: BaseException | None) -> None:
        failed = "FAILED" if isinstance(error, Exception) else "KILLED"  # by a signal
        status = "FINISHED" if error is None else failed
        with self._errors():
            self._client.set_terminated(self._run_id, status=status)


class _Neptune:
    """An offline run in the run's folder, to read or to sync to a server of one's own.

    Neptune's hosted service has closed, so nothing is sent unless NEPTUNE_MODE says so.
    """

    def __init__(self, config: TrainConfig, step: int) -> None:
        del step
        try:
            import neptune
        except ImportError as error:
            raise _missing("neptune") from error
        self._folder = config.out.resolve()
        # It links to a page that does not exist.
        logging.getLogger("neptune").setLevel(logging.WARNING)
        with _environment(NEPTUNE_DATA_DIRECTORY=str(self._folder / ".neptune")):
            self._run = neptune.init_run(
                mode=os.environ.get("NEPTUNE_MODE", "offline"),  # type: ignore[arg-type]
                custom_run_id=hashlib.sha256(str(self._folder).encode()).hexdigest()[:32],
                source_files=[],
                git_ref=False,
                capture_hardware_metrics=False,
                capture_stdout=False,
                capture_stderr=False,
                capture_traceback=False,
            )
        self._run["settings"] = neptune.utils.stringify_unsupported(config.to_dict())

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        for name, value in metrics.items():
            self._run[name].append(value=value, step=step)

    def close(self, error: BaseException | None) -> None:
        del error
        from neptune.types import File

        for path in sorted(self._folder.glob("*.html")) + sorted(self._folder.glob("*.jsonl")):
            # By content, as the offline run would store only the path of a file.
            self._run[f"files/{path.stem}"].upload(
                File.from_content(path.read_bytes(), extension=path.suffix[1:])
            )
        self._run.stop()


TRACKERS: dict[str, Callable[[TrainConfig, int], Tracker]] = {
    "neptune": _Neptune,
    "tensorboard": _TensorBoard,
    "mlflow": _MLflow,
}


def _missing(package: str) -> BackendUnavailable:
    return BackendUnavailable(
        f"--tracker {package}: the package is not installed; run: pip install '.[{package}]' in a "
        "checkout of roadseg"
    )


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set environment variables that the user has not set, while the block runs."""
    missing = [name for name in variables if name not in os.environ]
    os.environ.update({name: variables[name] for name in missing})
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]
