"""Cross-validation of scikit-learn's classifiers on a Dask cluster, a fold a task, through joblib's Dask backend.

Our own linear classifiers need none of it: all their folds are solved in the same passes over the rows, which
`thaw.models.distributed.pool` spreads over the workers.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from joblib import Parallel, delayed, parallel_config
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection._validation import _fit_and_predict

from thaw.models.distributed.pool import ClusterBlocks
from thaw.models.distributed.worker import Source


def of_folds(blocks: ClusterBlocks, work: Callable[..., Any], given: Sequence[tuple]) -> list[Any]:
    """Return `work(features, *arguments)` of each of the `given` arguments, in order, each on a worker.

    The worker reads the features (N, D) from the file. What it is given travels inside the task, as one tuple: joblib
    would put arrays on one worker, and what is lost with that worker could not be sent again.
    """
    source, places = Source.of(blocks.blocks)
    with parallel_config("dask", client=blocks.client):
        return Parallel()(delayed(_read_first)((work, source, places, arguments)) for arguments in given)


def _read_first(task: tuple[Callable[..., Any], Source, np.ndarray, tuple]) -> Any:
    work, source, places, arguments = task
    with parallel_config("sequential"):  # what is inside a fold stays on its worker
        return work(source.blocks(places).read(slice(None)), *arguments)


def held_out_scores(
    blocks: ClusterBlocks, model: BaseEstimator, labels: np.ndarray, folds: Sequence[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    """Return each row's scores (N, K) or (N,) from the fold that left it out, as `cross_val_predict` has them."""
    codes = np.unique(labels, return_inverse=True)[1]
    parts = of_folds(blocks, _scores, [(model, codes, fold) for fold in folds])
    scores = np.concatenate(parts)
    result = np.empty_like(scores)
    result[np.concatenate([held_out for _, held_out in folds])] = scores
    return result


def _scores(features: np.ndarray, model: BaseEstimator, codes: np.ndarray, fold: Any) -> np.ndarray:
    return _fit_and_predict(clone(model), features, codes, *fold, {}, "decision_function")
