"""Encode sound, where a format cannot hold it as it is."""

from fractions import Fraction
from typing import Any

import av
import numpy as np

from roadseg.video.pyav import Packet
from roadseg.video.write.copies import lasting

AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
"""Sample rates of AAC; any other is resampled to the next higher one."""
OPUS_RATE = 48000
"""Sample rate of Opus."""
BITS_A_CHANNEL = 64_000
"""Bits a second for each channel."""
BITS_A_SAMPLE = 4
"""Most bits a sample, a limit for telephone sound."""
GAP_S = 0.1
"""Largest error of sound's time, above which it is corrected."""


class EncodedStream:
    """A stream of sound that is decoded and encoded as AAC, in WebM as Opus.

    Every run encodes it from its beginning, so that the same sound gives the same bytes.

    Args:
        stream: The sound.
        target: File to write it to, whose header is not written yet.

    Raises:
        ValueError: It is of a kind that cannot be encoded.
        FFmpegError: Likewise.
    """

    def __init__(self, stream: av.AudioStream, target: av.container.OutputContainer) -> None:
        if stream.codec_context is None or not stream.rate:
            raise ValueError(f"there is no decoder of stream {stream.index}, or no rate")
        encoder = "libopus" if target.format.name == "webm" else "aac"
        rate = OPUS_RATE if encoder == "libopus" else _aac_rate(stream.rate)
        layout = "mono" if stream.channels == 1 else "stereo"
        self._form = "flt" if encoder == "libopus" else "fltp"
        self._rate, self._layout, self._target = rate, layout, target
        added = target.add_stream(encoder, rate=rate, layout=layout)
        assert isinstance(added, av.AudioStream)
        self._stream = added
        per_channel = min(BITS_A_CHANNEL, BITS_A_SAMPLE * rate)
        self._stream.bit_rate = per_channel * self._stream.channels
        self._stream.time_base = Fraction(1, rate)
        self._stream.metadata.update(lasting(stream.metadata))
        self._stream.disposition = stream.disposition
        self._resampler, self._fifo = self._new_resampler(), av.AudioFifo()
        self._written: int | None = None
        self.refused = 0

    def write(self, packet: Packet) -> None:
        """Encode what a packet holds."""
        try:
            frames: list[Any] = packet.decode()
        except av.FFmpegError:
            self.refused += 1
            return
        for frame in frames:
            if frame.pts is not None and frame.time_base:
                begin = round(frame.pts * frame.time_base * self._rate)
                if self._written is None:
                    self._written = begin
                if not self._make_room(begin):
                    continue
            self._add(frame)

    def finish(self) -> None:
        """Encode what is left."""
        if self._written is None:
            return
        self._add(None)
        self._encode(partial=True)
        self._target.mux(self._stream.encode(None))

    def _make_room(self, begin: int) -> bool:
        """Fill a gap before a sample with silence; return False if the sample is too late."""
        assert self._written is not None
        missing = begin - (self._written + self._fifo.samples)
        if missing < -GAP_S * self._rate:
            return False
        while missing > GAP_S * self._rate:
            count = min(missing, self._rate)
            self._fifo.write(self._silence(count))
            self._encode()
            missing -= count
        return True

    def _silence(self, count: int) -> av.AudioFrame:
        channels = self._stream.channels
        shape = (channels, count) if self._form == "fltp" else (1, count * channels)
        zeros = np.zeros(shape, np.float32)
        frame = av.AudioFrame.from_ndarray(zeros, self._form, self._layout)
        frame.sample_rate = self._rate
        return frame

    def _add(self, frame: av.AudioFrame | None) -> None:
        """Encode a frame, or the rest of the resampler if it is None."""
        try:
            pieces = self._resampler.resample(frame)
        except ValueError:  # the sound has changed its rate or its channels
            pieces = self._resampler.resample(None)
            self._resampler = self._new_resampler()
            pieces += self._resampler.resample(frame)
        for piece in pieces:
            if piece is not None:
                piece.pts = None  # times are counted here
                self._fifo.write(piece)
        self._encode()

    def _new_resampler(self) -> av.AudioResampler:
        return av.AudioResampler(format=self._form, layout=self._layout, rate=self._rate)

    def _encode(self, *, partial: bool = False) -> None:
        assert self._written is not None
        size = self._stream.codec_context.frame_size
        while (block := self._fifo.read(size, partial)) is not None:
            block.pts, block.time_base = self._written, Fraction(1, self._rate)
            self._written += block.samples
            self._target.mux(self._stream.encode(block))


def _aac_rate(rate: int) -> int:
    return next((known for known in AAC_RATES if known >= rate), AAC_RATES[-1])
