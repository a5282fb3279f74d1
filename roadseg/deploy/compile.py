"""Compile a model for this machine, and verify that it is still the same model.

A build is opened again from disk and compared with its source on real frames before it gets its
name: its class maps, its mIoU on labelled pictures, the precision of each convolution as executed,
and its speed. A file is built again only when its key has changed.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np

from roadseg.backends.runtimes import (
    Backend,
    import_runtime,
    open_backend,
    runtime_of,
    suited,
)
from roadseg.backends.weights import digest_of, files_of, shipped_model
from roadseg.deploy.builders import Builder, Source, open_builder
from roadseg.deploy.parity import (
    Parity,
    Sample,
    Timing,
    compare,
    digest_of_frames,
    film_samples,
    labelled_samples,
    time_in_turns,
    usual_size,
)
from roadseg.errors import ConfigError, ExportError
from roadseg.files import (
    check_not_input,
    check_writable,
    move_all,
    output_errors,
    replacing,
    sha256_of,
)
from roadseg.settings import build_settings
from roadseg.spec import BuildRecord, ModelSpec

LEAST_AGREEMENT = {"fp32": 0.999, "bf16": 0.99, "fp16": 0.99, "int8": 0.96}
"""Least share of pixels in which a build must agree with its source, by precision."""
MOST_LOST = 0.005
"""mIoU that a build may lose."""


@dataclass(frozen=True, kw_only=True)
class CompileConfig:
    """Settings of one build."""

    model: Path | None = None
    """Exported or trained model; None takes the one that is included."""
    runtime: str = "auto"
    """Runtime to build for; "auto" takes the one that runs models here."""
    precision: str | None = None
    """Precision of the convolutions; None takes the runtime's usual one."""
    size_hw: tuple[int, int] | None = None
    """Network input to calibrate, check and measure at; None takes the one for such frames."""
    batch: int = 1
    """Frames a call."""
    data: Path | None = None
    """Labelled data: train/ to calibrate on, val/ to check on."""
    film: Path | None = None
    """Video to calibrate and check on, without labelled data."""
    out: Path | None = None
    """File to write; None names it after model, runtime and precision, in the current folder."""
    portable: bool = False
    """Let any version of the runtime on any device run the file."""
    rebuild: bool = False
    """Build even if there is a file with the same key."""

    def __post_init__(self) -> None:
        """Check each value, naming the flag at fault."""
        if self.batch < 1:
            raise ConfigError(f"--batch is {self.batch}; it must be at least 1")
        if (self.data is None) == (self.film is None):
            given = "neither --data nor --film is" if self.data is None else "--data and --film are"
            raise ConfigError(
                f"{given} given; the build is calibrated and compared on the frames of one; give "
                "--film with a video, or --data with labelled pictures"
            )

    @property
    def frames(self) -> Path:
        """The data or video that frames are taken from."""
        frames = self.data or self.film
        assert frames is not None  # __post_init__ sees to it
        return frames


@dataclass(frozen=True, kw_only=True)
class CompileResult:
    """Result of a build."""

    out: Path
    """The model file."""
    build: BuildRecord
    """Its key."""
    rebuilt_because: str | None
    """Why it was built; None if an existing file had the same key."""
    parity: Parity
    """Its agreement with its source."""
    layers: Mapping[str, int]
    """Convolutions that its runtime executes, by precision."""
    timing: Timing
    """Its speed beside its source in FP32 on ONNX Runtime."""


@dataclass(frozen=True, kw_only=True)
class _Report:
    """What is kept of a build, beside it."""

    sha256: str
    """Checksums of its files."""
    build: BuildRecord
    parity: Parity
    layers: Mapping[str, int]
    race: Timing


def compile_model(config: CompileConfig) -> CompileResult:
    """Build a model file for a runtime of this machine, unless an existing one has the same key.

    Raises:
        ConfigError: A setting cannot be used.
        ModelFileError: The model file is missing or not ours.
        BackendUnavailable: A package that the build needs is not installed.
        DatasetError: The labelled data cannot be used.
        VideoError: The video cannot be read.
        ExportError: The build disagrees with its source or is less accurate; it is removed.
        OutputError: The file cannot be written.
    """
    model = config.model or shipped_model()
    runtime = suited(shipped_model("int8")) if config.runtime == "auto" else config.runtime
    builder = open_builder(runtime)
    with closing(_open_reference(model)) as reference:
        key = _key(config, model, runtime, builder, reference.spec)
        out = config.out or Path(f"{model.stem}.{runtime}-{key.precision}{builder.SUFFIX}")
        if out.suffix != builder.SUFFIX:
            raise ConfigError(f"--out {out} must end in {builder.SUFFIX}, which {runtime} reads")
        _check_place(out, config, model)
        kept = "--rebuild was given" if config.rebuild else _kept(out, key)
        if isinstance(kept, CompileResult):
            return kept
        check_writable(out)
        with output_errors(out), TemporaryDirectory(dir=out.parent) as folder:
            draft = Path(folder) / out.name
            result = _built(draft, config, builder, reference, model, key)
            result = replace(result, out=out, rebuilt_because=kept)
            _refuse_worse(result)
            _keep(draft, result)
    return result


def _open_reference(model: Path) -> Backend:
    """Open a model to compare with: by PyTorch in FP32, or ONNX Runtime if it is exported."""
    if model.suffix != ".safetensors":
        return open_backend(model, "onnxruntime")
    return cast(Backend, import_runtime(runtime_of(model, "torch")).open_reference(model))


