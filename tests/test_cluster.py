"""Machines of a Ray cluster label a batch: what is lost is begun anew, and nothing else is."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import ROOT, WEIGHTS, ended, patience, skip_or_fail, wait_until
from films import Film, frame_times, packets, pictures

from roadseg.backends.runtimes import Replicas, replicas_for
from roadseg.cli import app
from roadseg.errors import BackendUnavailable, ClusterError, ConfigError, RoadsegError
from roadseg.infer.batch.cluster import VERSIONS, Cluster, _check_joined, _portable, cluster
from roadseg.infer.batch.on_node import absolute, label_on_node, pinned
from roadseg.infer.batch.own_folder import own_folder
from roadseg.infer.config import InferConfig
from roadseg.infer.offline import infer
from roadseg.infer.stats import read_stats
from roadseg.video.objects import objects_in, storage
from roadseg.video.url import Url

SECONDS = tuple(range(0, 1000, 10))
OPEN_GROUPS = (("g", "12"), ("bf", "3"), ("x264-params", "open-gop=1:scenecut=0"))
FILMS = {
    "sound": Film(times=SECONDS, sounds=2, options=(("g", "10"),)),
    "variable rate": Film(
        times=tuple(t + t // 10 % 3 for t in SECONDS if t % 70), sounds=1, options=(("g", "8"),)
    ),
    "open groups": Film(times=SECONDS, sounds=1, options=OPEN_GROUPS),
}
SIZE = "224x160"
QUIET = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "of-this-test" * 3}
ON_LOOPBACK = {**os.environ, **QUIET, "OMP_NUM_THREADS": "1", "COLUMNS": "100", "TERM": "dumb"}


def ray_or_skip() -> None:
    try:
        import ray  # noqa: F401
    except ImportError:
        skip_or_fail("no Ray; pip install '.[ray]'", "ROADSEG_REQUIRE_RAY")


class Machines:
    """Two machines of a cluster, which end with their process."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process
        self.address = process.stdout.readline().strip()

    def remove_one(self) -> None:
        """Take a machine away, as if its plug were pulled."""
        self._process.stdin.write("remove\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "removed\n"


@contextmanager
def two_machines(env: dict[str, str]) -> Iterator[Machines]:
    with tempfile.TemporaryDirectory(  # the names of Ray's sockets have little room
        prefix="ray-", dir="/tmp", ignore_cleanup_errors=True
    ) as folder:
        command = [sys.executable, str(ROOT / "tests" / "ray_machines.py"), folder]
        pipe = subprocess.PIPE
        with ended(
            subprocess.Popen(
                command, env=ON_LOOPBACK | env, text=True, stdin=pipe, stdout=pipe, stderr=pipe
            )
        ) as process:
            machines = Machines(process)
            assert machines.address, process.stderr.read()
            yield machines
            process.stdin.close()
            process.wait(patience(60))


@pytest.fixture(scope="module")
def cluster_and_keys(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Machines, dict[str, str]]]:
    """Two machines for all tests here, the last of which takes one away; and keys to storage."""
    ray_or_skip()
    from storage import access, served

    folder = tmp_path_factory.mktemp("machines")
    with served() as (_, address):
        keys = access(address, folder)
        with two_machines(keys | {"XDG_CACHE_HOME": str(folder)}) as machines:
            yield machines, keys
    assert not list(folder.rglob("batch/tasks/*"))  # where the machines work for a bucket


