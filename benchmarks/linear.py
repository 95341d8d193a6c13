"""The linear classifiers beside scikit-learn's: one fit at an equal objective, choosing C, and memory.

The objectives are computed here, in float64, from the coefficients that each one gives.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.results import Figures, Row, Target, rows_of
from benchmarks.runner import Contender, Output, Result, take_turns
from benchmarks.samples import Samples, feature_file, read_samples
from benchmarks.settings import Settings

SECTION = "linear"
OURS = {"svm": "thaw.models.linear.LinearSVM", "logreg": "thaw.models.linear.SoftmaxRegression"}
THEIRS = {"svm": "sklearn.svm.LinearSVC", "logreg": "sklearn.linear_model.LogisticRegression"}
MORE = {"svm": {}, "logreg": {"max_iter": 1000}}
# kind, layer, C, repeats, the least ratio
FITS = (
    ("svm", "block5_pool", 1e-3, 3, 7.0),
    ("svm", "block4_pool", 1e-4, 1, 10.0),
    ("logreg", "block5_pool", 1e-2, 5, 0.9),
)
ALLOWED = 1e-4
PATH_ROWS, PATH_VALUES = 5000, [float(value) for value in np.logspace(-5, 0, 20)]
SAME_SCORES = 0.02  # mean held-out accuracies at one C may differ so much


def main(settings: Settings) -> Iterator[Figures]:
    """Time the fits and the choice of C, and measure memory."""
    for part in (one_fit, choosing, memory):
        with tempfile.TemporaryDirectory() as folder:
            yield from part(settings, Path(folder))


def one_fit(settings: Settings, folder: Path) -> Iterator[Figures]:
    """Time one fit of each kind; ours is allowed an objective 1e-4 above scikit-learn's."""
    for kind, layer, c, repeats, required in FITS:
        if not settings.wants(f"{kind} fit, {layer}"):
            continue
        samples = read_samples(settings, layer, 50000)
        path, task = samples.save(folder / "samples"), f"{kind} fit, {layer}, {_shape(samples)}, C = {c:g}"
        results = take_turns(pair(kind, path, c), repeats, excess(objectives(kind, samples, c)), warm_up=repeats > 3)
        what = f"{kind}, one fit, {_shape(samples)}: over {THEIRS[kind].split('.')[-1]}"
        target = Target(section=SECTION, what=what, required=required, measured=ratio(results, kind))
        yield rows_of(SECTION, task, results, OURS[kind]), [target]


def pair(kind: str, samples: str, c: float) -> list[Contender]:
    """Return scikit-learn's classifier, the reference, and ours."""
    build = "benchmarks.estimators:linear"
    theirs = {"samples": samples, "estimator": THEIRS[kind], "settings": {"C": c, **MORE[kind]}}
    ours = {"samples": samples, "estimator": OURS[kind], "settings": {"C": c}}
    return [
        Contender(THEIRS[kind], build, theirs, allowed=ALLOWED),
        Contender(OURS[kind], build, ours, allowed=ALLOWED),
    ]


def objectives(kind: str, samples: Samples, c: float) -> Callable[[Output], float]:
    """Return the function that gives the objective, in float64, of coefficients (K, D) and intercepts (K,)."""

    def objective(output: Output) -> float:
        coefficients, intercepts = (np.float64(output[name]) for name in ("coefficients", "intercepts"))
        loss = 0.0
        for start in range(0, len(samples.labels), 5000):
            scores = np.float64(samples.features[start : start + 5000]) @ coefficients.T + intercepts
            labels = samples.labels[start : start + 5000]
            loss += float(LOSSES[kind](scores, labels).sum())
        penalty = np.sum(coefficients**2) + (np.sum(intercepts**2) if kind == "svm" else 0.0)
        return float(0.5 * penalty + c * loss)

    return objective


