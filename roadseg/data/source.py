"""Parse the names of labelled data: `DIR`, `DIR:CLASSES`, and for training `DIR:CLASSES=SHARE`.

CLASSES is a class file, or the name of a shipped one in `roadseg/data/schemas/`. Without it the
folder's own `classes.csv` is used, or else CamVid's classes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from roadseg.data.folder import FolderDataset
from roadseg.data.meaning import CLASS_FILE
from roadseg.errors import ConfigError
from roadseg.files import check_named

SCHEMAS = Path(__file__).parent / "schemas"


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """A data set, as the user named it."""

    root: Path
    """Its folder."""
    class_file: Path | None = None
    """What its labels mean; None looks in the folder."""
    share: float | None = None
    """Share of the samples of a batch, above 0 and below 1; None takes a part of the rest."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `DIR`, `DIR:CLASSES`, `DIR=SHARE` or `DIR:CLASSES=SHARE`.

        Raises:
            ConfigError: The name is empty, the share is not valid, or there is no such class file.
        """
        place, share = without_share(text, "--data")
        root, colon, classes = place.rpartition(":")
        if not colon or Path(place).exists():
            return cls(root=Path(place), share=share)
        return cls(root=Path(root), class_file=_class_file(classes), share=share)

    @classmethod
    def single(cls, text: str) -> Self:
        """Read `DIR` or `DIR:CLASSES`, without a share.

        Raises:
            ConfigError: It has a share, or there is no such class file.
        """
        source = cls.parse(text)
        if source.share is not None:
            raise ConfigError(f"{text} gives a share, which only roadseg train takes; leave it out")
        return source

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.root.resolve().name

    @property
    def is_one_drive(self) -> bool:
        """Whether there is a single drive, and no `val/`, so that nothing can be set aside.

        Raises:
            DatasetError: As `FolderDataset.open`.
        """
        return not (self.root / "val").is_dir() and len(self.open("train").sequences) == 1

    def has(self, split: str) -> bool:
        """Return whether it has a split, or drives that stand for it."""
        stands_for_it = split == "val" and (self.root / "train").is_dir()
        return stands_for_it or (self.root / split).is_dir()

    def open(self, split: str) -> FolderDataset:
        """List a split.

        Raises:
            DatasetError: As `FolderDataset.open`.
        """
        return FolderDataset.open(self.root, split, self.class_file)


def without_share(text: str, flag: str) -> tuple[str, float | None]:
    """Return what is named by `NAME` or `NAME=SHARE`, and the share if there is one.

    Raises:
        ConfigError: The name is empty, as a variable that is not set, or the share is not valid.
    """
    check_named(text, flag)
    place, equals, number = text.rpartition("=")
    if not equals or Path(text).exists():
        return text, None
    try:
        share = float(number)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise ConfigError(
            f"{flag} {text} gives the share {number!r}; it must be above 0 and below 1, such as "
            f"{flag} {place}=0.5"
        )
    return place, share


def _class_file(name: str) -> Path:
    """Return a class file by its path, or a shipped one by its name."""
    shipped = SCHEMAS / f"{name}.csv"
    if shipped.is_file():
        return shipped
    if Path(name).is_file():
        return Path(name)
    known = ", ".join(sorted(path.stem for path in SCHEMAS.glob("*.csv")))
    raise ConfigError(
        f"there is no class file {name}; give the path of a {CLASS_FILE}, or one of those that "
        f"are included: {known}"
    )
