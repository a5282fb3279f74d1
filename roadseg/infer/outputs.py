"""The outputs of a run: checked before its first frame, claimed meanwhile, published at its end.

How an output gets its name:

1. A place knows all names that it needs: `roadseg.infer.output_places`.
2. `Outputs` checks that it can be written (`roadseg.infer.output_checks`), and that none of its
   names is an input's.
3. `Outputs.claimed` locks its place, and finds out what an unfinished run left there. A stage
   writes to the part, of which the whole is made.
4. Once all outputs are whole, `roadseg.infer.output_publication` renames them together. On an error
   it takes their names back, and if it is killed, the next run does so.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Self

from roadseg.errors import ConfigError, OutputError, VideoError
from roadseg.files import Lock, check_replaceable, identity, is_ours
from roadseg.infer.config import InferConfig, files_beside, settings_record
from roadseg.infer.device import Device
from roadseg.infer.output_checks import check_beside, check_options, check_out, encoding, is_file
from roadseg.infer.output_places import FilePlace, Place, SeriesPlace, clear, holding, put_back
from roadseg.infer.output_publication import publish, remove_work, settle
from roadseg.infer.stats import keep_stats, read_stats
from roadseg.infer.stats_parquet import is_parquet, write_parquet
from roadseg.video.read.images import find_images, is_series
from roadseg.video.read.source import VideoInfo
from roadseg.video.write.companions import Origin
from roadseg.video.write.encoding import FORMATS, HARDWARE, IN_HARDWARE, STDOUT
from roadseg.video.write.film import VideoWriter
from roadseg.video.write.masks import MASK_NAME, check_kept_masks, is_mask_film
from roadseg.video.write.part import (
    Kept,
    check_no_old_part,
    check_nothing_kept,
    check_settings,
    cut_torn_head,
    measure_part,
    settings_of_part,
)
from roadseg.video.write.pipe import MP4, PipeWriter
from roadseg.video.write.stills import StillWriter, check_no_stills


class Outputs:
    """All outputs of a run, claimed and published together.

    Args:
        config: Settings.
        info: The video.

    Raises:
        VideoError: A name has an unknown suffix, or exists.
        ConfigError: A name is that of an input, or the video cannot be encoded so, resumed there
            or shown in a report.
        OutputError: A folder cannot be written to, or a name exists.
        BackendUnavailable: A package that writes an output is not installed.
    """

    def __init__(self, config: InferConfig, info: VideoInfo) -> None:
        check_options(config)
        self._config = config
        self.film = _film_place(config.out)
        """Place of the video or its images; None for standard output, or if none is wanted."""
        self.masks = _mask_place(config.masks) if config.masks else None
        """Place of class maps, if they are wanted."""
        self.stats = _stats_place(config.stats) if config.stats else None
        """Place of the statistics of every frame, if they are wanted."""
        report = config.report
        self.report = FilePlace("--report", report, lasts=False) if report else None
        """Place of the page, if one is wanted."""
        geojson = config.geojson
        self.geojson = FilePlace("--geojson", geojson, lasts=False) if geojson else None
        """Place of the GeoJSON of the drive, if it is wanted."""
        self.kept = Kept()
        """Frames that are kept of an unfinished run; known once the outputs are claimed."""
        places = (self.film, self.masks, self.stats, self.report, self.geojson)
        self._places: list[Place] = [place for place in places if place]
        beside = filter(None, [*files_beside(config).values(), config.gpx])
        inputs = [*(info.images or (info.path,)), *beside]
        spared = (file for source in config.spared for file in _files_of(source))
        self._check_names()
        self._check_inputs((*inputs, *spared))
        self._check_folder(info.path)
        self._settle()
        check_out(config)  # existing files are reported last
        check_beside(config)

    @contextlib.contextmanager
    def claimed(self) -> Iterator[Self]:
        """Claim all places while the block lasts; publish the outputs if it ends without an error.

        With --resume, what an unfinished run left is kept; without, it is dropped only with
        --overwrite. After an error nothing is published, and the part of a video stays for another
        run.

        Raises:
            ConfigError: Two outputs are one, or the unfinished run had other settings.
            VideoError: What the unfinished run left is not complete.
            OutputError: Another run writes there, or left what would be dropped; a temporary name
                is taken, or an output cannot be renamed.
        """
        with self._held() as locks:
            self._check_targets()
            if self._config.resume:
                self.kept = self._to_keep()
            elif not self._config.overwrite:
                self._check_unfinished()
            try:
                yield self
                self._check_still_free()
                if self.stats and self.stats.is_parquet:
                    write_parquet(self.stats.whole, read_stats(self.stats.part))
                if locks:
                    publish(self._places, locks[0])
            except BaseException:
                self._clear_after_failure()
                raise
            for place in self._places:
                remove_work(place)

    @property
    def hardware_encoder(self) -> str | None:
        """FFmpeg's name of the encoder in hardware that is at work; None if none is."""
        return self.encoder if encoding(self._config).in_hardware else None

    @property
    def encoder(self) -> str | None:
        """FFmpeg's name of the encoder that is at work; None if no video is written."""
        film = _film_name(self._config.out)
        return None if film is None else encoding(self._config).codec_for(film).encoder

    def film_writer(self, origin: Origin) -> VideoWriter | PipeWriter | StillWriter:
        """Return the writer of the frames, if a video is wanted.

        Args:
            origin: Their source.
        """
        config, film = self._config, self.film
        if film is None:
            return PipeWriter(origin, encoding(config))
        if isinstance(film, SeriesPlace):
            return StillWriter(film.part)
        record, kept = self._settings(), self.kept.frames
        return VideoWriter(film.target, origin, encoding(config), record=record, kept=kept)

    @contextlib.contextmanager
    def _held(self) -> Iterator[list[Lock]]:
        """Hold all places while the block lasts, and give their locks."""
        with contextlib.ExitStack() as held:
            locks: list[Lock] = []
            for number, place in enumerate(self._places):
                self._check_apart(place, self._places[:number])
                locks.append(held.enter_context(holding(place)))
            yield locks

    def _settle(self) -> None:
        """Clear up after a run that was killed while its outputs got their names."""
        if not (self._places and os.path.lexists(self._places[0].lock)):
            return
        config = self._config
        advice = "add --overwrite to begin anew"
        if is_file(config.out) and not config.tells_of_drive:
            advice += ", or --resume to go on from there"
        with self._held() as locks:
            is_done = settle(
                self._places, locks[0], None if config.resume or config.overwrite else advice
            )
        if is_done and config.resume and not config.overwrite:
            raise OutputError(
                f"--out {config.out} is complete: the run that was killed had nothing left to do "
                "but to tidy up, which is done now"
            )

    def _check_names(self) -> None:
        """Refuse temporary names of roadseg as outputs, and those of pipes, sockets and devices."""
        for place in self._places:
            for path, _ in place.taken():
                check_replaceable(path)
            if is_ours(place.target):
                raise ConfigError(
                    f"{place.flag} {place.target} is a name that roadseg gives to unfinished work; "
                    "choose another name"
                )

    def _check_inputs(self, inputs: Iterable[Path | str]) -> None:
        """Refuse outputs that are inputs under any name."""
        files = {identity(file): file for file in inputs if isinstance(file, Path)}
        files.pop(None, None)
        for place in self._places:
            for name in place.names():
                source = files.get(identity(name))
                if source is not None:
                    raise ConfigError(_names_input(place, name, source))

    def _check_folder(self, source: Path | str) -> None:
        """Refuse images in the folder of the source's images."""
        if not (isinstance(source, Path) and source.is_dir()):
            return
        for place in self._places:
            folder = place.target.parent
            if isinstance(place, SeriesPlace) and identity(folder) == identity(source):
                raise ConfigError(
                    f"{place.flag} would put images among those of the input, {source}; choose "
                    "another folder"
                )

    def _check_apart(self, place: Place, others: Iterable[Place]) -> None:
        """Refuse two outputs that the file system takes for one."""
        for other in others:
            if identity(place.lock) == identity(other.lock) is not None:
                raise ConfigError(_is_one(place, other))

    def _check_targets(self) -> None:
        """Check again, now that the places are claimed, that targets differ and none is a folder.

        A folder created for images can have the name of another output.
        """
        for place in self._places:
            if put_back(place) and not self._config.overwrite:
                raise OutputError(
                    f"{place.flag} {place.target} exists, as an unfinished run could not replace "
                    "it; choose another name or add --overwrite"
                )
            if isinstance(place, FilePlace) and place.target.is_dir():
                raise OutputError(f"{place.flag} {place.target} is a folder; give a file name")
        targets = {place: {identity(path) for path, _ in place.taken()} for place in self._places}
        for one, other in combinations(self._places, 2):
            if targets[one] & targets[other]:
                raise ConfigError(_is_one(one, other))

    def _check_still_free(self) -> None:
        """Check that no target was created by others during the run."""
        if self._config.overwrite:
            return
        for place in self._places:
            for path, _ in place.taken():
                raise OutputError(
                    f"{place.flag} {path} came to be during the run and is not replaced; move it "
                    "away and run again, with --resume if a video was labelled"
                )

    def _check_unfinished(self) -> None:
        """Check that beginning anew costs nothing that an unfinished run labelled."""
        if isinstance(self.film, FilePlace):
            mask_film = ["--masks"] if isinstance(self.masks, FilePlace) else []
            check_nothing_kept(self.film.target, [*self._config.unresumed, *mask_film])
        elif isinstance(self.film, SeriesPlace):
            check_no_stills(self.film.part)

    def _to_keep(self) -> Kept:
        """Return what can be kept of an unfinished run, after checking that it is complete.

        Raises:
            ConfigError: The unfinished run had other settings.
            VideoError: Some of its outputs are missing.
        """
        assert isinstance(self.film, FilePlace)  # `check_out` sees to it
        film = self.film.target
        check_no_old_part(film)
        cut_torn_head(self.film.part)
        kept = measure_part(self.film.part)
        if kept.frames:
            check_settings(film, self._settings())
        if kept.frames and self.masks:
            check_kept_masks(self.masks.part, self.masks.target, kept.frames)
        if kept.frames and self.stats:
            keep_stats(self.stats.part, kept.frames)
        return kept

    def _settings(self) -> dict[str, str]:
        """Return what this run and one that goes on from it must have in common."""
        chosen = self.hardware_encoder
        return settings_record(self._config) | ({"hardware encoder": chosen} if chosen else {})

    def _clear_after_failure(self) -> None:
        """Remove unfinished outputs, but for images and for a video's part and its side files."""
        resumes = isinstance(self.film, FilePlace) and self.film.part.exists()
        for place in self._places:
            is_images = place is self.film and isinstance(place, SeriesPlace)
            clear(place, keep_part=resumes or is_images)


