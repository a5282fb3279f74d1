"""Resolve the sources of `roadseg infer` to videos, and the settings for each of them."""

import contextlib
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Self
from urllib.parse import urlsplit

from roadseg.cli.console import complain
from roadseg.errors import ConfigError, VideoError
from roadseg.files import is_hidden, is_ours, make_folder, output_errors
from roadseg.infer.config import InferConfig
from roadseg.video.write.encoding import FORMATS, STDOUT, STILL_SUFFIXES

FILM_SUFFIXES = (
    *FORMATS,
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts"),
    *(".vob", ".wmv"),
)
"""Files of a folder that count as videos."""
OVERLAY, REDACTED = ".overlay", ".redacted"
"""End of the name that an overlay, or a redacted video, gets before its suffix."""
CAMERA = re.compile(r"(?:/dev/video)?\d+")


@contextlib.contextmanager
def received(sources: Sequence[str]) -> Iterator[list[Path | str]]:
    """Give videos as `InferConfig` takes them, each once; standard input is put into a file.

    Most formats need seeking, and sound is read separately from the pictures.

    Raises:
        ConfigError: A source is a camera, or standard input sends nothing.
        OutputError: There is no room for the file.
    """
    with contextlib.ExitStack() as stack:
        films: list[Path | str] = []
        for source in sources:
            if source == "-":
                kept = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "stdin"
                with output_errors(kept), kept.open("wb") as file:
                    shutil.copyfileobj(_standard_input(), file)
                films.append(kept)
            else:
                films += (film for film in _films_of(source) if film not in films)
        yield films


def _standard_input() -> BinaryIO:
    """Return standard input.

    Raises:
        ConfigError: It is a terminal, or closed.
    """
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        raise ConfigError(
            "VIDEO is -, and standard input is a terminal, or closed; send a video to it"
        )
    return sys.stdin.buffer


def _films_of(source: str) -> Sequence[Path | str]:
    """Return the videos of a source: itself, or those of a folder or pattern.

    The images of a folder or pattern are one video.

    Raises:
        ConfigError: The source is a camera.
    """
    from roadseg.video.encoded import has_image_suffix
    from roadseg.video.read.images import is_series
    from roadseg.video.read.source import named

    film = named(source)
    if not isinstance(film, Path):
        return [film]
    if CAMERA.fullmatch(source) and not (film.is_file() or film.is_dir()):
        raise ConfigError(
            f"{source} is a camera, and infer labels videos; run: roadseg live {source}"
        )
    if not is_series(film):
        return [film]
    found = _files_of(film)
    films = [path for path in found if path.suffix.lower() in FILM_SUFFIXES]
    if films and any(map(has_image_suffix, found)):
        complain(
            f"warning: the images of {film} are labelled, and not {len(films)} videos beside them; "
            f"for those give a pattern, such as '{films[0].with_stem('*')}'"
        )
        return [film]
    return films or [film]


def _files_of(series: Path) -> Sequence[Path]:
    """Return the files of a folder, or those that a pattern finds, without what roadseg wrote.

    A pattern that finds nothing else means just that.
    """
    from roadseg.video.read.images import find_images, natural_key

    with contextlib.suppress(VideoError, PermissionError):  # reported when it is this video's turn
        if series.is_dir():
            shown = (path for path in series.iterdir() if path.is_file() and not is_hidden(path))
            return [path for path in sorted(shown, key=natural_key) if not _is_written(path)]
        found = find_images(series)
        return [path for path in found if not _is_written(path)] or found
    return ()


def _is_written(path: Path) -> bool:
    return path.stem.endswith((OVERLAY, REDACTED)) or is_ours(path)


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Outputs beside the overlay of a video, or of several."""

    masks: Path | None
    """Folder or video of class maps; for several videos, the folder of all of these."""
    stats: Path | None
    """File of statistics; for several videos, the end of its name."""
    report: Path | None
    """HTML report; for several videos, the end of its name."""
    geojson: Path | None = None
    """GeoJSON of the drive; for several videos, the end of its name."""

    def of(self, film: str, folder: Path) -> Self:
        """Return the same for one of several videos.

        Args:
            film: Its name without a suffix.
            folder: Folder of the overlays, and of outputs whose names have none.
        """
        return replace(
            self,
            masks=self.masks and self.masks / film,
            stats=self.stats and _beside(self.stats, film, folder),
            report=self.report and _beside(self.report, film, folder),
            geojson=self.geojson and _beside(self.geojson, film, folder),
        )


def _beside(file: Path, film: str, folder: Path) -> Path:
    own = file.with_name(f"{film}.{file.name}")
    return own if own.parent.name or own.is_absolute() else folder / own


def plan(
    films: Sequence[Path | str],
    out: Path | None,
    beside: Beside,
    settings: Mapping[str, Any],
    *,
    no_film: bool = False,
) -> list[InferConfig]:
    """Return the settings for each video.

    Args:
        films: The videos.
        out: Video to write, or the folder for it, or for several; None chooses a name.
        beside: Outputs beside it.
        settings: All other settings.
        no_film: Write only the outputs beside it.

    Raises:
        ConfigError: A setting cannot be used, or two videos would get the same name.
        OutputError: The folder for several videos cannot be created.
    """
    ending = REDACTED if settings.get("redaction") else OVERLAY
    if len(films) == 1:
        path = None if no_film else _path_of_one(films[0], out, ending)
        config = InferConfig(source=films[0], out=path, **vars(beside), **settings)
        if path and out and path.parent == out:
            make_folder(out)
        return [config]
    if out is not None and (out == STDOUT or out.suffix.lower() in (*FORMATS, *STILL_SUFFIXES)):
        raise ConfigError(f"--out is {out}, and there are {len(films)} videos; give a folder")
    if settings.get("gpx_offset_s") is not None:
        raise ConfigError(
            f"--gpx-offset is given, and there are {len(films)} videos, which do not begin at one "
            "time; label them one by one"
        )
    folder = out or Path()
    jobs: dict[str, InferConfig] = {}
    for film in films:
        overlay = overlay_name(film, ending)
        name = overlay.stem.removesuffix(ending)
        if name in jobs:
            raise ConfigError(
                f"{jobs[name].source} and {film} would both be written as {name}; label them one "
                "by one"
            )
        path = None if no_film else folder / overlay
        own = beside.of(name, folder)
        jobs[name] = InferConfig(source=film, out=path, **vars(own), **settings)
    for made in filter(None, (out, beside.masks)):
        make_folder(made)
    return list(jobs.values())


def _path_of_one(film: Path | str, out: Path | None, ending: str) -> Path:
    """Return the path for the only video: in the folder --out, if it is one or has no suffix."""
    if out is None or (out != STDOUT and "%" not in out.name and (not out.suffix or out.is_dir())):
        return (out or Path()) / overlay_name(film, ending)
    return out


def overlay_name(film: Path | str, ending: str = OVERLAY) -> Path:
    """Return the name of a video's overlay, or of what else is made of it.

    An .mkv stays one, as it may hold streams that MP4 cannot; a photo becomes a photo.
    """
    path = Path(urlsplit(str(film)).path) if isinstance(film, str) else film
    if any(w in path.name for w in "*?[") and not path.exists():
        path = path.parent  # the images of a folder
    return Path(f"{path.stem or path.resolve().stem or 'film'}{ending}{_overlay_suffix(path)}")


def _overlay_suffix(film: Path) -> str:
    from roadseg.video.read.images import is_picture

    suffix = film.suffix.lower()
    if is_picture(film):
        return suffix if suffix in STILL_SUFFIXES else ".png"
    return ".mkv" if suffix == ".mkv" else ".mp4"
