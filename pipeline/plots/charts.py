"""The charts: numbers -> a filled matplotlib figure, without any file or page."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from thaw.models.metrics import wilson_interval
from thaw.pipeline.formatting import shortened
from thaw.pipeline.plots.labels import legend_above, place_labels
from thaw.pipeline.plots.svg import BLUE, GREEN, GREY, MARKERS, ORANGE, PAPER, PURPLE
from thaw.pipeline.run.advice_json import LayerProfile, LearningCurve
from thaw.pipeline.run.report_json import BASELINES, ClassFigures, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# After Tol's vibrant scheme, for colour-blind readers. A theme does not recolour dots, so they suit dark and light.
MAP_COLOURS = (
    "#0077bb", "#ee7733", "#009988", "#cc3311", "#33bbee", "#ee3377", "#999933", "#aa66cc", "#95683c", "#767676",
)  # fmt: skip
MOST_LABELLED = 14  # strategies
MOST_COUNTED = 12  # classes of a confusion matrix whose counts fit into its cells


def frontier(reports: Sequence[Report]) -> list[Report]:
    """Return the strategies that no other beats in both accuracy and time, the quickest first; `chance` is left out."""
    result: list[Report] = []
    for report in sorted(_timed(reports), key=lambda report: (report.total_seconds or 0, -report.accuracy)):
        if not result or report.accuracy > result[-1].accuracy:
            result.append(report)
    return result


def _timed(reports: Sequence[Report]) -> list[Report]:
    return [report for report in reports if report.strategy != "chance" and report.total_seconds]


def _minutes_and_percent(report: Report) -> tuple[float, float]:
    return (report.total_seconds or 0) / 60, 100 * report.accuracy


def accuracy_against_cost(figure: "Figure", reports: Sequence[Report]) -> None:
    """Draw accuracy with its interval against minutes, on a logarithmic axis, and the frontier."""
    axes = figure.subplots()
    best, shown = frontier(reports), _timed(reports)
    for report in shown:
        minutes, height = _minutes_and_percent(report)
        if report.strategy in BASELINES:
            colour, marker = GREY, "s"
        else:
            colour, marker = (BLUE, "o") if report in best else (ORANGE, "D")
        axes.plot([minutes] * 2, [100 * end for end in report.accuracy_ci95], color=colour, lw=1.2, alpha=0.55)
        axes.plot([minutes], [height], marker=marker, ms=7, color=colour, mec=PAPER, mew=0.8, zorder=3)
    steps = zip(*map(_minutes_and_percent, best), strict=True)
    axes.plot(*steps, color=BLUE, lw=1.2, ls="--", drawstyle="steps-post", zorder=1)
    axes.margins(x=0.22, y=0.08)
    axes.set_xlabel("minutes: features, fit and predictions (log)")
    axes.set_ylabel("accuracy, %")
    _logarithmic(axes)
    axes.grid(True)
    labelled = shown[:MOST_LABELLED]
    texts = [shortened(report.name, 20) for report in labelled]
    place_labels(axes, [_minutes_and_percent(report) for report in labelled], texts, (260.0, 170.0))


def _logarithmic(axes: "Axes") -> None:
    """Make the horizontal axis logarithmic, with plain numbers at 1, 2 and 5, or at 1 alone if it is long."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 1500 else (1.0,)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def class_bars(figure: "Figure", rows: Sequence[ClassFigures]) -> None:
    """Draw the recall of each class as a bar and its F1 as a mark, the first class on top."""
    axes = figure.subplots()
    heights = np.arange(len(rows))
    axes.barh(heights, [100 * row.recall for row in rows], 0.66, color=BLUE, label="recall")
    axes.plot([100 * row.f1 for row in rows], heights, "D", color=ORANGE, mec=PAPER, mew=0.7, label="F1")
    axes.set_yticks(heights, [shortened(row.class_name) for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 102)
    axes.set_xlabel("%")
    axes.grid(True, axis="x")
    legend_above(axes)


def bars_height(num_classes: int) -> float:
    """Return the height in inches that `class_bars` needs."""
    return 0.9 + 0.23 * num_classes


def confusions(figure: "Figure", matrix: np.ndarray, class_names: Sequence[str]) -> None:
    """Draw a confusion matrix (K, K), rows true classes: correct labels in blue, mistakes in orange.

    The colour is the stronger the larger the share of the true class.
    """
    from matplotlib.colors import to_rgb

    axes = figure.subplots()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    correct = np.eye(len(matrix), dtype=bool)
    cells = np.zeros((*matrix.shape, 4))
    cells[..., :3] = np.where(correct[..., np.newaxis], to_rgb(BLUE), to_rgb(ORANGE))
    # Mistakes are rare: the square root makes one in a hundred visible.
    cells[..., 3] = np.where(correct, 0.6 * share, np.minimum(0.75, 1.6 * np.sqrt(share)))
    axes.imshow(cells, interpolation="nearest", aspect="auto")
    names = [shortened(name, 18) for name in class_names]
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


def learning(figure: "Figure", rows: Sequence[Mapping[str, float | None]], watched: str, kept: int | None) -> None:
    """Draw accuracy and, below, cross-entropy by epoch, of the training images and of the watched split.

    Args:
        figure: The figure to fill.
        rows: An epoch each, with the fields of learning_curve.csv.
        watched: The name of the watched split, validation or test.
        kept: The epoch whose weights are kept, None if it was not chosen by the watched split.
    """
    panels = figure.subplots(2, 1, sharex=True)
    for axes, name, unit in zip(panels, ("accuracy", "loss"), ("accuracy, %", "cross-entropy"), strict=True):
        factor = 100 if name == "accuracy" else 1
        fields = ((name, "training", BLUE, "o"), (f"{watched}_{name}", watched, ORANGE, "s"))
        for field, text, colour, marker in fields:
            epochs, values = _finite(rows, field)
            axes.plot(epochs, factor * values, color=colour, marker=marker, label=text)
        if kept is not None:
            axes.axvline(kept, color=GREY, lw=1, ls=":", label=f"kept: epoch {kept}")
        axes.set_ylabel(unit)
        axes.grid(True)
    low, high = panels[0].get_ylim()
    panels[0].set_ylim(min(low, (low + high) / 2 - 1), max(high, (low + high) / 2 + 1))  # two points at least
    losses = np.concatenate([_finite(rows[1:], field)[1] for field in ("loss", f"{watched}_loss")])
    if top := losses.max(initial=0):  # the loss of an untrained head, in the first row, would dwarf the rest
        panels[1].set_ylim(0, 1.1 * top)
    panels[1].set_xlabel("epoch")
    panels[1].xaxis.get_major_locator().set_params(integer=True)
    legend_above(panels[0])


def _finite(rows: Sequence[Mapping[str, float | None]], field: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the epochs (N,) whose value of a field is a finite number, and these values (N,)."""
    pairs = np.array([(row["epoch"], row.get(field)) for row in rows], dtype=float).reshape(-1, 2)
    epochs, values = pairs[np.isfinite(pairs[:, 1])].T
    return epochs, values


def learning_rates(figure: "Figure", rates: Sequence[float], losses: Sequence[float], suggested: float) -> None:
    """Draw the loss by learning rate, on a logarithmic axis, and mark the suggested rate."""
    axes = figure.subplots()
    axes.semilogx(rates, losses, color=BLUE)
    axes.axvline(suggested, color=GREY, lw=1, ls=":", label=f"suggested: {suggested:.1e}")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("cross-entropy, smoothed")
    axes.grid(True)
    legend_above(axes)


def layer_profile(figure: "Figure", layers: Sequence[LayerProfile]) -> None:
    """Draw the probe accuracy by depth, pooled in two ways and of a random network, and below it LogME."""
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    depths = [layer.depth for layer in layers]
    lines = (
        ("auto pooling", [layer.auto_accuracy for layer in layers], BLUE, "o"),
        ("averaged", [layer.average_accuracy for layer in layers], ORANGE, "s"),
        ("random network", [layer.random_accuracy for layer in layers], GREY, "^"),
    )
    for text, values, colour, marker in lines:
        above.plot(depths, [100 * value for value in values], color=colour, marker=marker, label=text)
    above.set_ylabel("accuracy, %")
    below.plot(depths, [layer.log_me for layer in layers], color=GREEN, marker="D")
    below.set_ylabel("LogME")
    below.set_xticks(depths, [shortened(layer.layer.removesuffix("_pool"), 9) for layer in layers], size=9)
    for axes in (above, below):
        axes.grid(True)
    legend_above(above)


def data_efficiency(figure: "Figure", curve: LearningCurve) -> None:
    """Draw the probe accuracy by number of images, with two standard errors, and the expected one of twice as many."""
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
    legend_above(axes)


def reliability(figure: "Figure", bins: Sequence[dict[str, Any]]) -> None:
    """Draw accuracy against confidence, a dot for each bin, and below it the number of images of each bin."""
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    filled = [one for one in bins if one["count"]]
    confidence, accuracy = ([100 * one[field] for one in filled] for field in ("confidence", "accuracy"))
    above.plot([0, 100], [0, 100], color=GREY, lw=1, ls="--", label="as sure as correct")
    above.plot(confidence, accuracy, color=BLUE, marker="o", ls="", label="test images, 95 % interval")
    for one in filled:
        interval = wilson_interval(round(one["accuracy"] * one["count"]), one["count"])
        above.plot([100 * one["confidence"]] * 2, [100 * value for value in interval], color=BLUE, lw=1.2, alpha=0.55)
    above.set_ylabel("of these correct, %")
    above.set_ylim(-3, 103)
    above.grid(True)
    legend_above(above)
    middles = [50 * (one["low"] + one["high"]) for one in bins]
    widths = [90 * (one["high"] - one["low"]) for one in bins]
    below.bar(middles, [one["count"] for one in bins], widths, color=BLUE)
    below.set_ylabel("images")
    below.set_xlabel("probability of the label, %")
    below.set_xlim(-2, 102)
    below.grid(True, axis="y")


def feature_map(figure: "Figure", positions: np.ndarray, groups: np.ndarray, names: Sequence[str]) -> None:
    """Draw images as dots, each class in its own colour and shape.

    Args:
        figure: The figure to fill.
        positions: The positions of N images, float (N, 2).
        groups: Their classes, int (N,): indices into `names`, or -1 for the other classes, which are grey.
        names: The names of the classes.
    """
    axes = figure.subplots()
    others = positions[groups < 0]
    size = 3.2 if len(positions) > 600 else 4.2
    if len(others):
        axes.plot(*others.T, "o", ms=size, color=GREY, alpha=0.4, mew=0, rasterized=True, label="other classes")
    for k, name in enumerate(names):
        # Two classes of one colour have different shapes.
        colour, marker = MAP_COLOURS[k % len(MAP_COLOURS)], MARKERS[(k + k // len(MAP_COLOURS)) % len(MARKERS)]
        dots, text = positions[groups == k], shortened(name, 16)
        axes.plot(*dots.T, marker, ms=size, color=colour, mew=0, alpha=0.85, rasterized=True, label=text)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    columns = 3 if max(map(len, names), default=0) > 9 else 5
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, 0), ncols=columns, fontsize=9, handletextpad=0.2, markerscale=1.4
    )
