"""How `fit` ends: the ensemble if held-out images favour it, the best result, the comparison, the next command."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from thaw.models.selection.probing import Z, standard_error
from thaw.models.strategies import STRATEGIES
from thaw.pipeline.commands import as_typed
from thaw.pipeline.formatting import percent, plain
from thaw.pipeline.inference.trained import find_result
from thaw.pipeline.report import report as comparison
from thaw.pipeline.run.advice_json import Advice, Candidate, write_advice
from thaw.pipeline.run.report_json import NEURAL, Report, read_report
from thaw.pipeline.terminal import console_for, say
from thaw.pipeline.training.train_ensemble import choose_ensemble, judgement, write_ensemble

log = logging.getLogger("thaw")


def end(run: Path, advice: Advice, console: Console | None) -> Path:
    """Write the ensemble if it is favoured, advice.json's recommendation and the comparison; say what to type next.

    Args:
        run: The folder of the run, which has a result at least.
        advice: Its advice.
        console: What is printed on, standard output if none is given.

    Returns:
        The path of report.md.
    """
    console = console or console_for()
    reports = [read_report(path) for path in run.glob("*/report.json")]
    if sum(report.strategy in STRATEGIES for report in reports) > 1:
        _average(run)
    best = read_report(find_result(run, "best") / "report.json")
    write_advice(run, advice.model_copy(update={"recommended": describe(advice, best)}))
    path = comparison.main(run, console=console)
    console.print()
    held_out = best.hyperparameters.get("selection_accuracy")
    judged = f"{percent(float(held_out))} % of held-out images" if isinstance(held_out, int | float) else "unjudged"
    low, high = (percent(value, best.num_test) for value in best.accuracy_ci95)
    say(
        console,
        f"The classifier: {best.name}, chosen by {judged}; {percent(best.accuracy, best.num_test)} % [{low}, {high}] "
        f"of the {best.num_test:,} test images. To label new images:",
        "bold green",
    )
    typed = plain(as_typed(f"thaw predict --run {run} --strategy {best.name}"))
    console.print(Text(f"  {typed} IMAGES", style="bold green"), soft_wrap=True)
    return path


def _average(run: Path) -> None:
    """Write the ensemble of the run's linear results if out-of-fold predictions favour it."""
    ensemble = choose_ensemble(run)
    log.info("%s", judgement(ensemble.selection))
    if ensemble.selection.gain.favoured:
        write_ensemble(ensemble)


def describe(advice: Advice, best: Report) -> Candidate:
    """Return the recommendation that describes a trained result: what was expected of it, without the test split."""
    given = best.hyperparameters
    accuracy = float(given.get("selection_accuracy", advice.recommended.accuracy))  # type: ignore[arg-type]
    crossed = given.get("select") == "cv"
    judged = best.num_validation + (best.num_train if crossed else 0)
    error = np.hypot(standard_error(accuracy, best.num_test), standard_error(accuracy, max(1, judged)))
    bounds = [max(0.0, accuracy - Z * float(error)), min(1.0, accuracy + Z * float(error))]
    values: dict[str, Any] = {
        **{name: getattr(best, name) for name in ("strategy", "features", "backbone", "image_size", "command")},
        "layer": best.layer or "image",
        "pooling": "none" if best.strategy in NEURAL else _pooling(advice, best),
        "transform": str(given.get("transform") or "none"),
        "accuracy": accuracy,
        "accuracy_interval": bounds,
        "minutes": (best.total_seconds or 0.0) / 60,
    }
    return Candidate.model_validate(values)


def _pooling(advice: Advice, best: Report) -> str:
    """Return how the layers of a result are pooled, as the advice tried its feature sets."""
    known = {tried.features: tried.pooling for tried in advice.networks}
    of_candidates = {candidate.features: candidate.pooling for candidate in advice.candidates}
    names = str(best.features).split("+") if best.strategy == "ensemble" else [str(best.features)]
    return "+".join(dict.fromkeys(of_candidates.get(name) or known.get(name, "auto") for name in names))
