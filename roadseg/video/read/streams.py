"""Choose the stream to label in a file with several cameras; read what a file states of itself."""

from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import av
from av.stream import Disposition

from roadseg.errors import ConfigError, VideoError
from roadseg.video.boxes import has_another_film
from roadseg.video.pyav import exact
from roadseg.video.rates import LONGEST_S
from roadseg.video.strung import has_another_asf

EARLIEST_YEAR = 1990
"""Before it, no digital video was recorded: the clock of the camera was not set."""
FIND_ANOTHER = {"mp4": has_another_film, "asf": has_another_asf}
"""What finds a film behind another, by FFmpeg's names of formats."""
ANOTHER = (
    "another film follows the first, as in files that were strung together with cat; only the "
    "first was labelled; label the files one by one, or join them with ffmpeg's concat"
)
"""What is said of one."""


def film_stream(
    container: av.container.InputContainer, path: Path | str, wanted: int | None = None
) -> av.VideoStream:
    """Return the stream that is labelled: the one wanted, marked as default, or the largest.

    Args:
        container: The file.
        path: Its name, for errors.
        wanted: Number of the stream among all of the file's; None chooses.

    Raises:
        ConfigError: The stream wanted has no pictures.
        VideoError: No stream has.
    """
    films = _films(container)
    if not films and any(stream.codec_context is None for stream in container.streams.video):
        raise VideoError(f"{path} holds no video of a codec that is known; give another file")
    if not films:
        kinds = ", ".join(sorted({s.type for s in container.streams if s.type != "video"}))
        raise VideoError(
            f"{path} has no video stream, only {kinds or 'nothing'}; give a video file"
        )
    if wanted is None:
        return max(films, key=lambda film: (_is_default(film), film.width * film.height))
    for film in films:
        if film.index == wanted:
            return film
    numbers = ", ".join(map(_described, films))
    raise ConfigError(f"--stream is {wanted}; the video streams of {path} are: {numbers}")


def others_said(container: av.container.InputContainer, chosen: av.VideoStream) -> tuple[str, ...]:
    """Return a sentence about a file's other video streams, if it has any."""
    others = [film for film in _films(container) if film.index != chosen.index]
    if not others:
        return ()
    numbers = ", ".join(map(_described, others))
    return (
        f"video stream {_described(chosen)} was labelled, others stay behind: {numbers}; "
        "--stream chooses one",
    )


def lost_said(container: av.container.InputContainer, path: Path | str) -> tuple[str, ...]:
    """Return a sentence about a film that FFmpeg does not find behind the first, if there is one.

    Args:
        container: The file.
        path: Its name; that of an address tells nothing.
    """
    if not (isinstance(path, Path) and path.is_file()):
        return ()
    finders = map(FIND_ANOTHER.get, container.format.name.split(","))
    return (ANOTHER,) if any(find and find(path) for find in finders) else ()


def stated_rate(stream: av.VideoStream) -> Fraction | None:
    """Return the frame rate that the file states, or that FFmpeg guesses.

    AVI states the rate of its clock, which may tick many times a frame; its index has the frames.
    """
    rate = exact(stream.average_rate) or exact(stream.guessed_rate)
    entries = stream.index_entries
    if stream.container.format.name == "avi" and len(entries) > 1:
        span = entries[-1].timestamp - entries[0].timestamp
        unit = exact(stream.time_base)
        if span > 0 and unit:
            rate = Fraction(len(entries) - 1, span) / unit
    return rate


def stated_frames(stream: av.VideoStream) -> int | None:
    """Return the number of frames that the file states."""
    entries = stream.index_entries
    is_indexed = stream.container.format.name == "avi" and len(entries) > 1
    return len(entries) if is_indexed else stream.frames or None


def stated_end_s(stream: av.VideoStream, start_s: float) -> float | None:
    """Return when the stream should end, by its index or by the tag of a Matroska file."""
    assert stream.time_base
    if stream.duration:
        end_s = start_s + float(stream.duration * stream.time_base)
        whole = stream.container
        assert isinstance(whole, av.container.InputContainer)
        if whole.start_time is None or not whole.duration:
            return end_s
        # FFmpeg takes the whole's length for that of a stream of MPEG-TS that begins later.
        return min(end_s, (whole.start_time + whole.duration) / av.time_base)
    parts = stream.metadata.get("DURATION", "").split(":")
    try:
        hours, minutes, seconds = map(float, parts)
    except ValueError:  # there is no tag, or one in no format that we know
        return None
    length_s = hours * 3600 + minutes * 60 + seconds
    return length_s if 0 <= length_s <= LONGEST_S else None  # a number may be inf or nan


def stated_date(container: av.container.InputContainer) -> datetime | None:
    """Return when a file says that it was recorded, unless that cannot be."""
    try:
        date = utc(container.metadata.get("creation_time", ""))
    except ValueError:
        return None
    return date if date.year >= EARLIEST_YEAR else None


def utc(text: str) -> datetime:
    """Return a date and time as files state it; UTC if it names no zone.

    Raises:
        ValueError: It is none, or none in UTC.
    """
    time = datetime.fromisoformat(text.strip())
    try:
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError as error:  # the year 1 in a zone to the east, as of a clock never set
        raise ValueError(f"{text} is no time in UTC") from error


def _films(container: av.container.InputContainer) -> list[av.VideoStream]:
    """Return the video streams that have a decoder and are not cover pictures."""
    return [
        stream
        for stream in container.streams.video
        if stream.codec_context and not stream.disposition & Disposition.attached_pic
    ]


def _is_default(stream: av.VideoStream) -> bool:
    return bool(stream.disposition & Disposition.default)


def _described(stream: av.VideoStream) -> str:
    return f"{stream.index} ({stream.width}x{stream.height})"
