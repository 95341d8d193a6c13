"""The comparison in words, and the columns of its table."""

from collections.abc import Callable, Sequence

from thaw.pipeline.comparison.comparison import SIGNIFICANCE, Comparison
from thaw.pipeline.formatting import duration, percent, size, with_interval
from thaw.pipeline.run.report_json import BASELINES, Report


def accuracy(report: Report) -> str:
    """Return the accuracy and its 95 % interval in percent."""
    return with_interval(report.accuracy, report.accuracy_ci95, report.num_test)


COLUMNS: dict[str, Callable[[Report], str]] = {
    "Name": lambda r: r.name + (" *" if r.strategy in BASELINES else ""),
    "Strategy": lambda r: r.strategy,
    "Network": lambda r: r.backbone or "-",
    "Image\nsize": lambda r: str(r.image_size or "-"),
    "Layer": lambda r: r.layer or "-",
    "Accuracy %\n[95 % interval]": accuracy,
    "Balanced\nacc. %": lambda r: percent(r.balanced_accuracy, r.num_test),
    "Macro\nF1": lambda r: f"{r.macro_f1:.3f}",
    "Log\nloss": lambda r: f"{r.log_loss:.3f}",
    "ECE": lambda r: f"{r.ece:.3f}",
    "Fit\ntime": lambda r: duration(r.seconds.fit),
    "Total\ntime": lambda r: duration(r.total_seconds),
    "Peak\nmemory": lambda r: size(None if r.peak_memory_mb is None else r.peak_memory_mb * 1e6),
    "Model\nsize": lambda r: size(r.model_bytes),
}
TEXT_COLUMNS = ("Name", "Strategy", "Network", "Image\nsize", "Layer")
# The order in which a narrow terminal leaves columns out; the name and the accuracy always stay.
LEFT_OUT_FIRST = (
    "Strategy", "Peak\nmemory", "Balanced\nacc. %", "Model\nsize", "Fit\ntime",
    "ECE", "Log\nloss", "Macro\nF1", "Layer", "Total\ntime", "Image\nsize", "Network",
)  # fmt: skip


def points(comparison: Comparison) -> tuple[str, str]:
    """Return a pair's difference and its interval, in points."""
    low, high = comparison.ci95
    return f"{100 * comparison.difference:+.2f}", f"[{100 * low:+.2f}, {100 * high:+.2f}]"


def p_value(value: float) -> str:
    """Return a p-value with three digits, or with more if only they tell it from the level of significance."""
    telling = (digits for digits in range(3, 17) if round(value, digits) != SIGNIFICANCE or value == SIGNIFICANCE)
    return "<0.001" if value < 0.001 else f"{value:.{next(telling, 17)}f}"


def facts(reports: Sequence[Report]) -> str:
    """Return one line on the dataset, its split and the network."""
    best = reports[0]
    names = {name for r in reports if r.backbone for name in r.backbone.split("+")}
    backbones = " and ".join(sorted(names)) or "no"
    return (
        f"{best.dataset}: {len(best.class_names)} classes; {best.num_train:,} training, {best.num_validation:,} "
        f"validation and {best.num_test:,} test images; {backbones} backbone"
    )


def conclusion(reports: Sequence[Report], comparisons: Sequence[Comparison]) -> str:
    """Return one line: the best strategy and those not significantly worse, or that the test images are too few."""
    best = reports[0]
    text = (
        f"Best: {best.name}, with {percent(best.accuracy, best.num_test)} % of {best.num_test:,} test images correct."
    )
    images = "1 test image is" if best.num_test == 1 else f"{best.num_test:,} test images are"
    equals = not_worse(reports, comparisons)
    if best.has_too_few_images:
        names = ", ".join(report.name for report in (best, *equals))
        purpose = f"to tell these apart ({names})" if equals else "for a meaningful figure"
        width = f"an interval of {best.interval_width:.0f} points"
        return f"{text} {images} too few {purpose}: {width}; give more test images."
    if others := ", ".join(report.name for report in equals if report.strategy not in BASELINES):
        text = f"{text} Not significantly worse: {others}."
    if baselines := ", ".join(report.name for report in equals if report.strategy in BASELINES):
        text = f"{text} {images} too few to tell it from a baseline, {baselines}; give more test images."
    return text


def not_worse(reports: Sequence[Report], comparisons: Sequence[Comparison]) -> list[Report]:
    """Return the strategies that are not significantly worse than the best one, which is left out."""
    best = reports[0].name
    names = {pair.b for pair in comparisons if pair.a == best and pair.holm_p >= SIGNIFICANCE}
    return [report for report in reports if report.name in names]


def cost(reports: Sequence[Report], comparisons: Sequence[Comparison]) -> str:
    """Return one line: the time of the best strategy, and the quickest of those not significantly worse."""
    best = reports[0]
    if best.total_seconds is None:
        text = "What it took is not known"
    else:
        text = f"It took {duration(best.total_seconds)} in all"
    equals = [report for report in not_worse(reports, comparisons) if report.strategy not in BASELINES]
    timed = [(seconds, report.name) for report in equals if (seconds := report.total_seconds) is not None]
    seconds, name = min(timed, key=lambda pair: pair[0], default=(float("inf"), ""))
    if best.has_too_few_images or seconds >= (best.total_seconds or 0):
        return f"{text}."
    return f"{text}; {name}, the quickest that is not significantly worse, {duration(seconds)}."


def notes(num_pairs: int) -> str:
    """Return what a reader of the verdicts must know."""
    picked = "The best was picked by these test images, which flatters it a little."
    if num_pairs == 1:
        return f"The verdict holds at the 5 % level (exact McNemar test). {picked}"
    return (
        f"Verdicts hold at the 5 % level for all {num_pairs} pairs together (exact McNemar test, Holm's adjustment). "
        f"Each interval is for its own pair alone. {picked}"
    )
