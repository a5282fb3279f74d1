"""What is known of a video's file: a state by which another in its place is noticed, and a date."""

from datetime import UTC, datetime
from pathlib import Path

from roadseg.errors import VideoError
from roadseg.infer.config import InferConfig
from roadseg.video.objects import is_object, state_of
from roadseg.video.read.source import VideoInfo

NANOSECONDS = 10**9


def fingerprint(config: InferConfig, *, listed: bool = False) -> str | None:
    """Return a state of a video that changes when it is replaced; None of an address elsewhere.

    Args:
        config: Settings for the video.
        listed: Whether the state of an object may be that of when objects were last listed.
    """
    source = config.source
    try:
        if is_object(source):
            return "{} {}".format(*state_of(source, listed=listed))
        state = source.stat() if isinstance(source, Path) else None
    except (OSError, VideoError):
        return None  # which is said when its turn comes
    return state and f"{state.st_size} {state.st_mtime_ns}"


def recorded_at(config: InferConfig, info: VideoInfo) -> str | None:
    """Return when a video was recorded: as its file states, or else when that was last changed.

    It is in ISO 8601, in UTC; None if neither is known.
    """
    if info.recorded is not None:
        return info.recorded.isoformat(timespec="seconds")
    state = fingerprint(config)
    changed_s = int(state.split()[1]) // NANOSECONDS if state else None
    return None if changed_s is None else datetime.fromtimestamp(changed_s, UTC).isoformat()