@contextmanager
def driver(
    folder: Path, address: str, source: str = "films", out: str = "out", **env: str
) -> Iterator[subprocess.Popen]:
    """`roadseg batch` on a cluster, a core and 30 seconds of video for each task."""
    options = f"--cluster {address} --threads 1 --chunk 30 --attempts 9 --size {SIZE}"
    outputs = f"--out {out} --stats stats.csv --masks ids.mkv --weights {WEIGHTS}"
    command = [str(Path(sys.executable).with_name("roadseg")), "batch", source]
    with ended(
        subprocess.Popen(
            [*command, *options.split(), *outputs.split()],
            cwd=folder,
            env=ON_LOOPBACK | env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    ) as process:
        yield process


def chunks(folder: Path, state: str) -> list[tuple[str, int]]:
    """The chunks that the manifest has a word on, in the order of the words."""
    path = folder / "out" / "manifest-0-of-1.jsonl"
    whole = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
    records = [record for record in map(json.loads, whole) if record.get("state") == state]
    return [(record["film"], record["chunk"]) for record in records if "chunk" in record]


def workers() -> list[int]:
    """The processes that label at the moment, by the title that Ray gives them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            title, environment = path.read_bytes(), path.with_name("environ").read_bytes()
        except OSError:
            continue
        if title.startswith(b"ray::on_machine") and QUIET["RAY_AUTH_TOKEN"].encode() in environment:
            found.append(int(path.parent.name))
    return found


def kill_one_that_labels() -> None:
    for number in workers():
        os.kill(number, signal.SIGSTOP)
        if number in workers():
            os.kill(number, signal.SIGKILL)
            return
        os.kill(number, signal.SIGCONT)


def alone(folder: Path, name: str) -> InferConfig:
    """The settings of a run over one film in this process, as the batch's are."""
    place = folder / "alone" / name
    place.mkdir(parents=True)
    width, height = map(int, SIZE.split("x"))
    return InferConfig(
        source=folder / "films" / f"{name}.mp4",
        out=place / f"{name}.overlay.mp4",
        stats=place / f"{name}.stats.csv",
        masks=place / f"{name}.ids.mkv",
        weights=WEIGHTS,
        size_hw=(height, width),
    )


def assert_same(out: Path, config: InferConfig) -> None:
    """Numbers, times, class maps, statistics and sound are those of one run."""
    joined = out / config.out.name
    assert frame_times(joined) == frame_times(config.out)
    with av.open(config.out) as container:
        voices = len(container.streams.audio)
    assert voices
    for number in range(voices):
        assert packets(joined, "audio", number) == packets(config.out, "audio", number)
    assert frame_times(out / config.masks.name) == frame_times(config.masks)
    pairs = zip(pictures(out / config.masks.name), pictures(config.masks), strict=True)
    assert np.mean([np.mean(one != other) for one, other in pairs]) <= 1e-4
    pairs = zip(read_stats(out / config.stats.name), read_stats(config.stats), strict=True)
    for mine, other in pairs:
        assert (mine.pts, mine.time_s) == (other.pts, other.time_s)
        assert mine.shares == pytest.approx(other.shares, abs=1e-3)


@pytest.mark.usefixtures("heeds_signals")
@pytest.mark.timeout(300)
def test_machines_that_share_no_folder_hand_over_through_a_bucket(
    cluster_and_keys, tmp_path, monkeypatch
) -> None:
    machines, keys = cluster_and_keys
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    storage().call_s3("create_bucket", Bucket="fleet")
    (tmp_path / "films").mkdir()
    film = FILMS["sound"].write(tmp_path / "films" / "sound.mp4")
    storage().put_file(str(film), "fleet/drives/sound.mp4")
    places = "s3://fleet/drives", "s3://fleet/out"
    cache = tmp_path / "cache"
    with driver(tmp_path, machines.address, *places, **keys, XDG_CACHE_HOME=str(cache)) as process:
        said = process.communicate(timeout=patience(120))[1]
    assert (process.returncode, said) == (0, "")
    config = alone(tmp_path, "sound")
    names = [path.name for path in (config.masks, config.out, config.stats)]
    found = objects_in(Url("s3://fleet/out"))
    assert sorted(found) == sorted(["manifest-0-of-1.jsonl", *names])
    (tmp_path / "out").mkdir()
    for name in names:
        storage().get_file(found[name].given, str(tmp_path / "out" / name))
    infer(config)
    assert_same(tmp_path / "out", config)
    assert not list(cache.glob("roadseg/batch/*"))


@pytest.mark.usefixtures("heeds_signals")
@pytest.mark.timeout(300)
def test_a_batch_outlives_its_driver_a_worker_and_a_machine(cluster_and_keys, tmp_path) -> None:
    machines, _ = cluster_and_keys
    (tmp_path / "films").mkdir()
    for name, film in FILMS.items():
        film.write(tmp_path / "films" / f"{name}.mp4")
    with driver(tmp_path, machines.address) as first:
        wait_until(lambda: chunks(tmp_path, "done"), first, 90)
        first.send_signal(signal.SIGTERM)
        said = first.communicate(timeout=patience(60))[1]
    assert (first.returncode, said) == (128 + signal.SIGTERM, "")
    assert not workers()
    before = chunks(tmp_path, "done")
    with driver(tmp_path, machines.address) as second:
        wait_until(workers, second, 90)
        kill_one_that_labels()
        wait_until(lambda: chunks(tmp_path, "failed"), second, 90)
        machines.remove_one()
        said = second.communicate(timeout=patience(120))[1]
    assert second.returncode == 0, said
    lines = said.splitlines()
    assert all("is begun anew, as its" in line for line in lines), said
    assert "its process was killed" in lines[0]
    lost = chunks(tmp_path, "failed")
    assert len(lines) == len(lost) <= 2
    done = chunks(tmp_path, "done")
    assert len(done) == len(set(done))  # nothing twice, by none of the two drivers
    assert set(before) < set(done)
    assert set(lost) <= set(done)
    assert not list((tmp_path / "out").glob("roadseg-*"))
    for name in FILMS:
        config = alone(tmp_path, name)
        infer(config)
        assert_same(tmp_path / "out", config)


def test_a_machine_with_another_roadseg_says_so(tmp_path) -> None:
    ray_or_skip()
    from ray import cloudpickle

    other = tmp_path / "roadseg"
    other.mkdir()
    (other / "__init__.py").write_text("__version__ = '0.0.1'\n")
    (tmp_path / "task").write_bytes(cloudpickle.dumps(_portable()))
    code = (
        "import sys; from ray import cloudpickle; task = cloudpickle.load(open('task', 'rb'));"
        f"print(task({VERSIONS!r}, b'')[1:])"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert said.stdout.strip() == repr((("0.0.1", VERSIONS[1]), None)), said.stderr


def test_a_machine_without_the_folders_or_the_weights_is_named(plain, tmp_path) -> None:
    Film().write(plain.source)
    task = pinned(absolute(plain), 1)
    for changed, lack in (
        ({"out": tmp_path / "not mounted" / "film.mp4"}, "sees no .*not mounted"),
        ({"weights": tmp_path / "other.onnx"}, "has no .*other.onnx with the checksum"),
    ):
        outcome = label_on_node(replace(task, config=replace(task.config, **changed)))
        assert isinstance(outcome.error, ClusterError)
        with pytest.raises(ClusterError, match=lack):
            raise outcome.error


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("nonsense", "--cluster is 'nonsense'; give local for this machine alone, auto"),
        ("127.0.0.1:1", "--cluster 127.0.0.1:1 does not answer"),
        ("ray://127.0.0.1:1", "--cluster ray://127.0.0.1:1 does not answer"),
        ("head..local:6379", "--cluster head..local:6379 does not answer"),
    ],
)
def test_a_cluster_that_is_not_there_is_named(where, said, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("films").mkdir()
    Film().write(Path("films/a.mp4"))
    with pytest.raises(RoadsegError) as error:
        app(["batch", "films", "--out", "out", "--cluster", where], standalone_mode=False)
    assert said in str(error.value)


def test_a_machine_that_has_not_joined_is_told_so_though_ray_ends_the_process(
    tmp_path, monkeypatch
) -> None:
    (tmp_path / "ray.py").write_text("import os\ndef init(**_): os._exit(1)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ClusterError, match=r"finds no daemon of it .* join this machine to the"):
        _check_joined("10.0.0.1:6379")


def test_a_missing_ray_is_named_with_its_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(BackendUnavailable, match=r"pip install '\.\[ray\]'"),
        cluster("auto", None, print),
    ):
        pass


def test_what_a_killed_process_left_goes_with_the_next_and_what_a_living_one_has_stays(
    tmp_path,
) -> None:
    def folders() -> set[Path]:
        return {path for path in tmp_path.iterdir() if path.is_dir()}

    code = (
        "import os, sys; from pathlib import Path\n"
        "from roadseg.infer.batch.own_folder import own_folder\n"
        "with own_folder(Path(sys.argv[1])) as folder: (folder / 'x').touch(); os._exit(9)"
    )
    mine = tmp_path / "mine"
    mine.mkdir()
    (tmp_path / "roadseg-part.mine.lock").touch()
    with own_folder(tmp_path) as living:
        assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == 9
        assert len(folders()) == 3
        with own_folder(tmp_path) as following:
            assert folders() == {mine, living, following}
    with pytest.raises(ClusterError), own_folder(tmp_path) as failed:
        raise ClusterError("it did not start")
    failed.mkdir()  # a process that it had started was not done
    with own_folder(tmp_path) as last:
        assert folders() == {mine, last}
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "roadseg-part.mine.lock"}


