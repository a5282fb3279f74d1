"""Label a video along its motion: steadily, and with the network running on some of its frames.

That takes six steps, one after the other in `label`, or each a stage of a pipeline:

- `paired` puts the small luma of the frame before beside each frame's.
- `stepped` finds the motion between the two. No pair depends on another, so several threads can
  share the search.
- `track` joins these steps into the warp from every frame back to the last key frame, and chooses
  the key frames: the first of a scene, and those that the settings ask for.
- `predict` runs the network on those. A prediction depends on no other frame, so several replicas
  of the network can run at once.
- `fuse` filters the logits of key frames along the flow since the last one
  (`roadseg.segmentation.temporal_filter`). A cut, and a jump within a scene, drop the past.
- `enlarged` gives every frame its labels. In between, they are moved: from the last key frame, and
  where the reader can wait, from the next one too, each cell mixed of both, and the more of one the
  lower its residual there is than the other's. Then they are brought to the frame's size. That is
  most of the work, and no frame depends on another here, so several threads can share it.

Where each frame is labelled by itself, `predict_alone` does it all.

To begin in the middle of a video, start `warm_up_s` earlier and mark the extra frames `leads_in`.
The frames after them then get the labels that they have when the whole video is labelled.
"""

import math
from collections.abc import Iterator

from roadseg.backends.runtimes import Backend
from roadseg.segmentation import confidence
from roadseg.segmentation.config import ModelConfig
from roadseg.segmentation.fuse import Fused, Fuser, enlarged
from roadseg.segmentation.keyframes import longest_step_s
from roadseg.segmentation.neighbours import paired, stepped
from roadseg.segmentation.predict import predict, predict_alone
from roadseg.segmentation.temporal_filter import REFERENCE_S
from roadseg.segmentation.track import track
from roadseg.video.frame import Frame, SegmentedFrame

FORGOTTEN = 5e-4
"""Weight at which the past no longer changes a label."""
LEAST_WARM_UP_S = 1.0
"""Longer than two intervals between key frames."""


def label(
    frames: Iterator[Frame], backend: Backend, config: ModelConfig, *, can_wait: bool = True
) -> Iterator[SegmentedFrame]:
    """Yield every frame with its class map.

    Args:
        frames: Frames of one video.
        backend: Model.
        config: Settings.
        can_wait: Whether frames may be kept until a later one has its labels.
    """
    if not config.goes_by_motion:
        return predict_alone(frames, backend, config)
    return enlarged(label_on_grid(frames, backend, config, can_wait=can_wait), config)


def label_on_grid(
    frames: Iterator[Frame], backend: Backend, config: ModelConfig, *, can_wait: bool = True
) -> Iterator[Fused]:
    """Yield every frame with its labels on the network's grid, as `label` does at full size.

    Tracking is given the last key frame's labels, which a choice by time depends on.
    """
    fuser = Fuser(config, can_wait=can_wait)
    steps = stepped(paired(frames))
    tracked = track(steps, config, can_wait=can_wait, key_labels=fuser.key_labels)
    return fuser.fuse(predict(tracked, backend, config))


def warm_up_s(config: ModelConfig) -> float:
    """Return how many seconds of video must be labelled before the earlier past is forgotten."""
    if not config.goes_by_motion:
        return 0.0
    if not config.steady:
        return LEAST_WARM_UP_S
    longest = max(_memory_s(config.steady, FORGOTTEN), LEAST_WARM_UP_S)
    if config.min_confidence:
        longest = max(longest, _memory_s(confidence.STEADY, confidence.FORGOTTEN))
    return longest


def _memory_s(strength: float, forgotten: float) -> float:
    """Return the seconds after which the past has a weight in a filter that is as good as none."""
    return REFERENCE_S * math.log(forgotten) / math.log(strength)


def look_ahead_s(config: ModelConfig) -> float:
    """Return how many seconds of video after a frame decide on its labels too.

    They reach to the next key frame.
    """
    only_key_frames = config.every == 1 and not config.goes_by_time
    return 0.0 if only_key_frames else longest_step_s(config)
