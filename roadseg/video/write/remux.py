"""Copy a video that was written in fragments into its final form, with one index."""

from collections.abc import Callable
from pathlib import Path

import av

from roadseg.video.pyav import open_for_reading
from roadseg.video.write.companions import KINDS
from roadseg.video.write.copies import AS_FFMPEG_WOULD, copy_stream
from roadseg.video.write.encoding import FRAGMENTED
from roadseg.video.write.mux import TIMES_AS_THEY_ARE
from roadseg.video.write.part import with_dts
from roadseg.video.write.sink import open_film

INDEX_IN_FRONT = {"movflags": "faststart+use_metadata_tags", **AS_FFMPEG_WOULD}
"""Options with which an MP4 file plays while it loads, and keeps tags of any name."""
Describe = Callable[[av.container.OutputContainer, av.stream.Stream], None]


def remux(
    part: Path,
    target: Path,
    *,
    mp4_tag: str | None = None,
    describe: Describe = lambda _film, _pictures: None,
) -> None:
    """Copy a video's streams into a file with one index.

    Args:
        part: The video in fragments.
        target: File to write.
        mp4_tag: Codec tag of the pictures, where FFmpeg's choice does not play everywhere.
        describe: Adds tags to the file and its video stream, before the first packet.

    Raises:
        ValueError: The format cannot hold a stream.
    """
    options = INDEX_IN_FRONT if target.suffix.lower() in FRAGMENTED else TIMES_AS_THEY_ARE
    with open_for_reading(part) as source, open_film(target, options) as film:
        streams = {
            stream.index: copy_stream(stream, film)
            for stream in source.streams
            if stream.type in ("video", *KINDS)
        }
        pictures = streams[source.streams.video[0].index]
        describe(film, pictures)
        if mp4_tag:
            pictures.codec_context.codec_tag = mp4_tag
        for packet in with_dts(source.demux([source.streams[index] for index in streams])):
            packet.stream = streams[packet.stream.index]
            film.mux(packet)
