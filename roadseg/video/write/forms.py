"""The forms in which sound, subtitles and data can be written."""

from collections.abc import Callable
from typing import Any, Protocol

import av

from roadseg.video.pyav import Packet
from roadseg.video.write.copies import CopiedStream
from roadseg.video.write.sound import EncodedStream
from roadseg.video.write.texts import TextStream


class WrittenStream(Protocol):
    """A stream being written."""

    refused: int
    """Packets that were left out."""

    def write(self, packet: Packet) -> None:
        """Write a packet of the source that has a decoding time."""
        ...

    def finish(self) -> None:
        """Write what is buffered."""
        ...


Form = Callable[[Any, av.container.OutputContainer], WrittenStream]


def forms_of(stream: av.stream.Stream, sound: str) -> tuple[Form, ...]:
    """Return the forms to try for a stream, best first.

    Args:
        stream: Sound, subtitles or data of a video.
        sound: How sound is written: auto, copy or aac.
    """
    if stream.type != "audio":
        return (CopiedStream, TextStream)
    return {
        "auto": (CopiedStream, EncodedStream),
        "copy": (CopiedStream,),
        "aac": (EncodedStream,),
    }[sound]
