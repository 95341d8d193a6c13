"""The cases' figures as tables for docs/results.md, and the plot of accuracy against similarity."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.advice_results import CaseResult, CaseResults
from benchmarks.case_runs import STRATEGIES
from thaw.features.files.atomic import whole_path
from thaw.pipeline.plots.labels import place_labels

BEGIN, END = "<!-- advice cases -->", "<!-- end of advice cases -->"
FROZEN = ("svm", "logreg", "knn", "ridge", "head")
CLOTHES = tuple(
    f"{name}-250"
    for name in ("cifar", "grey", "swapped", "negative", "coarse", "turned", "upside-down", "blocks", "pixels")
)


def markdown(results: CaseResults) -> str:
    """Return how good the advice was case by case, the totals, and every strategy's accuracy and minutes."""
    advised = [case for case in results.cases if case.advised]
    parts = [f"`{results.command}`; {results.machine}."]
    if advised:
        parts += [_advice_table(advised), _totals(advised)]
    return "\n\n".join([*parts, _strategy_table(results.cases)]) + "\n"


def _advice_table(cases: Sequence[CaseResult]) -> str:
    headings = (
        "case",
        "cell",
        "recommended",
        "expected % [95 % interval]",
        "measured %",
        "inside",
        "best %",
        "within a point",
        "advise, min",
        "all, min",
        "ratio",
    )
    return _grid(headings, map(_advice_row, cases))


def _advice_row(case: CaseResult) -> list[str]:
    advised = case.advised
    assert advised is not None
    low, high = advised.interval
    cell = advised.cell if advised.cell == case.meant_for else f"{advised.cell} (meant: {case.meant_for})"
    best, accuracy = case.best
    return [
        f"`{case.name}`",
        cell,
        f"{advised.strategy}, {advised.layer}, {advised.image_size} px",
        f"{_percent(advised.expected)} [{_percent(low)}, {_percent(high)}]" + ("" if case.narrow else " (wide)"),
        _percent(advised.measured),
        _yes(case.inside),
        f"{_percent(accuracy)} ({best})",
        _yes(case.near_best),
        f"{advised.cpu_seconds / 60:.1f}",
        f"{case.cpu_seconds / 60:.1f}" if case.share else "-",
        f"{case.share:.2f}" if case.share else "-",
    ]


def _totals(cases: Sequence[CaseResult]) -> str:
    timed = [case for case in cases if case.advised and case.share]
    advice = sum(case.advised.cpu_seconds for case in timed if case.advised)
    share = advice / max(1.0, sum(case.cpu_seconds for case in timed))
    rows = [
        ("the interval holds what was measured", _count(case.inside for case in cases), "9 of 10"),
        ("it reaches 3 points at most (5 below 500 test images)", _count(case.narrow for case in cases), "all"),
        ("the choice is within a point of the best", _count(case.near_best for case in cases), "9 of 10"),
        ("advice takes a quarter of the time at most", _count((case.share or 1) <= 0.25 for case in timed), ""),
        ("its time over theirs, together", f"{share:.2f}" if timed else "-", "at most 0.25"),
        (
            "the measurements contradict the rule of thumb",
            _count(not case.advised.agrees for case in cases if case.advised),
            "",
        ),
    ]
    return _grid(("", "measured", "required"), rows)


def _strategy_table(cases: Sequence[CaseResult]) -> str:
    headings = ("case", "what", "training, test images", *(f"{name} %" for name in STRATEGIES), "together, min")
    rows = (
        [
            f"`{case.name}`",
            case.what,
            f"{case.num_train:,}, {case.num_test:,}",
            *(_percent(case.strategies[name].accuracy) if name in case.strategies else "-" for name in STRATEGIES),
            f"{case.cpu_seconds / 60:.1f}",
        ]
        for case in cases
    )
    return _grid(headings, rows)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}"


def _yes(value: bool | None) -> str:
    return "yes" if value else "**no**"


def _count(values: Iterable[bool | None]) -> str:
    found = [bool(value) for value in values]
    return f"{sum(found)} of {len(found)}"


def _grid(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(headings)} |", f"|{' --- |' * len(headings)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def put_between(text: str, table: str) -> str:
    """Return `text` with `table` between the two markers; ValueError if they are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the markers {BEGIN} and {END} are missing")
    return f"{before}{BEGIN}\n{table}{END}{after}"


def draw(path: Path, cases: Sequence[CaseResult]) -> None:
    """Draw the best frozen classifier's accuracy against the gain over the random network, as SVG.

    CIFAR-10 in several clothes has the same classes and numbers of images throughout: but for the draw, there only
    similarity differs.
    """
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5.2), layout="constrained")
    axes = figure.subplots()
    axes.margins(x=0.12, y=0.08)  # room for the names
    spots, names = [], []
    for same, colour, label in (
        (True, "#1f5fa8", "CIFAR-10, 250 training images a class, in several clothes"),
        (False, "#8a8a8a", "other cases (other classes and numbers of images)"),
    ):
        chosen = [case for case in cases if case.advised and (case.name in CLOTHES) == same]
        points = [(100 * case.advised.gain, 100 * _frozen(case)) for case in chosen if case.advised]
        across, up = ([point[axis] for point in points] for axis in (0, 1))
        axes.scatter(across, up, c=colour, s=36 if same else 18, label=label, zorder=3 if same else 2)
        spots, names = spots + points, names + [case.name for case in chosen]
    place_labels(axes, spots, names, (510.0, 320.0), size=8)
    axes.set_xlabel("similarity: probe accuracy over that of the same layer of a random network, points")
    axes.set_ylabel("best frozen classifier, test accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)
    with matplotlib.rc_context({"svg.hashsalt": "thaw", "svg.fonttype": "none"}), whole_path(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})


def _frozen(case: CaseResult) -> float:
    found = [outcome.accuracy for name, outcome in case.strategies.items() if name in FROZEN]
    return max([*found, case.advised.measured] if case.advised and case.advised.strategy != "finetune" else found)
