"""Read what lies beside the pictures of a video, from its beginning to its end."""

from collections.abc import Collection

import av

from roadseg.video.read.demux import Packets, intact_packets
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.timeline import Timeline


def continuous_packets(
    container: av.container.InputContainer, pictures: int, wanted: Collection[int]
) -> Packets:
    """Yield the wanted packets on the continuous clock, which depends on pictures and sound.

    Args:
        container: The file, of which nothing has been read.
        pictures: Number of the stream that is labelled.
        wanted: Numbers of the streams whose packets are yielded.
    """
    timeline = Timeline(container, pictures)
    clocks = [s for s in container.streams if s.type == "audio" or s.index == pictures]
    others = [s for s in container.streams if s.index in wanted and s not in clocks]
    read = intact_packets(container, [*clocks, *others], ReadLog())
    for packet in timeline.bridge(read):
        if packet.stream.index in wanted and packet.dts is not None:
            yield packet
