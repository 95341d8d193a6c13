"""`run.json`: the data, seed and feature sets of a run; writing it, and reading it back checked."""

import json
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from thaw.features.errors import InputError
from thaw.features.files.atomic import write_whole
from thaw.features.foreign.extractors import get_extractor
from thaw.pipeline.config import (
    DATA_FIELDS,
    FORMER,
    LOOSE_RUN_FIELDS,
    LOOSE_SET_FIELDS,
    RUN_FIELDS,
    SET_FIELDS,
    Common,
    Shared,
)

OF_DATA = ("dataset", "data", "target", *DATA_FIELDS)
OF_RUN, OF_SET = (*RUN_FIELDS, *LOOSE_RUN_FIELDS), (*SET_FIELDS, *LOOSE_SET_FIELDS)


@dataclass(frozen=True)
class RunRecord:
    """The content of run.json.

    Attributes:
        settings: Of the run: its data, its seed, and which images it takes.
        feature_sets: The settings of each feature set by its name, in the order in which they were begun.
    """

    settings: Mapping[str, Any]
    feature_sets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def shared(self, name: str) -> Shared:
        """Return the settings of one of the feature sets."""
        return Shared.model_validate({**self.settings, **self.feature_sets[name], "features": name})

    @property
    def usable(self) -> list[str]:
        """The names of the sets to choose among: without those of random weights, unless the run has no other."""
        trained = [name for name, given in self.feature_sets.items() if given["weights"] != "random"]
        return trained or list(self.feature_sets)

    @property
    def first(self) -> str:
        """The name of the feature set that a stage takes if none is named."""
        return self.usable[0]


def read_run(folder: Path) -> RunRecord | None:
    """Return the checked content of run.json, None if there is none; raises InputError if it is damaged."""
    path = folder / "run.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if "backbone" in content:  # which a feature set has
            former = f"{path} is of a run without feature sets, which a former version made"
            raise InputError(f"{former}; begin another run with {another_run(folder)}")
        settings = {name: content[name] for name in OF_RUN if name not in DATA_FIELDS}
        settings |= {name: content.get(name, Shared.model_fields[name].default) for name in DATA_FIELDS}
        sets = {name: {**FORMER, **given} for name, given in content["feature_sets"].items()}
        sets = {name: {key: given[key] for key in OF_SET} for name, given in sets.items()}
        record = RunRecord(settings, sets)
        for name in sets:
            record.shared(name)
        Shared.model_validate(settings)
    except FileNotFoundError:
        return None
    except InputError:
        raise
    except OSError as error:
        error.filename = str(path)  # the error of a failed read does not name the file
        raise
    except (ValueError, ValidationError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path} is damaged ({reason}); remove it and type the first command of the run again"
        ) from None
    return record


def existing_run(folder: Path) -> RunRecord:
    """Return the checked content of run.json; raises InputError if it is damaged or there is none."""
    record = read_run(folder)
    if record is None:
        raise InputError(
            f"there is no run in {folder}; fix the name, or begin it: make features DATASET=... RUN={folder}"
        )
    return record


def features_path(folder: Path, name: str) -> Path:
    """Return the path of a feature set's file, whether it is there or not."""
    return folder / "features" / f"{name}.h5"


def features_command(folder: Path, name: str) -> str:
    """Return the command that makes a feature set of a run."""
    return f"make features RUN={shlex.quote(str(folder))} ARGS={shlex.quote(f'--features {name}')}"


def check_agrees(settings: Common, stored: RunRecord | None, names: Collection[str]) -> None:
    """Raise InputError if a setting among `names` differs from the run's, or from those of the set it names."""
    if stored is None:
        return
    received, folder = settings.model_dump(mode="json"), settings.run_folder
    if differing := _differences(received, stored.settings, names, RUN_FIELDS):
        raise InputError(
            f"{folder} was made with other settings: {differing}. Leave the option out to continue with the run's, or "
            f"start another run: {another_run(folder, {name: received[name] for name in names})}"
        )
    own = stored.feature_sets.get(settings.feature_set)
    if own:  # whose network says what `auto` means
        received["pooling"] = get_extractor(own["backbone"], own["weights"]).pooling(received["pooling"])
    if own and (differing := _differences(received, own, names, SET_FIELDS)):
        raise InputError(
            f"--features {settings.feature_set} of {folder} was made with other settings: {differing}. Leave the "
            "option out to take what is there, or name a new feature set by --features"
        )


def _differences(
    received: Mapping[str, Any], stored: Mapping[str, Any], names: Collection[str], fields: tuple[str, ...]
) -> str:
    return "; ".join(
        f"--{name.replace('_', '-')} was {_shown(stored[name])} and is now {_shown(received[name])}"
        for name in sorted(fields)
        if name in names and received[name] != stored[name]
    )


def _shown(value: object) -> str:
    return "not given" if value is None else str(value)


def another_run(folder: Path, given: Mapping[str, Any] | None = None) -> str:
    """Return the options that start a run beside `folder`, quoted for a shell: its name, and the data as it is read.

    Args:
        folder: the run.
        given: settings that are wanted in place of those in run.json.
    """
    content = {**_content(folder / "run.json"), **(given or {})}
    options = [f"--run {shlex.quote(f'{folder}-2')}"]
    for name in OF_DATA:
        value = content.get(name)
        if value and (name == "dataset" or value != Shared.model_fields[name].default):
            option = f"--{name.replace('_', '-')}"
            options.append(option if value is True else f"{option} {shlex.quote(str(value))}")
    return " ".join(options)


def _content(path: Path) -> dict[str, Any]:
    """Return what can be read of a JSON object, nothing of a damaged one: `read_run` raises the error."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def check_begun(settings: Common) -> None:
    """Raise InputError if a run is named that does not exist and no dataset to begin it with: most likely a typo."""
    named = settings.model_fields_set
    if "run" in named and "dataset" not in named and read_run(settings.run_folder) is None:
        run = shlex.quote(str(settings.run_folder))
        raise InputError(
            f"there is no run in {settings.run_folder}; fix the name, or begin it: make features DATASET=... RUN={run}"
        )


def shared_settings(settings: Common) -> Shared:
    """Return the settings of the run and of the feature set alone, without what a stage adds to them."""
    stored = read_run(settings.run_folder)
    known = stored.feature_sets.get(settings.feature_set, {}) if stored else {}
    own = settings.model_dump(include=set(Shared.model_fields))
    return Shared.model_validate({**{name: known[name] for name in LOOSE_SET_FIELDS if known}, **own})


def write_run(settings: Shared, with_set: bool = True) -> None:
    """Write run.json, `with_set` with the feature set of the settings added; call it with its lock held."""
    stored, values = read_run(settings.run_folder), settings.model_dump(mode="json")
    added = {settings.feature_set: {name: values[name] for name in OF_SET}} if with_set else {}
    sets = {**(stored.feature_sets if stored else {}), **added}
    record = RunRecord({name: values[name] for name in OF_RUN}, sets)
    if record != stored:
        write_record(settings.run_folder, record)


def write_record(folder: Path, record: RunRecord) -> None:
    """Write run.json; call it with the lock of run.json held."""
    with write_whole(folder / "run.json") as file:
        file.write(json.dumps({**record.settings, "feature_sets": record.feature_sets}, indent=2) + "\n")
