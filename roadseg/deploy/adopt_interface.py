"""Detect the inputs and outputs of a network, and ask for an option where that is impossible."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roadseg.deploy.adopt_config import INPUT_RANGES, AdoptConfig
from roadseg.deploy.adopt_graph import TYPES, Given, Taken
from roadseg.deploy.adopt_network import Outputs, Port
from roadseg.errors import ConfigError
from roadseg.spec import UNLABELLED, SegClass

MOST_LEVEL = 255.0
MOST_PROBABILITY = 1.001
"""Largest probability, rounded in half precision."""
LEAST_SIDE = 2
"""Rows and columns of what can be labels, and not a verdict on the whole picture."""


def taken_by(inputs: Sequence[Port], config: AdoptConfig) -> Taken:
    """Return what a network takes.

    Raises:
        ConfigError: It takes no frames, or an option must say how it does.
    """
    if len(inputs) != 1:
        names = ", ".join(port.name for port in inputs) or "none"
        raise ConfigError(
            f"{config.model} has {len(inputs)} inputs ({names}); one that takes pictures is "
            "needed; export the network with that one alone"
        )
    port = inputs[0]
    if len(port.shape) != 4 or port.kind not in TYPES:
        raise ConfigError(
            f"{config.model} takes {_shown(port)}; four dimensions of {', '.join(TYPES)} are "
            "needed; export the network so"
        )
    if port.shape[0] not in (None, 1):
        raise ConfigError(
            f"{config.model} takes {port.shape[0]} pictures at once; export it for 1 or for any"
        )
    is_nchw = _is_nchw(port, config)
    mean, std = _normalisation(port, config)
    return Taken(
        name=port.name, kind=port.kind, is_nchw=is_nchw, is_bgr=config.bgr, mean=mean, std=std
    )


def size_of(port: Port, taken: Taken) -> tuple[int | None, int | None]:
    """Return the height and width that an input is fixed to; None where it is not."""
    height, width = port.shape[2:] if taken.is_nchw else port.shape[1:3]
    return height, width


def given_by(
    outputs: Outputs,
    classes: Mapping[int, SegClass],
    frame_hw: tuple[int, int],
    config: AdoptConfig,
) -> Given:
    """Return which output of a network labels come from, and how.

    Args:
        outputs: What it gave for one frame.
        classes: Its classes by id, as the user gives them.
        frame_hw: Height and width of that frame.
        config: Options.

    Raises:
        ConfigError: None of them can be, or an option must say which is.
    """
    if config.output is not None and config.output not in outputs:
        raise ConfigError(f"--output is {config.output!r}; {config.model} has {_listed(outputs)}")
    tried = [config.output] if config.output else list(outputs)
    fitting = [g for name in tried if (g := _given(name, outputs[name], classes, frame_hw))]
    scores = [g for g in fitting if g.kind != "ids"]
    if len(fitting) == 1 or len(scores) == 1:  # what decides is worth more than the decision
        return (scores or fitting)[0]
    if not fitting:
        shown = {name: outputs[name] for name in tried}
        raise ConfigError(
            f"{config.model} gives {_listed(shown)}; --classes {config.classes} names "
            f"{_count(classes)} classes, which need as many channels, or one of ids; check "
            "--classes"
        )
    raise ConfigError(
        f"{config.model} gives {_listed({g.name: outputs[g.name] for g in fitting})}; choose one "
        f"of these with --output"
    )


def _is_nchw(port: Port, config: AdoptConfig) -> bool:
    if config.layout is not None:
        return config.layout == "nchw"
    places = [place for place in (1, 3) if port.shape[place] == 3]
    if len(places) == 1:
        return places[0] == 1
    raise ConfigError(
        f"{config.model} takes {_shown(port)}, which does not tell where the colours are; give "
        "--layout nchw or --layout nhwc"
    )


def _normalisation(
    port: Port, config: AdoptConfig
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return mean and standard deviation in levels from 0 to 255."""
    nothing = config.mean is None and config.std is None
    if port.kind == "uint8":
        if nothing and config.input_range in (None, "0..255"):
            return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        raise ConfigError(
            f"{config.model} takes levels from 0 to 255 as they are; leave out --mean, --std and "
            "--input-range"
        )
    mean, std = config.mean or (0.0, 0.0, 0.0), config.std or (1.0, 1.0, 1.0)
    if nothing and config.input_range is None:
        raise ConfigError(
            f"{config.model} takes {port.kind}, which does not tell in which range; give the "
            "--mean and --std of its training, or --input-range 0..1 or 0..255"
        )
    by_size = "0..1" if max(*map(abs, mean), *std) <= 1 else "0..255"
    unit = MOST_LEVEL / INPUT_RANGES[config.input_range or by_size]
    (m0, m1, m2), (s0, s1, s2) = mean, std
    return (m0 * unit, m1 * unit, m2 * unit), (s0 * unit, s1 * unit, s2 * unit)


