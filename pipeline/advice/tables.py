"""The advice on the terminal: the cell, the evidence, the recommendation and how it stands to the rule of thumb."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from thaw.models.selection.probing import Z, standard_error
from thaw.pipeline.commands import as_typed
from thaw.pipeline.formatting import percent, plain, with_interval
from thaw.pipeline.run.advice_json import Advice, Candidate
from thaw.pipeline.terminal import console_for, empty_table, say


def show(console: Console | None, advice: Advice) -> None:
    """Print the advice for a reader on `console`, standard output if none is given."""
    console = console or console_for()
    say(console, f"{advice.dataset}: {advice.size.cell}, {advice.similarity.cell}", "bold")
    say(console, f"Size: {advice.size.reason}.")
    say(console, f"Similarity: {advice.similarity.reason}.")
    console.print()
    console.print(_layers(console, advice))
    say(console, "LogME and H-score (higher is better) judge a layer's averages without training a classifier.")
    say(console, _curve(advice))
    console.print()
    console.print(_candidates(console, advice.candidates, advice.recommended))
    for line in [*_caution(advice), *_audit(advice)]:
        say(console, line)
    console.print()
    rule = advice.rule_of_thumb
    say(console, f"Rule of thumb ({rule.cell}): {rule.text}; {rule.evidence}.")
    say(console, f"Recommended: {_expected(advice.recommended)}, {_minutes(advice.recommended.minutes)}", "bold green")
    typed = plain(as_typed(advice.recommended.command))
    console.print(Text(f"  {typed}", style="bold green"), soft_wrap=True)  # on one line, to be copied


def _minutes(minutes: float) -> str:
    return f"{60 * minutes:.0f} s" if minutes < 1 else f"{minutes:.1f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def _in_percent(accuracy: float, bounds: Sequence[float]) -> str:
    low, high = map(percent, bounds)
    return f"{percent(accuracy)} % [{low}, {high}]"


def _expected(candidate: Candidate) -> str:
    layer = "" if candidate.strategy == "head" else f" {candidate.layer}"
    return (
        f"{candidate.strategy}{layer} at {candidate.image_size} pixels, expected accuracy "
        f"{_in_percent(candidate.accuracy, candidate.accuracy_interval)}"
    )


def _layers(console: Console, advice: Advice) -> Table:
    table = _table(console, "Layer", numbers=("Averaged %", "Whole or grid %", "Random network %", "LogME", "H-score"))
    for layer in advice.layers:
        accuracies = map(percent, (layer.average_accuracy, layer.auto_accuracy, layer.random_accuracy))
        table.add_row(layer.layer, *accuracies, f"{layer.log_me:.3f}", f"{layer.h_score:.2f}")
    return table


def _table(console: Console, *texts: str, numbers: Sequence[str]) -> Table:
    table = empty_table(console)
    for heading in (*texts, *numbers):
        table.add_column(heading, justify="right" if heading in numbers else "left")
    return table


def _curve(advice: Advice) -> str:
    curve = advice.learning_curve
    points = ", ".join(f"{percent(point.accuracy)} % at {point.num_images:,}" for point in curve.points)
    at_double = _in_percent(curve.accuracy_at_double, curve.interval_at_double)
    return (
        f"Learning curve of a linear probe: {points}. Twice the images would give about {at_double}: {curve.outlook}."
    )


def _candidates(console: Console, candidates: Sequence[Candidate], recommended: Candidate) -> Table:
    numbers = ("Pixels", escape("Expected % [interval]"), "Time")
    table = _table(console, "Strategy", "From layer", "Transform", numbers=numbers)
    for candidate in sorted(candidates, key=lambda c: -c.accuracy):
        cells = (candidate.strategy, _layers_with_poolings(candidate), candidate.transform, str(candidate.image_size))
        expected = with_interval(candidate.accuracy, candidate.accuracy_interval)
        style = "bold green" if candidate is recommended else ""
        table.add_row(*cells, expected, _minutes(candidate.minutes), style=style)
    return table


def _layers_with_poolings(candidate: Candidate) -> str:
    """Return each layer with its pooling, one below the other."""
    layers, poolings = candidate.layer.split("+"), candidate.pooling.split("+")
    poolings = poolings if len(poolings) > 1 else poolings * len(layers)
    return " +\n".join(f"{layer} {pooling}" for layer, pooling in zip(layers, poolings, strict=True))


def _caution(advice: Advice) -> list[str]:
    """Return what the interval leaves out if the test images are few: chance alone moves their accuracy further."""
    num_test, accuracy = advice.size.num_test, advice.recommended.accuracy
    half = max(abs(bound - accuracy) for bound in advice.recommended.accuracy_interval)
    chance = Z * standard_error(accuracy, num_test)
    if chance <= half:
        return []
    return [
        f"The intervals are cut to {100 * half:.0f} points to each side; on {num_test:,} test images the measured "
        f"accuracy may differ by {100 * chance:.0f} by chance alone."
    ]


def _audit(advice: Advice) -> list[str]:
    found = advice.audit
    lines = []
    if found.duplicate_test_ids:
        lines.append(
            f"Audit: {len(found.duplicate_test_ids)} test images are images of another split too "
            f"({found.num_exact_duplicates} exact, {found.num_near_duplicates} near); advice.json lists them."
        )
    if found.num_label_errors:
        lines.append(
            f"Audit: a probe doubts the labels of {found.num_label_errors} images that it has not seen; advice.json "
            "lists the surest first. None is removed; look at them."
        )
    lines += [f"Audit: {found.imbalance_warning}"] if found.imbalance_warning else []
    return lines
