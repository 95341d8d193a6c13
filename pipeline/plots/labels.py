"""Texts in a chart: beside its points, without overlap, and in a legend above it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from thaw.pipeline.plots.svg import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Box = tuple[float, float, float, float]  # left, lower, right and upper end, in points
OFFSETS = ((7, -4, "left"), (-7, -4, "right"), (7, 7, "left"), (7, -14, "left"), (-7, 7, "right"))  # x, y, alignment


def place_labels(
    axes: "Axes",
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    extent: tuple[float, float],
    size: float = 9.5,
) -> None:
    """Write each text beside its point if it overlaps no other text there; otherwise leave it out.

    Args:
        axes: The axes to write into.
        points: N points (x, y) in the units of the axes.
        texts: N texts.
        extent: The approximate width and height of the axes, in points of typography.
        size: The height of the font, in points of typography.
    """
    width, height = extent
    scaled = np.log10 if axes.get_xscale() == "log" else np.asarray
    (x0, x1), (y0, y1) = scaled(axes.get_xlim()), axes.get_ylim()
    centres = [((float(scaled(x)) - x0) / (x1 - x0) * width, (y - y0) / (y1 - y0) * height) for x, y in points]
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in centres]
    for point, (x, y), text in zip(points, centres, texts, strict=True):
        length = 0.62 * size * len(text)
        for dx, dy, alignment in OFFSETS:
            left = x + dx - (length if alignment == "right" else 0)
            box = (left, y + dy, left + length, y + dy + 10)
            if left > -8 and box[2] < width + 12 and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                axes.annotate(text, point, (dx, dy), textcoords="offset points", ha=alignment, size=size)
                break


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def legend_above(axes: "Axes") -> None:
    """Write the legend in lines above the axes."""
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, fontsize=9.5,
        handlelength=1.6, columnspacing=1.2, labelcolor=INK,
    )  # fmt: skip
