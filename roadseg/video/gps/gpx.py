"""A track in GPX, https://www.topografix.com/GPX/1/1, and its place in the time of a video."""

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from roadseg.errors import ConfigError
from roadseg.video.gps.track import Position, Track
from roadseg.video.read.streams import utc


def read_gpx(path: Path) -> Track:
    """Return the points of a GPX file that have a time, in seconds since 1970 (UTC).

    Raises:
        ConfigError: It cannot be read, is no GPX, or has no such points.
    """
    advice = "give a GPX file with a recorded track"
    try:
        data = path.read_bytes()
        if b"<!DOCTYPE" in data or b"<!ENTITY" in data:  # GPX has none; a few can fill the memory
            raise ConfigError(f"--gpx {path} declares entities, which GPX has not; {advice}")
        root = ElementTree.fromstring(data)  # noqa: S314 as above
    except OSError as error:
        raise ConfigError(f"--gpx {path} cannot be read ({error.strerror}); {advice}") from error
    except ElementTree.ParseError as error:
        raise ConfigError(f"--gpx {path} is no GPX ({error}); {advice}") from error
    track = Track.of(_points(root), path.name)
    if track is None:
        raise ConfigError(f"--gpx {path} has no track points with times; {advice}")
    return track


def _points(root: ElementTree.Element) -> Iterator[Position]:
    for point in root.iterfind(".//{*}trkpt"):
        try:
            begun = utc(point.findtext("{*}time") or "")
            yield Position(
                begun.timestamp(), float(point.attrib["lat"]), float(point.attrib["lon"])
            )
        except (ValueError, KeyError):
            continue  # a point that is not recorded
