"""Convert subtitles of MP4, such as a camera's GPS as text, for Matroska."""

import av

from roadseg.video.pyav import Packet
from roadseg.video.write.copies import lasting

LENGTH_BYTES = 2
"""Bytes before a text of MP4 with its length; its style may follow it."""


class TextStream:
    """A stream of timed text (mov_text), of which the plain text is kept (SubRip).

    Args:
        stream: The text.
        target: File to write it to, whose header is not written yet.

    Raises:
        ValueError: It is no such text, or the file's format cannot hold plain text.
    """

    def __init__(self, stream: av.stream.Stream, target: av.container.OutputContainer) -> None:
        context = stream.codec_context
        if context is None or context.name != "mov_text":
            raise ValueError(f"stream {stream.index} is no text of MP4")
        self._stream = target.add_mux_stream("subrip")
        self._stream.time_base = stream.time_base
        self._stream.metadata.update(lasting(stream.metadata))
        self._stream.disposition = stream.disposition
        self._target = target
        self.refused = 0

    def write(self, packet: Packet) -> None:
        """Write the text of a packet; an empty one only ends the one before."""
        data = bytes(packet)
        text = data[LENGTH_BYTES : LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES])]
        if not text:
            return
        copy = Packet(text)
        copy.pts = copy.dts = packet.dts
        copy.duration, copy.time_base = packet.duration, packet.time_base
        copy.stream = self._stream
        self._target.mux(copy)

    def finish(self) -> None:
        """Do nothing: every text is written when it comes."""
