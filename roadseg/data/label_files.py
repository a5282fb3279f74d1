"""Read label files in their usual forms, as ids or as RGB colours.

A PNG file with a palette holds its colours if all of them are known, or else its indices, as in
Pascal VOC and MMSegmentation. Three equal channels are a grey colour if it is known, or else an id.
Transparency is ignored. Ids and colours may have 16 bits. A label of a photo that its Exif record
rotates is rotated too, if it has the stored orientation.
"""

import contextlib
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.data.meaning import LabelMeaning
from roadseg.errors import DatasetError
from roadseg.video.png import PALETTE_TYPE, SIGNATURE, chunk, chunks

JPEG_START = b"\xff\xd8\xff"
"""How a JPEG file begins."""


def read_label(path: Path, meaning: LabelMeaning) -> NDArray[np.uint8]:
    """Return a label, (H, W) of ids or (H, W, 3) RGB.

    Args:
        path: Image file.
        meaning: The ids and colours that are known.

    Raises:
        DatasetError: It cannot be read, is a JPEG, or its values are neither ids nor colours.
    """
    data = read_bytes(path)
    if data.startswith(JPEG_START):
        raise DatasetError(
            f"{path} is a JPEG, which changes ids and colours where they meet; make it anew as PNG"
        )
    colors = _in_8_bits(decode(data, cv2.IMREAD_UNCHANGED, path), path)
    palette = palette_of(data)
    if palette is not None:
        ids = decode(with_indices_shown(data), cv2.IMREAD_COLOR, path)[..., 0]
        return _colors_or_ids(colors[..., 2::-1], ids, palette, meaning)
    if colors.ndim == 2:
        return colors
    if _is_grey(colors):
        grey = colors[..., 0]
        return _colors_or_ids(colors[..., 2::-1], grey, np.unique(grey).repeat(3), meaning)
    return colors[..., 2::-1]


def read_bytes(path: Path) -> bytes:
    """Return the contents of a picture or a label.

    Raises:
        DatasetError: The system does not give them, as of a link that leads nowhere.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be read ({error.strerror}); replace it, or remove the pair"
        ) from error


def decode(data: bytes, flags: int, path: Path) -> NDArray[Any]:
    """Decode an image file with OpenCV.

    Raises:
        DatasetError: It cannot be decoded; `path` is named.
    """
    image = None
    with contextlib.suppress(cv2.error):  # of an empty file, and of one that says it is enormous
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        raise DatasetError(f"{path} cannot be read as a picture; replace it, or remove the pair")
    return np.asarray(image)


def turned_with(
    picture: NDArray[np.uint8], stored: NDArray[np.uint8], label: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Return a label rotated as its picture was by the Exif record.

    Args:
        picture: (H, W, 3), upright.
        stored: (W, H, 3), as the file stores it.
        label: (W, H) or (W, H, 3).
    """
    for rows, columns in product((1, -1), repeat=2):
        if np.array_equal(stored.swapaxes(0, 1)[::rows, ::columns], picture):
            return label.swapaxes(0, 1)[::rows, ::columns]
    return label


def _colors_or_ids(
    rgb: NDArray[np.uint8],
    ids: NDArray[np.uint8],
    shown: NDArray[np.uint8],
    meaning: LabelMeaning,
) -> NDArray[np.uint8]:
    """Return the ids if only these are known, and else the colours.

    Args:
        rgb: (H, W, 3).
        ids: (H, W).
        shown: The colours in use, (N, 3) or flat.
        meaning: The known ids and colours.
    """
    by_color = {tuple(color) for color in shown.reshape(-1, 3).tolist()} <= meaning.colors.keys()
    by_id = set(np.unique(ids).tolist()) <= meaning.ids.keys()
    return ids if by_id and not by_color else rgb


def _in_8_bits(label: NDArray[Any], path: Path) -> NDArray[np.uint8]:
    """Return a label of 16 bits in 8: ids unchanged, colours by their upper byte."""
    if label.dtype == np.uint8:
        return np.asarray(label, np.uint8)
    if label.dtype != np.uint16:
        raise DatasetError(f"{path} has numbers of {label.dtype}; a label is a PNG of 8 or 16 bits")
    if label.max() <= 255:
        return label.astype(np.uint8)
    if label.ndim == 3 and (label % 257 == 0).all():
        return (label // 257).astype(np.uint8)
    raise DatasetError(
        f"{path} has the value {label.max()} in 16 bits; ids go up to 255; map the label to these"
    )


def _is_grey(label: NDArray[np.uint8]) -> bool:
    return bool((label[..., 0] == label[..., 1]).all() and (label[..., 0] == label[..., 2]).all())


def palette_of(data: bytes) -> NDArray[np.uint8] | None:
    """Return the palette (N, 3) RGB of a PNG file without trailing black; None if it has none."""
    by_name = dict(chunks(data))
    kind = by_name.get(b"IHDR", b"")[9:10]
    if kind != bytes([PALETTE_TYPE]) or b"PLTE" not in by_name:
        return None
    levels = by_name[b"PLTE"].rstrip(b"\0")
    count = max(-(-len(levels) // 3), 1)
    return np.frombuffer(levels.ljust(3 * count, b"\0"), np.uint8).reshape(count, 3)


def with_indices_shown(data: bytes) -> bytes:
    """Return a PNG file with its palette replaced by grey levels equal to the indices."""
    parts = [SIGNATURE]
    for name, content in chunks(data):
        if name == b"tRNS":
            continue
        if name == b"PLTE":
            content = bytes(level for level in range(len(content) // 3) for _ in range(3))
        parts.append(chunk(name, content))
    return b"".join(parts)
