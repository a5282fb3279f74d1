"""The CamVid classes: their order, names and colours, defined once for everything that shows them.

A class id is a position in `CLASSES`. Ids follow the SegNet copy of CamVid (Badrinarayanan et al.,
arXiv 1511.00561); colours follow the CamVid and SegNet palettes. The palette for the colour-blind
was searched for: the colours of any two classes stay apart to whoever lacks one kind of cone.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SegClass:
    """One class of the data set."""

    name: str
    """Lower-case English name, as users type it."""
    color: tuple[int, int, int]
    """RGB, 0..255."""
    colorblind: tuple[int, int, int]
    """The same for people who tell fewer colours apart."""


CLASSES: tuple[SegClass, ...] = (
    SegClass(name="sky", color=(128, 128, 128), colorblind=(150, 205, 255)),
    SegClass(name="building", color=(128, 0, 0), colorblind=(122, 30, 0)),
    SegClass(name="pole", color=(192, 192, 128), colorblind=(255, 211, 131)),
    SegClass(name="road", color=(128, 64, 128), colorblind=(23, 11, 57)),
    SegClass(name="pavement", color=(60, 40, 222), colorblind=(0, 108, 232)),
    SegClass(name="tree", color=(128, 128, 0), colorblind=(0, 74, 68)),
    SegClass(name="sign", color=(192, 128, 128), colorblind=(255, 162, 0)),
    SegClass(name="fence", color=(64, 64, 128), colorblind=(172, 119, 156)),
    SegClass(name="car", color=(64, 0, 128), colorblind=(206, 77, 0)),
    SegClass(name="pedestrian", color=(64, 64, 0), colorblind=(248, 255, 255)),
    SegClass(name="bicyclist", color=(0, 128, 192), colorblind=(91, 0, 139)),
    SegClass(name="unlabelled", color=(0, 0, 0), colorblind=(0, 0, 0)),
)

CLASS_NAMES: tuple[str, ...] = tuple(c.name for c in CLASSES)
PALETTE: tuple[tuple[int, int, int], ...] = tuple(c.color for c in CLASSES)
PALETTES: dict[str, dict[str, tuple[int, int, int]]] = {
    "camvid": {c.name: c.color for c in CLASSES},
    "colorblind": {c.name: c.colorblind for c in CLASSES},
}
"""Colour of each class by the name of the palette."""

UNLABELLED = "unlabelled"
"""Name of what is not counted."""

NUM_CLASSES = CLASS_NAMES.index(UNLABELLED)
"""Classes that a model predicts: all but unlabelled."""

IGNORE_INDEX = 255
"""Id in a target of pixels that neither the loss nor a metric counts, whatever its files say."""


def css_color(color: tuple[int, int, int]) -> str:
    """Return a colour as CSS writes it."""
    return "rgb({}, {}, {})".format(*color)
