"""Ensembles: which classifiers to average, chosen by what each says of images that it was not fitted to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thaw.models.metrics import paired_standard_error

MOST_MEMBERS = 6


@dataclass(frozen=True)
class Gain:
    """What an ensemble gains over its best member on the same images, with the standard error of the difference.

    Attributes:
        accuracy: accuracy of the ensemble minus the highest accuracy of a member.
        accuracy_error: its standard error (Agresti and Min 2005).
        log_loss: lowest log loss of a member minus the log loss of the ensemble, in nats.
        log_loss_error: its standard error, of the mean of the paired differences.
    """

    accuracy: float
    accuracy_error: float
    log_loss: float
    log_loss_error: float

    @property
    def favoured(self) -> bool:
        """Whether accuracy or log loss is better by more than its error, and neither is worse by more than that."""
        better = self.accuracy > self.accuracy_error or self.log_loss > self.log_loss_error
        return better and self.accuracy >= -self.accuracy_error and self.log_loss >= -self.log_loss_error


@dataclass(frozen=True)
class Selection:
    """The members of an ensemble, with equal weights.

    Attributes:
        members: their names, in the order in which they were chosen.
        accuracy: of the ensemble on the images that chose it, a fraction.
        log_loss: of the ensemble, in nats.
        gain: what it gains over its best member.
        tried: a record for each step and candidate that was tried, JSON values.
    """

    members: tuple[str, ...]
    accuracy: float
    log_loss: float
    gain: Gain
    tried: list[dict[str, Any]]


def select_members(
    candidates: Mapping[str, np.ndarray], labels: np.ndarray, most: int = MOST_MEMBERS, least: int = 2
) -> Selection:
    """Choose members by greedy forward selection on out-of-fold predictions.

    The first member is the candidate of the lowest log loss. Then that candidate is added with which the mean has the
    lowest one, and so on; the members are those up to the step of the lowest log loss, of equal ones the first. Two
    candidates that are nearly the same would otherwise end the path. Each candidate is taken once at most. Source:
    Caruana, Niculescu-Mizil, Crew and Ksikes, "Ensemble selection from libraries of models", ICML 2004, without its
    repetitions.

    Args:
        candidates: out-of-fold probabilities (N, K) float64 by the name of each classifier, at least one.
        labels: the true classes (N,).
        most: the number of members at most.
        least: the number of members at least, if there are so many candidates.

    Returns:
        The selection.
    """
    tried: list[dict[str, Any]] = []
    members: list[str] = []
    total, path = np.zeros_like(next(iter(candidates.values()))), []
    while len(members) < min(most, len(candidates)):
        losses = {}
        for name in (name for name in candidates if name not in members):
            mean = (total + candidates[name]) / (len(members) + 1)
            losses[name] = float(log_losses(mean, labels).mean())
            accuracy = float(correct_rows(mean, labels).mean())
            tried.append({"members": [*members, name], "log_loss": losses[name], "accuracy": accuracy})
        best = min(losses, key=losses.__getitem__)
        members.append(best)
        path.append(losses[best])
        total = total + candidates[best]
    first = min(least, len(path)) - 1
    return judge_members(members[: first + 1 + int(np.argmin(path[first:]))], candidates, labels, tried)


def judge_members(
    members: Sequence[str],
    candidates: Mapping[str, np.ndarray],
    labels: np.ndarray,
    tried: list[dict[str, Any]] | None = None,
) -> Selection:
    """Return the selection of given members, with what their mean gains over the best of them.

    Args:
        members: names of candidates.
        candidates: out-of-fold probabilities (N, K) float64 by the name of each classifier.
        labels: the true classes (N,).
        tried: what was tried before, for the record.
    """
    mean = np.mean([candidates[name] for name in members], axis=0)
    correct, losses = correct_rows(mean, labels), log_losses(mean, labels)
    best_correct = max((correct_rows(candidates[name], labels) for name in members), key=np.sum)
    best_losses = min((log_losses(candidates[name], labels) for name in members), key=np.sum)
    only_ensemble, only_member = int((correct & ~best_correct).sum()), int((best_correct & ~correct).sum())
    gains = best_losses - losses
    gain = Gain(
        accuracy=(only_ensemble - only_member) / len(labels),
        accuracy_error=paired_standard_error(only_ensemble, only_member, len(labels)),
        log_loss=float(gains.mean()),
        log_loss_error=float(gains.std(ddof=1) / np.sqrt(len(gains))),
    )
    return Selection(tuple(members), float(correct.mean()), float(losses.mean()), gain, tried or [])


def log_losses(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the log loss of each row (N,), in nats; a probability of 0 counts as float64's epsilon."""
    true = probabilities[np.arange(len(labels)), labels]
    return -np.log(np.maximum(true, np.finfo(np.float64).eps))


def correct_rows(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return whether the most probable class of each row, the first of equals, is the true one, (N,) bool."""
    return probabilities.argmax(axis=1) == labels
