"""From what `roadseg batch` is given to its videos, each with the settings of its run."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Any
from urllib.parse import urlsplit

from roadseg.cli.console import typed
from roadseg.cli.films import FILM_SUFFIXES, OVERLAY, Beside, overlay_name
from roadseg.errors import ConfigError, VideoError
from roadseg.files import identity, is_hidden, is_ours
from roadseg.infer.config import InferConfig
from roadseg.infer.stats_parquet import is_parquet
from roadseg.video.errors import read_errors
from roadseg.video.objects import named_objects, objects_in
from roadseg.video.url import Url
from roadseg.video.write.masks import is_mask_film

NO_VIDEOS = "lost+found"
"""Folder of file systems themselves, which nobody but root may read."""
COMMENT = "#"
"""How a line of a list begins that names no video."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The videos of a batch and what becomes of each."""

    source: Path | Url
    """Folder of videos, or list of them, or the address of objects."""
    out: Path
    """Folder of all that is written, in folders as the videos are."""
    bucket: Url | None = None
    """Address that what is written is brought to in the end."""
    beside: Beside
    """What is written beside each video's overlay: the ends of their names."""
    settings: Mapping[str, Any]
    """All other settings."""
    no_film: bool
    """Write only what is beside it."""

    def __post_init__(self) -> None:
        """Check that all that is written lies below one folder."""
        for flag, path in vars(self.beside).items():
            if path is not None and (path.parent.name or path.anchor):
                raise ConfigError(
                    f"--{flag} is {path}, and what a batch writes lies below --out, beside each "
                    f"video's overlay; give a name alone, such as {path.name}"
                )
        masks = self.beside.masks
        if self.bucket and masks and not is_mask_film(masks):
            raise ConfigError(
                f"--masks is {masks}, a folder with a file for each frame, which is nothing for "
                f"{self.bucket}; give --masks a name in .mkv"
            )

    @property
    def dataset(self) -> str | None:
        """Name of the data set of all statistics: Parquet is partitioned."""
        stats = self.beside.stats
        return stats.name if stats and is_parquet(stats) else None

    def films(self) -> dict[str, InferConfig]:
        """Return the settings for each video that there is now, by its name in the batch.

        Raises:
            VideoError: There is no such folder or list.
            ConfigError: A setting cannot be used, or two videos would get the same name.
        """
        found = list(self._found())
        alike = Counter(self._base(name, film) for name, film in found)
        films: dict[str, InferConfig] = {}
        sources: dict[Path, Path | Url] = {}
        for name, film in found:
            base = self._base(name, film)
            if alike[base] > 1:
                base = self.out / name
            if base in sources:
                raise ConfigError(
                    f"{sources[base]} and {film} would both be written as {base}; leave one of "
                    "them to roadseg infer, or to a batch of its own"
                )
            sources[base] = film
            films[name] = self._config(base, film)
        return films

    def _base(self, name: str, film: Path | Url) -> Path:
        """Return what the names of all that is written for a video begin with."""
        folder = self.out / PurePosixPath(name).parent
        return folder / overlay_name(film).stem.removesuffix(OVERLAY)

    def _found(self) -> Iterator[tuple[str, Path | Url]]:
        """Yield the videos by their names in the batch."""
        if not isinstance(self.source, Path):
            return _in_bucket(self.source, self.bucket)
        return _in_folder(self.source, self.out) if self.source.is_dir() else _listed(self.source)

    def _config(self, base: Path, film: Path | Url) -> InferConfig:
        beside: dict[str, Any] = {
            flag: path and base.with_name(f"{base.name}.{path.name}")
            for flag, path in vars(self.beside).items()
        }
        overlay = base.with_name(f"{base.name}{OVERLAY}{overlay_name(film).suffix}")
        out = None if self.no_film else overlay
        return InferConfig(source=film, out=out, **beside, **self.settings)


