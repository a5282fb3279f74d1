"""Adopt a network that others trained: write it as a model file with roadseg's graph and record.

The network itself is not changed. Channel order and normalisation are added before it, and argmax
after it; its classes and properties are stored in the record. The written file is opened again and
compared with the network on a frame before it gets its name.
"""

from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.backends.runtimes import Backend, open_backend
from roadseg.data.networks import read_class_list
from roadseg.deploy.adopt_config import AdoptConfig
from roadseg.deploy.adopt_graph import Given, Taken, Wrapping
from roadseg.deploy.adopt_interface import given_by, size_of, taken_by
from roadseg.deploy.adopt_network import Network, Outputs, open_network
from roadseg.errors import ExportError, ModelFileError
from roadseg.files import check_not_input, move_all, output_errors, sha256_of
from roadseg.segmentation.placement import laid
from roadseg.spec import AdoptionRecord, ModelSpec
from roadseg.video.frame import Frame
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import decode, probe
from roadseg.video.read.upright import picture_of

ARCH = "adopted"
LEAST_AGREEMENT = 0.995
"""Least share of pixels in which the model must agree with the network; rounding flips a few."""
MULTIPLES = (32, 64, 128)
"""Multiples that the sides of an input are tried with, the usual one first."""
TRIAL_BLOCKS_HW = (5, 7)
"""Sides of the trial input, in these multiples; odd, so that no larger multiple fits."""
BLOCK_PX = 16
"""Side of the squares in the synthetic picture."""


@dataclass(frozen=True, kw_only=True)
class AdoptResult:
    """Result of an adoption."""

    spec: ModelSpec
    """Its record."""
    agreement: float
    """Share of pixels in which it agrees with the network, 0..1."""
    shares: dict[str, float]
    """Share of each class in the frame, the largest first."""


@dataclass(frozen=True, kw_only=True)
class _Size:
    """Input sizes that a network takes."""

    size_hw: tuple[int, int]
    """Size for the record."""
    multiple: int
    """Multiple of its sides."""
    is_fixed: bool
    """Whether it is the only size."""


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """A frame, and the network's outputs for it."""

    frames: NDArray[np.uint8]
    """(1, H, W, 3) RGB."""
    outputs: Outputs
    """By name."""

    @property
    def frame_hw(self) -> tuple[int, int]:
        """H and W."""
        height, width = self.frames.shape[1:3]
        return height, width

    def scores(self, given: Given) -> NDArray[np.float32]:
        """Return the logits (C, h, w)."""
        scores: NDArray[np.float32] = given.scores(self.outputs[given.name])[0]
        return scores

    def decided(self, given: Given) -> NDArray[np.uint8]:
        """Return the class map (H, W), computed without the graph that is checked."""
        size_wh = self.frame_hw[::-1]
        scores = self.scores(given)
        enlarged = (cv2.resize(s, size_wh, interpolation=cv2.INTER_LINEAR) for s in scores)
        return np.asarray(np.stack(list(enlarged)).argmax(axis=0), np.uint8)


def adopt(config: AdoptConfig) -> AdoptResult:
    """Write a network that others trained as a model of ours.

    Raises:
        ConfigError: An option is missing or does not fit.
        ModelFileError: The file holds no network that can be run, or is one of ours.
        BackendUnavailable: A package that is needed is not installed.
        DatasetError: The file of classes is not valid.
        VideoError: The frame cannot be read.
        ExportError: The written model disagrees with the network.
        OutputError: The file cannot be written.
    """
    check_not_input(config.out, "--out", config.model)
    classes = read_class_list(config.classes)
    frame = _frame(config)
    network = open_network(config.model)
    taken = taken_by(network.inputs, config)
    size = _size(network, taken, frame, config)
    trials = [_trial(network, taken, frame, side_hw) for side_hw in _trial_sizes(size)]
    given = given_by(trials[0].outputs, classes, size.size_hw, config)
    # An output of one size, whatever the frame's, has that of the frame at some size.
    follows = all(trial.scores(given).shape[1:] == trial.frame_hw for trial in trials)
    given = replace(given, full_size=follows)
    spec = _spec(config, taken, given, size, trials[0])
    with output_errors(config.out), TemporaryDirectory(dir=config.out.parent) as folder:
        draft = Path(folder) / config.out.name
        network.write(Wrapping(taken, given), spec, draft)
        with closing(open_backend(draft)) as model:
            result = _compared(model, given, trials)
        move_all(draft, config.out)
    return result


