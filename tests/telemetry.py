"""Films with positions in them, in the forms that cameras write."""

import struct
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import reduce
from operator import xor
from pathlib import Path

import av
from av import VideoFrame
from films import scene

Place = tuple[float, float]
"""Latitude and longitude."""
MILLISECOND = Fraction(1, 1000)


def entry(key: str, kind: str, size: int, data: bytes) -> bytes:
    """An entry of GPMF, by https://github.com/gopro/gpmf-parser#gpmf-basics."""
    head = struct.pack(">4scBH", key.encode(), kind.encode(), size, len(data) // size)
    return head + data + b"\0" * (-len(data) % 4)


def tree(key: str, *entries: bytes) -> bytes:
    return entry(key, "\0", 1, b"".join(entries))


def gpmf(places: Iterable[Place], fix: int = 3) -> bytes:
    """A packet of a HERO5 to HERO10, beside another stream of its telemetry."""
    values = [
        struct.pack(">5i", round(north * 1e7), round(east * 1e7), 35_000, 9000, 900)
        for north, east in places
    ]
    scales = struct.pack(">5i", 10_000_000, 10_000_000, 1000, 1000, 100)
    gps = tree(
        "STRM",
        entry("STNM", "c", 1, b"GPS (Lat., Long., Alt., 2D speed, 3D speed)"),
        entry("GPSF", "L", 4, struct.pack(">I", fix)),
        entry("SCAL", "l", 4, scales),
        entry("GPS5", "l", 20, b"".join(values)),
    )
    heat = tree("STRM", entry("TMPC", "f", 4, struct.pack(">f", 40.5)))
    return tree("DEVC", entry("DVNM", "c", 1, b"Hero6 Black"), heat, gps)


def gpmf9(places: Iterable[Place], fix: int = 3) -> bytes:
    """A packet of a HERO11 and later."""
    values = [
        struct.pack(
            ">7i2H", round(north * 1e7), round(east * 1e7), 35_000, 9, 9, 9617, 1000, 150, fix
        )
        for north, east in places
    ]
    scales = struct.pack(">9i", 10_000_000, 10_000_000, 1000, 1000, 100, 1, 1000, 100, 1)
    gps = tree(
        "STRM",
        entry("TYPE", "c", 1, b"lllllllSS"),
        entry("SCAL", "l", 4, scales),
        entry("GPS9", "?", 32, b"".join(values)),
    )
    return tree("DEVC", gps)


def camm5(places: Iterable[Place]) -> bytes:
    """Samples of CAMM's type 5, after one of the gyroscope."""
    return struct.pack("<2H3f", 0, 2, 0, 0, 0) + b"".join(
        struct.pack("<2H3d", 0, 5, north, east, 35.0) for north, east in places
    )


def camm6(places: Iterable[Place], fix: int = 3) -> bytes:
    return b"".join(
        struct.pack("<2Hdi2d7f", 0, 6, 1.2e9, fix, north, east, *[1.0] * 7)
        for north, east in places
    )


def sentence(body: str) -> str:
    return f"${body}*{reduce(xor, body.encode()):02X}"


def nmea(places: Iterable[Place], state: str = "A") -> bytes:
    """RMC and GGA of each second, as receivers send them."""
    lines = []
    for second, (north, east) in enumerate(places):
        where = f"{_minutes(north, 2, 'NS')},{_minutes(east, 3, 'EW')}"
        fix = int(state == "A")
        lines.append(sentence(f"GPRMC,0800{second:02d}.000,{state},{where},12.3,45.6,010526,,,A"))
        lines.append(sentence(f"GNGGA,0800{second:02d}.000,{where},{fix},09,0.9,35.0,M,45.0,M,,"))
    return "\r\n".join(lines).encode()


def _minutes(degrees: float, digits: int, sides: str) -> str:
    whole, part = divmod(abs(degrees), 1)
    return f"{int(whole):0{digits}d}{part * 60:08.5f},{sides[degrees < 0]}"


def write_film(
    path: Path, packets: Sequence[bytes], *, tag: str = "gpmd", begun: str | None = None
) -> Path:
    """A film in MP4 of a second for each packet of telemetry, which has a data stream of its own.

    Args:
        path: File to write.
        packets: Telemetry, a packet a second.
        tag: Four letters for the kind of stream.
        begun: Time of recording.
    """
    with av.open(path, "w") as container:
        if begun:
            container.metadata["creation_time"] = begun
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        data = container.add_data_stream("bin_data") if packets else None
        for number in range(10 * max(len(packets), 1)):
            frame = VideoFrame.from_ndarray(scene(number, (48, 64)), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
            if data and number % 10 == 0:
                _write_packet(container, data, packets[number // 10], number * 100)
        container.mux(stream.encode(None))
    path.write_bytes(path.read_bytes().replace(b"gpmd", tag.encode()))
    return path


def write_text_film(path: Path, texts: Sequence[bytes]) -> Path:
    """A film with a subtitle a second, in Matroska."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        text = container.add_mux_stream("subrip")
        for number in range(10 * len(texts)):
            frame = VideoFrame.from_ndarray(scene(number, (48, 64)), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
            if number % 10 == 0:
                _write_packet(container, text, texts[number // 10], number * 100)
        container.mux(stream.encode(None))
    return path


def _write_packet(container, stream, data: bytes, time_ms: int) -> None:
    packet = av.Packet(data)
    packet.stream, packet.time_base = stream, MILLISECOND
    packet.pts = packet.dts = time_ms
    packet.duration = 1000
    container.mux(packet)


Telemetry = Callable[[Iterable[Place]], bytes]


def gpx(places: Sequence[tuple[str, Place]]) -> str:
    """A GPX file with a time and a place for each point."""
    points = "".join(
        f'<trkpt lat="{north}" lon="{east}"><ele>3</ele><time>{time}</time></trkpt>'
        for time, (north, east) in places
    )
    return (
        '<?xml version="1.0"?><gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1">'
        f"<trk><trkseg>{points}</trkseg></trk></gpx>"
    )


def novatek(path: Path, places: Sequence[Place]) -> Path:
    """A film with a position a second as the chips of Novatek write them, which is documented by
    those who read it: https://sergei.nz/extracting-gps-data-from-viofo-a119-and-other-novatek-powered-cameras/
    """
    write_film(path, [])
    film = path.read_bytes()
    begin = film.index(b"moov") - 4
    end = begin + int.from_bytes(film[begin : begin + 4])
    assert end == len(film)  # what follows may move
    blocks = [_novatek_block(second, place) for second, place in enumerate(places)]
    table_size = 16 + 8 * len(blocks)
    offsets, place = [], end + table_size
    for block in blocks:
        offsets.append(struct.pack(">2I", place, len(block)))
        place += len(block)
    table = struct.pack(">I4s2I", table_size, b"gps ", 0x101, len(blocks)) + b"".join(offsets)
    head = struct.pack(">I4s", end - begin + table_size, b"moov")
    path.write_bytes(film[:begin] + head + table + film[begin + 8 :] + b"".join(blocks))
    return path


def _novatek_block(second: int, place: Place) -> bytes:
    north, east = place
    numbers = struct.pack("<6I", 8, 0, second, 26, 5, 1)
    sides = b"A" + b"NS"[north < 0 :][:1] + b"EW"[east < 0 :][:1] + b"\0"
    floats = struct.pack("<4f", _novatek_degrees(north), _novatek_degrees(east), 10.0, 45.0)
    content = b"\0" * 36 + numbers + sides + floats
    return struct.pack(">I8s", 0x1000, b"freeGPS ") + content.ljust(0x1000 - 12, b"\0")


def _novatek_degrees(degrees: float) -> float:
    whole, part = divmod(abs(degrees), 1)
    return whole * 100 + part * 60