def _in_folder(folder: Path, out: Path) -> Iterator[tuple[str, Path]]:
    """Yield the videos in a folder and those in it, without hidden ones and what roadseg wrote.

    A folder that may not be read is yielded too: it fails when its turn comes, as a video does.

    Raises:
        VideoError: Not even the outermost may be read.
    """
    with read_errors(folder):
        os.scandir(folder).close()
    refused: list[OSError] = []
    for place, folders, files in os.walk(folder, onerror=refused.append):
        here = Path(place)
        folders[:] = sorted(
            name
            for name in folders
            if not (
                _is_passed_over(here / name) or identity(here / name) == identity(out) is not None
            )
        )
        for path in (here / name for name in sorted(files)):
            if _is_film(path):
                yield path.relative_to(folder).as_posix(), path
    for path in (Path(error.filename) for error in refused):
        if path.exists() and path.name != NO_VIDEOS:
            yield path.relative_to(folder).as_posix(), path


def _is_film(path: Path) -> bool:
    is_film = path.suffix.lower() in FILM_SUFFIXES
    return is_film and not (path.stem.endswith(OVERLAY) or _is_passed_over(path))


def _is_passed_over(path: Path) -> bool:
    """Return whether a file or folder is the system's, or was written by roadseg."""
    return is_hidden(path) or is_ours(path)


def _in_bucket(url: Url, out: Url | None) -> Iterator[tuple[str, Url]]:
    """Yield the videos below an address, as `_in_folder` does. Raises `VideoError`."""
    written = out and f"{out.given}/"
    for name, film in objects_in(url).items():
        passes = any(map(_is_passed_over, Path(name).parents))
        if _is_film(Path(name)) and not (passes or (written and film.given.startswith(written))):
            yield name, film


def _listed(source: Path) -> Iterator[tuple[str, Path | Url]]:
    """Yield the videos that a list names, a line each.

    Raises:
        VideoError: There is no such list.
        ConfigError: It is a video itself.
    """
    if source.suffix.lower() in FILM_SUFFIXES:
        raise ConfigError(
            f"{source} is a video, and batch takes a folder or a list of videos; run: roadseg "
            f"infer {typed(str(source))}"
        )
    try:
        text = source.read_text(encoding="utf-8-sig")
        if "\0" in text:
            raise ValueError("there is a zero in it")
    except FileNotFoundError as error:
        raise VideoError(f"{source} does not exist; give a folder or a list of videos") from error
    except (OSError, ValueError) as error:
        raise VideoError(
            f"{source} cannot be read as a list ({error}); give a text file with a video a line"
        ) from error
    lines = filter(None, map(str.strip, text.splitlines()))
    yield from _named(_place(line) for line in lines if not line.startswith(COMMENT))


def _place(line: str) -> Path | Url:
    """Return where the video of a line lies."""
    return named_objects(line) or Url.if_one(line) or Path(line)


def _named(films: Iterable[Path | Url]) -> Iterator[tuple[str, Path | Url]]:
    """Yield videos by their names in the batch, each once, however often and however it is given.

    Where several would have one name, each has its whole place for a name.
    """
    each: dict[str, Path | Url] = {}
    for film in films:
        each.setdefault(film.given if isinstance(film, Url) else _from_root(film), film)
    names = Counter(map(_short_name, each.values()))
    for film in each.values():
        name = _short_name(film)
        yield name if names[name] == 1 else _whole_name(film), film


def _short_name(film: Path | Url) -> str:
    """Return a name that does not lead out of a folder: as the list has it, or its last part."""
    if isinstance(film, Url):
        return PurePosixPath(f"{film}").name.partition("?")[0] or "film"
    is_below = not film.anchor and ".." not in film.parts
    return film.as_posix() if is_below else film.name


def _whole_name(film: Path | Url) -> str:
    """Return where a video lies, from the root or the host on, as a name below a folder."""
    if isinstance(film, Path):
        return _from_root(film)
    address = urlsplit(f"{film}")
    return normpath(f"/{address.hostname or ''}/{address.path}").lstrip("/")


def _from_root(film: Path) -> str:
    whole = Path(os.path.normpath(film.absolute()))
    return whole.relative_to(whole.anchor).as_posix()
