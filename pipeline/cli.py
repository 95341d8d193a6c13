"""The command line: one subcommand a stage, and one clear line for whatever goes wrong."""

import errno
import logging
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, ClassVar

from pydantic import Field, ValidationError, create_model
from pydantic_settings import BaseSettings, CliApp, CliPositionalArg, CliSubCommand, SettingsConfigDict, SettingsError

from thaw.features.engines.backend import check_backend, pin_threads
from thaw.features.errors import InputError, is_out_of_memory
from thaw.models.strategies import STRATEGIES
from thaw.pipeline import config

log = logging.getLogger("thaw")

DONE, FAILED, WRONG_USAGE = 0, 1, 2
MOST_SAID = 160  # characters of an error of a library
POSITIONAL: Any = CliPositionalArg[str].__metadata__[0]  # type: ignore[attr-defined]


class Features(config.Shared):
    """Run the frozen network over the images and write features.h5."""

    def cli_cmd(self) -> None:
        """Run the stage."""
        from thaw.pipeline.extraction import extract
        from thaw.pipeline.run.run_json import with_run_settings

        print(extract.main(with_run_settings(self)))


class _Linear(config.Linear):
    strategy: ClassVar[str]

    def cli_cmd(self) -> None:
        """Run the stage."""
        from thaw.pipeline.run.run_json import check_begun, with_run_settings
        from thaw.pipeline.training import train_linear

        check_begun(self)
        print(train_linear.main(with_run_settings(self), self.strategy))


class Svm(_Linear, config.SVM):
    """The support vector machine has one option more than the other strategies."""


def _linear_stages() -> dict[str, Any]:
    """Return one subcommand for each strategy on frozen features, and for the baseline `random`."""
    summaries = {name: f"Train a {strategy.summary}." for name, strategy in STRATEGIES.items()}
    summaries["random"] = "Train the baseline: logistic regression on the features of a seeded random network."
    return {
        name: type(name.capitalize(), (Svm if name == "svm" else _Linear,), {"strategy": name, "__doc__": summary})
        for name, summary in summaries.items()
    }


class _Network(config.Neural):
    strategy: ClassVar[str]

    def cli_cmd(self) -> None:
        """Run the stage."""
        from thaw.pipeline.run.run_json import check_begun, with_run_settings
        from thaw.pipeline.training import train_network

        check_begun(self)
        print(train_network.main(with_run_settings(self), self.strategy))


class Head(_Network):
    """Train the article's dense head on the frozen network's last layer."""

    strategy = "head"


class Finetune(_Network, config.Finetune):
    """Train the head and the network from one layer on, the last block unless told otherwise."""

    strategy = "finetune"


class Scratch(_Network):
    """Train the whole network from seeded random weights, for the comparison."""

    strategy = "scratch"


class Advise(config.Advise):
    """Measure the data set's size and similarity, frozen configurations and what fine-tuning would buy; recommend."""

    def cli_cmd(self) -> None:
        """Run the stage."""
        from thaw.pipeline.advice import advise
        from thaw.pipeline.run.run_json import check_begun, with_run_settings

        check_begun(self)
        print(advise.main(with_run_settings(self), frozenset(self.model_fields_set)))


class Report(config.Report):
    """Compare all reports of a run: tables on the terminal, report.md and report.html, or JSON."""

    def cli_cmd(self) -> None:
        """Run the stage."""
        from thaw.pipeline.report import report

        report.main(self.run_folder, as_json=self.as_json)


class Predict(config.Predict):
    """Label new images with a trained strategy: a table, CSV or JSON lines, in constant memory."""

    def cli_cmd(self) -> None:
        """Run the stage; images that could not be read make it fail in the end."""
        from thaw.pipeline.inference import predict

        if predict.main(self):
            raise SystemExit(FAILED)


class Verify(config.Verify):
    """Check that everything in a run directory is whole and belongs together."""

    def cli_cmd(self) -> None:
        """Run the stage; it fails where something is not."""
        from thaw.pipeline.verify import verify

        if verify.main(self.run):
            raise SystemExit(FAILED)


class Serve(config.Serve):
    """Serve a local page and a JSON API that label images with a trained strategy, until Ctrl-C."""

    def cli_cmd(self) -> None:
        """Run the stage."""
        from thaw.pipeline.serving import serve

        serve.main(self)


class Export(config.Export):
    """Write a trained strategy as one file: uint8 images of any size in, class probabilities out."""

    def cli_cmd(self) -> None:
        """Run the stage."""
        from thaw.pipeline.export import export

        export.main(self)


class Weights(config.Weights):
    """Say which source of the network's weights is used, and verify it."""

    def cli_cmd(self) -> None:
        """Run the stage."""
        from thaw.features.backbones.registry import get_backbone
        from thaw.features.backbones.weights import load_weights

        weights = load_weights(self.weights, get_backbone(self.backbone), self.seed)
        print(f"source: {weights.source}\nsha256: {weights.sha256}\nlayers: {len(weights.tensors)}, all checked")


