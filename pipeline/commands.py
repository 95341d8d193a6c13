"""The command lines that the product names: as they are recorded, and as the caller can type them.

A recorded command is `thaw STAGE --option value`. A message names a stage as make takes it (`make svm RUN=runs/a`) and
an option as the command takes it (`--skip-bad`); `as_typed` turns both into what the caller types.
"""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from thaw.models.strategies import STRATEGIES
from thaw.pipeline import config
from thaw.pipeline.config import Shared

CALLED_BY = "THAW_CALLED_BY"  # the environment variable by which the Makefile says that it calls
TARGETS = (
    *("fit", "advise", "features", *STRATEGIES, "head", "finetune", "scratch", "random", "ensemble"),
    *("report", "predict", "serve"),
)
VARIABLE_OF = {  # in the Makefile
    **{"--run": "RUN", "--dataset": "DATASET", "--strategy": "STRATEGY"},
    "--minutes": "MINUTES",
}
OPTION_OF = {variable: option for option, variable in VARIABLE_OF.items()}

_VALUE = r"""(?:'[^']*'|"[^"]*"|[^\s'",;:()]|[,:](?=\S))+"""
_MAKE = rf"\bmake (?P<target>{'|'.join(TARGETS)})\b(?P<variables>(?: [A-Z]+={_VALUE})*)"
_THAW = rf"(?<![\w./-])thaw (?P<stage>[a-z]+)\b(?P<words>(?: {_VALUE}(?= --))?(?: --[\w-]+(?: (?!--){_VALUE})?)*)"
_OPTION = rf"(?<![\w-])(?P<option>--[a-z][a-z-]*)(?: (?P<value>{_VALUE}))?"
_NAMED = re.compile(f"{_MAKE}|{_THAW}|{_OPTION}")


def command(settings: Shared, stage: str, options: Mapping[str, object]) -> str:
    """Return the command of a stage in a run that has been begun, as it is recorded."""
    words = [word for name, value in options.items() for word in _option(name, value)]
    return shlex.join(["thaw", stage, "--run", str(settings.run_folder), *words])


def running_command() -> str:
    """Return the command line that this process runs, as it is recorded."""
    return shlex.join(["thaw", *sys.argv[1:]])


def _option(name: str, value: object) -> list[str]:
    option = f"--{name.replace('_', '-')}"
    return [option] if value is True else [option, str(value)]


def program() -> str:
    """Return the command `thaw` as it can be typed here: bare if it is on the PATH, else with its folder."""
    path = Path(sys.executable).with_name("thaw")
    on_path = shutil.which("thaw")
    if on_path and Path(on_path).parent == path.parent:
        return "thaw"
    if not path.exists():
        return shlex.join([sys.executable, "-m", "thaw"])
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def as_typed(text: str, arguments: Sequence[str] = ()) -> str:
    """Return a message with its commands and options as the caller can type them.

    Args:
        text: the message, or one recorded command.
        arguments: the words that the caller typed; what a message repeats of them stays as it is.
    """
    if os.environ.get(CALLED_BY) == "make":
        typed = f"{' '.join(arguments)} ".replace("=", " ")
        return _NAMED.sub(lambda found: _for_make(found, typed), text)
    return _NAMED.sub(_for_a_shell, text)


def _for_a_shell(found: re.Match[str]) -> str:
    if found["option"]:
        return found[0]
    if found["stage"]:
        return found[0].replace("thaw", program(), 1)
    words = []
    for variable, value in (word.split("=", 1) for word in shlex.split(found["variables"])):
        words += [OPTION_OF[variable], value] if variable in OPTION_OF else shlex.split(value)  # ARGS, IMAGES
    return f"{program()} {shlex.join([found['target'], *words])}"


def _for_make(found: re.Match[str], typed: str) -> str:
    if found["option"]:
        return _option_for_make(found, typed)
    if found["stage"] in TARGETS:
        return _target(found["stage"], shlex.split(found["words"]))
    return found[0] if found["target"] else _for_a_shell(found)


def _target(stage: str, words: Sequence[str]) -> str:
    """Return the call of make that runs a stage with the words of its command line."""
    variables, others = [], []
    remaining = iter(words)
    for word in remaining:
        if word in VARIABLE_OF:
            variables.append(f"{VARIABLE_OF[word]}={shlex.quote(next(remaining))}")
        else:
            others.append(word)
    return " ".join(["make", stage, *variables, *([_args(shlex.join(others))] if others else [])])


def _option_for_make(found: re.Match[str], typed: str) -> str:
    """Return an option as make takes it; as it is if it was typed, or is another program's."""
    option, value = found["option"], found["value"]
    fields = _fields()
    if option not in fields:
        return found[0]
    if value and (re.search("[^a-z]|^(auto|none|avg)$", value) or f"'{value}'" in str(fields[option])):
        words = f"{option} {value}"
        named = f"{VARIABLE_OF[option]}={value}" if option in VARIABLE_OF else _args(words)
    else:
        words, named = option, _args(option)
    return found[0] if f"{words} " in typed else found[0].replace(words, named)


def _args(words: str) -> str:
    return f"ARGS={shlex.quote(words)}" if re.search(r'["$`\\]', words) else f'ARGS="{words}"'


@cache
def _fields() -> dict[str, object]:
    """Return option -> the type of its value, for every option of the targets."""
    stages = (
        *(config.SVM, config.Finetune, config.Advise, config.FitSettings, config.Ensemble),
        *(config.ReportSettings, config.Predict, config.Serve),
    )
    fields = {field.alias or name: field.annotation for stage in stages for name, field in stage.model_fields.items()}
    return {"--help": None, **{f"--{name.replace('_', '-')}": kind for name, kind in fields.items()}}
