"""How good advice is, on the cases of cases.py: what is measured, table and plot.

`python -m benchmarks.advice_cases --images cifar10-images.zip --work FOLDER` makes the data, runs every strategy and
asks for advice, and runs what it recommends (`--strategies` or `--advise` only one of the two); what is measured
already is not run again. `--publish` writes what FOLDER holds to advice.json beside this page, to docs/results.md and
as docs/similarity.svg.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from benchmarks import advice_table, case_runs
from benchmarks.advice_results import CaseResults, collect
from benchmarks.cases import CASES, Case
from benchmarks.machine import describe
from thaw.features.files.atomic import write_whole

COMMAND = "python -m benchmarks.advice_cases --images cifar10-images.zip --work FOLDER"
ROOT = case_runs.ROOT
PUBLISHED, PAGE, PLOT = (ROOT / name for name in ("benchmarks/advice.json", "docs/results.md", "docs/similarity.svg"))


def publish(ledger: case_runs.Ledger, machine: str) -> None:
    """Write what was measured for the documentation."""
    results = CaseResults(command=COMMAND, machine=machine, cases=collect(CASES, ledger.entries))
    with write_whole(PUBLISHED) as file:
        file.write(results.model_dump_json(indent=1) + "\n")
    page = advice_table.put_between(PAGE.read_text("utf-8"), advice_table.markdown(results))
    with write_whole(PAGE) as file:
        file.write(page)
    advice_table.draw(PLOT, [case for case in results.cases if case.advised])


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="CIFAR-10 as a zipped image folder")
    parser.add_argument("--work", type=Path, required=True, help="folder for data, runs and what was measured")
    parser.add_argument("--only", default="", help="the cases whose names hold this text")
    parser.add_argument("--strategies", action="store_true", help="only the strategies")
    parser.add_argument("--advise", action="store_true", help="only advice")
    parser.add_argument("--publish", action="store_true", help="run nothing; write table, JSON and plot")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    ledger = case_runs.Ledger(options.work.absolute() / "measured.json")
    if options.publish:
        machine = describe()
        publish(ledger, f"{machine['processor']}, {machine['cores']} of its cores, with other work beside")
        return
    runs: list[Callable[[Case, Path, Path, case_runs.Ledger], None]] = []
    runs += [case_runs.run_strategies] if options.strategies or not options.advise else []
    runs += [case_runs.run_advice] if options.advise or not options.strategies else []
    for run in runs:
        for case in (case for case in CASES if options.only in case.name):
            run(case, options.images.absolute(), options.work.absolute(), ledger)


if __name__ == "__main__":
    main()
