"""The frames of an open file: every one that decodes, in order and on one continuous clock."""

import os
from collections.abc import Iterator
from fractions import Fraction
from functools import partial

import av

from roadseg.video.pyav import Packet
from roadseg.video.rates import USUAL_FPS
from roadseg.video.read.decode import decode_packets
from roadseg.video.read.demux import (
    ShowingOrder,
    from_keyframe,
    hidden_counted,
    intact_packets,
    lead_timed,
    time_of,
    untimed_lead,
)
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.streams import stated_rate
from roadseg.video.read.timeline import Timeline

DECODER_BYTES = 96 << 20
"""Most bytes of pictures that a decoder's threads hold, of which each has one."""
LEAST_STEP_S = Fraction(1, 1000)
"""Least time between frames that every format can store."""


def picture_stream(
    container: av.container.InputContainer, index: int, threads: int | None = None
) -> av.VideoStream:
    """Return a stream of pictures, with as many threads to decode it as there is memory for.

    Args:
        container: The file.
        index: Number of the stream among all of the file's.
        threads: Cores of a run, of which the decoder on the CPU takes half; None is all.
    """
    stream = container.streams[index]
    assert isinstance(stream, av.VideoStream)
    decoder = stream.codec_context
    if decoder.is_hwaccel:
        return stream
    stream.thread_type = "AUTO"
    # FFmpeg by itself takes one more than there are cores, and each has a picture; others work too.
    cores = threads or os.cpu_count() or 1
    decoder.thread_count = min(_most_threads(decoder), -(-cores // 2))
    return stream


def _most_threads(decoder: av.VideoCodecContext) -> int:
    """Return how many threads a decoder may have for the memory of its pictures."""
    bits = decoder.format.padded_bits_per_pixel if decoder.format else 24
    picture_bytes = max(decoder.width * decoder.height * bits // 8, 1)
    return max(DECODER_BYTES // picture_bytes, 2)


def all_frames(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    log: ReadLog,
    from_s: float | None = None,
) -> Iterator[av.VideoFrame]:
    """Yield every frame that decodes, each with a time later than the one before.

    Args:
        container: The file, of which nothing has been read.
        stream: The video.
        log: Filled while reading.
        from_s: Time whose last keyframe is decoded first; None decodes everything.
    """
    assert stream.time_base
    last_pts = None
    least = max(round(LEAST_STEP_S / stream.time_base), 1)
    step = max(round(1 / (stated_rate(stream) or USUAL_FPS) / stream.time_base), 1)
    for frame in _decode_intact(container, stream, log, from_s, step):
        if frame.pts is None:
            log.retimed_frames += 1
            frame.pts = 0 if last_pts is None else last_pts + step
        elif last_pts is not None and frame.pts <= last_pts:
            log.retimed_frames += 1
            frame.pts = last_pts + least
        last_pts = frame.pts
        if frame.is_corrupt:
            log.damaged_frames += 1
            log.note_damage(float(frame.pts * stream.time_base))
        yield frame


def _decode_intact(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    log: ReadLog,
    from_s: float | None,
    step: int,
) -> Iterator[av.VideoFrame]:
    """Yield the frames that can be read and decoded, on a continuous clock.

    Args:
        container: The file.
        stream: The video.
        log: Filled while reading.
        from_s: Time whose last keyframe is decoded first; None decodes everything.
        step: Units of time from frame to frame.
    """

    def note(packet: Packet) -> None:
        log.damaged_packets += 1
        log.note_damage(time_of(packet))

    timeline = Timeline(container, stream.index)
    log.jumps_s = timeline.jumps_s
    read = intact_packets(container, [stream, *container.streams.audio], log)
    bridged = timeline.bridge(read)
    pictures = (p for p in bridged if p.stream.index == stream.index)
    packets = hidden_counted(pictures, log)
    if from_s is not None:
        packets = from_keyframe(packets, from_s)
    decoded = partial(
        decode_packets,
        stream=stream,
        note=note,
        after_others=from_s is not None,
        misses=not log.on_gpu,
    )
    if container.format.name != "avi":
        untimed, first, packets = untimed_lead(packets)
        return lead_timed(decoded(packets), untimed, first, step)
    order = ShowingOrder()
    return order.give(decoded(order.take(packets)))
