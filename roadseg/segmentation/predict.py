"""Run the network on key frames, or on every frame."""

from collections.abc import Iterator
from dataclasses import dataclass

from roadseg.backends.runtimes import CLASS_MAP, LOGITS, Backend
from roadseg.segmentation.confidence import Confidence, without_unsure
from roadseg.segmentation.config import ModelConfig
from roadseg.segmentation.grid import Planes, grid_of
from roadseg.segmentation.maps import Maps
from roadseg.segmentation.placement import Placement, placed
from roadseg.segmentation.temporal_filter import GridWarp
from roadseg.segmentation.track import Tracked
from roadseg.spec import ModelSpec
from roadseg.video.frame import Frame, SegmentedFrame


@dataclass(frozen=True)
class Predicted:
    """A frame and, if it is a key frame, the network's prediction."""

    tracked: Tracked
    spec: ModelSpec
    """The model's record, in the colours wanted."""
    prediction: "Prediction | None" = None
    """None between key frames."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes; small parts are not counted."""
        return self.tracked.nbytes


@dataclass(frozen=True)
class Prediction:
    """What the network predicts for a frame."""

    placement: Placement
    """Where the frame lies in the network's input."""
    logits: Planes
    """(C, h, w), where the frame's picture lies."""
    warp: GridWarp | None
    """Back to the last key frame, beside them; None at the beginning of a scene, and where nothing
    is filtered along it."""


def predict(items: Iterator[Tracked], backend: Backend, config: ModelConfig) -> Iterator[Predicted]:
    """Yield every frame, key frames with the network's prediction."""
    spec = backend.spec.recolored(config.palette)

    def predicted(item: Tracked) -> Predicted:
        if not item.is_key:
            return Predicted(item, spec)
        placement, pictures = placed(item.frame, backend.spec, config.size_hw)
        logits = backend.run(pictures, LOGITS).logits[0]
        warp = GridWarp.of(item.warp, placement, logits) if config.steady else None
        return Predicted(item, spec, Prediction(placement, logits, warp))

    yield from map(predicted, items)


def predict_alone(
    frames: Iterator[Frame], backend: Backend, config: ModelConfig, maps: Maps = Maps.FULL
) -> Iterator[SegmentedFrame]:
    """Yield every frame with the class maps wanted, as the network predicts them from it alone."""
    spec = backend.spec.recolored(config.palette)
    wants = CLASS_MAP + LOGITS if config.wants_confidence_of(spec) else CLASS_MAP

    def predicted(frame: Frame) -> SegmentedFrame:
        placement, pictures = placed(frame, backend.spec, config.size_hw)
        answer = backend.run(pictures, wants)
        ids = answer.class_map[0]
        labels, coarse_map = maps.make(placement, grid_of(ids).restored, ids)
        confidence = None
        if LOGITS[0] in wants:
            confidence = Confidence.of(answer.logits[0], placement, frame.picture)
        found = SegmentedFrame(frame, labels, spec, coarse_map=coarse_map, confidence=confidence)
        return without_unsure(found, config.min_confidence, maps)

    yield from map(predicted, frames)