def _built(
    draft: Path,
    config: CompileConfig,
    builder: Builder,
    reference: Backend,
    model: Path,
    key: BuildRecord,
) -> CompileResult:
    """Build a draft, open it again and measure it."""
    size_hw = key.shape[1:]
    if config.data is not None:
        calibration, checks = labelled_samples(config.data, size_hw)
    else:
        assert config.film is not None  # CompileConfig sees to it
        calibration, checks = film_samples(config.film, size_hw)
    batches = [_batch(sample, key) for sample in calibration]
    with _exported(model) as exported:
        spec = replace(reference.spec, build=key)
        builder.build(Source(model, exported, spec, batches), draft)
        with (
            closing(open_backend(draft, key.runtime)) as build,
            closing(open_backend(exported, "onnxruntime")) as usual,
        ):
            return CompileResult(
                out=draft,
                build=key,
                rebuilt_because=None,
                parity=compare(build, reference, checks),
                layers=dict(builder.census(draft, batches[0])),
                timing=time_in_turns(build, usual, batches[0]),
            )


def _batch(sample: Sample, key: BuildRecord) -> "np.ndarray":
    return np.stack([sample.frame] * key.shape[0])


def _key(
    config: CompileConfig, model: Path, runtime: str, builder: Builder, spec: ModelSpec
) -> BuildRecord:
    """Return the key of the build."""
    if spec.build is not None:
        raise ConfigError(f"{model} was compiled already; give the model that it was made of")
    precision = config.precision or builder.PRECISIONS[0]
    if precision not in builder.PRECISIONS:
        raise ConfigError(
            f"--precision is {precision!r}; for {runtime} use one of: "
            f"{', '.join(builder.PRECISIONS)}"
        )
    return BuildRecord(
        source_sha256=sha256_of(model),
        runtime=runtime,
        runtime_version=None if config.portable else builder.version(),
        device=None if config.portable else builder.device(),
        precision=precision,
        shape=(config.batch, *(config.size_hw or usual_size(config.data, config.film, spec))),
        fixed_shape=builder.FIXED_SHAPE,
        frames_sha256=digest_of_frames(config.frames),
    )


def report_path(out: Path) -> Path:
    """Return the path of a build's report, beside it."""
    return out.with_name(f"{out.name}.json")


def _kept(out: Path, key: BuildRecord) -> CompileResult | str:
    """Return the report of an existing file with the key, or why it must be built."""
    try:
        report = build_settings(_Report, dict(json.loads(report_path(out).read_text())))
        if report.sha256 != digest_of(out):
            return f"{out} is not what was written"
    except OSError:
        return "there was no such file"
    except (ValueError, TypeError, RecursionError, ConfigError):
        return f"{report_path(out)} is damaged"
    return report.build.difference(key) or CompileResult(
        out=out,
        build=report.build,
        rebuilt_because=None,
        parity=report.parity,
        layers=report.layers,
        timing=report.race,
    )


def _check_place(out: Path, config: CompileConfig, model: Path) -> None:
    """Raise `ConfigError` if a build would replace an input, or a file that was not built."""
    check_not_input(out, "--out", *filter(None, (model, config.film)))
    taken = [path for path in (*files_of(out), report_path(out)) if os.path.lexists(path)]
    if taken and not _is_report(report_path(out)):
        raise ConfigError(
            f"--out {out}: {taken[0]} exists and was not made by roadseg compile; choose another "
            "name, or move it away"
        )


def _is_report(path: Path) -> bool:
    """Return whether a file is the report of a build, whole or not."""
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(values, dict) and "build" in values


@contextmanager
def _exported(model: Path) -> Iterator[Path]:
    """Give a model as an ONNX file in FP32, exported if necessary."""
    if model.suffix != ".safetensors":
        yield model
        return
    from roadseg.deploy.export import export_onnx  # needs torch, which the rest does not

    with TemporaryDirectory() as folder:
        exported = Path(folder) / f"{model.stem}.onnx"
        export_onnx(model, exported)
        yield exported


def _refuse_worse(result: CompileResult) -> None:
    """Raise `ExportError` if a build is too different from its source."""
    least, parity = LEAST_AGREEMENT[result.build.precision], result.parity
    if parity.agreement < least:
        raise ExportError(
            f"the build agrees with its source on {parity.agreement:.2%} of pixels, and "
            f"{least:.0%} are needed; nothing was written; use another --precision, or frames "
            "that are more like your own"
        )
    if parity.miou is not None and parity.source_miou is not None:
        lost = parity.source_miou - parity.miou
        if lost > MOST_LOST:
            raise ExportError(
                f"the build has {parity.miou:.1%} mIoU and its source {parity.source_miou:.1%}; "
                f"at most {MOST_LOST:.1%} may be lost; nothing was written; use another "
                "--precision"
            )
    if not result.layers.get(result.build.precision):
        executed = ", ".join(f"{count} in {kind}" for kind, count in result.layers.items())
        raise ExportError(
            f"{result.build.runtime} executes no convolution in {result.build.precision}, but "
            f"{executed or 'none at all'}; nothing was written; use another --precision"
        )


def _keep(draft: Path, result: CompileResult) -> None:
    """Rename a draft and the files beside it to their targets; write the report."""
    report = _Report(
        sha256=digest_of(draft),
        build=result.build,
        parity=result.parity,
        layers=result.layers,
        race=result.timing,
    )
    move_all(draft, result.out)
    with replacing(report_path(result.out)) as temporary:
        temporary.write_text(json.dumps(asdict(report), indent=2) + "\n")
