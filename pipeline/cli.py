"""The command line: one table of the stages, and one clear line for each error."""

import errno
import logging
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, ValidationError, create_model
from pydantic_settings import BaseSettings, CliApp, CliPositionalArg, CliSubCommand, SettingsConfigDict, SettingsError

from thaw.features.engines.backend import check_backend, pin_threads
from thaw.features.errors import InputError, is_out_of_memory
from thaw.models.strategies import STRATEGIES
from thaw.pipeline import config
from thaw.pipeline.commands import as_typed, program
from thaw.pipeline.run.data.images_csv import warn_of_changes
from thaw.pipeline.run.feature_sets import with_feature_set
from thaw.pipeline.run.run_json import check_begun, read_run

log = logging.getLogger("thaw")

DONE, FAILED, WRONG_USAGE = 0, 1, 2
MAX_LIBRARY_ERROR_LENGTH = 160  # characters
POSITIONAL: Any = CliPositionalArg[str].__metadata__[0]  # type: ignore[attr-defined]


class Stage(NamedTuple):
    """A command: its settings, a line about it, and its function as `module:name` in thaw.pipeline.

    The function returns the path that is printed, or the number of failures, or None.
    """

    settings: type[config.Options]
    summary: str
    function: str


LINEAR, NETWORK = "training.train_linear:main", "training.train_network:main"
STAGES = {  # in the order of use
    "weights": Stage(config.WeightsSettings, "Verify the weights of a network.", "backbones.weights:main"),
    "backbones": Stage(config.Backbones, "List the networks, their layers and costs.", "backbones.backbones:main"),
    "fit": Stage(config.FitSettings, "From a folder to the best classifier, in so many minutes.", "fit.fit:main"),
    "advise": Stage(config.Advise, "Measure what suits these images, and recommend it.", "advice.advise:main"),
    "features": Stage(config.Features, "Run the frozen network and write a feature set.", "extraction.extract:main"),
    "svm": Stage(config.SVM, f"Train a {STRATEGIES['svm'].summary}.", LINEAR),
    **{
        name: Stage(config.Linear, f"Train a {strategy.summary}.", LINEAR)
        for name, strategy in STRATEGIES.items()
        if name != "svm"
    },
    "random": Stage(config.Linear, "Train the baseline: logistic regression on a seeded random network.", LINEAR),
    "head": Stage(config.Neural, "Train the article's dense head on the last layer of the frozen network.", NETWORK),
    "finetune": Stage(config.Finetune, "Train the head and the network from one layer on.", NETWORK),
    "scratch": Stage(config.Neural, "Train the whole network from seeded random weights.", NETWORK),
    "ensemble": Stage(config.Ensemble, "Average the best linear classifiers of a run.", "training.train_ensemble:main"),
    "report": Stage(config.ReportSettings, "Compare all results of a run, and write its report.", "report.report:main"),
    "predict": Stage(config.Predict, "Label new images: a table, CSV or JSON lines.", "inference.predict:main"),
    "serve": Stage(config.Serve, "Serve a local page and a JSON API that label images.", "serving.serve:main"),
    "export": Stage(config.Export, "Write a model as one file, from pixels to probabilities.", "export.export:main"),
    "verify": Stage(
        config.Verify, "Check that all files of a run are whole and belong together.", "verify.verify:main"
    ),
}


class _App(BaseSettings):
    """Thaw: the best image classifier that a pretrained network can give on your images, and what each way costs."""

    model_config = SettingsConfigDict(
        cli_prog_name="thaw",
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_exit_on_error=False,
    )

    @classmethod
    def settings_customise_sources(cls, *_: Any, **sources: Any) -> tuple[Any, ...]:
        """Take settings from the command line only, never from environment variables."""
        return (sources["init_settings"],) if "init_settings" in sources else ()


def _subcommand(name: str, stage: Stage) -> tuple[Any, Any]:
    settings = create_model(name.capitalize(), __base__=stage.settings, __doc__=stage.summary)
    subcommand: Any = CliSubCommand
    return subcommand[settings], Field(description=stage.summary)


_SUBCOMMANDS: dict[str, Any] = {name: _subcommand(name, stage) for name, stage in STAGES.items()}
App = create_model("App", __base__=_App, __doc__=_App.__doc__, **_SUBCOMMANDS)


def _parse(arguments: Sequence[str]) -> tuple[str, Any]:
    """Return the name of the stage and its settings; the errors are those of pydantic and argparse."""
    if check_backend() != "tensorflow":
        pin_threads()  # before Keras is imported, and the backend with it
    app = CliApp.run(App, list(arguments))
    name = next(name for name in STAGES if getattr(app, name) is not None)
    return name, getattr(app, name)


def _run_stage(name: str, settings: Any) -> int:
    """Call the function of a stage, print the path that it returns, and return the exit code."""
    module, function = STAGES[name].function.split(":")
    arguments = _arguments(name, settings)
    result = getattr(import_module(f"thaw.pipeline.{module}"), function)(*arguments)
    if isinstance(result, int) and result:
        return FAILED
    if isinstance(result, Path) and isinstance(settings, config.Common | config.Ensemble):
        print(result)
    return DONE


