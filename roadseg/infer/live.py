"""Label a live source: older frames are dropped, so the delay does not grow.

`LiveSession` runs capture, segment and record on threads of their own. Capture never waits: of the
frames that the model has not taken yet, only the newest is kept. Of a video file no frame is
dropped, unless it plays as a camera.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from roadseg.errors import ConfigError
from roadseg.infer.config import LiveConfig
from roadseg.infer.device import Device, device_for
from roadseg.infer.stages import Pipeline, Stage, StageStats, Stop
from roadseg.infer.steps import check_model, note_view, segment
from roadseg.paint.overlay import Overlay
from roadseg.segmentation.label import label
from roadseg.video.frame import Arrival, Frame, SegmentedFrame
from roadseg.video.read.capture import capture, parse_source
from roadseg.video.write.record import Recorder

RATE_FRAMES = 30
"""Frames over which the frame rate is averaged."""
MOST_WAITING = 4
"""Frames that may wait for a prediction where labels are moved along, which is quick."""
AGE_FRAMES = 1000
"""Latest frames whose ages the summary covers."""


@dataclass(frozen=True)
class Reading:
    """Rate, age and drops of a live run, as of one frame."""

    fps: float
    """Frames a second over the last `RATE_FRAMES`."""
    age_s: float
    """Seconds from the frame's arrival to its labels."""
    dropped: int
    """Frames dropped so far."""

    @property
    def lines(self) -> tuple[str, str, str]:
        """The same as text."""
        return (
            f"{self.fps:.1f} frames a second",
            f"age {self.age_s * 1000:.0f} ms",
            f"{self.dropped} dropped",
        )


@dataclass(frozen=True, kw_only=True)
class LiveSummary:
    """What a live run did."""

    frames: int
    """Frames labelled."""
    dropped: int
    """Frames that arrived and were not labelled."""
    network_frames: int
    """Frames that the network predicted; the labels of the others were moved along."""
    wall_s: float
    """Seconds from the first label to the last."""
    age_p50_s: float
    """Median of the seconds from a frame's arrival to its labels."""
    age_p95_s: float
    """95th percentile of the same."""
    recorded: tuple[Path, ...]
    """Videos written."""
    stages: tuple[StageStats, ...]
    """Where the time went."""


class Meter:
    """Counts frames, their rate and their ages."""

    def __init__(self) -> None:
        self.frames = self.dropped = self.network_frames = 0
        self.ages_s: deque[float] = deque(maxlen=AGE_FRAMES)
        self._shown_s: deque[float] = deque(maxlen=RATE_FRAMES)
        self._first_s = self._last_s = 0.0

    def count(self, arrival: Arrival, *, by_network: bool = True) -> Reading:
        """Count a frame that was labelled just now, by the network or from labels moved along.

        Returns:
            The state of the run with it.
        """
        now_s = time.monotonic()
        self.frames += 1
        self.network_frames += by_network
        self.dropped = arrival.number + 1 - self.frames
        self.ages_s.append(now_s - arrival.time_s)
        self._first_s = self._first_s or now_s
        self._last_s = now_s
        self._shown_s.append(now_s)
        return Reading(fps=self._fps, age_s=self.ages_s[-1], dropped=self.dropped)

    @property
    def wall_s(self) -> float:
        """Seconds between the first frame and the last."""
        return self._last_s - self._first_s

    @property
    def _fps(self) -> float:
        span_s = self._shown_s[-1] - self._shown_s[0]
        return (len(self._shown_s) - 1) / span_s if span_s else 0.0


class LiveSession:
    """A live run, for as long as the block lasts; iterating it yields its labelled frames.

    Args:
        config: Settings.
        notify: Called with a sentence when the source is lost and when it is back, and if pictures
            cannot lie on the GPU that was asked for.

    Raises:
        VideoError: The source cannot be opened, or the recording exists.
        OutputError: The recording cannot be written.
        ModelFileError: The weights are missing or not ours.
        BackendUnavailable: The runtime is not installed.
        ConfigError: A class name is unknown, or what is no video file is to begin again.
    """

    def __init__(self, config: LiveConfig, notify: Callable[[str], None]) -> None:
        check_model(config)
        self._device = device = device_for(config)
        if device.excuse:
            notify(device.excuse)
        self._meter = Meter()
        self._recorder = (
            Recorder(config.out, segment_s=config.segment_s, overwrite=config.overwrite)
            if config.out
            else None
        )
        source, stop = parse_source(config.source), Stop()
        if config.loop and not source.is_film:
            raise ConfigError(
                f"--loop is for video files, and {source.label} is live; leave it out"
            )
        arriving = capture(
            source, stop=stop, notify=notify, at_its_own_rate=config.as_camera, loops=config.loop
        )
        stages: dict[str, Stage] = {"segment": partial(label_live, config=config, device=device)}
        if self._recorder:
            stages["record"] = partial(record, config=config, recorder=self._recorder)
        self._pipeline = Pipeline(
            arriving,
            *stages.values(),
            depth=1,
            names=["capture", *stages],
            newest=not source.is_film or config.as_camera,
            waiting=MOST_WAITING if config.realtime or config.fps_target else 1,
            stop=stop,
        )

    def __enter__(self) -> Self:
        self._pipeline.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pipeline.__exit__(kind, error, traceback)

    def __iter__(self) -> Iterator[tuple[SegmentedFrame, Reading]]:
        """Yield every labelled frame with the run's state."""
        with self._device.errors():
            for item in self._pipeline:
                assert item.frame.arrival is not None  # capture sees to it
                yield item, self._meter.count(item.frame.arrival, by_network=item.by_network)

    def summary(self) -> LiveSummary:
        """Return the summary; it is complete once the block is left."""
        p50_s, p95_s = np.percentile(self._meter.ages_s or [0.0], [50, 95])
        return LiveSummary(
            frames=self._meter.frames,
            dropped=self._meter.dropped,
            network_frames=self._meter.network_frames,
            wall_s=self._meter.wall_s,
            age_p50_s=float(p50_s),
            age_p95_s=float(p95_s),
            recorded=tuple(self._recorder.written) if self._recorder else (),
            stages=tuple(self._pipeline.stats),
        )


def label_live(
    frames: Iterator[Frame], *, config: LiveConfig, device: Device
) -> Iterator[SegmentedFrame]:
    """Stage: label every frame without waiting for another, and note which classes are in view."""
    step = partial(label, can_wait=False)
    return note_view(segment(device.take(frames), config=config, step=step))


def record(
    items: Iterator[SegmentedFrame], *, config: LiveConfig, recorder: Recorder
) -> Iterator[SegmentedFrame]:
    """Stage: paint every frame and add it to the recording, which is always finished."""
    overlay: Overlay | None = None
    with recorder:
        for item in items:
            overlay = overlay or Overlay(item.spec, config)
            painted = item.frame.picture.paint(overlay, item.shown, item.in_view)
            recorder.write(item.frame, painted)
            yield item
            del item, painted
