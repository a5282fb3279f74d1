"""Find out early, before a video is read, whether the outputs of a run can be written."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TypeGuard

from roadseg.errors import ConfigError, VideoError
from roadseg.files import check_new
from roadseg.infer.config import InferConfig
from roadseg.infer.stats import STATS_SUFFIXES
from roadseg.infer.stats_parquet import check_pyarrow, is_parquet
from roadseg.video.read.images import is_one_picture
from roadseg.video.write.encoding import FORMATS, STDOUT, STILL_SUFFIXES, Encoding
from roadseg.video.write.film import check_output
from roadseg.video.write.masks import check_masks
from roadseg.video.write.pipe import MP4
from roadseg.video.write.stills import check_stills

GEOJSON_SUFFIXES = (".geojson", ".json")


def is_file(out: Path | None) -> TypeGuard[Path]:
    """Return whether a video is written to a file, which can be resumed and shown in a report."""
    return out is not None and out != STDOUT and out.suffix.lower() not in STILL_SUFFIXES


def check_options(config: InferConfig) -> None:
    """Find out early whether outputs of such names can be written, whatever exists.

    Raises:
        RoadsegError: As `Outputs`.
    """
    replaced = replace(config, overwrite=True)
    check_out(replaced)
    check_beside(replaced)


def check_out(config: InferConfig) -> None:
    """Check early that the video can be written.

    Raises:
        VideoError: Its suffix is unknown, or it exists.
        ConfigError: It cannot be encoded so, resumed there or shown in a report.
        OutputError: Its folder cannot be written to.
    """
    if is_file(config.out):
        if config.out.is_dir() or not config.out.suffix:
            raise VideoError(
                f"--out {config.out} is a folder; end it in one of {', '.join(FORMATS)}, or for "
                f"images give a name such as {config.out / '%06d.png'}"
            )
        check_output(config.out, encoding(config), overwrite=config.overwrite)
        return
    for flag, wanted in (("--resume", config.resume), ("--report", config.report)):
        if wanted:
            instead = f"give an --out that ends in .mp4, or leave out {flag}"
            raise ConfigError(
                f"{flag} needs a video in a file, and there is {_flag(config.out)}; "
                + ("leave out one of the two" if config.out is None else instead)
            )
    if config.out == STDOUT:
        if sys.stdout is None or sys.stdout.isatty():
            raise ConfigError(
                "--out - is a terminal, or closed; send the video to a program or a file"
            )
        encoding(config).codec_for(MP4.name)
    elif config.out is not None:
        one = isinstance(config.source, Path) and is_one_picture(config.source)
        check_stills(config.out, one=one, overwrite=config.overwrite)


def check_beside(config: InferConfig) -> None:
    """Check early that the outputs beside the video can be written.

    Raises:
        VideoError: Class maps exist, or their place is taken.
        OutputError: Another output cannot be written.
        BackendUnavailable: It is Parquet, and pyarrow is not installed.
    """
    if config.masks is not None:
        check_masks(
            config.masks,
            in_colors=config.mask_format == "palette",
            overwrite=config.overwrite,
        )
    if config.stats is not None:
        check_new(config.stats, "--stats", STATS_SUFFIXES, overwrite=config.overwrite)
        if is_parquet(config.stats):
            check_pyarrow(config.stats)
    if config.report is not None:
        check_new(config.report, "--report", (".html",), overwrite=config.overwrite)
    if config.geojson is not None:
        check_new(config.geojson, "--geojson", GEOJSON_SUFFIXES, overwrite=config.overwrite)


def encoding(config: InferConfig) -> Encoding:
    """Return the codec and its settings."""
    return Encoding(
        codec=config.codec, crf=config.crf, preset=config.preset, threads=config.threads
    )


def _flag(out: Path | None) -> str:
    return "--no-film" if out is None else f"--out {out}"
