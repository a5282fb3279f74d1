"""List the cameras of this machine, on Linux."""

from dataclasses import dataclass
from pathlib import Path

from roadseg.errors import VideoError

LIST = Path("/sys/class/video4linux")
"""Where Linux has a folder for each video device."""


@dataclass(frozen=True)
class Camera:
    """A camera of this machine."""

    number: int
    """Number of its device, /dev/videoN."""
    name: str
    """Name that its driver reports."""

    def __str__(self) -> str:
        return f"{self.number} ({self.name})"


def list_cameras() -> list[Camera]:
    """Return the cameras in order of their numbers."""
    found = []
    for folder in LIST.glob("video*"):
        number = folder.name.removeprefix("video")
        # A camera can have several devices; the first delivers its pictures.
        if number.isdecimal() and _read(folder / "index") in ("0", ""):
            found.append(Camera(int(number), _read(folder / "name")))
    return sorted(found, key=lambda camera: camera.number)


def find_camera(name: str) -> Camera:
    """Return the camera whose name contains a text, whatever the case.

    Raises:
        VideoError: There is none, or more than one.
    """
    cameras = list_cameras()
    matches = [camera for camera in cameras if name.casefold() in camera.name.casefold()]
    if len(matches) == 1:
        return matches[0]
    there = ", ".join(map(str, matches or cameras)) or "there is none here"
    what = "names more than one camera" if matches else "does not exist, nor does such a camera"
    raise VideoError(f"{name} {what}; give a file, an address, or the number of a camera: {there}")


def _read(path: Path) -> str:
    try:
        # Linux cuts a long name wherever its 32nd byte is.
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # not every driver has every file
        return ""
