"""The forms in which a stream beside the pictures can go into a film."""

from collections.abc import Callable
from typing import Any, Protocol

import av

from roadseg.video.write.copies import CopiedTrack
from roadseg.video.write.sound import EncodedTrack
from roadseg.video.write.texts import TextTrack


class Track(Protocol):
    """A stream being written."""

    refused: int
    """Packets that were left out."""

    def write(self, packet: "av.Packet[Any]") -> None:
        """Write a packet of the source, which has a time at which it is to be decoded."""
        ...

    def finish(self) -> None:
        """Write what is left."""
        ...


Form = Callable[[Any, av.container.OutputContainer], Track]


def forms_of(stream: av.stream.Stream, sound: str) -> tuple[Form, ...]:
    """Return the forms to try for a stream, the best first.

    Args:
        stream: Sound, subtitles or data of a film.
        sound: What is wanted of sound: auto, copy or aac.
    """
    if stream.type != "audio":
        return (CopiedTrack, TextTrack)
    return {"auto": (CopiedTrack, EncodedTrack), "copy": (CopiedTrack,), "aac": (EncodedTrack,)}[
        sound
    ]
