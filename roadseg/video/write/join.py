"""Join the videos of a video's chunks: the pictures as they are, all else from the source."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from roadseg.video.errors import read_errors, write_errors
from roadseg.video.frame import Frame
from roadseg.video.picture import Picture
from roadseg.video.pyav import Packet, exact, open_for_reading
from roadseg.video.write.companions import Companions, Origin
from roadseg.video.write.encoding import FRAGMENTED, Encoding
from roadseg.video.write.mux import Muxer, unbroken
from roadseg.video.write.part import encoded_packets, part_path, whole_path
from roadseg.video.write.remux import remux
from roadseg.video.write.sink import open_film


def join_films(chunks: Sequence[Path], path: Path, origin: Origin, encoding: Encoding) -> None:
    """Write the video that one run over the whole source would have written, at `whole_path`.

    Args:
        chunks: Videos of the chunks in their order, at the source's own times.
        path: Video to write.
        origin: What it comes from.
        encoding: How the chunks were encoded.

    Raises:
        VideoError: A chunk cannot be read, or FFmpeg refuses the video in this format.
        OutputError: The video cannot be written.
    """
    is_mp4 = path.suffix.lower() in FRAGMENTED
    codec = encoding.codec_for(path)
    with write_errors(path):
        with (
            open_film(part_path(path), unbroken(is_mp4=is_mp4)) as container,
            Companions(origin, container) as companions,
        ):
            muxer = Muxer(container, origin, companions, encoding, codec)
            muxer.begin(_first_frame(chunks[0]))
            for chunk in chunks:
                muxer.copy_from_source_times(_packets(chunk))
            muxer.finish()
        tag = codec.mp4_tag if is_mp4 else None
        remux(part_path(path), whole_path(path), mp4_tag=tag, describe=muxer.describe)


def join_mask_films(chunks: Sequence[Path], path: Path) -> None:
    """Write one lossless video of class maps that holds those of all chunks.

    Args:
        chunks: Videos of the chunks in their order.
        path: File of ours to write.

    Raises:
        VideoError: A chunk cannot be read.
        OutputError: The video cannot be written.
    """
    with write_errors(path), open_film(path, {}) as film:
        stream = None
        for chunk in chunks:
            with read_errors(chunk), open_for_reading(chunk) as source:
                maps = source.streams.video[0]
                stream = stream or film.add_stream_from_template(maps)
                for packet in source.demux(maps):
                    if packet.size:
                        packet.stream = stream
                        film.mux(packet)


def _first_frame(chunk: Path) -> Frame:
    """Return the first frame of a chunk, from which the video's streams are made."""
    with read_errors(chunk), open_for_reading(chunk) as container:
        stream = container.streams.video[0]
        decoded = next(container.decode(stream))
        time_base, aspect = exact(stream.time_base), exact(stream.sample_aspect_ratio)
        assert decoded.pts is not None and time_base is not None
        return Frame(Picture(decoded), decoded.pts, time_base, aspect or Frame.pixel_aspect)


def _packets(chunk: Path) -> Iterator[Packet]:
    with read_errors(chunk):
        yield from encoded_packets(chunk)
