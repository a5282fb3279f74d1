"""What a driver tells of a batch: while it goes on, and at its end."""

from collections.abc import Callable
from dataclasses import dataclass

from roadseg.infer.batch.films import Films
from roadseg.infer.batch.manifest import Record


@dataclass(frozen=True)
class Progress:
    """How far the video is that is being labelled."""

    film: str
    """Its name."""
    chunk: int | None
    """Number of the chunk; None is the whole video."""
    done: int
    """Frames written; of a whole video in chunks, chunks labelled."""
    total: int | None
    """How many are expected, where the file tells."""


@dataclass(frozen=True, kw_only=True)
class Listener:
    """Who is told how a batch goes."""

    listed: Callable[[Films], None] = lambda _films: None
    """Called with videos that are to be labelled, as they are found."""
    noted: Callable[[Record], None] = lambda _record: None
    """Called with every record of the manifest."""
    progress: Callable[[Progress], None] = lambda _progress: None
    """Called with every frame that is labelled here, and every chunk."""
    failed: Callable[[Exception], None] = lambda _error: None
    """Called with what a video failed of."""
    waits: Callable[[str], None] = lambda _sentence: None
    """Called with a sentence when another driver's end is waited for."""
    lost: Callable[[str], None] = lambda _sentence: None
    """Called with a sentence when a worker is gone and what it did is begun anew."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a driver did with the videos of its shard."""

    done: tuple[Record, ...]
    """The last word on those that it labelled."""
    failed: tuple[Record, ...]
    """And on those that failed, now or for good before."""
    done_before: int
    """Videos that were done already."""
