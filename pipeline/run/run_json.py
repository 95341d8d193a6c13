"""The run directory: where its files are, and the settings that all its stages share."""

import json
import shlex
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from thaw.features.errors import InputError
from thaw.features.files.atomic import write_whole
from thaw.pipeline.config import FIXED_FIELDS, RUN_FIELDS, Shared

Settings = TypeVar("Settings", bound=Shared)


def with_run_settings(settings: Settings) -> Settings:
    """Return `settings` with everything that the command line left out taken from the run's run.json.

    Defaults that follow the network are those of the run's. Raises InputError where the command line contradicts
    run.json; without a run.json nothing is changed.
    """
    folder = settings.run_folder
    stored = read_run_settings(folder)
    if stored is None:
        return settings.model_copy(update={"run": folder})
    given = {name for name in settings.model_fields_set if name in RUN_FIELDS} | set(settings.own_fields)
    received = settings.model_dump(mode="json")
    differing = sorted(name for name in given if name in FIXED_FIELDS and received[name] != stored[name])
    if differing:
        raise InputError(_contradiction(folder, differing, received, stored))
    update = {name: stored[name] for name in RUN_FIELDS if name not in given}
    return type(settings).model_validate({**settings.model_dump(exclude_unset=True), **update, "run": folder})


def check_same_run(settings: Shared) -> None:
    """Raise InputError where run.json contradicts settings that were complete before it was there.

    Another process has begun the run then, since this one read its command line.
    """
    stored = read_run_settings(settings.run_folder) or {}
    received = settings.model_dump(mode="json")
    differing = sorted(name for name in FIXED_FIELDS if name in stored and received[name] != stored[name])
    if differing:
        raise InputError(_contradiction(settings.run_folder, differing, received, stored))


def shared_settings(settings: Shared) -> Shared:
    """Return the run's own settings, without what a stage adds to them or means otherwise."""
    stored = read_run_settings(settings.run_folder) or {}
    fields = {name: getattr(settings, name) for name in Shared.model_fields if name not in settings.own_fields}
    return Shared.model_validate({**{name: stored[name] for name in settings.own_fields if name in stored}, **fields})


def check_begun(settings: Shared) -> None:
    """Raise InputError where a run is named that is not there and no data set to begin it with: a typo, most likely."""
    named = settings.model_fields_set
    if "run" in named and "dataset" not in named and read_run_settings(settings.run_folder) is None:
        run = shlex.quote(str(settings.run_folder))
        raise InputError(
            f"there is no run in {settings.run_folder}; mend the name, or begin it: make features DATASET=... RUN={run}"
        )


def _contradiction(folder: Path, names: list[str], received: dict[str, Any], stored: dict[str, Any]) -> str:
    differences = "; ".join(
        f"{_option(name)} was {_shown(stored[name])} and is now {_shown(received[name])}" for name in names
    )
    return (
        f"{folder} was made with other settings: {differences}. Leave the option out to go on with the run's, "
        f"or start another run: {another_run(folder)}"
    )


def another_run(folder: Path) -> str:
    """Return the option that starts a run beside `folder`, as a shell takes it."""
    return f"--run {shlex.quote(f'{folder}-2')}"


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _shown(value: object) -> str:
    return "not given" if value is None else str(value)


def read_run_settings(folder: Path) -> dict[str, Any] | None:
    """Return the checked content of run.json, or None where there is none; raises InputError where it is damaged."""
    path = folder / "run.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}")
        if "engine" in content:  # written before there was a choice of precision
            content.setdefault("engine_precision", "float32")
        Shared.model_validate(content)
        return {name: content[name] for name in RUN_FIELDS}
    except FileNotFoundError:
        return None
    except OSError as error:
        error.filename = str(path)  # a failed read does not say of what
        raise
    except (ValueError, ValidationError, KeyError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path} is damaged ({reason}); remove it and type the first command of the run again"
        ) from None


def write_run_settings(settings: Shared) -> None:
    """Write run.json, the settings that later stages of the run go on with."""
    values = settings.model_dump(mode="json", include=set(RUN_FIELDS))
    content = {name: values[name] for name in RUN_FIELDS}
    with write_whole(settings.run_folder / "run.json") as file:
        file.write(json.dumps(content, indent=2) + "\n")
