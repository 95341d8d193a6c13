"""Which feature set of a run a command means: one that is there, or a new one with a name and an image size."""

import logging
from collections.abc import Mapping
from typing import Any, TypeVar

from thaw.features.errors import InputError
from thaw.features.foreign.extractors import get_extractor, is_foreign
from thaw.pipeline.config import SET_FIELDS, Common, Linear
from thaw.pipeline.run.data.dataset import dataset_of
from thaw.pipeline.run.data.image_size import image_size_of
from thaw.pipeline.run.data.moved import follow_move
from thaw.pipeline.run.data.value_range import white_of_images
from thaw.pipeline.run.run_json import RunRecord, check_agrees, features_path, read_run

log = logging.getLogger("thaw")

Settings = TypeVar("Settings", bound=Common)


def with_feature_set(settings: Settings, choosing: bool = False, searching: bool = False) -> Settings:
    """Return settings that are complete: all that the command line left out is the run's, or the network's default.

    `features` becomes the name of the feature set: the one that is named, else the run's first that has all the
    options of the command line, else a new one. It stays `auto` if the stage is `choosing` and may choose among
    several sets. A stage that is `searching` for an image size has the network's default for a new set.

    A stage that is choosing may take several sets of the run side by side, `--features a+b`; their names stay, and
    the rest is that of the last one.

    Raises InputError if the command line contradicts run.json.
    """
    stored, given = follow_move(settings, read_run(settings.run_folder)), settings.model_fields_set
    check_agrees(settings, stored, given)
    asked = {name: getattr(settings, name) for name in SET_FIELDS if name in given}
    if stored and choosing and (joined := joined_names(stored, settings.features)):
        if asked:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in asked)
            raise InputError(f"--features {settings.features} names sets that the run has; leave {options} out")
        values = {**stored.settings, **stored.feature_sets[joined[-1]], "features": settings.features}
        return _filled(settings, values)
    name = _known(settings, stored, asked) if stored else None
    if stored and name:
        complete = _filled(settings, {**stored.settings, **stored.feature_sets[name], "features": name})
        chooses = choosing and settings.features == "auto" and not asked and len(stored.usable) > 1
        return complete.model_copy(update={"features": "auto"}) if chooses else complete
    return _new_set(settings, stored, searching)


def sets_to_choose_among(settings: Linear) -> list[Linear]:
    """Return the settings of each feature set that a linear strategy chooses among, or that it joins.

    It is one, unless `features` is auto or names several.
    """
    stored = read_run(settings.run_folder)
    if stored and (joined := joined_names(stored, settings.features)):
        return [settings.model_copy(update={**stored.feature_sets[name], "features": name}) for name in joined]
    if stored is None or settings.features != "auto":
        return [settings]
    names = [name for name in stored.usable if features_path(settings.run_folder, name).exists()]
    for name in stored.usable if names else ():
        if name not in names:
            log.info("the feature set %s has no file and is left out (--features %s makes it)", name, name)
    names = names or [stored.first]
    return [settings.model_copy(update={**stored.feature_sets[name], "features": name}) for name in names]


def joined_names(stored: RunRecord, features: str) -> list[str]:
    """Return the sets of a run that `features` joins by `+`; none if it is not the names of two or more of them.

    A set's own name may hold a `+`.
    """
    if features in stored.feature_sets:
        return []
    for name in sorted(stored.feature_sets, key=len, reverse=True):
        rest = features.removeprefix(f"{name}+")
        if rest == features:
            continue
        if rest in stored.feature_sets and rest != name:
            return [name, rest]
        if (others := joined_names(stored, rest)) and name not in others:
            return [name, *others]
    return []


def _known(settings: Common, stored: RunRecord, asked: Mapping[str, Any]) -> str | None:
    """Return the name of the run's set that is meant, None if a new one is; raises InputError for an unknown name."""
    if settings.features in stored.feature_sets:
        return settings.features
    if settings.features != "auto":
        if asked or not stored.feature_sets:
            return None
        raise InputError(
            f"{settings.run_folder} has no feature set {settings.features}; it has {', '.join(stored.feature_sets)}: "
            "name one of them, or describe a new one, for example --backbone efficientnet_lite0"
        )
    received = settings.model_dump(mode="json")
    among = list(stored.feature_sets) if "weights" in asked else stored.usable
    for name in among:
        own = stored.feature_sets[name]
        pooling = get_extractor(own["backbone"], own["weights"]).pooling(received["pooling"])
        if all({**received, "pooling": pooling}[option] == own[option] for option in asked):
            return name
    return None


def _filled(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """Return the settings with `values` for what the command line left out."""
    known, given = type(settings).model_fields, settings.model_fields_set - {"features"}
    own = {name: value for name, value in values.items() if name in known and name not in given}
    received = settings.model_dump(exclude_unset=True, by_alias=True)
    return type(settings).model_validate({**received, **own, "run": settings.run_folder})


def _new_set(settings: Settings, stored: RunRecord | None, searching: bool) -> Settings:
    """Return the settings of a feature set that the run does not have yet, by the options of the command line."""
    given = settings.model_fields_set
    values: dict[str, Any] = dict(stored.settings) if stored else {}
    if stored and stored.feature_sets and "backbone" not in given:
        first = stored.feature_sets[stored.first]
        values |= {name: first[name] for name in ("backbone", *(["weights"] if is_foreign(first["backbone"]) else []))}
    new, dataset = _filled(settings, values), None
    if stored is None and "white" not in given:
        dataset = dataset_of(new)
        new = new.model_copy(update={"white": white_of_images(dataset)})
    if "image_size" not in given and new.resize != "article" and not searching:  # whose resizing is for its 48 pixels
        known = stored.feature_sets.values() if stored else ()
        size = next((own["image_size"] for own in known if own["backbone"] == new.backbone), None)
        if size is None and not is_foreign(new.backbone):  # which has a size of its own
            dataset = dataset or dataset_of(new)
            size = image_size_of(new, dataset)
        new = new.model_copy(update={"image_size": size or new.image_size})
    new = new.model_copy(update={"features": new.feature_set})
    check_agrees(new, stored, SET_FIELDS)
    return new
