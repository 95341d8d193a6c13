"""Contenders in processes of their own that take turns over the same input, and whose output is checked first.

A contender is a function that does what is not timed (imports, compilation, reading its input) and returns the
function that is. TensorFlow reads its oneDNN switch at import, hence a process each. Started as
`python -m benchmarks.runner MODULE:FUNCTION ARGUMENTS`, one answers each line on standard input with its seconds.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PEERS_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
DEFAULTS = None  # of TensorFlow: its oneDNN switch is left alone

Output = Mapping[str, np.ndarray]
Check = Callable[[Output, Output], float]
Run = Callable[[], "Output | Callable[[], Output]"]


class ContenderError(Exception):
    """A contender that did not start, ended, or gave a wrong output; the message says which and why."""


@dataclass(frozen=True)
class Contender:
    """What takes part: `build` is `module:function`, called with `arguments`.

    `onednn` is TensorFlow's switch, `peer` runs beside the peers' packages; an output that differs from the reference's
    by more than `allowed` has failed.
    """

    name: str
    build: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    onednn: str | None = "1"
    peer: bool = False
    allowed: float = 1e-3


@dataclass
class Result:
    """The seconds of each timed turn, the difference from the reference's output, or why there are none."""

    seconds: list[float] = field(default_factory=list)
    difference: float | None = None
    output: Output = field(default_factory=dict)
    failed: str | None = None

    @property
    def median(self) -> float:
        """The median of the timed turns in seconds."""
        return statistics.median(self.seconds)


class Process:
    """A contender's process; `turn` runs it once."""

    def __init__(self, contender: Contender, folder: Path):
        self.name = contender.name
        python = str(PEERS_PYTHON) if contender.peer else sys.executable
        if contender.peer and not PEERS_PYTHON.exists():
            raise ContenderError("not installed; type make bench-setup")
        self._log = (folder / f"{abs(hash(contender.name))}.log").open("w+")
        command = [python, "-m", "benchmarks.runner", contender.build, json.dumps(dict(contender.arguments))]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._log}
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment(contender.onednn), text=True, start_new_session=True, **pipes
        )

    def turn(self, output: Path | None = None) -> float:
        """Return the seconds of one run, its output written to `output`; raises ContenderError where it ended."""
        try:
            print(output or "", file=self._pipe(self._process.stdin), flush=True)
            answer = self._pipe(self._process.stdout).readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise ContenderError(self._last_words())
        return float(json.loads(answer))

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe

    def _last_words(self) -> str:
        self._process.wait()
        self._log.seek(0)
        lines = [line.strip() for line in self._log if line.strip() and not line.lstrip().startswith("@")]
        return lines[-1] if lines else f"ended with status {self._process.returncode}"

    def close(self) -> None:
        """End the process and those that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(BrokenPipeError):  # closing flushes what an ended process never read
            self._pipe(self._process.stdin).close()
        self._pipe(self._process.stdout).close()
        self._process.wait()
        self._log.close()


def environment(onednn: str | None) -> dict[str, str]:
    """Return this process' environment with TensorFlow's oneDNN switch at `onednn`, or at TensorFlow's default."""
    kept = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    return kept | {"TF_CPP_MIN_LOG_LEVEL": "3"} | ({} if onednn is None else {"TF_ENABLE_ONEDNN_OPTS": onednn})


def take_turns(contenders: Sequence[Contender], repeats: int, check: Check, warm_up: bool = True) -> dict[str, Result]:
    """Return each contender's result; the first contender's output is what the others' are checked against.

    `check(output, reference)` gives a difference; a contender above what it is allowed (or not a number) has failed
    and is not timed. Without `warm_up`, for work of minutes, the run that is checked is the first timed one.
    """
    results = {contender.name: Result() for contender in contenders}
    processes: dict[str, Process] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        for contender in contenders:
            result, reference = results[contender.name], results[contenders[0].name]
            try:
                process = stack.enter_context(closing(Process(contender, Path(name))))
                seconds = process.turn(Path(name) / "output.npz")
                result.output = _read(Path(name) / "output.npz")
                result.difference = check(result.output, reference.output or result.output)
                if not result.difference <= contender.allowed:
                    raise ContenderError(f"wrong output: it differs by {result.difference:.3g}")
            except ContenderError as error:
                result.failed = str(error)
            else:
                processes[contender.name] = process
                result.seconds += [] if warm_up else [seconds]
        for _ in range(repeats - (0 if warm_up else 1)):
            _round(processes, results)
    for name, result in results.items():
        print(f"  {name}: {result.failed or f'{result.median:.3g} s'}", file=sys.stderr, flush=True)
    return results


def _round(processes: Mapping[str, Process], results: Mapping[str, Result]) -> None:
    for name, process in processes.items():
        if results[name].failed is None:
            try:
                results[name].seconds.append(process.turn())
            except ContenderError as error:
                results[name].failed = str(error)


def _read(path: Path) -> Output:
    with np.load(path) as arrays:
        return dict(arrays)


def serve(build: str, arguments: Mapping[str, Any]) -> None:
    """Answer each line on standard input with the seconds of one run; a line that is a path gets the output there.

    A run may return a function that makes its output, which is not timed.
    """
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    module, _, function = build.partition(":")
    run: Run = getattr(import_module(module), function)(**arguments)
    for line in sys.stdin:
        began = time.perf_counter()
        output = run()
        seconds = time.perf_counter() - began
        if path := line.strip():
            np.savez(path, **(output() if callable(output) else output))
        print(json.dumps(seconds), file=replies, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], json.loads(sys.argv[2]))
