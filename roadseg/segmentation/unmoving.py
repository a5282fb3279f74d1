"""Find what never moves in a drive: the bonnet, bars beside the picture, a burnt-in clock.

What belongs to the camera has its edges at the same pixels all along, while the edges of the world
pass. So an edge's gradients agree from picture to picture, or cancel each other out. Sky and smooth
road have no edges and say nothing, and neither does a lone edge that stays, such as the horizon or
a lane's line: only what has the shape and place of a bar, a bonnet or a line of text is found.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

LEAST_PICTURES = 8
"""Of fewer pictures nothing is said."""
SIDE_PX = 480
"""Longer side of the pictures that are compared."""
NOISE = 0.5
"""Gradient, in grey levels a pixel, that is no edge."""
STAYS, PASSES = 0.8, 0.6
"""Agreement of the gradients from which an edge stays, and below which it passes."""
LEAST_STAYING, LEAST_PASSING = 3.0, 2.0
"""Mean gradient of an edge that stays, and of one that passes."""
MOST_STAYING = 0.5
"""Share of edges that stay above which the camera stood still, and nothing can be found."""
BAR_EDGE = 0.5
"""Share of a row or column along which a bar's edge stays."""
BAR_DEPTH = 0.35
"""Share of the picture that a bar may take on one side."""
BAR_PASSING = 0.02
"""Share of a bar in which something passes, at most."""
BONNET_DEPTH = 0.45
"""Share of the picture's height that a bonnet may take."""
BONNET_EDGE = 0.75
"""Share of the width along which the bonnet's edge stays."""
STEP_COST = 1.0
"""What it costs a bonnet's edge to rise or fall by a row, in columns along which it stays."""
BONNET_PASSING = 0.3
"""Share of a bonnet in which something passes, at most: reflections."""
TEXT_MARGIN = 0.15
"""Share of the height, at the top and at the bottom, in which a text is looked for."""
TEXT_HEIGHT = 0.08
"""Share of the height that a line of text takes, at most."""
TEXT_ASPECT = 2.5
"""Width of a text over its height, at least."""
TEXT_WIDTH = 0.06, 0.6
"""Share of the width that a text takes."""
TEXT_GAP = 0.03
"""Share of the width that is between two letters, at most."""
TEXT_FILL = 0.25
"""Share of a text's box that is edges, at least."""
TEXT_UPRIGHT = 0.08
"""Share of it that is upright edges, which a line has not."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class _Edges:
    """What the edges of the pictures do, each (h, w)."""

    stays: Mask
    level: Mask
    """Of those that stay, those nearer to level than to upright."""
    passes: Mask


def find_unmoving(lumas: NDArray[np.uint8]) -> Mask:
    """Return where (h, w) something never moves.

    Args:
        lumas: (N, h, w) brightness, from all along a drive; the longer side has `SIDE_PX`.
    """
    found = np.zeros(lumas.shape[1:], np.bool_)
    if len(lumas) < LEAST_PICTURES:
        return found
    edges = _edges(lumas)
    if edges.stays.sum() > MOST_STAYING * (edges.stays | edges.passes).sum():
        return found
    inner = _without_bars(edges)
    found[:] = True
    found[inner] = _bonnet(edges, inner)
    return found | _texts(edges, ~found)


def _edges(lumas: NDArray[np.uint8]) -> _Edges:
    """Compare the gradients of all pictures."""
    sums = np.zeros((3, *lumas.shape[1:]), np.float32)
    for luma in lumas:
        across, down = (cv2.Scharr(luma, cv2.CV_32F, *axis) / 32 for axis in ((1, 0), (0, 1)))
        sums += (across, down, cv2.magnitude(across, down))
    across, down, size = sums / len(lumas)
    common = np.hypot(across, down)
    agreement = common / (size + NOISE)
    stays = (agreement > STAYS) & (common > LEAST_STAYING)
    passes = (agreement < PASSES) & (size > LEAST_PASSING)
    return _Edges(stays, stays & (np.abs(down) > 2 * np.abs(across)), passes)


def _without_bars(edges: _Edges) -> tuple[slice, slice]:
    """Return the rows and columns between the bars."""
    upright = edges.stays & ~edges.level
    left, right = _between_bars(upright.T, edges.passes.T)
    inner = np.s_[:, left:right]
    top, bottom = _between_bars(edges.level[inner], edges.passes[inner])
    return slice(top, bottom), slice(left, right)


def _between_bars(edge: Mask, passes: Mask) -> tuple[int, int]:
    """Return the first row of the picture, and the first of the lower bar."""
    return _bar(edge, passes), len(edge) - _bar(edge[::-1], passes[::-1])


def _bar(edge: Mask, passes: Mask) -> int:
    """Return the rows of the bar at the top: down to the last edge above which nothing passes."""
    depth = int(BAR_DEPTH * len(edge))
    beside = edge | np.roll(edge, 1, axis=0) | np.roll(edge, -1, axis=0)
    ends = np.flatnonzero(beside[1 : depth + 1].mean(axis=1) >= BAR_EDGE) + 1
    quiet = [end for end in ends if passes[: end - 1].sum() <= BAR_PASSING * passes[:end].size]
    return int(quiet[-1]) + 1 if quiet else 0


def _bonnet(edges: _Edges, inner: tuple[slice, slice]) -> Mask:
    """Return where the bonnet is in the picture between the bars.

    Its edge is a line from side to side in the lower part, below which next to nothing passes. Of
    several, such as the wipers' and the bonnet's own, the highest counts.
    """
    level, passes = edges.level[inner], edges.passes[inner]
    height = len(level)
    rows = np.arange(height)[:, None]
    found = np.zeros_like(level)
    score = np.where(rows > (1 - BONNET_DEPTH) * height, level, False).astype(np.float32)
    while score.any():
        path, share = _best_path(score)
        if share < BONNET_EDGE:
            break
        below = rows >= path
        if passes[below].mean() <= BONNET_PASSING:
            found = below
        score[below | (rows >= path - 2)] = 0
    return found


def _best_path(score: NDArray[np.float32]) -> tuple[NDArray[np.intp], float]:
    """Return the row of each column on the line from side to side with most score, and its mean.

    From one column to the next the line moves by a row at most, at a cost.
    """
    columns = [score[:, 0]]
    moves = []
    for column in score.T[1:]:
        above = np.pad(columns[-1], 1, constant_values=-1.0)
        options = np.stack([above[1:-1], above[:-2] - STEP_COST, above[2:] - STEP_COST])
        moves.append(options.argmax(axis=0))
        columns.append(column + options.max(axis=0))
    path = [int(columns[-1].argmax())]
    for move in reversed(moves):
        path.append(path[-1] + (0, -1, 1)[move[path[-1]]])
    return np.array(path[::-1]), float(columns[-1].max() / score.shape[1])


def _texts(edges: _Edges, where: Mask) -> Mask:
    """Return where lines of text are: boxes full of edges, near the top or the bottom."""
    stays, upright = edges.stays & where, edges.stays & where & ~edges.level
    height, width = stays.shape
    found = np.zeros_like(stays)
    kernel = np.ones((3, max(round(width * TEXT_GAP), 3)), np.uint8)
    joined = cv2.morphologyEx(stays.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    _, _, boxes, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    for left, top, columns, rows, _ in boxes[1:].tolist():
        box = np.s_[max(top - 2, 0) : top + rows + 2, max(left - 2, 0) : left + columns + 2]
        is_full = stays[box].mean() >= TEXT_FILL and upright[box].mean() >= TEXT_UPRIGHT
        if is_full and _can_be_text(top / height, rows / height, columns / width, columns / rows):
            found[box] = True
    return found


def _can_be_text(top: float, rows: float, columns: float, aspect: float) -> bool:
    """Tell a line of text by its box, in shares of the picture."""
    is_beside = top + rows <= TEXT_MARGIN or top >= 1 - TEXT_MARGIN
    is_line = rows <= TEXT_HEIGHT and aspect >= TEXT_ASPECT
    return is_beside and is_line and TEXT_WIDTH[0] <= columns <= TEXT_WIDTH[1]
