"""How figures are written, the same on the terminal and in report.md."""

from thaw.pipeline.run.report_json import Report
from thaw.pipeline.run.results import SIGNIFICANCE

WIDEST_POINTS = 20  # of an accuracy's 95 % interval, for saying which strategy is better


def percent(value: float, report: Report) -> str:
    """Return a fraction in percent, with as many digits as the number of test images bears."""
    return f"{100 * value:.{2 if report.num_test >= 1000 else 1}f}"


def accuracy(report: Report) -> str:
    """Return the accuracy and its 95 % interval in percent."""
    low, high = (percent(value, report) for value in report.accuracy_ci95)
    return f"{percent(report.accuracy, report)} [{low}, {high}]"


def duration(seconds: float | None) -> str:
    """Return a duration in the unit that reads best; - for None."""
    if seconds is None:
        return "-"
    if 0 < seconds < 0.005:
        return "<0.01 s"
    if seconds < 60:
        return f"{seconds:.{2 if seconds < 1 else 1}f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def total_seconds(report: Report) -> float | None:
    """Return the seconds of features, fit and predictions together; None where none is known."""
    known = [value for value in report.seconds.model_dump().values() if value is not None]
    return sum(known) if known else None


def total(report: Report) -> str:
    """Return the time of features, fit and predictions together."""
    return duration(total_seconds(report))


def size(num_bytes: float | None) -> str:
    """Return bytes in the unit that reads best; - for None."""
    if num_bytes is None:
        return "-"
    units = ["B", "kB", "MB", "GB", "TB"]
    while num_bytes >= 999.5 and len(units) > 1:
        num_bytes, units = num_bytes / 1000, units[1:]
    digits = 0 if num_bytes >= 99.95 or units[0] == "B" else 1
    return f"{num_bytes:.{digits}f} {units[0]}"


def memory(report: Report) -> str:
    """Return the peak memory."""
    return size(None if report.peak_memory_mb is None else report.peak_memory_mb * 1e6)


def p_value(value: float) -> str:
    """Return a p-value with three digits, or as many as show on which side of the level of significance it lies."""
    telling = (digits for digits in range(3, 17) if round(value, digits) != SIGNIFICANCE or value == SIGNIFICANCE)
    return "<0.001" if value < 0.001 else f"{value:.{next(telling, 17)}f}"


# The order in which columns give way to a narrow terminal; the name and the accuracy never do.


def width(report: Report) -> float:
    """Return how many points wide the interval of the accuracy is."""
    low, high = report.accuracy_ci95
    return 100 * (high - low)


def too_few(report: Report) -> bool:
    """Say whether the test images are too few for a meaningful interval."""
    return width(report) > WIDEST_POINTS


def plain(text: str) -> str:
    """Replace what could steer a terminal or break a line."""
    return "".join(c if c.isprintable() else " " for c in text)