class RayOf:
    """What `Cluster` asks of Ray before its first task, for machines with so many cores."""

    def __init__(self, *cores: int) -> None:
        self._cores = cores

    def nodes(self) -> list[dict]:
        return [{"Alive": True, "Resources": {"CPU": cores}} for cores in self._cores]

    def remote(self, **_options: object) -> Callable[[object], object]:
        return lambda task: task


@pytest.mark.parametrize("cores", [(0, 8), (0, 1), (3,)])
def test_a_head_without_cores_leaves_the_work_to_the_others(cores) -> None:
    assert Cluster(RayOf(*cores), None, print).has_room()


@pytest.mark.parametrize(("threads", "cores"), [(None, ()), (None, (0,)), (4, (0, 3))])
def test_a_cluster_without_cores_for_a_task_says_what_there_is(threads, cores) -> None:
    least, most = threads or 2, max(cores, default=0)
    said = rf"takes {least} cores, and no machine .* more than {most} for Ray; give less"
    with pytest.raises(ClusterError, match=said):
        Cluster(RayOf(*cores), threads, print)


def test_threads_limit_the_copies_of_the_network(plain) -> None:
    assert replicas_for(WEIGHTS, "onnxruntime", 1) == Replicas(1, 1)
    with pytest.raises(ConfigError, match="--threads is 0"):
        InferConfig(**{**vars(plain), "threads": 0})
