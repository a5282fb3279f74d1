"""The way and the moments of a drive as GeoJSON (RFC 7946), for any map."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from roadseg.files import create, output_errors
from roadseg.video.gps.track import DEGREE_DIGITS, Track


def write_geojson(place: Path, record: Mapping[str, Any], track: Track | None) -> None:
    """Write the way and the moments of a drive.

    Args:
        place: Part to write.
        record: The drive, as `DriveLog.record` has it.
        track: Its way, in seconds since the first frame; None where no position is known.

    Raises:
        OutputError: The file cannot be written.
    """
    features = [*_ways(track), *_moments(record["moments"], track)]
    text = json.dumps({"type": "FeatureCollection", "features": features}, indent=1)
    with output_errors(place), create(place) as file:
        file.write(f"{text}\n".encode())


def _ways(track: Track | None) -> Iterator[dict[str, Any]]:
    """Yield a line for each part of the way without a gap; one position alone is a point."""
    for part in track.parts() if track else ():
        coordinates = [_coordinates(p.latitude, p.longitude) for p in part]
        geometry = (
            {"type": "LineString", "coordinates": coordinates}
            if len(part) > 1
            else {"type": "Point", "coordinates": coordinates[0]}
        )
        yield _feature(geometry, kind="way", times_s=[round(p.time_s, 3) for p in part])


def _moments(moments: Any, track: Track | None) -> Iterator[dict[str, Any]]:
    """Yield a point for each moment; one at an unknown position has no geometry."""
    for moment in moments:
        place = track.at(moment["peak_s"]) if track else None
        geometry = place and {"type": "Point", "coordinates": _coordinates(*place)}
        known = {name: moment[name] for name in ("start_s", "end_s", "peak_s", "names")}
        yield _feature(geometry, kind="somebody on the road", **known)


def _feature(geometry: dict[str, Any] | None, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _coordinates(latitude: float, longitude: float) -> list[float]:
    return [round(longitude, DEGREE_DIGITS), round(latitude, DEGREE_DIGITS)]
