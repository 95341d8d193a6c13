"""`run.json`: the settings of a run, which all its stages share; writing it, and reading it back checked."""

import json
import shlex
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from thaw.features.backbones.registry import BACKBONES
from thaw.features.datasets.dataset import Dataset, load_dataset
from thaw.features.errors import InputError
from thaw.features.files.atomic import write_whole
from thaw.features.foreign.extractors import get_extractor, is_foreign
from thaw.pipeline.config import FIXED_FIELDS, RUN_FIELDS, Common, Shared

Settings = TypeVar("Settings", bound=Common)


def with_run_settings(settings: Settings) -> Settings:
    """Return `settings`, with all that the command line left out taken from the run's run.json.

    Defaults that follow the network follow the run's network. Without a run.json nothing is changed. Raises InputError
    if the command line contradicts run.json.
    """
    folder = settings.run_folder
    stored = read_run_settings(folder)
    if stored is None:
        return settings.model_copy(update={"run": folder})
    given = settings.model_fields_set
    _check_agreement(settings, stored, given)
    update = {name: stored[name] for name in RUN_FIELDS if name in type(settings).model_fields and name not in given}
    received = settings.model_dump(exclude_unset=True, by_alias=True)
    return type(settings).model_validate({**received, **update, "run": folder})


def check_same_run(settings: Shared) -> None:
    """Raise InputError if run.json contradicts settings that were complete before it was written.

    In this case another process began the run after this one had read its command line.
    """
    if stored := read_run_settings(settings.run_folder):
        _check_agreement(settings, stored, set(FIXED_FIELDS))


def shared_settings(settings: Common) -> Shared:
    """Return the settings of the run alone, without what a stage adds to them."""
    stored = read_run_settings(settings.run_folder) or {}
    return Shared.model_validate({**stored, **settings.model_dump(include=set(Shared.model_fields))})


def check_begun(settings: Common) -> None:
    """Raise InputError if a run is named that does not exist and no dataset to begin it with: most likely a typo."""
    named = settings.model_fields_set
    if "run" in named and "dataset" not in named and read_run_settings(settings.run_folder) is None:
        run = shlex.quote(str(settings.run_folder))
        raise InputError(
            f"there is no run in {settings.run_folder}; fix the name, or begin it: make features DATASET=... RUN={run}"
        )


def dataset_of(settings: Common) -> Dataset:
    """Return the dataset that the settings name; no image is decoded yet. Raises InputError as `load_dataset` does."""
    return load_dataset(settings.dataset, settings.data, settings.target, settings.max_pixels)


def _check_agreement(settings: Common, stored: dict[str, Any], names: set[str]) -> None:
    """Raise InputError if a fixed setting among `names` differs from the one in run.json."""
    received = settings.model_dump(mode="json")
    name = str(stored["backbone"])  # which the command line may have left out
    if name in BACKBONES or is_foreign(name):
        received["pooling"] = get_extractor(name, str(stored["weights"])).pooling(received["pooling"])
    differences = [
        f"--{name.replace('_', '-')} was {_shown(stored[name])} and is now {_shown(received[name])}"
        for name in sorted(names.intersection(FIXED_FIELDS))
        if received[name] != stored[name]
    ]
    if differences:
        raise InputError(
            f"{settings.run_folder} was made with other settings: {'; '.join(differences)}. Leave the option out to "
            f"continue with the run's, or start another run: {another_run(settings.run_folder)}"
        )


def another_run(folder: Path) -> str:
    """Return the option that starts a run beside `folder`, quoted for a shell."""
    return f"--run {shlex.quote(f'{folder}-2')}"


def _shown(value: object) -> str:
    return "not given" if value is None else str(value)


def read_run_settings(folder: Path) -> dict[str, Any] | None:
    """Return the checked content of run.json, None if there is none; raises InputError if it is damaged."""
    path = folder / "run.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        Shared.model_validate(content)
        return {name: content[name] for name in RUN_FIELDS}
    except FileNotFoundError:
        return None
    except OSError as error:
        error.filename = str(path)  # the error of a failed read does not name the file
        raise
    except (ValueError, ValidationError, KeyError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path} is damaged ({reason}); remove it and type the first command of the run again"
        ) from None


def write_run_settings(settings: Shared) -> None:
    """Write run.json, the settings that later stages of the run continue with."""
    values = settings.model_dump(mode="json")
    content = {name: values[name] for name in RUN_FIELDS}
    with write_whole(settings.run_folder / "run.json") as file:
        file.write(json.dumps(content, indent=2) + "\n")