def _frame(config: AdoptConfig) -> Frame:
    """Return the frame to check on: the first of a video, or a synthetic one."""
    if config.frame is not None:
        return next(decode(probe(config.frame), ReadLog()))
    rows, columns = (max(side // BLOCK_PX, 1) for side in config.size_hw)
    squares = np.random.default_rng(0).integers(0, 256, (rows, columns, 3))
    rgb = squares.astype(np.uint8).repeat(BLOCK_PX, axis=0).repeat(BLOCK_PX, axis=1)
    return Frame.still(picture_of(rgb))


def _size(network: Network, taken: Taken, frame: Frame, config: AdoptConfig) -> _Size:
    """Return which input sizes a network takes, by its graph or else by trial."""
    height, width = size_of(network.inputs[0], taken)
    only_hw = height or config.size_hw[0], width or config.size_hw[1]
    if height or width:
        return _Size(size_hw=only_hw, multiple=1, is_fixed=True)
    for multiple in MULTIPLES:
        rows, columns = (max(side // multiple, 1) * multiple for side in config.size_hw)
        size = _Size(size_hw=(rows, columns), multiple=multiple, is_fixed=False)
        with suppress(ModelFileError):
            _trial(network, taken, frame, _trial_sizes(size)[-1])
            return size
    return _Size(size_hw=only_hw, multiple=1, is_fixed=True)


def _trial_sizes(size: _Size) -> list[tuple[int, int]]:
    """Return the sizes to compare at: the recorded one, and a small one if any is allowed."""
    rows, columns = (blocks * size.multiple for blocks in TRIAL_BLOCKS_HW)
    return [size.size_hw] if size.is_fixed else [size.size_hw, (rows, columns)]


def _trial(network: Network, taken: Taken, frame: Frame, size_hw: tuple[int, int]) -> _Trial:
    _, frames = laid(frame, size_hw)
    return _Trial(frames=frames, outputs=network.run(taken.prepared(frames)))


def _spec(config: AdoptConfig, taken: Taken, given: Given, size: _Size, trial: _Trial) -> ModelSpec:
    """Return the record of the model to be written."""
    rows = trial.scores(given).shape[1]
    return ModelSpec(
        arch=ARCH,
        width=0,
        encoder="",
        output_stride=max(round(size.size_hw[0] / rows), 1),
        size_hw=size.size_hw,
        class_names=tuple(c.name for c in given.classes),
        palette=tuple(c.color for c in given.classes),
        adopted=AdoptionRecord(
            source=config.model.name,
            source_sha256=sha256_of(config.model),
            layout="nchw" if taken.is_nchw else "nhwc",
            channels="bgr" if taken.is_bgr else "rgb",
            mean=taken.mean,
            std=taken.std,
            output=given.name,
            output_kind=given.kind,
            side_multiple=size.multiple,
            fixed_size=size.is_fixed,
        ),
    )


def _compared(model: Backend, given: Given, trials: list[_Trial]) -> AdoptResult:
    """Compare a written model with its network.

    Raises:
        ExportError: They disagree.
    """
    found = [model.run(trial.frames).class_map[0] for trial in trials]
    pairs = zip(found, trials, strict=True)
    agreement = min(float((ours == trial.decided(given)).mean()) for ours, trial in pairs)
    if agreement < LEAST_AGREEMENT:
        raise ExportError(
            f"the adopted model agrees with its network on {agreement:.2%} of pixels, and "
            f"{LEAST_AGREEMENT:.1%} are needed; nothing was written; please report it with the "
            "network's file"
        )
    shares = np.bincount(found[0].ravel(), minlength=model.spec.num_classes) / found[0].size
    by_name = zip(model.spec.class_names, shares.tolist(), strict=True)
    ranked = sorted(by_name, key=lambda entry: -entry[1])
    return AdoptResult(spec=model.spec, agreement=agreement, shares={n: s for n, s in ranked if s})
