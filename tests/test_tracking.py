import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from roadseg.errors import BackendUnavailable, ConfigError, OutputError
from roadseg.train.config import TrainConfig
from roadseg.train.loop import train
from roadseg.train.trackers import TRACKERS, check_trackers, flatten, open_trackers

pytestmark = pytest.mark.filterwarnings("ignore")  # the trackers' own use of old interfaces
RECORDS = [
    {"epoch": 1, "step": 5, "lr": 0.1, "val": {"miou": 0.25, "iou": {"car": 0.5, "pole": None}}},
    {"epoch": 2, "step": 10, "lr": 0.2, "val": {"miou": 0.5, "iou": {"car": 0.75, "pole": 0.1}}},
]
Figures = dict[tuple[str, int], float]


def configured(tmp_path: Path, *trackers: str) -> TrainConfig:
    out = tmp_path / "run"
    out.mkdir(exist_ok=True)
    return TrainConfig(data=(str(tmp_path),), out=out, trackers=trackers, epochs=2)


def expected() -> Figures:
    return {(n, r["step"]): v for r in RECORDS for n, v in flatten(r).items()}


def in_tensorboard(out: Path) -> Figures:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    return {
        (tag, event.step): event.value
        for tag in events.Tags()["scalars"]
        for event in events.Scalars(tag)
    }


def in_mlflow(out: Path) -> Figures:
    with sqlite3.connect(out / "mlflow.db") as database:
        rows = database.execute("select key, step, value from metrics").fetchall()
        assert database.execute("select count(*) from runs").fetchone() == (1,)
        params = dict(database.execute("select key, value from params").fetchall())
    database.close()
    assert params["epochs"] == "2"
    return {(key, step): value for key, step, value in rows}


def in_neptune(out: Path) -> Figures:
    figures: Figures = {}
    for log in (out / ".neptune" / "offline").glob("run__*/data-1.log"):
        for operation in _json_objects(log.read_text()):
            if operation["obj"]["type"] == "LogFloats":
                name = "/".join(operation["obj"]["path"])
                for value in operation["obj"]["values"]:
                    figures[name, int(value["step"])] = value["value"]
    return figures


def _json_objects(text: str) -> list[dict[str, Any]]:
    decoder, position, found = json.JSONDecoder(), 0, []
    while position < len(text):
        value, end = decoder.raw_decode(text, position)
        found.append(value)
        position = end + 1
    return found


READERS = {"tensorboard": in_tensorboard, "mlflow": in_mlflow, "neptune": in_neptune}


@pytest.mark.parametrize("name", TRACKERS)
def test_figures_of_a_run_and_its_continuation_can_be_read_back(name, tmp_path) -> None:
    config = configured(tmp_path, name)
    for done, record in zip((0, 5), RECORDS, strict=True):
        with open_trackers(config, done) as track:
            track(record)
    assert READERS[name](config.out) == pytest.approx(expected())


def test_tracker_that_is_named_twice_gets_each_metric_once(tmp_path) -> None:
    config = configured(tmp_path, "tensorboard", "tensorboard")
    with open_trackers(config, 0) as track:
        track(RECORDS[0])
    assert len(list((config.out / "tensorboard").iterdir())) == 1


def test_neptune_keeps_copies_of_the_runs_files_without_a_network(tmp_path, monkeypatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    config = configured(tmp_path, "neptune")
    (config.out / "curves.html").write_text("<p>curves")
    with open_trackers(config, 0) as track:
        track(RECORDS[0])
    (config.out / "curves.html").unlink()
    (copy,) = (config.out / ".neptune").glob("offline/run__*/upload_path/*.html")
    assert copy.read_text() == "<p>curves"


def test_all_trackers_are_closed_when_training_fails(tmp_path) -> None:
    config = configured(tmp_path, "tensorboard", "mlflow")
    with pytest.raises(ZeroDivisionError), open_trackers(config, 0) as track:
        track(RECORDS[0])
        raise ZeroDivisionError
    assert in_tensorboard(config.out)["val/miou", 5] == 0.25
    assert in_mlflow(config.out)["val/miou", 5] == 0.25


@pytest.mark.parametrize(
    ("error", "status"), [(ZeroDivisionError, "FAILED"), (SystemExit, "KILLED")]
)
def test_mlflow_tells_how_a_run_ended(tmp_path, error, status) -> None:
    config = configured(tmp_path, "mlflow")

    def status_in_database() -> str:
        with sqlite3.connect(config.out / "mlflow.db") as database:
            ((found,),) = database.execute("select status from runs").fetchall()
        database.close()
        return found

    with pytest.raises(error), open_trackers(config, 0):
        raise error
    assert status_in_database() == status
    with open_trackers(config, 5):
        assert status_in_database() == "RUNNING"
    assert status_in_database() == "FINISHED"


def test_server_of_mlflow_that_does_not_answer_is_told_without_its_password(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9/")  # nothing listens
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with (
        pytest.raises(OutputError, match=r"--tracker mlflow failed .*check MLFLOW_TRACK") as said,
        open_trackers(configured(tmp_path, "mlflow"), 0),
    ):
        pass
    assert "secret" not in str(said.value) and "\n" not in str(said.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [("mlflow.run", "abc", "id=abc not found"), ("mlflow.db", "abc" * 999, "not a database")],
)
def test_mlflow_that_cannot_go_on_with_a_run_says_what_to_move_away(
    tmp_path, name, content, said
) -> None:
    config = configured(tmp_path, "mlflow")
    (config.out / name).write_text(content)
    with (
        pytest.raises(OutputError, match=rf"{said}.*\); move .*mlflow\.db and mlflow\.run"),
        open_trackers(config, 5),
    ):
        pass


def test_training_tells_every_tracker_what_it_logs(streets, tmp_path) -> None:
    sizes = {"width": 6, "crop_hw": (32, 32), "size_hw": (32, 32), "batch_size": 3}
    config = TrainConfig(
        data=(str(streets),),
        out=tmp_path / "run",
        pretrained=False,
        epochs=2,
        trackers=tuple(TRACKERS),
        **sizes,
    )
    log = train(config).log_path
    records = [json.loads(line) for line in log.read_text().splitlines()]
    logged = {(n, r["step"]): v for r in records for n, v in flatten(r).items()}
    assert len(logged) > 20
    for name, reader in READERS.items():
        assert reader(config.out) == pytest.approx(logged, rel=1e-6), name


def test_unknown_tracker_is_refused_with_the_known_ones(tmp_path) -> None:
    with (
        pytest.raises(ConfigError, match="neptune, tensorboard, mlflow"),
        open_trackers(configured(tmp_path, "wandb"), 0),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("neptune", "neptune"),
        ("tensorboard", "torch.utils.tensorboard"),
        ("mlflow", "mlflow.tracking"),
    ],
)
def test_missing_package_is_named_with_the_command(name, module, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    if module == name:
        with pytest.raises(BackendUnavailable, match="not installed"):
            check_trackers(["tensorboard", name])
    with (
        pytest.raises(BackendUnavailable, match=rf"pip install '\.\[{name}\]'"),
        open_trackers(configured(tmp_path, name), 0),
    ):
        pass