def squared_hinge(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the loss of each score (N, K), one class against the rest, of labels that are columns."""
    targets = np.where(labels[:, None] == np.arange(scores.shape[1]), 1.0, -1.0)
    return np.maximum(0, 1 - targets * scores) ** 2


def cross_entropy(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return minus the logarithm of each true class's softmax (N,)."""
    highest = scores.max(axis=1, keepdims=True)
    total = np.log(np.exp(scores - highest).sum(axis=1)) + highest[:, 0]
    return total - scores[np.arange(len(labels)), labels]


LOSSES = {"svm": squared_hinge, "logreg": cross_entropy}


def excess(objective: Callable[[Output], float]) -> Callable[[Output, Output], float]:
    """Return the check: how far an output's objective is above the reference's, relative; below zero where lower."""
    return lambda output, reference: objective(output) / objective(reference) - 1


def choosing(settings: Settings, folder: Path) -> Iterator[Figures]:
    """Time choosing C among 20 values by 5 folds; both must choose the same."""
    samples = read_samples(settings, "block5_pool", 500 if settings.quick else PATH_ROWS)
    path = samples.save(folder / "samples")
    for kind in OURS:
        if not settings.wants(f"{kind} path"):
            continue
        given = {"samples": path, "values": PATH_VALUES}
        search = {"estimator": THEIRS[kind], "settings": MORE[kind], "jobs": 2}
        names = f"GridSearchCV over {THEIRS[kind].split('.')[-1]}", f"our path, {OURS[kind].split('.')[-1]}"
        contenders = [
            Contender(names[0], "benchmarks.estimators:grid_search", given | search, allowed=SAME_SCORES),
            Contender(names[1], "benchmarks.estimators:path", given | {"estimator": OURS[kind]}, allowed=SAME_SCORES),
        ]
        results = take_turns(contenders, 1, other_choice, warm_up=False)
        found = rows_of(SECTION, f"{kind} path, {_shape(samples)}, 20 values of C, 5 folds", results, names[1])
        chosen = {name: f"C = {result.output['chosen']:.3g}" for name, result in results.items() if result.output}
        rows = [row.model_copy(update={"note": chosen.get(row.contender, "")}) for row in found]
        failed = any(result.failed for result in results.values())
        measured = None if failed else results[names[0]].median / results[names[1]].median
        what = f"{kind}, choosing C: over {names[0]}"
        yield rows, [Target(section=SECTION, what=what, required=5, measured=measured)]


def other_choice(output: Output, reference: Output) -> float:
    """Return the largest difference of the mean held-out accuracies tried; infinity where another C was chosen."""
    if output["chosen"] != reference["chosen"]:
        return float("inf")
    tried = output["scores"] >= 0
    return float(np.max(np.abs(output["scores"] - reference["scores"])[tried]))


def memory(settings: Settings, folder: Path) -> Iterator[Figures]:
    """Measure the peak memory of fits of ten iterations: in memory, and out of core of half the rows and of all."""
    if not settings.wants("memory"):
        return
    samples, file = read_samples(settings, "block4_pool", 50000), str(feature_file(settings))
    path, number = samples.save(folder / "samples"), len(samples.labels)
    for kind, c in (("svm", 1e-4), ("logreg", 1e-4)):
        given, rows, used = {"estimator": OURS[kind], "settings": {"C": c, "max_iter": 10}}, [], []
        for rows_used in (None, number // 2, number):
            build = "benchmarks.estimators:memory" + ("_out_of_core" if rows_used else "")
            more = {"file": file, "layer": "block4_pool", "num_rows": rows_used} if rows_used else {"samples": path}
            name = f"out of core, {rows_used:,} rows" if rows_used else f"in memory, {number:,} rows"
            result = take_turns([Contender(name, build, given | more)], 1, lambda *_: 0.0, warm_up=False)[name]
            used.append(result.output)
            rows.append(memory_row(f"{kind}, memory of a fit, {_shape(samples)}", name, result))
        yield rows, memory_targets(kind, used)


def memory_row(task: str, name: str, result: Result) -> Row:
    """Return the row of one fit's peak above what was there before."""
    given = {"section": SECTION, "task": task, "contender": name, "unit": "MB"}
    if result.failed:
        return Row(**given, failed=result.failed)
    size = float(result.output["bytes"])
    note = f"{size / float(result.output['features']):.2f} times the features, fit {result.median:.1f} s"
    return Row(**given, value=size / 1e6, repeats=1, note=note)


def memory_targets(kind: str, outputs: list[Output]) -> list[Target]:
    """Return the multiple of the features in memory, and what doubling the rows adds out of core, in features."""
    whole, half, all_rows = ({name: float(value) for name, value in output.items()} for output in outputs)
    multiple = whole["bytes"] / whole["features"] if whole else None
    more = (
        (all_rows["bytes"] - half["bytes"]) / (all_rows["features"] - half["features"]) if half and all_rows else None
    )
    given = {"section": SECTION, "sense": "at most"}
    return [
        Target(**given, what=f"{kind}: peak memory over the features, in memory", required=1.2, measured=multiple),
        Target(**given, what=f"{kind}: bytes more for a byte of features, out of core", required=0.05, measured=more),
    ]


def ratio(results: dict[str, Result], kind: str) -> float | None:
    """Return how many times as fast ours is, None where either failed."""
    own, other = results[OURS[kind]], results[THEIRS[kind]]
    return None if own.failed or other.failed else other.median / own.median


def _shape(samples: Samples) -> str:
    return "{:,} x {:,}".format(*samples.features.shape)
