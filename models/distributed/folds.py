"""Cross-validation of scikit-learn's classifiers on a Dask cluster, a fold a task, through joblib's Dask backend.

Our own linear classifiers do not need it. All their folds are solved in the same passes over the rows, and
`thaw.models.distributed.pool` spreads these over the workers.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from joblib import Parallel, delayed, parallel_config
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection._validation import _fit_and_predict

from thaw.models.distributed.pool import ClusterBlocks
from thaw.models.distributed.worker import FileSource


def of_folds(blocks: ClusterBlocks, work: Callable[..., Any], given: Sequence[tuple]) -> list[Any]:
    """Return the results of calls, in order, each by a worker, which reads the features from the file.

    The arguments travel inside the task, as one tuple. Otherwise joblib would put arrays on one worker, and if that
    worker is lost, they could not be sent again.

    Args:
        blocks: the features (N, D).
        work: called as `work(features, *arguments)`.
        given: the arguments of each call.
    """
    source, indices = FileSource.of(blocks.blocks)
    with parallel_config("dask", client=blocks.client):
        return Parallel()(delayed(_read_first)((work, source, indices, arguments)) for arguments in given)


def _read_first(task: tuple[Callable[..., Any], FileSource, np.ndarray, tuple]) -> Any:
    work, source, indices, arguments = task
    with parallel_config("sequential"):  # a fold stays on its worker
        return work(source.blocks(indices).read(slice(None)), *arguments)


def held_out_scores(
    blocks: ClusterBlocks,
    model: BaseEstimator,
    labels: np.ndarray,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    method: str = "decision_function",
) -> np.ndarray:
    """Return each row's scores (N, K) or (N,) from the fold that leaves it out, as `cross_val_predict` does.

    Args:
        blocks: the features (N, D).
        model: an unfitted classifier.
        labels: (N,).
        folds: pairs of fit rows and held-out rows.
        method: what gives the scores: `decision_function` or `predict_proba`.
    """
    codes = np.unique(labels, return_inverse=True)[1]
    parts = of_folds(blocks, _scores, [(model, codes, fold, method) for fold in folds])
    scores = np.concatenate(parts)
    result = np.empty_like(scores)
    result[np.concatenate([held_out for _, held_out in folds])] = scores
    return result


def _scores(features: np.ndarray, model: BaseEstimator, codes: np.ndarray, fold: Any, method: str) -> np.ndarray:
    return _fit_and_predict(clone(model), features, codes, *fold, {}, method)