def _arguments(name: str, settings: Any) -> tuple[Any, ...]:
    """Return the arguments of a stage's function; what the command line left out is taken from the run."""
    if isinstance(settings, config.ReportSettings):
        stored = read_run(settings.run_folder)
        if stored:
            warn_of_changes(config.Shared.model_validate({**stored.settings, "run": settings.run_folder}))
        return settings.run_folder, settings.as_json
    if isinstance(settings, config.Verify):
        return (settings.run,)
    if not isinstance(settings, config.Common):
        return (settings,)
    check_begun(settings)
    searching = isinstance(settings, config.Advise | config.FitSettings)
    complete = with_feature_set(settings, choosing=name in STRATEGIES, searching=searching)
    if name != "features":  # which follows the changes
        warn_of_changes(complete)
    if isinstance(settings, config.StrategySettings):
        return complete, name
    return (complete, frozenset(settings.model_fields_set)) if searching else (complete,)


def _overview() -> str:
    """Return a line for each stage, in the order of use."""
    lines = [f"  {name:10} {stage.summary}" for name, stage in STAGES.items()]
    usage = f"{program()} STAGE [--option value ...]; {program()} STAGE --help lists the options of a stage"
    return "\n".join([usage, "", *lines])


class _AsTyped(logging.Formatter):
    """Names commands and options in a line of the log as the caller can type them."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return as_typed(super().format(record), sys.argv[1:])


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code: 0 done, 1 failed, 2 the command line was wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_AsTyped("%(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    log.setLevel(logging.INFO)
    if not arguments:
        print(_overview())
        return DONE
    try:
        return _run_stage(*_parse(arguments))
    except SystemExit as stop:
        if isinstance(stop.code, int):
            return stop.code
        return _fail(WRONG_USAGE, str(stop.code).partition("\n")[0].removeprefix("Error: "), arguments)
    except ValidationError as error:
        return _fail(WRONG_USAGE, f"{_refused_options(error)}; --help shows the options", arguments)
    except SettingsError as error:
        message = str(error).partition("\n")[0].removeprefix("Error: ").removeprefix("error parsing CLI: ")
        similar = _similar_options(arguments[0], message)
        message = f"{message}; {similar}--help shows the stages, and after a stage its options"
        return _fail(WRONG_USAGE, message, arguments)
    except KeyboardInterrupt:
        message = "interrupted; what was finished is kept, and the same command continues from there"
        return _fail(FAILED, message, arguments)
    except BrokenPipeError:  # whoever read the output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        return _failed(error, arguments)
    return DONE


def _failed(error: Exception, arguments: Sequence[str]) -> int:
    """Print an error that the user can fix, with its traceback by --debug; raise any other error."""
    if not (isinstance(error, (InputError, OSError)) or is_out_of_memory(error)):
        raise error
    if "--debug" in arguments:
        log.exception("the traceback, by --debug:")
    return _fail(FAILED, explain(error), arguments)


def _fail(code: int, message: str, arguments: Sequence[str]) -> int:
    """Print an error as one line, its commands and options as the caller can type them; return the exit code."""
    print(f"error: {as_typed(' '.join(message.split()), arguments)}", file=sys.stderr)
    return code


def _similar_options(stage: str, message: str) -> str:
    """Return a question that names the options similar to those that the message calls unknown, or nothing."""
    fields = STAGES[stage].settings.model_fields if stage in STAGES else {}
    named = {field.alias or name for name, field in fields.items() if POSITIONAL not in field.metadata}
    options = sorted(name.replace("_", "-") for name in named)
    unknown = [word[2:].partition("=")[0] for word in message.split() if word.startswith("--")]
    similar = [f"--{match}" for word in unknown for match in get_close_matches(word, options, n=1)]
    return f"did you mean {' '.join(similar)}? " if similar else ""


def _refused_options(error: ValidationError) -> str:
    """Return the received value of each refused option and what was expected."""
    problems = []
    for item in error.errors():
        if item["type"] == "default_factory_not_called":  # of an option that was left out, because of another one
            continue
        option = str(item["loc"][-1]).replace("_", "-")
        problem = item["msg"].removeprefix("Value error, ")
        if isinstance(item["input"], dict):  # of all options together, and names those that it is about
            problems.append(problem)
            continue
        problems.append(f"--{option} received {item['input']!r}: {problem[:1].lower()}{problem[1:]}")
    return "; ".join(problems)


def explain(error: Exception) -> str:
    """Return one line for an error that a user can fix: what happened, where, and what to type next."""
    if is_out_of_memory(error):
        message = " ".join(str(error).split())[:MAX_LIBRARY_ERROR_LENGTH]
        return f"out of memory ({message}); choose a smaller --batch-size, a smaller layer, or --pooling avg"
    if not isinstance(error, OSError):
        return str(error)
    path = error.filename or "the run directory"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full at {path}; make room and type the command again: finished parts are kept"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to use {path}; change its permissions, or choose another folder by --run"
    return f"{path}: {error.strerror or error}; fix it and type the command again"
