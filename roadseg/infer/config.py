"""Settings of a run over a video and of a live view: frozen and validated."""

import math
import re
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path

from roadseg.errors import ConfigError
from roadseg.files import check_not_input
from roadseg.paint.config import OverlayConfig, Redaction
from roadseg.segmentation.config import CPU, ModelConfig
from roadseg.spec import PALETTES
from roadseg.video.rates import LONGEST_S, USUAL_FPS, image_rate
from roadseg.video.url import Url
from roadseg.video.write.encoding import SOUNDS

BONNET = "bonnet"
"""Asks for what never moves to be left out."""
BOX = re.compile(r"(\d{1,6}),(\d{1,6}),(\d{1,6}),(\d{1,6})")
"""A box in pixels: left, top, width and height."""
MASK_FORMATS = ("grey", "palette")
"""Class ids as grey levels, or as indices into a palette with the classes' colours."""


@dataclass(frozen=True, kw_only=True)
class InferConfig(ModelConfig, OverlayConfig):
    """Settings of one inference run."""

    source: Path | str
    """Video to label: a file, a folder or pattern of images, or as text an address."""
    out: Path | None
    """Video to write, pattern of images with a place for their number, or - for standard output;
    None writes none."""
    side_by_side: bool = False
    """Put the untouched picture beside the painted one."""
    boxes: bool = False
    """Draw a box with a number around each object."""
    masks: Path | None = None
    """Folder for class maps as PNG files."""
    mask_format: str = "grey"
    """How the PNG files store class ids, one of `MASK_FORMATS`."""
    image_fps: Fraction = USUAL_FPS
    """Frame rate of a source that is a series of images."""
    stream: int | None = None
    """Number of the stream to label; None takes the default one, or else the largest."""
    sound: str = "auto"
    """How sound is written, one of `SOUNDS`."""
    codec: str | None = None
    """Codec of the video; None goes by its suffix."""
    crf: int | None = None
    """Quality of the video; None takes the codec's default, limited to about the source's size."""
    preset: str | None = None
    """Preset of the encoder; None takes the codec's default."""
    stats: Path | None = None
    """File for the statistics of every frame: JSON lines, CSV or Parquet, by its suffix."""
    report: Path | None = None
    """HTML report of the drive."""
    no_map: bool = False
    """Leave the drive's way out of the report."""
    geojson: Path | None = None
    """GeoJSON of the drive: its way, moments and stretches out of depth."""
    gpx: Path | None = None
    """GPX track of the drive; None takes the video's own telemetry."""
    gpx_offset_s: float | None = None
    """Time in the track at which the video begins; None goes by the video's time of recording."""
    start_s: float = 0.0
    """Seconds to skip at the beginning."""
    end_s: float | None = None
    """Time to stop at, in seconds; None goes to the end."""
    ignore: tuple[str, ...] = ()
    """What is left out: files of masks, `BONNET`, or boxes as "x,y,width,height"."""
    unmoving: str = ""
    """What never moves in the video, where `ignore` asks for it, as `roadseg.infer.ignored` packs
    it; found before labelling if it is not given."""
    redaction: Redaction | None = None
    """Hide things instead of painting classes."""
    strict: bool = False
    """Stop at the first damage in the video."""
    is_chunk: bool = False
    """Whether this is a chunk of a video, to be joined with those around it."""
    resume: bool = False
    """Continue an unfinished run that had the same settings."""
    overwrite: bool = False
    """Replace output that exists."""
    spared: tuple[Path | str, ...] = ()
    """Sources and outputs of other videos in the same command, which are never replaced."""

    def __post_init__(self) -> None:
        """Check each value, naming the flag at fault."""
        ModelConfig.__post_init__(self)
        OverlayConfig.__post_init__(self)
        if isinstance(self.source, str):
            object.__setattr__(self, "source", Url.if_one(self.source) or self.source)
        if self.resume:
            self._check_resumed()
        self._check_positions()
        if self.sound not in SOUNDS:
            raise ConfigError(f"--sound is {self.sound!r}; use one of: {', '.join(SOUNDS)}")
        if self.mask_format not in MASK_FORMATS:
            raise ConfigError(
                f"--mask-format is {self.mask_format!r}; use one of: {', '.join(MASK_FORMATS)}"
            )
        object.__setattr__(self, "image_fps", image_rate(self.image_fps))
        for text in self.ignore:
            _check_ignored(text)
        if self.redaction:
            self._check_redacted()
        self._check_times()
        if self.out is None and not self.written_beside:  # a report alone is refused later
            raise ConfigError(
                "--no-film leaves nothing to write; add --stats, --masks or --geojson"
            )
        if self.out and isinstance(self.source, Path):
            check_not_input(self.out, "--out", self.source)

    def _check_resumed(self) -> None:
        """Refuse outputs that no run can go on with."""
        for flag in self.unresumed:
            raise ConfigError(
                f"--resume is given with {flag}, which needs the whole video; leave it out, or "
                "begin anew with --overwrite instead of --resume"
            )
        if self.boxes and not self.stats:
            raise ConfigError(
                "--resume is given with --boxes, whose numbers go on from those in --stats; add "
                "--stats to both runs, or begin anew with --overwrite instead of --resume"
            )

    def _check_times(self) -> None:
        """Refuse a part of the video that is none."""
        if not 0 <= self.start_s <= LONGEST_S:
            raise ConfigError(
                f"--start is {self.start_s}; it must be 0 or more seconds of the video"
            )
        if self.end_s is not None and not math.isfinite(self.end_s):
            raise ConfigError(f"--end is {self.end_s}; give seconds, or leave it out")
        if self.end_s is not None and self.end_s <= self.start_s:
            raise ConfigError(
                f"--end is {self.end_s} and --start is {self.start_s}; --end must be later"
            )

    def _check_positions(self) -> None:
        """Refuse a track that nothing shows, or an offset without one."""
        if self.gpx and not (self.geojson or (self.report and not self.no_map)):
            raise ConfigError(
                "--gpx is given, and nothing shows the track; add --geojson, or --report without "
                "--no-map"
            )
        if self.gpx and not self.gpx.exists():
            raise ConfigError(f"--gpx {self.gpx} does not exist; check the path")
        if self.gpx_offset_s is not None and not self.gpx:
            raise ConfigError("--gpx-offset is given without --gpx; name the GPX file")
        if self.gpx_offset_s is not None and not abs(self.gpx_offset_s) <= LONGEST_S:
            raise ConfigError(
                f"--gpx-offset is {self.gpx_offset_s}; give seconds, or a time such as 1:30"
            )

    def _check_redacted(self) -> None:
        """Refuse settings that predict fewer frames, or show what is hidden."""
        less = self.every not in (1, "auto") or self.goes_by_time or self.ignore
        more = self.written_beside or self.side_by_side or self.boxes or self.out is None
        if less or more:
            raise ConfigError(
                "a redacted video is all that is written, and the network sees all of every "
                "frame; leave out every other output, --ignore, --every, --fps-target, --realtime"
            )

    @property
    def written_beside(self) -> list[Path]:
        """What is written beside the overlay."""
        return [path for path in (self.masks, self.stats, self.report, self.geojson) if path]

    @property
    def measures(self) -> bool:
        """Whether frames are measured: their shares, and the objects in them."""
        return bool(self.stats or self.tells_of_drive or self.boxes)

    @property
    def tells_of_drive(self) -> bool:
        """Whether an output is about the whole drive, and not about its frames."""
        return bool(self.unresumed)

    @property
    def unresumed(self) -> tuple[str, ...]:
        """Flags of the outputs that are about the whole drive, which no run can go on with."""
        outputs = {"--report": self.report, "--geojson": self.geojson}
        return tuple(flag for flag, wanted in outputs.items() if wanted)

    def to_record(self) -> dict[str, str]:
        """Return the settings that the output's frames depend on, by name, as text."""
        apart = {"out", "masks", "stats", "report", "strict", "resume", "overwrite", "spared"}
        apart |= {"no_map", "geojson", "gpx", "gpx_offset_s"}
        apart |= {"is_chunk", "threads", "keeps_confidence"}  # a chunk is never resumed
        record = {f.name: str(getattr(self, f.name)) for f in fields(self) if f.name not in apart}
        return record | {"device": "cuda" if self.device.startswith("cuda") else CPU}  # any GPU


