"""The cameras of this machine: their names, and how FFmpeg opens them."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import av

from roadseg.errors import VideoError

LIST = Path("/sys/class/video4linux")
"""Where Linux has a folder for each video device."""


@dataclass(frozen=True)
class System:
    """FFmpeg's way to the cameras of an operating system."""

    format: str
    """Name of its input."""
    address: str = "{}"
    """What is opened for a device of a name."""
    options: Mapping[str, str] = field(default_factory=dict)
    """FFmpeg's options for them."""


SYSTEMS: Mapping[str, System] = {
    "linux": System("v4l2"),
    "win32": System("dshow", "video={}"),
    # Its own default, 29.97, is a rate that few cameras have; and it takes a microphone along.
    "darwin": System("avfoundation", "{}:none", {"framerate": "30"}),
}
"""By Python's name of the operating system."""
SCREEN = "Capture screen"
"""How AVFoundation names what is no camera among them."""


@dataclass(frozen=True)
class Camera:
    """A camera of this machine."""

    number: int
    """N of its device, /dev/videoN; elsewhere than on Linux, its place in the system's list."""
    name: str
    """Name that its driver reports."""
    device: str
    """Name of its device."""

    def __str__(self) -> str:
        return f"{self.number} ({self.name})"


def system() -> System:
    """Return the way to the cameras of this machine."""
    return SYSTEMS.get(sys.platform, SYSTEMS["linux"])


def list_cameras() -> list[Camera]:
    """Return the cameras in order of their numbers."""
    return _of_linux() if sys.platform == "linux" else _of_ffmpeg()


def numbered_camera(number: int) -> Camera:
    """Return the camera of a number; on Linux also one of which the system tells nothing.

    Raises:
        VideoError: There is none.
    """
    cameras = list_cameras()
    for camera in cameras:
        if camera.number == number:
            return camera
    if sys.platform == "linux":
        device = f"/dev/video{number}"
        return Camera(number, device, device)
    raise VideoError(f"there is no camera {number}; give a file, an address, or {_any(cameras)}")


def named_camera(name: str) -> Camera:
    """Return the camera whose name contains a text, whatever the case.

    Raises:
        VideoError: There is none, or more than one.
    """
    cameras = list_cameras()
    matches = [camera for camera in cameras if name.casefold() in camera.name.casefold()]
    if len(matches) == 1:
        return matches[0]
    what = "names more than one camera" if matches else "does not exist, nor does such a camera"
    raise VideoError(f"{name} {what}; give a file, an address, or {_any(matches or cameras)}")


def _any(cameras: list[Camera]) -> str:
    there = ", ".join(map(str, cameras)) or "there is none here"
    return f"the number of a camera: {there}"


def _of_linux() -> list[Camera]:
    found = []
    for folder in LIST.glob("video*"):
        number = folder.name.removeprefix("video")
        # A camera can have several devices; the first delivers its pictures.
        if number.isdecimal() and _read(folder / "index") in ("0", ""):
            found.append(Camera(int(number), _read(folder / "name"), f"/dev/{folder.name}"))
    return sorted(found, key=lambda camera: camera.number)


def _of_ffmpeg() -> list[Camera]:
    """Return the cameras that FFmpeg lists; an error is how some of its inputs say that none is."""
    try:
        devices = av.enumerate_input_devices(system().format)
    except (av.FFmpegError, ValueError):
        return []
    cameras = [
        device
        for device in devices
        if "video" in device.media_types and not device.description.startswith(SCREEN)
    ]
    return [Camera(n, device.description, device.name) for n, device in enumerate(cameras)]


def _read(path: Path) -> str:
    try:
        # Linux cuts a long name wherever its 32nd byte is.
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # not every driver has every file
        return ""
