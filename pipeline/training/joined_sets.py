"""Linear strategies on several feature sets side by side: which layers of each, and whether they are better."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from thaw.features.errors import InputError
from thaw.features.joined import JoinedFeatures
from thaw.features.pooling import split_layers
from thaw.features.store import FeatureFile
from thaw.models.metrics import paired_standard_error
from thaw.models.selection.search import Trial
from thaw.pipeline.config import Linear
from thaw.pipeline.run.run_json import existing_run
from thaw.pipeline.training.linear_choice import Choice, choose

log = logging.getLogger("thaw")


def choose_joined(single: Choice, settings: Linear, joined: JoinedFeatures) -> Choice:
    """Return the choice on the best layers of each set side by side, after the choice among the sets.

    The transforms are those that were best for one of the sets.

    Args:
        single: what was tried on each set alone.
        settings: of the stage.
        joined: the files of the sets.
    """
    best = {name: _best_record(single.tried, name) for name in joined.files}
    layer = "+".join(f"{name}/{part}" for name, one in best.items() for part in one["layer"].split("+"))
    transforms = {one["transform"] for one in best.values()}
    transform = transforms.pop() if len(transforms) == 1 else "auto"
    log.info("joined: %s", layer)
    given = settings.model_copy(update={"layer": layer, "transform": transform})
    choice = choose([(given, joined)], single.name)
    return replace(choice, tried=[*single.tried, *choice.tried], seconds=single.seconds + choice.seconds)


def or_two_joined(single: Choice, files: Mapping[str, FeatureFile]) -> Choice:
    """Return the choice on the two best sets side by side if that is better than one of them alone, else `single`.

    Better means more accurate by more than the standard error of the paired difference: two networks cost more than
    one.

    Args:
        single: what was tried on each set alone.
        files: of all sets, by their names.
    """
    accuracy = {name: _best_record(single.tried, name)["accuracy"] for name in files}
    best = sorted(accuracy, key=accuracy.__getitem__, reverse=True)[:2]
    names = [name for name in files if name in best]
    last = single.rows.settings.model_copy(update=existing_run(single.rows.settings.run_folder).feature_sets[names[-1]])
    settings = last.model_copy(update={"features": "+".join(names)})
    joined = choose_joined(single, settings, JoinedFeatures({name: files[name] for name in names}))
    if _is_better(joined.best, single.best):
        return joined
    log.info("joined sets are not better by more than the standard error: %s alone", single.rows.settings.feature_set)
    return replace(joined, rows=single.rows, best=single.best)


def _is_better(one: Trial, other: Trial) -> bool:
    """Return whether a trial is more accurate by more than the standard error of the paired difference."""
    if one.held_out is None or other.held_out is None:
        raise RuntimeError("a trial of this search does not say which rows it labels correctly")
    correct, others = one.held_out.correct, other.held_out.correct
    error = paired_standard_error(int((correct & ~others).sum()), int((others & ~correct).sum()), len(correct))
    return one.accuracy - other.accuracy > error


def _best_record(tried: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """Return the record of the highest accuracy on a feature set, of equal ones the first."""
    return max((one for one in tried if one["features"] == name), key=lambda one: one["accuracy"])


def check_joined(settings: Linear, sets: Sequence[Linear]) -> None:
    """Raise InputError if the layers are not some of each joined set, or if the work is to be spread."""
    names = [given.feature_set for given in sets]
    if settings.workers or settings.cluster:
        raise InputError(
            f"--features {settings.features}: joined sets are read here; leave --workers and --cluster out"
        )
    known = {f"{given.feature_set}/{layer}" for given in sets for layer in given.layer_names}
    named = split_layers(settings.layer) if settings.layer != "auto" else sorted(known)
    if not set(named) <= known or {name.partition("/")[0] for name in named} != set(names):
        expected = "+".join(f"{given.feature_set}/{given.layer_names[-1]}" for given in sets)
        raise InputError(
            f"--layer {settings.layer}: expected layers of {' and '.join(names)}, each as set/layer, for example "
            f"--layer {expected}; the sets have {', '.join(sorted(known))}"
        )
