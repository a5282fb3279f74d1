"""Find the motion from every frame back to the one before it.

`paired` puts the luma of the frame before beside each frame's. So `stepped` needs no other frame,
and several threads share the search, which is most of the work.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from roadseg.segmentation.flow import Flow, Luma, Motion, Warp
from roadseg.video.frame import Frame, SegmentedFrame


@dataclass(frozen=True)
class Paired:
    """A frame beside the one before it."""

    frame: Frame
    luma: Luma
    before: Luma | None
    """That of the frame before; None where that is of another size, or there is none."""
    elapsed_s: float
    """Time between the two."""

    def step(self, motion: Motion) -> Warp | None:
        """Return the warp back to the frame before; None where no way leads there."""
        if self.before is None:
            return None
        return motion.step(self.luma, self.before, self.elapsed_s)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes; small parts are not counted."""
        return self.frame.nbytes


@dataclass(frozen=True)
class Stepped:
    """A frame and its motion since the one before it."""

    frame: Frame
    luma: Luma
    step: Warp | None
    """Back to the frame before; None at the beginning of a scene."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes; small parts are not counted."""
        return self.frame.nbytes + (self.step.flow.nbytes if self.step else 0)


def paired(frames: Iterator[Frame]) -> Iterator[Paired]:
    """Yield every frame of one video beside the one before it."""
    pairing = _Pairing()
    yield from map(pairing.take, frames)


def stepped(pairs: Iterator[Paired]) -> Iterator[Stepped]:
    """Yield every frame with the motion since the one before it; no pair depends on another."""
    motion = Motion()

    def with_step(pair: Paired) -> Stepped:
        return Stepped(pair.frame, pair.luma, pair.step(motion))

    yield from map(with_step, pairs)


class _Pairing:
    """Keeps what the next frame is paired with, and no picture."""

    def __init__(self) -> None:
        self._luma: Luma | None = None
        self._size_hw = (0, 0)
        self._time_s = 0.0

    def take(self, frame: Frame) -> Paired:
        """Return a frame beside the one of the last call."""
        luma = frame.picture.small_luma()
        before = self._luma if frame.picture.size_hw == self._size_hw else None
        pair = Paired(frame, luma, before, frame.time_s - self._time_s)
        self._luma, self._size_hw, self._time_s = luma, frame.picture.size_hw, frame.time_s
        return pair


class Follower:
    """Finds the flow from each labelled frame to the one before, where it does not bring its link.

    One video's frames either all bring theirs or none does.
    """

    def __init__(self) -> None:
        self._motion = Motion()
        self._pairing = _Pairing()

    def flow(self, item: SegmentedFrame) -> Flow | None:
        """Return the flow back to the frame before; None where no way leads there."""
        if item.link:
            return item.link.flow
        step = self._pairing.take(item.frame).step(self._motion)
        return step.flow if step else None
