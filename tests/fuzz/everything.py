"""Fuzz every parser: `python tests/fuzz/everything.py --runs 1000000 --out fuzz.json`.

Each parser is fuzzed by libFuzzer, through atheris, in a process of its own: it is given bytes, and may return a value
or raise InputError (or an OSError that says why), nothing else, within 10 s and 2 GB. What it does otherwise is a
finding, kept with its bytes in the folder of `--findings`.
"""

import argparse
import contextlib
import io
import json
import os
import random
import re
import shutil
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

try:
    import atheris
except ImportError:
    raise SystemExit("fuzzing needs atheris, which is made for Linux alone; type make setup there") from None

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

DEFAULT_RUNS = 1_100_000
MOST_SECONDS, MOST_MB = 10, 2048
INSTRUMENTED = ["thaw", "PIL", "skops", "starlette"]
SLOW = 1  # the share of those that build a network
MOST_CRASHES = 20  # of a parser, after which it is given up


def every_target(folder: Path) -> Iterator[Any]:
    """Yield all targets, their modules instrumented so that libFuzzer sees which lines an input reaches."""
    quiet = contextlib.redirect_stderr(io.StringIO())  # a line for each module
    with quiet, atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False):
        import targets
        import targets_runs
        import targets_web
    yield from targets.data_targets(folder)
    yield from targets_runs.feature_targets(folder)
    yield from targets_runs.run_targets(folder)
    yield from targets_runs.model_targets(folder)
    yield from targets.weight_targets(folder)
    yield from targets.list_targets(folder)
    yield from targets_web.web_targets(folder)


class Fuzzed(NamedTuple):
    """What came of a target: executions, inputs that reached new lines, findings, processor's seconds, most memory."""

    target: str
    executions: int
    corpus: int
    findings: list[str]
    seconds: float
    megabytes: int


def fuzz(target: Any, runs: int, seed: int, kept: Path) -> Fuzzed:
    """Fuzz one target; a process that ends before its executions are done is followed by another."""
    executions, corpus, megabytes, seconds = 0, 0, 0, 0.0
    crashes: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "corpus").mkdir()
        (folder / "findings").mkdir()
        for number, content in enumerate(target.seeds):
            (folder / "corpus" / f"seed-{number}").write_bytes(content)
        while executions < runs and len(crashes) < MOST_CRASHES:
            code, log, spent = _in_a_child(target, runs - executions, seed + len(crashes), folder)
            seconds += spent
            executions += _number(log, r"number_of_executed_units: (\d+)") or _number(log, r"#(\d+)\s")
            megabytes = max(megabytes, _number(log, r"peak_rss_mb: +(\d+)"), _number(log, r"rss: (\d+)Mb"))
            corpus = max(corpus, _number(log, r"corp: (\d+)"))
            if code:
                crashes.append(_keep_crash(target.name, folder, kept, log, code))
        found = [path.stem for path in sorted((folder / "findings").iterdir()) if path.suffix == ".txt"]
        for path in (folder / "findings").iterdir():
            shutil.copy(path, kept / f"{_plain(target.name)}-{path.name}")
    return Fuzzed(target.name, executions, corpus, found + crashes, seconds, megabytes)


def _plain(name: str) -> str:
    return re.sub(r"\W+", "-", name)


def _number(log: str, pattern: str) -> int:
    found = re.findall(pattern, log)
    return int(found[-1]) if found else 0


def _keep_crash(name: str, folder: Path, kept: Path, log: str, code: int) -> str:
    """Keep the bytes that ended the process, and what it said last; return a word for it."""
    kinds = ("crash", "timeout", "oom", "leak")
    artifacts = [path for path in folder.iterdir() if path.name.split("-")[0] in kinds]
    word = artifacts[0].name[:24] if artifacts else f"ended by {code}"
    for path in artifacts:
        shutil.move(path, kept / f"{_plain(name)}-{path.name}")
    (kept / f"{_plain(name)}-{_plain(word)}.txt").write_text(log[-8000:])
    return word


def _in_a_child(target: Any, runs: int, seed: int, folder: Path) -> tuple[int, str, float]:
    """Fuzz in a forked process, which ends with it; return its exit code, what it said, and processor's seconds."""
    log = folder / "log"
    child = os.fork()
    if child == 0:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        try:
            _fuzz_here(target, runs, seed, folder)
        except BaseException:
            traceback.print_exc()
        os._exit(70)
    _, status, used = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), log.read_text(errors="replace"), used.ru_utime + used.ru_stime


def _fuzz_here(target: Any, runs: int, seed: int, folder: Path) -> None:
    from thaw.features.errors import InputError

    seen: set[str] = set()

    def meet(content: bytes) -> None:
        try:
            target.meet(content)
        except (InputError, *target.allowed) as error:
            if isinstance(error, InputError) and len(str(error).splitlines()) > 1:
                _note(seen, folder / "findings", content, error)
        except BaseException as error:
            if not (isinstance(error, OSError) and error.strerror):
                _note(seen, folder / "findings", content, error)

    def change(content: bytes, size: int, number: int) -> bytes:
        return target.change(content, size, random.Random(number))

    warnings.simplefilter("ignore")
    options = [f"-runs={runs}", f"-seed={seed + 1}", f"-max_len={target.most_bytes}", f"-timeout={MOST_SECONDS}"]
    options += [f"-rss_limit_mb={MOST_MB}", f"-artifact_prefix={folder}/", "-print_final_stats=1", "-verbosity=1"]
    atheris.Setup(["fuzz", *options, str(folder / "corpus")], meet, custom_mutator=change)
    atheris.Fuzz()


def _note(seen: set[str], folder: Path, content: bytes, error: BaseException) -> None:
    """Keep an input with its traceback, one for each place where it went wrong."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    name = f"{type(error).__name__}-{Path(last.filename).stem}-{last.lineno}"
    if name not in seen:
        seen.add(name)
        (folder / name).write_bytes(content)
        (folder / f"{name}.txt").write_text("".join(traceback.format_exception(error)), errors="backslashreplace")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=DEFAULT_RUNS, help="executions over all parsers")
    parser.add_argument("--each", type=int, help="executions of each parser, fewer of the slow")
    parser.add_argument("--only", default="", help="the parsers whose names hold this text")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), help="where findings are kept")
    parser.add_argument("--out", type=Path, help="JSON with the counts")
    options = parser.parse_args()
    shared = Path("/dev/shm")  # noqa: S108, files are small and many
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as temporary:
        chosen = [target for target in every_target(Path(temporary)) if options.only in target.name]
        options.findings.mkdir(parents=True, exist_ok=True)
        print(f"{'parser':<20} {'executions':>10} {'a second':>9} {'corpus':>7} {'MB':>6} {'findings':>9}")
        done = []
        for target in chosen:
            each = options.each if target.share > SLOW else (options.each or 0) // 10
            runs = each or round(options.runs * target.share / sum(one.share for one in chosen))
            one = fuzz(target, max(1, runs), options.seed, options.findings)
            done.append(one)
            speed = one.executions / max(one.seconds, 0.01)
            if options.out:
                options.out.write_text(json.dumps([each._asdict() for each in done], indent=1) + "\n")
            print(f"{one.target:<20} {one.executions:>10,} {speed:>9,.0f} {one.corpus:>7} {one.megabytes:>6} "
                  f"{len(one.findings):>9} {' '.join(one.findings[:9])}", flush=True)  # fmt: skip
    found = sum(len(one.findings) for one in done)
    total = sum(one.executions for one in done)
    print(f"{total:,} executions over {len(done)} parsers, {found} findings", flush=True)
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