def _given(
    name: str, output: NDArray[Any], classes: Mapping[int, SegClass], frame_hw: tuple[int, int]
) -> Given | None:
    """Return how labels come from an output, or None if none can."""
    place = _place_of_scores(output, classes, frame_hw)
    if place is not None:
        named, kind = _channels(classes, output.shape[place]), _kind_of_scores(output)
    elif _are_ids(output, classes):
        place = _place_of_ids(output)
        named, kind = _channels(classes, _count(classes)), "ids"
    else:
        return None
    sides = [side for axis, side in enumerate(output.shape) if axis != place][-2:]
    if named is None or min(sides) < LEAST_SIDE:
        return None
    return Given(name=name, kind=kind, rank=output.ndim, channel=place, classes=named)


def _place_of_scores(
    output: NDArray[Any], classes: Mapping[int, SegClass], frame_hw: tuple[int, int]
) -> int | None:
    """Return which dimension of an output has a channel for each class, if one does."""
    if output.dtype.kind != "f" or output.ndim not in (3, 4):
        return None
    first, last = output.ndim - 3, output.ndim - 1
    fitting = [place for place in (first, last) if _channels(classes, output.shape[place])]
    if len(fitting) < 2:
        return fitting[0] if fitting else None

    def stretched(place: int) -> float:
        rows, columns = np.delete(output.shape, place)[-2:]
        return abs(float(rows / columns) - frame_hw[0] / frame_hw[1])

    return min(fitting, key=stretched)  # as the frame is, so are its labels


def _place_of_ids(output: NDArray[Any]) -> int | None:
    """Return which dimension of an output of ids is a channel, if one is."""
    if output.ndim < 4:
        return None
    return 1 if output.shape[1] == 1 else output.ndim - 1


def _are_ids(output: NDArray[Any], classes: Mapping[int, SegClass]) -> bool:
    place = _place_of_ids(output)
    channels = 1 if place is None else output.shape[place]
    pictures = 1 if output.ndim == 2 else output.shape[0] if output.ndim in (3, 4) else 0
    if (channels, pictures) != (1, 1) or output.dtype.kind not in "iubf" or not output.size:
        return False
    return bool((output == np.floor(output)).all() and output.min() >= 0) and (
        int(output.max()) in classes
    )


def _kind_of_scores(output: NDArray[Any]) -> str:
    """Return what the scores are: a softmax's or a sigmoid's are probabilities, and no logits."""
    within = output.min() >= 0 and output.max() <= MOST_PROBABILITY
    return "probabilities" if within else "logits"


def _channels(classes: Mapping[int, SegClass], count: int) -> tuple[SegClass, ...] | None:
    """Return the classes of so many channels, or None if there are others.

    What a list calls unlabelled, after all others, need not have a channel.
    """
    named = [classes[i] for i in range(count) if i in classes]
    return tuple(named) if count >= _count(classes) and len(named) == count else None


def _count(classes: Mapping[int, SegClass]) -> int:
    """Return how many channels a list needs at least."""
    return max((i for i, c in classes.items() if c.name != UNLABELLED), default=-1) + 1


def _listed(outputs: Outputs) -> str:
    return ", ".join(f"{n} ({v.dtype} {'x'.join(map(str, v.shape))})" for n, v in outputs.items())


def _shown(port: Port) -> str:
    sides = ", ".join("any" if side is None else str(side) for side in port.shape)
    return f"{port.name}, {port.kind} ({sides})"
