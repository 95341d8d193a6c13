"""The report's charts: numbers -> a filled matplotlib figure. They know no file and no page."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from thaw.models.metrics import wilson_interval
from thaw.pipeline.formatting import total_seconds
from thaw.pipeline.plots.svg import BLUE, GREEN, GREY, INK, MARKERS, ORANGE, PAPER, PURPLE, label
from thaw.pipeline.run.advice_json import LayerProfile, LearningCurve
from thaw.pipeline.run.report_json import BASELINES, ClassFigures, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# After Tol's vibrant scheme, for colour-blind readers; on dark and on light, since dots are not recoloured by a theme.
MAP_COLOURS = (
    "#0077bb",
    "#ee7733",
    "#009988",
    "#cc3311",
    "#33bbee",
    "#ee3377",
    "#999933",
    "#aa66cc",
    "#95683c",
    "#767676",
)
MOST_LABELLED = 14
MOST_COUNTED = 12  # classes of a confusion matrix whose counts fit their cells


def frontier(reports: Sequence[Report]) -> list[Report]:
    """Return the strategies that no other beats in both accuracy and time, the quickest first; `chance` is none."""
    timed = [(seconds, r) for r in _timed(reports) if (seconds := total_seconds(r)) is not None]
    result: list[Report] = []
    for _, report in sorted(timed, key=lambda pair: (pair[0], -pair[1].accuracy)):
        if not result or report.accuracy > result[-1].accuracy:
            result.append(report)
    return result


def _timed(reports: Sequence[Report]) -> list[Report]:
    return [r for r in reports if r.strategy != "chance" and total_seconds(r)]


def accuracy_against_cost(figure: "Figure", reports: Sequence[Report]) -> None:
    """Draw accuracy with its interval against minutes, on a logarithmic axis, and the frontier."""
    axes = figure.subplots()
    best = frontier(reports)
    shown = _timed(reports)
    for report in shown:
        colour = GREY if report.strategy in BASELINES else BLUE if report in best else ORANGE
        low, high = report.accuracy_ci95
        minutes, height = (total_seconds(report) or 0) / 60, 100 * report.accuracy
        axes.plot([minutes, minutes], [100 * low, 100 * high], color=colour, lw=1.2, alpha=0.55)
        marker = "s" if report.strategy in BASELINES else "o" if report in best else "D"
        axes.plot([minutes], [height], marker=marker, ms=7, color=colour, mec=PAPER, mew=0.8, zorder=3)
    steps = [((total_seconds(r) or 0) / 60, 100 * r.accuracy) for r in best]
    axes.plot(*zip(*steps, strict=True), color=BLUE, lw=1.2, ls="--", drawstyle="steps-post", zorder=1)
    axes.margins(x=0.22, y=0.08)
    axes.set_xlabel("minutes: features, fit and predictions (log)")
    axes.set_ylabel("accuracy, %")
    _logarithmic(axes)
    axes.grid(True)
    spots = [((total_seconds(r) or 0) / 60, 100 * r.accuracy) for r in shown]
    place_labels(axes, spots[:MOST_LABELLED], [label(r.name, 20) for r in shown[:MOST_LABELLED]], (260.0, 170.0))


def _logarithmic(axes: "Axes") -> None:
    """Make the horizontal axis logarithmic, with plain numbers at 1, 2 and 5, or at 1 alone where it is long."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 1500 else (1.0,)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def place_labels(
    axes: "Axes",
    spots: Sequence[tuple[float, float]],
    texts: Sequence[str],
    extent: tuple[float, float],
    size: float = 9.5,
) -> None:
    """Write each text beside its point, where it lies on no other text; one that fits nowhere is left out.

    `extent` is the width and height of the axes, about, and `size` the height of the font, all in points.
    """
    width, height = extent
    scaled = np.log10 if axes.get_xscale() == "log" else np.asarray
    (x0, x1), (y0, y1) = scaled(axes.get_xlim()), axes.get_ylim()
    places = [((float(scaled(x)) - x0) / (x1 - x0) * width, (y - y0) / (y1 - y0) * height) for x, y in spots]
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in places]
    for spot, (x, y), text in zip(spots, places, texts, strict=True):
        length = 0.62 * size * len(text)
        for dx, dy, side in ((7, -4, "left"), (-7, -4, "right"), (7, 7, "left"), (7, -14, "left"), (-7, 7, "right")):
            left = x + dx - (length if side == "right" else 0)
            box = (left, y + dy, left + length, y + dy + 10)
            if left > -8 and box[2] < width + 12 and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                axes.annotate(text, spot, (dx, dy), textcoords="offset points", ha=side, size=size)
                break


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def class_bars(figure: "Figure", rows: Sequence[ClassFigures]) -> None:
    """Draw recall as a bar and F1 as a mark for each class, the first on top."""
    axes = figure.subplots()
    places = np.arange(len(rows))
    axes.barh(places, [100 * row.recall for row in rows], 0.66, color=BLUE, label="recall")
    axes.plot([100 * row.f1 for row in rows], places, "D", color=ORANGE, mec=PAPER, mew=0.7, label="F1")
    axes.set_yticks(places, [label(row.class_name) for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 102)
    axes.set_xlabel("%")
    axes.grid(True, axis="x")
    _legend_above(axes)


def bars_height(num_classes: int) -> float:
    """Return the height in inches that `class_bars` needs."""
    return 0.9 + 0.23 * num_classes


def confusions(figure: "Figure", matrix: np.ndarray, class_names: Sequence[str]) -> None:
    """Draw (K, K) counts, rows true classes: what is right in blue, mistakes in orange, the stronger the more often."""
    axes = figure.subplots()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    right = np.eye(len(matrix), dtype=bool)
    cells = np.zeros((*matrix.shape, 4))
    cells[..., :3] = np.where(right[..., np.newaxis], _rgb(BLUE), _rgb(ORANGE))
    # Mistakes are rare: the root makes one in a hundred visible.
    cells[..., 3] = np.where(right, 0.6 * share, np.minimum(0.75, 1.6 * np.sqrt(share)))
    axes.imshow(cells, interpolation="nearest", aspect="auto")
    names = [label(name, 18) for name in class_names]
    size = 10 if len(names) <= MOST_COUNTED else 8
    turned = 90 if max(map(len, names)) > 3 else 0
    axes.set_xticks(range(len(names)), names, rotation=turned, size=size)
    axes.set_yticks(range(len(names)), names, size=size)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(names) <= MOST_COUNTED:
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                axes.text(column, row, f"{count}", ha="center", va="center", size=9 if count < 1000 else 7)


def _rgb(colour: str) -> list[float]:
    return [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]


def learning(figure: "Figure", rows: Sequence[dict[str, float | None]], watched: str, kept: int | None) -> None:
    """Draw accuracy and, below, cross-entropy by epoch: of the training images and of those that were `watched`."""
    panels = figure.subplots(2, 1, sharex=True)
    for axes, name, unit in zip(panels, ("accuracy", "loss"), ("accuracy, %", "cross-entropy"), strict=True):
        factor = 100 if name == "accuracy" else 1
        fields = ((name, "training", BLUE, "o"), (f"{watched}_{name}", watched, ORANGE, "s"))
        for field, text, colour, marker in fields:
            pairs = [(row["epoch"], value) for row in rows if (value := row.get(field)) is not None]
            spots = [(epoch, factor * value) for epoch, value in pairs if math.isfinite(value)]
            axes.plot([x for x, _ in spots], [y for _, y in spots], color=colour, marker=marker, label=text)
        if kept is not None:
            axes.axvline(kept, color=GREY, lw=1, ls=":", label=f"kept: epoch {kept}")
        axes.set_ylabel(unit)
        axes.grid(True)
    trained = [value for row in rows[1:] for key in ("loss", f"{watched}_loss") if (value := row.get(key)) is not None]
    low, high = panels[0].get_ylim()
    panels[0].set_ylim(min(low, (low + high) / 2 - 1), max(high, (low + high) / 2 + 1))  # no finer than a point
    if top := max(filter(math.isfinite, trained), default=0):  # a head not yet trained would dwarf the rest
        panels[1].set_ylim(0, 1.1 * top)
    panels[1].set_xlabel("epoch")
    panels[1].xaxis.get_major_locator().set_params(integer=True)
    _legend_above(panels[0])


def layer_profile(figure: "Figure", layers: Sequence[LayerProfile]) -> None:
    """Draw each pooling layer's probe accuracy by depth, pooled two ways and of the random network; below, LogME."""
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    depths = [layer.depth for layer in layers]
    lines = (
        ("auto pooling", [layer.auto_accuracy for layer in layers], BLUE),
        ("averaged", [layer.average_accuracy for layer in layers], ORANGE),
        ("random network", [layer.random_accuracy for layer in layers], GREY),
    )
    for (text, values, colour), marker in zip(lines, MARKERS, strict=False):
        above.plot(depths, [100 * value for value in values], color=colour, marker=marker, label=text)
    above.set_ylabel("accuracy, %")
    below.plot(depths, [layer.log_me for layer in layers], color=GREEN, marker="D")
    below.set_ylabel("LogME")
    below.set_xticks(depths, [label(layer.layer.removesuffix("_pool"), 9) for layer in layers], size=9)
    for axes in (above, below):
        axes.grid(True)
    _legend_above(above)


def data_efficiency(figure: "Figure", curve: LearningCurve) -> None:
    """Draw the probe's accuracy by number of training images, two standard errors each, and what twice as many give."""
    axes = figure.subplots()
    numbers = [point.num_images for point in curve.points]
    heights = [100 * point.accuracy for point in curve.points]
    errors = [200 * point.standard_error for point in curve.points]
    axes.errorbar(numbers, heights, errors, color=BLUE, marker="o", capsize=2, label="measured")
    double, expected = 2 * max(numbers), 100 * curve.accuracy_at_double
    low, high = (100 * value for value in curve.interval_at_double)
    bars = [[max(0.0, expected - low)], [max(0.0, high - expected)]]
    axes.errorbar(
        [double], [expected], bars, color=PURPLE, marker="D", capsize=3, ls="", label="expected of the double"
    )
    axes.plot([numbers[-1], double], [heights[-1], expected], color=PURPLE, ls=":")
    _logarithmic(axes)
    axes.set_xlabel("images to learn from (log)")
    axes.set_ylabel("accuracy, %")
    axes.grid(True)
    _legend_above(axes)


def reliability(figure: "Figure", bins: Sequence[dict[str, Any]]) -> None:
    """Draw accuracy against confidence, a dot for each bin and, below, how many images the bins have."""
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    spots = [(100 * one["confidence"], 100 * one["accuracy"]) for one in bins if one["count"]]
    above.plot([0, 100], [0, 100], color=GREY, lw=1, ls="--", label="as sure as right")
    above.plot(*zip(*spots, strict=True), color=BLUE, marker="o", ls="", label="test images, 95 % interval")
    for one in (one for one in bins if one["count"]):
        interval = wilson_interval(round(one["accuracy"] * one["count"]), one["count"])
        above.plot([100 * one["confidence"]] * 2, [100 * value for value in interval], color=BLUE, lw=1.2, alpha=0.55)
    above.set_ylabel("of these right, %")
    above.set_ylim(-3, 103)
    above.grid(True)
    _legend_above(above)
    middles = [50 * (one["low"] + one["high"]) for one in bins]
    widths = [90 * (one["high"] - one["low"]) for one in bins]
    below.bar(middles, [one["count"] for one in bins], widths, color=BLUE)
    below.set_ylabel("images")
    below.set_xlabel("probability of the label, %")
    below.set_xlim(-2, 102)
    below.grid(True, axis="y")


def feature_map(figure: "Figure", places: np.ndarray, groups: np.ndarray, names: Sequence[str]) -> None:
    """Draw (N, 2) places as dots, group k of `groups` (N,) in its own colour and shape; -1 is the others, grey."""
    axes = figure.subplots()
    others = places[groups < 0]
    size = 3.2 if len(places) > 600 else 4.2
    if len(others):
        axes.plot(*others.T, "o", ms=size, color=GREY, alpha=0.4, mew=0, rasterized=True, label="other classes")
    for k, name in enumerate(names):
        # Two classes of one colour never share a shape.
        colour, marker = MAP_COLOURS[k % len(MAP_COLOURS)], MARKERS[(k + k // len(MAP_COLOURS)) % len(MARKERS)]
        dots, text = places[groups == k], label(name, 16)
        axes.plot(*dots.T, marker, ms=size, color=colour, mew=0, alpha=0.85, rasterized=True, label=text)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    columns = 3 if max(map(len, names), default=0) > 9 else 5
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, 0), ncols=columns, fontsize=9, handletextpad=0.2, markerscale=1.4
    )


def _legend_above(axes: "Axes") -> None:
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, fontsize=9.5,
        handlelength=1.6, columnspacing=1.2, labelcolor=INK,
    )  # fmt: skip