@dataclass(frozen=True, kw_only=True)
class LiveConfig(ModelConfig, OverlayConfig):
    """Settings of a live run."""

    source: str
    """Camera, address of a stream, or video file."""
    as_camera: bool = False
    """Play a video file at its own rate and drop what comes too late."""
    loop: bool = False
    """Begin a video file again at its end."""
    out: Path | None = None
    """Video to record to; None records nothing."""
    segment_s: float | None = None
    """Length in seconds of each recorded video; None records a single one."""
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
            raise ConfigError("--segment is given without --out; name the video to record to")
        if self.out is not None:
            check_not_input(self.out, "--out", Path(self.source))


def _check_ignored(text: str) -> None:
    """Raise `ConfigError` if a text names nothing that can be ignored."""
    if text != BONNET and not BOX.fullmatch(text) and not Path(text).is_file():
        raise ConfigError(
            f"--ignore is {text!r}; give {BONNET}, a box such as 0,900,1920,180 (left, top, width, "
            "height in pixels), or a PNG that is white where nothing is to be labelled"
        )


def files_beside(config: InferConfig) -> dict[str, Path]:
    """Return the files that a run reads besides its video, by what they are."""
    files = {"weights": config.weights}
    if config.palette not in PALETTES:  # a folder may have the name of a built-in palette
        files["palette"] = Path(config.palette)
    return files | {f"mask {text}": Path(text) for text in config.ignore if text != BONNET}


def settings_record(config: InferConfig) -> dict[str, str]:
    """Return what must be equal in two runs for one to resume the other."""
    record = config.to_record()
    for name, file in {"source": config.source, **files_beside(config)}.items():
        if isinstance(file, Path) and file.exists():
            state = file.stat()
            record[f"{name}'s size and date"] = f"{state.st_size} {state.st_mtime_ns}"
    if isinstance(config.source, Url) and (fingerprint := config.source.fingerprint):
        record["source's secrets"] = fingerprint
    return record
