"""Where a drive went: from a GPX file, or else from the video's own telemetry."""

from datetime import UTC, datetime

from roadseg.errors import ConfigError
from roadseg.infer.config import InferConfig
from roadseg.video.gps.gpx import read_gpx
from roadseg.video.gps.telemetry import begun, film_track
from roadseg.video.gps.track import Track
from roadseg.video.read.source import VideoInfo


def drive_track(config: InferConfig, info: VideoInfo) -> Track | None:
    """Return the way of the drive on the video's clock; None if nobody asks, or nothing tells it.

    Raises:
        ConfigError: It is asked for by name, and nothing tells it, or only of another time.
        VideoError: The video cannot be read.
    """
    in_report = config.report is not None and not config.no_map
    if not (in_report or config.geojson):
        return None
    track = _gpx_track(config, info) if config.gpx else film_track(info)
    if track is None and config.geojson:
        raise ConfigError(
            f"--geojson is given, and {config.source} tells no positions that are known; add "
            "--gpx with a recorded track, or leave out --geojson (with the program exiftool "
            "installed, the positions of more cameras are known)"
        )
    return track


def _gpx_track(config: InferConfig, info: VideoInfo) -> Track:
    """Return the track of a GPX file on the video's clock.

    Raises:
        ConfigError: The video tells no time, or another than the track's.
    """
    assert config.gpx is not None
    track = read_gpx(config.gpx)
    begin_s = _begin_s(config, info, track)
    placed = track.moved(info.start_s - begin_s)
    end_s = info.start_s + config.end_s if config.end_s is not None else info.end_s
    first_s = info.start_s + config.start_s
    if placed.times_s[-1] < first_s or (end_s is not None and placed.times_s[0] > end_s):
        offset_s = config.gpx_offset_s
        advice = "give --gpx-offset" if offset_s is None else f"change --gpx-offset {offset_s:g}"
        raise ConfigError(
            f"--gpx {config.gpx} goes from {_said(track.times_s[0])} to "
            f"{_said(track.times_s[-1])}, and {config.source} begins at {_said(begin_s)} (UTC); "
            f"{advice}, the time in the track at which the video begins"
        )
    return placed


def _begin_s(config: InferConfig, info: VideoInfo, track: Track) -> float:
    """Return when the video begins, in seconds since 1970 (UTC)."""
    if config.gpx_offset_s is not None:
        return float(track.times_s[0]) + config.gpx_offset_s
    time = begun(info)
    if time is None:
        raise ConfigError(
            f"{config.source} does not tell when it was recorded, so that --gpx {config.gpx} "
            "cannot be matched with it; give --gpx-offset, the time in the track at which the "
            "video begins"
        )
    return time.timestamp()


def _said(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"
