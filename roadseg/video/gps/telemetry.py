"""What a video itself knows of place and time: the telemetry in its streams, and its tags."""

import contextlib
from collections import defaultdict
from datetime import datetime
from pathlib import Path

import av

from roadseg.video.errors import read_errors
from roadseg.video.gps import camm, exiftool, gpmf, nmea
from roadseg.video.gps.track import Position, Track, spread
from roadseg.video.read.beside import continuous_packets
from roadseg.video.read.clock import unit_of
from roadseg.video.read.source import VideoInfo, open_input
from roadseg.video.read.streams import utc

FORMATS = (gpmf, camm, nmea)
"""Forms of positions in a packet, each known by its contents: tags of streams vary."""
USUAL_STEP_S = 1.0
"""Duration of a packet that states none."""
BEGIN_TAGS = ("com.apple.quicktime.creationdate", "creation_time")
"""Tags with the time of recording; the first names its zone."""


def film_track(info: VideoInfo) -> Track | None:
    """Return the way that a video's own telemetry tells, on the video's clock.

    Raises:
        VideoError: The video cannot be read.
    """
    if not info.reopens:
        return None
    found = _in_streams(info)
    if found is None and isinstance(info.path, Path):
        found = Track.of(exiftool.exiftool_positions(info.path), exiftool.NAME)
        return found and found.moved(info.start_s)
    return found


def begun(info: VideoInfo) -> datetime | None:
    """Return when a video was begun, as its tags state it.

    Raises:
        VideoError: The video cannot be read.
    """
    if not info.reopens:
        return None
    with read_errors(info.path), open_input(info.path) as container:
        for tag in BEGIN_TAGS:
            with contextlib.suppress(ValueError, LookupError):
                return utc(container.metadata[tag])
    return None


def _in_streams(info: VideoInfo) -> Track | None:
    """Return the track of the stream with most positions."""
    with read_errors(info.path), open_input(info.path) as container:
        wanted = {s.index for s in container.streams if s.type in ("data", "subtitle")}
        if not wanted:
            return None
        found: defaultdict[tuple[int, str], list[Position]] = defaultdict(list)
        for packet in continuous_packets(container, info.stream_index, wanted):
            name, positions = _positions(packet)
            found[packet.stream.index, name] += positions
    (_, name), positions = max(found.items(), key=lambda item: len(item[1]), default=((0, ""), []))
    return Track.of(positions, name)


def _positions(packet: "av.Packet[av.stream.Stream]") -> tuple[str, list[Position]]:
    """Return the name of a packet's form, and the positions in it."""
    units = packet.dts if packet.pts is None else packet.pts
    duration_s = (packet.duration or 0) * unit_of(packet) or USUAL_STEP_S
    for form in FORMATS:
        if places := form.places(bytes(packet)):
            return form.NAME, spread(places, (units or 0) * unit_of(packet), duration_s)
    return "", []
