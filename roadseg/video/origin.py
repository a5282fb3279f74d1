"""The film, or the cut of it, that another film is made of."""

from dataclasses import dataclass
from math import inf

from roadseg.video.source import ReadLog, VideoInfo


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where the pictures of a film being written come from."""

    source: VideoInfo
    """The film."""
    log: ReadLog
    """Where its reader notes the time of the first frame."""
    start_s: float = 0.0
    """Where a cut begins, counted from the film's first frame."""
    end_s: float | None = None
    """Where it ends; None is the film's end."""
    sound: str = "auto"
    """What becomes of its sound: auto, copy, aac or none."""

    @property
    def first_s(self) -> float:
        """Time in the film at which it begins; of a whole film, what is before the pictures too."""
        return self.source.start_s + self.start_s if self.start_s > 0 else -inf

    @property
    def last_s(self) -> float:
        """Time in the film at which it ends."""
        return inf if self.end_s is None else self.source.start_s + self.end_s
