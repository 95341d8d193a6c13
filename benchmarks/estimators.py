"""Classifiers as contenders: each function reads the samples at a path and returns the fit that is timed."""

import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

Fit = Callable[[], Callable[[], dict[str, np.ndarray]]]


def linear(samples: str, estimator: str, settings: dict[str, Any]) -> Fit:
    """Fit a linear classifier, `module.Class`, once; its output is its coefficients."""
    features, labels = np.load(f"{samples}.npy"), _rest(samples)["labels"]

    def run() -> Callable[[], dict[str, np.ndarray]]:
        model = make(estimator, settings).fit(features, labels)
        return lambda: {"coefficients": model.coef_, "intercepts": np.asarray(model.intercept_)}

    return run


def kernel(samples: str, estimator: str, settings: dict[str, Any], components: int = 0) -> Fit:
    """Fit a kernel machine, or the linear `estimator` on a Nystroem map of so many components; it labels test images.

    The kernel's width is scikit-learn's own choice for standardised features, one over their number.
    """
    from sklearn.kernel_approximation import Nystroem
    from sklearn.pipeline import make_pipeline

    features, rest = np.load(f"{samples}.npy"), _rest(samples)
    gamma = 1 / features.shape[1]

    def run() -> Callable[[], dict[str, np.ndarray]]:
        model = make(estimator, settings if components else settings | {"gamma": gamma})
        if components:
            model = make_pipeline(Nystroem(gamma=gamma, n_components=components, random_state=0), model)
        model.fit(features, rest["labels"])
        return lambda: _labelled(model, rest)

    return run


def _labelled(model: Any, rest: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    began = time.perf_counter()
    predicted = model.predict(rest["test_features"])
    seconds = time.perf_counter() - began
    accuracy = np.mean(predicted == rest["test_labels"])
    return {"predicted": predicted, "accuracy": np.asarray(accuracy), "predict_seconds": np.asarray(seconds)}


def grid_search(samples: str, estimator: str, settings: dict[str, Any], values: list[float], jobs: int) -> Fit:
    """Choose C by scikit-learn's grid search over standardisation and the classifier, in five folds, and refit."""
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features, labels = np.load(f"{samples}.npy"), _rest(samples)["labels"]
    steps = make_pipeline(StandardScaler(), make(estimator, settings))
    name = f"{steps.steps[-1][0]}__C"

    def run() -> Callable[[], dict[str, np.ndarray]]:
        search = GridSearchCV(steps, {name: values}, cv=_folds(labels), n_jobs=jobs).fit(features, labels)
        scores = search.cv_results_["mean_test_score"]
        return lambda: {"scores": scores, "chosen": np.asarray(search.best_params_[name])}

    return run


def path(samples: str, estimator: str, values: list[float]) -> Fit:
    """Choose C as `svm` and `logreg` do, the folds solved together, and fit; values past the peak are left, at -1."""
    from thaw.models.selection.path import LinearPath
    from thaw.models.selection.search import FitOptions, try_candidate
    from thaw.models.solver.blocks import ArrayBlocks, BlockPool
    from thaw.models.strategies import STRATEGIES

    features, labels = np.load(f"{samples}.npy"), _rest(samples)["labels"]
    strategy = next(found for found in STRATEGIES.values() if found.estimator == estimator).among(values)
    options = FitOptions(seed=0, class_weight=None, jobs=-1)

    def run() -> Callable[[], dict[str, np.ndarray]]:
        blocks, folds = ArrayBlocks(features), _folds(labels)
        scores = np.full(len(values), -1.0)
        tried = try_candidate(strategy, blocks, labels, folds, options)
        scores[: len(tried)] = [held_out.accuracy for held_out in tried]
        chosen = values[int(scores.argmax())]
        with BlockPool(blocks) as pool:
            LinearPath(_class(estimator), pool, labels, folds, None).fit(chosen, held_out=False)
        return lambda: {"scores": scores, "chosen": np.asarray(chosen)}

    return run


def memory(samples: str, estimator: str, settings: dict[str, Any]) -> Fit:
    """Fit features in memory; the output is the peak resident memory above what there was before they were read."""
    labels = _rest(samples)["labels"]
    make(estimator, settings).fit(np.eye(4, 2, dtype=np.float32), [0, 1, 0, 1])  # what a first fit loads

    def run() -> Callable[[], dict[str, np.ndarray]]:
        before = reset_peak()
        features = np.load(f"{samples}.npy")
        make(estimator, settings).fit(features, labels)
        return lambda: {"bytes": np.asarray(peak() - before), "features": np.asarray(features.nbytes)}

    return run


def memory_out_of_core(file: str, layer: str, num_rows: int, estimator: str, settings: dict[str, Any]) -> Fit:
    """Fit the first `num_rows` training rows of a features.h5 without reading them whole; the output is as above."""
    from thaw.features.store import FeatureFile, FeatureRows

    make(estimator, settings).fit(np.eye(4, 2, dtype=np.float32), [0, 1, 0, 1])

    def run() -> Callable[[], dict[str, np.ndarray]]:
        with FeatureFile(Path(file)) as features:
            mask = features.split != 2
            mask[np.flatnonzero(mask)[num_rows:]] = False
            before, rows = reset_peak(), FeatureRows(features, [layer], mask)
            make(estimator, settings).fit(rows, features.labels[mask])
            used = peak() - before
        return lambda: {"bytes": np.asarray(used), "features": np.asarray(4 * int(np.prod(rows.shape)))}

    return run


def reset_peak() -> int:
    """Let Linux count this process' peak anew and return its resident bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak() -> int:
    """Return the highest resident bytes since then."""
    return _status("VmHWM")


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def make(estimator: str, settings: dict[str, Any]) -> Any:
    """Return the unfitted estimator `module.Class`."""
    return _class(estimator)(**settings)


def _class(estimator: str) -> Any:
    module, _, name = estimator.rpartition(".")
    return getattr(import_module(module), name)


def _rest(samples: str) -> dict[str, np.ndarray]:
    with np.load(f"{samples}.npz") as arrays:
        return dict(arrays)


def _folds(labels: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import StratifiedKFold

    return list(StratifiedKFold(5, shuffle=True, random_state=0).split(labels, labels))
