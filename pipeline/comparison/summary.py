"""What the comparison says in words, and the columns of its table."""

from collections.abc import Callable, Sequence

from thaw.pipeline.formatting import accuracy, duration, memory, percent, size, too_few, total, total_seconds, width
from thaw.pipeline.run.report_json import BASELINES, Report
from thaw.pipeline.run.results import SIGNIFICANCE, Comparison


def points(comparison: Comparison) -> tuple[str, str]:
    """Return a pair's difference and its interval in points."""
    low, high = comparison.ci95
    return f"{100 * comparison.difference:+.2f}", f"[{100 * low:+.2f}, {100 * high:+.2f}]"


COLUMNS: dict[str, Callable[[Report], str]] = {
    "Name": lambda r: r.name + (" *" if r.strategy in BASELINES else ""),
    "Strategy": lambda r: r.strategy,
    "Layer": lambda r: r.layer or "-",
    "Accuracy %\n[95 % interval]": accuracy,
    "Balanced\nacc. %": lambda r: percent(r.balanced_accuracy, r),
    "Macro\nF1": lambda r: f"{r.macro_f1:.3f}",
    "Log\nloss": lambda r: f"{r.log_loss:.3f}",
    "ECE": lambda r: f"{r.ece:.3f}",
    "Fit\ntime": lambda r: duration(r.seconds.fit),
    "Total\ntime": total,
    "Peak\nmemory": memory,
    "Model\nsize": lambda r: size(r.model_bytes),
}


TEXT_COLUMNS = ("Name", "Strategy", "Layer")


GIVE_WAY = (
    "Strategy", "Peak\nmemory", "Balanced\nacc. %", "Model\nsize", "Fit\ntime",
    "ECE", "Log\nloss", "Macro\nF1", "Layer", "Total\ntime",
)  # fmt: skip


def facts(reports: Sequence[Report]) -> str:
    """Return one line on the data, its split and the network."""
    best = reports[0]
    backbones = " and ".join(sorted({r.backbone for r in reports if r.backbone})) or "no"
    return (
        f"{best.dataset}: {len(best.class_names)} classes; {best.num_train:,} training, {best.num_validation:,} "
        f"validation and {best.num_test:,} test images; {backbones} backbone"
    )


def conclusion(reports: Sequence[Report], comparisons: Sequence[Comparison]) -> str:
    """Return one line: the best strategy, and which are not significantly worse, or that the test cannot tell."""
    best = reports[0]
    text = f"Best: {best.name}, with {percent(best.accuracy, best)} % of {best.num_test:,} test images right."
    equals = not_worse(reports, comparisons)
    names = ", ".join(report.name for report in equals)
    if too_few(best):
        what = f"to tell these apart ({best.name}, {names})" if equals else "for a meaningful figure"
        return f"{text} {_images(best)} too few {what}: an interval of {width(best):.0f} points; give more test images."
    others = ", ".join(report.name for report in equals if report.strategy not in BASELINES)
    if others:
        text = f"{text} Not significantly worse: {others}."
    if baselines := ", ".join(report.name for report in equals if report.strategy in BASELINES):
        text = f"{text} {_images(best)} too few to tell it from a baseline, {baselines}; give more test images."
    return text


def not_worse(reports: Sequence[Report], comparisons: Sequence[Comparison]) -> list[Report]:
    """Return the strategies, without the best one, that are not significantly worse than it."""
    best = reports[0].name
    names = {pair.b for pair in comparisons if pair.a == best and pair.holm_p >= SIGNIFICANCE}
    return [report for report in reports if report.name in names]


def _images(report: Report) -> str:
    return "1 test image is" if report.num_test == 1 else f"{report.num_test:,} test images are"


def cost(reports: Sequence[Report], comparisons: Sequence[Comparison]) -> str:
    """Return one line: what the best strategy took, and the quickest of those that are not significantly worse."""
    best, equals = reports[0], not_worse(reports, comparisons)
    text = f"It took {total(best)} in all" if total_seconds(best) is not None else "What it took is not known"
    timed = [(seconds, report) for report in equals if (seconds := total_seconds(report)) is not None]
    timed = [pair for pair in timed if pair[1].strategy not in BASELINES]
    seconds, quickest = min(timed, key=lambda pair: pair[0], default=(None, best))
    if seconds is None or too_few(best) or seconds >= (total_seconds(best) or 0):
        return f"{text}."
    return f"{text}; {quickest.name}, the quickest that is not significantly worse, {duration(seconds)}."


def notes(num_pairs: int) -> str:
    """Return what a reader of the verdicts has to know."""
    picked = "The best was picked by these test images, which flatters it a little."
    if num_pairs == 1:
        return f"The verdict holds at the 5 % level (exact McNemar test). {picked}"
    return (
        f"Verdicts hold at the 5 % level for all {num_pairs} pairs together (exact McNemar test, Holm's adjustment). "
        f"Each interval is for its own pair alone. {picked}"
    )
