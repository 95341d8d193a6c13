"""On the terminal: the plan before the advice, and the advice with its evidence and how it stands to the rule."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from thaw.models.selection.probing import Z, standard_error
from thaw.pipeline.advice.arms import Arm
from thaw.pipeline.commands import as_typed
from thaw.pipeline.extraction.feature_files import megabytes_of
from thaw.pipeline.formatting import duration, percent, plain, with_interval
from thaw.pipeline.run.advice_json import Advice, Candidate
from thaw.pipeline.terminal import console_for, empty_table, say

MOST_TEST_IMAGES = 1e7  # that anybody would label
SHOWN = 6  # networks that are named of those whose weights are not at hand


def show(console: Console | None, advice: Advice) -> None:
    """Print the advice for a reader on `console`, standard output if none is given."""
    console = console or console_for()
    say(console, f"{advice.dataset}: {advice.size.cell}, {advice.similarity.cell}", "bold")
    console.print(_networks(console, advice))
    say(console, "Accuracies are of linear probes on samples, by images held out; those of equal samples compare.")
    console.print()
    say(console, f"Size: {advice.size.reason}.")
    say(console, f"Similarity: {advice.similarity.reason}.")
    console.print()
    console.print(_layers(console, advice))
    say(console, "LogME (higher is better) judges a layer's averages without training a classifier.")
    say(console, _curve(advice))
    console.print()
    console.print(_candidates(console, advice.candidates, advice.recommended))
    for line in [_chance(advice), *_audit(advice)]:
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
        f"{candidate.strategy}{layer} of {candidate.backbone} at {candidate.image_size} pixels, expected accuracy "
        f"{_in_percent(candidate.accuracy, candidate.accuracy_interval)}"
    )


def _networks(console: Console, advice: Advice) -> Table:
    table = _table(console, "Network", "Layers", numbers=("Pixels", "Images", "Held out %", "All images"))
    for tried in advice.networks:
        numbers = (str(tried.image_size), f"{tried.num_images:,}", percent(tried.accuracy), _minutes(tried.minutes))
        style = "bold green" if tried.features == advice.recommended.features else ""
        table.add_row(tried.backbone, tried.layer.replace("+", " +\n"), *numbers, style=style)
    return table


def _layers(console: Console, advice: Advice) -> Table:
    table = _table(console, "Layer", numbers=("Averaged %", "Whole or grid %", "Random network %", "LogME"))
    for layer in advice.layers:
        accuracies = map(percent, (layer.average_accuracy, layer.auto_accuracy, layer.random_accuracy))
        table.add_row(layer.layer, *accuracies, f"{layer.log_me:.3f}")
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
    numbers = (escape("Expected % [interval]"), "Time")
    table = _table(console, "Strategy", "Feature set", "From layer", numbers=numbers)
    for candidate in sorted(candidates, key=lambda c: -c.accuracy):
        strategy = candidate.strategy + (", sqrt" if candidate.transform == "sqrt" else "")
        cells = (strategy, candidate.features, _layers_with_poolings(candidate))
        expected = with_interval(candidate.accuracy, candidate.accuracy_interval)
        style = "bold green" if candidate is recommended else ""
        table.add_row(*cells, expected, _minutes(candidate.minutes), style=style)
    return table


def _layers_with_poolings(candidate: Candidate) -> str:
    """Return each layer with its pooling, one below the other."""
    layers, poolings = candidate.layer.split("+"), candidate.pooling.split("+")
    poolings = poolings if len(poolings) > 1 else poolings * len(layers)
    return " +\n".join(f"{layer} {pooling}" for layer, pooling in zip(layers, poolings, strict=True))


def _chance(advice: Advice) -> str:
    """Return what part of the interval is only the number of test images, and how many would halve it."""
    num_test, candidate = advice.size.num_test, advice.recommended
    low, high = candidate.accuracy_interval
    half, by_chance = (high - low) / 2, Z * standard_error(candidate.accuracy, num_test)
    measuring = max(0.0, half**2 - by_chance**2)  # of the expectation itself
    needed = candidate.accuracy * (1 - candidate.accuracy) * Z**2 / ((half / 2) ** 2 - measuring + 1e-12)
    halved = (
        f"about {_rounded(needed):,} test images would halve it"
        if (half / 2) ** 2 > measuring and needed < MOST_TEST_IMAGES
        else "more test images alone would not halve it"
    )
    return (
        f"The 95 % interval reaches {100 * half:.1f} points to each side; {100 * by_chance:.1f} of them are only the "
        f"chance of {num_test:,} test images; {halved}."
    )


def _rounded(number: float) -> int:
    """Return a number to two digits."""
    digits = 10 ** max(0, len(str(int(number))) - 2)
    return int(-(-number // digits) * digits)


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


class AdvicePlan(NamedTuple):
    """The plan: a line for each network, and what the extraction takes at least and at most."""

    networks: dict[str, list[int]]
    num_images: int
    budget: float
    seconds: tuple[float, float]
    megabytes: tuple[float, float]


def plan_of(arms: Sequence[Arm], num_images: int, budget: float) -> AdvicePlan:
    """Return the plan.

    Args:
        arms: The networks at their sizes.
        num_images: How many images the dataset has.
        budget: The minutes of measuring.
    """
    networks: dict[str, list[int]] = {}
    for arm in arms:
        networks.setdefault(arm.shared.backbone, []).append(arm.shared.image_size)
    seconds = [num_images * arm.expected_seconds for arm in arms]
    sizes = [megabytes_of(arm.shared, num_images) for arm in arms]
    return AdvicePlan(networks, num_images, budget, (min(seconds), max(seconds)), (min(sizes), max(sizes)))


def show_plan(console: Console | None, plan: AdvicePlan, missing: Sequence[str]) -> None:
    """Print the plan, and the networks that are left out because their weights are not at hand."""
    console = console or console_for()
    tried = "; ".join(f"{name} at {', '.join(map(str, sizes))} pixels" for name, sizes in plan.networks.items())
    minutes = f"{plan.budget:.2g} minute{'' if plan.budget == 1 else 's'}"
    say(console, f"Plan: {minutes} of measuring on samples of {plan.num_images:,} images: {tried}.")
    low, high = plan.seconds
    least, most = plan.megabytes
    say(
        console,
        f"Then the features of all images by the best of them: between {duration(low)} and {duration(high)} here "
        f"without a GPU, {least:,.0f} to {most:,.0f} MB of disk, and as much memory for training.",
    )
    if missing:
        others = ", ".join(missing[:SHOWN]) + (f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else "")
        fetch = "thaw weights --backbone NAME fetches them"
        say(console, f"Not tried, since their weights are not here: {others} ({fetch}).")
