"""Positions that ExifTool finds, where that program is installed.

Novatek's chips, and those of many dashcams, write positions in forms that are documented nowhere.
ExifTool knows dozens: https://exiftool.org.
"""

import contextlib
import json
import shutil
import subprocess
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from roadseg.video.gps.track import Position

NAME = "ExifTool"
PLACE = ("GPSLatitude", "GPSLongitude")
TAGS = (*PLACE, "SampleTime", "GPSDateTime", "GPSMeasureMode")
LONGEST_S = 120.0
"""Time after which the search is given up."""
DATE_LENGTH = len("2026:05:01 08:00:00")


def exiftool_positions(video: Path) -> list[Position]:
    """Return the positions in a video, in seconds from its beginning; none without ExifTool."""
    program = shutil.which("exiftool")
    if program is None:
        return []
    wanted = [f"-{tag}" for tag in TAGS]
    command = [program, "-ee", "-n", "-j", "-G3", *wanted, str(video.resolve())]
    try:
        done = subprocess.run(command, capture_output=True, timeout=LONGEST_S, check=False)  # noqa: S603
        return positions_of(json.loads(done.stdout)[0])
    except (OSError, subprocess.TimeoutExpired, ValueError, LookupError):
        return []


def positions_of(record: dict[str, Any]) -> list[Position]:
    """Return the positions in ExifTool's record of a video.

    A key is the number of a sample and the name of a tag, such as "Doc1:GPSLatitude". A
    position without a time in the video is placed by the receiver's clock, which is taken to begin
    with the video.
    """
    samples: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for key, value in record.items():
        sample, _, tag = key.rpartition(":")
        samples[sample][tag] = value
    clocks = {name: _clock_s(tags.get("GPSDateTime")) for name, tags in samples.items()}
    first_s = min((clock_s for clock_s in clocks.values() if clock_s is not None), default=0.0)
    found = []
    for name, tags in samples.items():
        clock_s = clocks[name]
        time_s = tags.get("SampleTime", None if clock_s is None else clock_s - first_s)
        if time_s is None or tags.get("GPSMeasureMode") == 0:  # there was no fix
            continue
        with contextlib.suppress(LookupError, TypeError, ValueError):  # it tells no place or time
            found.append(Position(float(time_s), *(float(tags[tag]) for tag in PLACE)))
    return found


def _clock_s(text: str | None) -> float | None:
    """Return ExifTool's date and time in seconds."""
    try:
        time = datetime.strptime(str(text)[:DATE_LENGTH], "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
    return time.replace(tzinfo=UTC).timestamp()
