"""Where a labelled film goes: a file, standard output, or images, by the name that it is given."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeGuard

from roadseg.config import InferConfig
from roadseg.errors import ConfigError, VideoError
from roadseg.video.encoding import FORMATS, STDOUT, STILL_SUFFIXES, Encoding
from roadseg.video.images import is_one_picture
from roadseg.video.origin import Origin
from roadseg.video.pipe import MP4, PipeWriter
from roadseg.video.sink import VideoWriter, check_output
from roadseg.video.stills import StillWriter, check_stills


def is_file(out: Path | None) -> TypeGuard[Path]:
    """Return whether a film is written to a file, which can be resumed and shown in a report."""
    return out is not None and out != STDOUT and out.suffix.lower() not in STILL_SUFFIXES


def check_out(config: InferConfig) -> None:
    """Find out early whether a film can be written where it is wanted.

    Raises:
        VideoError: Its suffix is none of ours, or it exists.
        ConfigError: It cannot be encoded so, resumed there or shown in a report.
        OutputError: Its folder takes no files.
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
            raise ConfigError(
                f"{flag} needs a film in a file, and there is {_flag(config.out)}; give an --out "
                f"that ends in .mp4, or leave out {flag}"
            )
    if config.out == STDOUT:
        if sys.stdout is None or sys.stdout.isatty():
            raise ConfigError(
                "--out - is a terminal, or closed; send the film to a program or a file"
            )
        encoding(config).codec_for(MP4.name)
    elif config.out is not None:
        one = isinstance(config.source, Path) and is_one_picture(config.source)
        check_stills(config.out, one=one, overwrite=config.overwrite)


def encoding(config: InferConfig) -> Encoding:
    """Return how the film is to be encoded."""
    return Encoding(codec=config.codec, crf=config.crf, preset=config.preset)


def open_out(
    config: InferConfig, origin: Origin, *, record: Mapping[str, str], resume: bool
) -> VideoWriter | PipeWriter | StillWriter:
    """Return what the frames are written with.

    Args:
        config: Settings; there is an `out`.
        origin: What the frames come from.
        record: Settings that a run must have to go on from this one.
        resume: Go on from an unfinished run.
    """
    assert config.out is not None
    if config.out == STDOUT:
        return PipeWriter(origin, encoding(config))
    if not is_file(config.out):
        return StillWriter(config.out)
    return VideoWriter(config.out, origin, encoding(config), record=record, resume=resume)


def _flag(out: Path | None) -> str:
    return "--no-film" if out is None else f"--out {out}"
