"""Settings of a run over a video and of a live view: frozen and validated."""

import math
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path

from roadseg.errors import ConfigError
from roadseg.files import check_not_input
from roadseg.paint.config import OverlayConfig
from roadseg.segmentation.config import CPU, ModelConfig
from roadseg.spec import LONGEST_S, PALETTES, SOUNDS, image_rate
from roadseg.video.url import Url

MASK_FORMATS = ("grey", "palette")
"""Levels of grey, or indices into a palette that shows them in colour."""


@dataclass(frozen=True, kw_only=True)
class InferConfig(ModelConfig, OverlayConfig):
    """Settings of one inference run."""

    source: Path | str
    """Film to label: a file, a folder or pattern of images, or as text an address."""
    out: Path | None
    """Film to write, images by a name with their number in it, or - for standard output; None
    writes none."""
    side_by_side: bool = False
    """Put the untouched picture beside the painted one."""
    masks: Path | None = None
    """Folder for class maps as PNG files."""
    mask_format: str = "grey"
    """How these hold the ids, one of `MASK_FORMATS`."""
    image_fps: Fraction = Fraction(25)
    """Images a second, where the source is a series of images."""
    stream: int | None = None
    """Number of the stream to label; None takes the default one, or else the largest."""
    sound: str = "auto"
    """What becomes of the sound, one of `SOUNDS`."""
    codec: str | None = None
    """Codec of the film; None goes by its suffix."""
    crf: int | None = None
    """Quality of the film; None takes the codec's default, limited to about the source's size."""
    preset: str | None = None
    """Trade of encoding time for size; None takes the codec's default."""
    stats: Path | None = None
    """File for what is in every frame, JSON lines or CSV by its suffix."""
    report: Path | None = None
    """Page about the drive."""
    start_s: float = 0.0
    """Seconds to leave out at the beginning."""
    end_s: float | None = None
    """Time to stop at, in seconds; None goes to the end."""
    strict: bool = False
    """Stop at the first damage in the film."""
    resume: bool = False
    """Go on from where an unfinished run with the same settings stopped."""
    overwrite: bool = False
    """Replace output that exists."""
    spared: tuple[Path | str, ...] = ()
    """Films that are labelled beside this one, and what came of them: never replaced."""

    def __post_init__(self) -> None:
        """Check each value, naming the flag at fault."""
        ModelConfig.__post_init__(self)
        OverlayConfig.__post_init__(self)
        if isinstance(self.source, str):
            object.__setattr__(self, "source", Url.if_one(self.source) or self.source)
        if self.resume and self.report:
            raise ConfigError(
                "--resume is given with --report, which needs the whole film; leave it out, or "
                "leave out --resume to begin anew"
            )
        if self.sound not in SOUNDS:
            raise ConfigError(f"--sound is {self.sound!r}; use one of: {', '.join(SOUNDS)}")
        if self.mask_format not in MASK_FORMATS:
            raise ConfigError(
                f"--mask-format is {self.mask_format!r}; use one of: {', '.join(MASK_FORMATS)}"
            )
        object.__setattr__(self, "image_fps", image_rate(self.image_fps))
        if not 0 <= self.start_s <= LONGEST_S:
            raise ConfigError(
                f"--start is {self.start_s}; it must be 0 or more seconds of the film"
            )
        if self.end_s is not None and not math.isfinite(self.end_s):
            raise ConfigError(f"--end is {self.end_s}; give seconds, or leave it out")
        if self.end_s is not None and self.end_s <= self.start_s:
            raise ConfigError(
                f"--end is {self.end_s} and --start is {self.start_s}; --end must be later"
            )
        if self.out is None and not (self.stats or self.masks):
            raise ConfigError("--no-film leaves nothing to write; add --stats or --masks")
        if self.out and isinstance(self.source, Path):
            check_not_input(self.out, "--out", self.source)

    def to_record(self) -> dict[str, str]:
        """Return all that the frames of the output depend on, by name, as text."""
        apart = ("out", "masks", "stats", "report", "strict", "resume", "overwrite", "spared")
        record = {f.name: str(getattr(self, f.name)) for f in fields(self) if f.name not in apart}
        return record | {"device": "cuda" if self.device.startswith("cuda") else CPU}  # whichever


@dataclass(frozen=True, kw_only=True)
class LiveConfig(ModelConfig, OverlayConfig):
    """Settings of one live run."""

    source: str
    """Camera, address of a stream, or film."""
    as_camera: bool = False
    """Play a film at its own rate and drop what comes too late."""
    out: Path | None = None
    """Film to record to; None records nothing."""
    segment_s: float | None = None
    """Length of the films recorded; None records one."""
    overwrite: bool = False
    """Replace a recording that exists."""

    def __post_init__(self) -> None:
        """Check each value, naming the flag at fault."""
        ModelConfig.__post_init__(self)
        OverlayConfig.__post_init__(self)
        if isinstance(self.source, str):
            object.__setattr__(self, "source", Url.if_one(self.source) or self.source)
        if self.segment_s is not None and not self.segment_s > 0:
            raise ConfigError(f"--segment is {self.segment_s}; it must be above 0 seconds")
        if self.segment_s is not None and self.out is None:
            raise ConfigError("--segment is given without --out; name the film to record to")
        if self.out is not None:
            check_not_input(self.out, "--out", Path(self.source))


def settings_record(config: InferConfig) -> dict[str, str]:
    """Return what two runs must have in common for one to go on from the other."""
    record = config.to_record()
    files = {"source": config.source, "weights": config.weights}
    if config.palette not in PALETTES:  # a folder may well be called as a palette is
        files["palette"] = Path(config.palette)
    for name, file in files.items():
        if isinstance(file, Path) and file.exists():
            state = file.stat()
            record[f"{name}'s size and date"] = f"{state.st_size} {state.st_mtime_ns}"
    if isinstance(config.source, Url) and (fingerprint := config.source.fingerprint):
        record["source's secrets"] = fingerprint
    return record