def _film_name(out: Path | None) -> Path | None:
    """Return a name whose suffix is the format of the video; None if none is written."""
    if is_file(out):
        return out
    return MP4.name if out == STDOUT else None


def _film_place(out: Path | None) -> Place | None:
    if out is None or out == STDOUT:
        return None
    return FilePlace("--out", out, is_film=True) if is_file(out) else SeriesPlace("--out", out)


def _stats_place(stats: Path) -> FilePlace:
    return FilePlace("--stats", stats, is_parquet=is_parquet(stats))


def _mask_place(masks: Path) -> Place:
    if is_mask_film(masks):
        return FilePlace("--masks", masks, lasts=False)
    return SeriesPlace("--masks", masks / MASK_NAME)


def _files_of(source: Path | str) -> tuple[Path, ...]:
    """Return the files of a source."""
    if isinstance(source, str):
        return ()
    with contextlib.suppress(VideoError):  # reported when its turn comes
        return find_images(source) if is_series(source) else (source,)
    return ()


def _names_input(place: Place, name: Path, source: Path) -> str:
    if name in (path for path, _ in place.taken()):
        return f"{place.flag} is the input, {source}; choose another name"
    return (
        f"{place.flag} {place.target} needs the name {name} while it is written, and that is the "
        "input's; choose another name for one of them"
    )


def _is_one(place: Place, other: Place) -> str:
    return (
        f"{other.flag} {other.target} and {place.flag} {place.target} would write to the same "
        "files; choose another name for one of them"
    )


def as_begun(config: InferConfig) -> InferConfig:
    """Return the settings with the model and the runtime that an unfinished run was begun with.

    What is chosen where none are named may have changed since, and half a film each is no film.
    """
    begun = settings_of_part(config.out) if is_file(config.out) else {}
    if not {"weights", "backend"} <= begun.keys():
        return config
    return replace(config, weights=Path(begun["weights"]), backend=begun["backend"])


def encoded_on(device: Device, config: InferConfig) -> InferConfig:
    """Return the settings with the encoder of the GPU that pictures lie on, if it has one.

    What was asked for of the encoding counts first: presets and qualities are those of a codec.
    """
    film, asked = _film_name(config.out), (config.codec, config.crf, config.preset)
    if film is None or asked != (None, None, None):
        return config
    name, *_ = FORMATS.get(film.suffix.lower(), ("",))
    if name not in HARDWARE or not device.encodes(name):
        return config
    return replace(config, codec=name + IN_HARDWARE)