class Backbones(config.Backbones):
    """List the networks: their layers, sizes, parameters and operations."""

    def cli_cmd(self) -> None:
        """Run the stage."""
        from thaw.pipeline.backbones import backbones

        backbones.main(self)


class _App(BaseSettings):
    """Thaw: the best image classifier that a pretrained network can give on your images, and what each way costs."""

    model_config = SettingsConfigDict(
        cli_prog_name="python -m pipeline",
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_exit_on_error=False,
    )

    @classmethod
    def settings_customise_sources(cls, *_: Any, **sources: Any) -> tuple[Any, ...]:
        """Take settings from the command line only, never from environment variables."""
        return (sources["init_settings"],) if "init_settings" in sources else ()

    def cli_cmd(self) -> None:
        """Run the chosen stage."""
        CliApp.run_subcommand(self)


STAGES: dict[str, Any] = {
    "features": Features,
    **_linear_stages(),
    "head": Head,
    "finetune": Finetune,
    "scratch": Scratch,
    "advise": Advise,
    "report": Report,
    "predict": Predict,
    "verify": Verify,
    "serve": Serve,
    "export": Export,
    "weights": Weights,
    "backbones": Backbones,
}
_subcommand: Any = CliSubCommand
_SUBCOMMANDS: dict[str, Any] = {
    name: (_subcommand[stage], Field(description=stage.__doc__)) for name, stage in STAGES.items()
}
App = create_model("App", __base__=_App, __doc__=_App.__doc__, **_SUBCOMMANDS)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code: 0 done, 1 failed, 2 the command line was wrong."""
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING)
    log.setLevel(logging.INFO)
    try:
        if check_backend() != "tensorflow":
            pin_threads()  # before Keras is imported, and the backend with it
        CliApp.run(App, list(arguments))
    except SystemExit as stop:
        if isinstance(stop.code, int):
            return stop.code
        return _fail(WRONG_USAGE, str(stop.code).partition("\n")[0].removeprefix("Error: "))
    except ValidationError as error:
        return _fail(WRONG_USAGE, f"{_options(error)}; --help shows the options")
    except SettingsError as error:
        said = str(error).partition("\n")[0].removeprefix("Error: ").removeprefix("error parsing CLI: ")
        meant = _meant(arguments[0], said) if arguments else ""
        return _fail(WRONG_USAGE, f"{said}; {meant}--help shows the stages, and after a stage its options")
    except KeyboardInterrupt:
        return _fail(FAILED, "interrupted; what was finished is kept, and the same command goes on from there")
    except BrokenPipeError:  # whoever read the output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        return _failed(error, "--debug" in arguments)
    return DONE


def _failed(error: Exception, debug: bool) -> int:
    """Say what the user can mend in one line, with the traceback where it is wanted; raise any other error."""
    if not (isinstance(error, (InputError, OSError)) or is_out_of_memory(error)):
        raise error
    if debug:
        log.exception("the traceback, by --debug:")
    return _fail(FAILED, explain(error))


def _fail(code: int, message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _meant(stage: str, said: str) -> str:
    """Return which options of the stage those that were not recognised look like, as the beginning of an answer."""
    given = STAGES[stage].model_fields if stage in STAGES else {}
    named = {field.alias or name for name, field in given.items() if POSITIONAL not in field.metadata}
    options = sorted(name.replace("_", "-") for name in named)
    unknown = [word[2:].partition("=")[0] for word in said.split() if word.startswith("--")]
    close = [f"--{match}" for word in unknown for match in get_close_matches(word, options, n=1)]
    return f"did you mean {' '.join(close)}? " if close else ""


def _options(error: ValidationError) -> str:
    problems = []
    for item in error.errors():
        if item["type"] == "default_factory_not_called":  # of an option that was left out, because of another one
            continue
        option = str(item["loc"][-1]).replace("_", "-")
        said = item["msg"].removeprefix("Value error, ")
        problems.append(f"--{option} received {item['input']!r}: {said[:1].lower()}{said[1:]}")
    return "; ".join(problems)


def explain(error: Exception) -> str:
    """Return one line for an error that a user can mend: what happened, where, and what to type next."""
    if is_out_of_memory(error):
        said = " ".join(str(error).split())[:MOST_SAID]
        return f"out of memory ({said}); choose a smaller --batch-size, a smaller layer, or --pooling avg"
    if not isinstance(error, OSError):
        return str(error)
    where = error.filename or "the run directory"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full at {where}; make room and type the command again: finished parts are kept"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to use {where}; change its permissions, or choose another place by --run"
    return f"{where}: {error.strerror or error}; mend it and type the command again"
