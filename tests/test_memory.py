"""What a run holds in memory is bounded where it is made: by decoders and by encoders."""

from fractions import Fraction
from pathlib import Path

import av
import pytest
from conftest import SAMPLE

from roadseg.video.pyav import open_for_reading
from roadseg.video.read import frames, source
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import probe
from roadseg.video.write.encoder import PERIOD_S, PeriodEncoder

FPS = 8


def gray(pts: int) -> av.VideoFrame:
    frame = av.VideoFrame(64, 48, "yuv420p")
    frame.pts, frame.time_base = pts, Fraction(1, FPS)
    return frame


def test_encoder_that_lives_as_long_as_the_file_holds_no_picture(tmp_path) -> None:
    with av.open(tmp_path / "film.mkv", "w") as film:
        stream = film.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(1)
        stream.time_base = stream.codec_context.time_base = Fraction(1, FPS)
        encoder = PeriodEncoder(stream, {}, 0.0)
        for number in range(2 * FPS * PERIOD_S):
            for packet in encoder.encode(gray(number), number / FPS):
                film.mux(packet)
        for packet in encoder.flush():
            film.mux(packet)
        assert stream.codec_context.encode(None) == []  # one that had compressed would refuse
    assert probe(tmp_path / "film.mkv").size_hw == (48, 64)


@pytest.mark.parametrize(("pictures", "threads"), [(3, 3), (0, 2)])
def test_large_pictures_are_decoded_on_fewer_threads(monkeypatch, pictures, threads) -> None:
    info = probe(SAMPLE)
    picture_bytes = info.size_hw[0] * info.size_hw[1] * 3 // 2
    monkeypatch.setattr(frames, "DECODER_BYTES", pictures * picture_bytes)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    decoders: list[av.VideoCodecContext] = []

    def note(path: Path | str) -> av.container.InputContainer:
        container = open_for_reading(path)
        decoders.append(container.streams.video[0].codec_context)
        return container

    monkeypatch.setattr(source, "open_input", note)
    next(source.decode(info, ReadLog()))
    assert [decoder.thread_count for decoder in decoders] == [threads]
