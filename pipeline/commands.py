"""The command lines that the product recommends: complete, as a shell takes them."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thaw.pipeline.config import RUN_FIELDS, Shared
from thaw.pipeline.run.run_json import read_run_settings


def command(settings: Shared, stage: str, options: Mapping[str, object]) -> str:
    """Return the command of a stage in the run of `settings`.

    A run that is there brings its own settings; for another one the data set, and all that is not a default, is said.
    """
    begun = read_run_settings(settings.run_folder) is not None
    said = {} if begun else _differing(settings)
    words = [word for name, value in {**said, **options}.items() for word in _option(name, value)]
    return shlex.join(["python", "-m", "pipeline", stage, "--run", str(settings.run_folder), *words])


def _option(name: str, value: object) -> list[str]:
    option = f"--{name.replace('_', '-')}"
    return [option] if value is True else [option, str(value)]


def _differing(settings: Shared) -> dict[str, Any]:
    """Return the settings that differ from the defaults, some of which follow the network."""
    fields = {name: getattr(settings, name) for name in RUN_FIELDS}
    defaults = {**Shared(backbone=settings.backbone).model_dump(), "backbone": Shared().backbone}
    differing = {name: value for name, value in fields.items() if value != defaults[name]}
    return {"dataset": settings.dataset, **differing}


def beside(settings: Shared, **changed: Any) -> Shared:
    """Return the settings of a run beside this one that differs in `changed`, its folder named by what differs."""
    marks = [str(value).replace(",", "+") for name, value in changed.items() if getattr(settings, name) != value]
    run = settings.run_folder
    return settings.model_copy(update={**changed, "run": Path("-".join([str(run), *marks]))})
