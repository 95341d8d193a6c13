"""`python -m benchmarks [SECTION ...]`: peers side by side; one JSON, one table. `make bench` runs every section."""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

from rich.console import Console

from benchmarks import machine, results
from benchmarks.runner import ROOT
from benchmarks.settings import Settings

SECTIONS = ("extraction", "article", "rbf", "linear", "scaling")
SLOW_SECTIONS = ("training", "whole")  # only when named
README = ROOT / "benchmarks" / "README.md"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"


def main() -> None:
    """Read the command line, run the sections, write and show what came out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS + SLOW_SECTIONS))
    parser.add_argument("--images", type=Path, default=Path("data/cifar10-images.zip"), help="zipped image folder")
    parser.add_argument("--run", type=Path, help="run directory whose features are used; made where none is given")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results.json")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything works")
    parser.add_argument("--only", default="", metavar="TEXT", help="only tasks whose name holds this text")
    parser.add_argument("--long", action="store_true", help="the article with all its epochs: most of an hour")
    parser.add_argument("--readme", action="store_true", help="put the tables into benchmarks/README.md")
    given = parser.parse_args()
    unknown = set(given.sections) - set(SECTIONS + SLOW_SECTIONS)
    if unknown:
        parser.error(f"no section {sorted(unknown)[0]}; expected some of {', '.join(SECTIONS + SLOW_SECTIONS)}")
    if not given.images.is_file():
        parser.error(f"no {given.images}; expected a zipped image folder, for example --images cifar10-images.zip")
    found = results.read(given.out)
    for found in run(given.sections or SECTIONS, given):
        given.out.write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
    if found is None:
        parser.error(f"no task holds {given.only!r}")
    results.show(found, Console(width=None if sys.stdout.isatty() else 160))
    if given.readme:
        before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
        README.write_text(before + BEGIN + results.markdown(found) + END + rest.partition(END)[2], encoding="utf-8")


def run(sections: Sequence[str], given: argparse.Namespace) -> Iterator[results.Results]:
    """Run the sections in order and yield all results after each task, so that an end before the last loses nothing.

    A section is a module here; its `main(settings)` yields the rows and targets of each task.
    """
    folder = given.out.absolute().parent
    limits = {"sgemm": machine.sgemm_rate(), "disk": machine.disk_rate(folder, 2**26 if given.quick else 2**29)}
    run_folder = given.run and given.run.absolute()
    settings = Settings(given.images.absolute(), run_folder, given.quick, given.long, given.only, limits)
    flags = [f"--{name}" for name in ("quick", "long") if getattr(given, name)]
    command, described = " ".join(["python -m benchmarks", *sections, *flags]), machine.describe()
    found = results.read(given.out)
    for name in sections:
        print(f"{name} ...", file=sys.stderr, flush=True)
        began = time.perf_counter()
        for rows, targets in import_module(f"benchmarks.{name}").main(settings):
            seconds = {name: time.perf_counter() - began}
            targets = [] if given.quick else targets  # what is tiny shows nothing
            new = results.Results(
                command=command, machine=described, limits=limits, seconds=seconds, rows=rows, targets=targets
            )
            found = results.merge(found, new)
            yield found


if __name__ == "__main__":
    main()
