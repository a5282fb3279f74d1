"""The way of a drive and what happened on it as GeoJSON (RFC 7946), for any map."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from roadseg.files import create, output_errors
from roadseg.video.gps.track import DEGREE_DIGITS, Position, Track


def write_geojson(place: Path, record: Mapping[str, Any], track: Track | None) -> None:
    """Write the way, the moments and the stretches out of depth of a drive, each on a line.

    Args:
        place: Part to write.
        record: The drive, as `DriveLog.record` has it.
        track: Its way, in seconds since the first frame; None where no position is known.

    Raises:
        OutputError: The file cannot be written.
    """
    features = [
        *_ways(track),
        *_moments(record["moments"], track),
        *_stretches(record["out_of_depth"], track),
    ]
    lines = ",\n".join(map(json.dumps, features))
    text = f'{{"type": "FeatureCollection", "features": [\n{lines}\n]}}\n'
    with output_errors(place), create(place) as file:
        file.write(text.encode())


def _ways(track: Track | None) -> Iterator[dict[str, Any]]:
    """Yield a line for each part of the way without a gap; one position alone is a point."""
    for part in track.parts() if track else ():
        times_s = [round(position.time_s, 3) for position in part]
        yield _feature(_geometry([part]), kind="way", times_s=times_s)


def _moments(moments: Any, track: Track | None) -> Iterator[dict[str, Any]]:
    """Yield a point for each moment; one at an unknown position has no geometry."""
    for moment in moments:
        place = track.at(moment["peak_s"]) if track else None
        geometry = place and {"type": "Point", "coordinates": _coordinates(*place)}
        known = {name: moment[name] for name in ("start_s", "end_s", "peak_s", "names")}
        yield _feature(geometry, kind="somebody on the road", **known)


def _stretches(stretches: Any, track: Track | None) -> Iterator[dict[str, Any]]:
    """Yield the way along each stretch out of depth, as far as it is known."""
    for stretch in stretches:
        way = track.between(stretch["start_s"], stretch["end_s"]) if track else None
        geometry = _geometry(way.parts()) if way else None
        known = {name: stretch[name] for name in ("start_s", "end_s", "unsure")}
        yield _feature(geometry, kind="out of its depth", **known)


def _geometry(parts: list[list[Position]]) -> dict[str, Any]:
    """Return parts of a way as a line or lines; as a point if no part has two positions."""
    places = [[_coordinates(p.latitude, p.longitude) for p in part] for part in parts]
    lines = [part for part in places if len(part) > 1]
    if not lines:
        return {"type": "Point", "coordinates": places[0][0]}
    if len(lines) == 1:
        return {"type": "LineString", "coordinates": lines[0]}
    return {"type": "MultiLineString", "coordinates": lines}


def _feature(geometry: dict[str, Any] | None, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _coordinates(latitude: float, longitude: float) -> list[float]:
    return [round(longitude, DEGREE_DIGITS), round(latitude, DEGREE_DIGITS)]
