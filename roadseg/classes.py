"""The CamVid classes: their order, names and colours, defined once for everything that shows them.

A class id is a position in `CLASSES`. Ids follow the SegNet copy of CamVid (Badrinarayanan et al.,
arXiv 1511.00561); colours follow the CamVid and SegNet palettes.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SegClass:
    """One class of the data set."""

    name: str
    """Lower-case English name, as users type it."""
    color: tuple[int, int, int]
    """RGB, 0..255."""


CLASSES: tuple[SegClass, ...] = (
    SegClass(name="sky", color=(128, 128, 128)),
    SegClass(name="building", color=(128, 0, 0)),
    SegClass(name="pole", color=(192, 192, 128)),
    SegClass(name="road", color=(128, 64, 128)),
    SegClass(name="pavement", color=(60, 40, 222)),
    SegClass(name="tree", color=(128, 128, 0)),
    SegClass(name="sign", color=(192, 128, 128)),
    SegClass(name="fence", color=(64, 64, 128)),
    SegClass(name="car", color=(64, 0, 128)),
    SegClass(name="pedestrian", color=(64, 64, 0)),
    SegClass(name="bicyclist", color=(0, 128, 192)),
    SegClass(name="unlabelled", color=(0, 0, 0)),
)

CLASS_NAMES: tuple[str, ...] = tuple(c.name for c in CLASSES)
PALETTE: tuple[tuple[int, int, int], ...] = tuple(c.color for c in CLASSES)

UNLABELLED = "unlabelled"
"""Name of what is not counted."""

NUM_CLASSES = CLASS_NAMES.index(UNLABELLED)
"""Classes that a model predicts: all but unlabelled."""

IGNORE_INDEX = 255
"""Id in a target of pixels that neither the loss nor a metric counts, whatever its files say."""
