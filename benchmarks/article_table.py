"""What each choice of the article is worth: its experiments, and each choice corrected, run and put into one table.

`python -m benchmarks.article_table --images cifar10-images.zip --out table.json` runs the rows of article_rows.py that
have no result yet, on a fixed stratified subset (10,000 training and 2,000 test images), the first and the last row of
each experiment on all images. `--only TEXT ...` runs those rows only whose folder or command holds one of the texts
(without a text none: it collects what there is); `--docs` puts the table into docs/article.md. Killed, it loses nothing
finished: a row's result lies in its folder under `--runs`, its figures in the JSON, and neither is made again.
"""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import article_figures, subset
from benchmarks.article_figures import Table
from benchmarks.article_rows import ROWS, RUNS, SUBSET, Row
from benchmarks.runner import ROOT
from benchmarks.samples import write_subset
from thaw.features.files.atomic import write_whole

SIZES = {"train": 10_000, "test": 2_000}
PAGE = ROOT / "docs" / "article.md"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"


def main(images: Path | None, runs: Path, out: Path, only: Sequence[str] | None) -> Table:
    """Run what has no figures yet and return all figures; `images` is a zip, a folder, an archive, or None: download.

    `only` holds texts one of which a row's folder or command has; None: every row. Raises if a command failed.
    """
    table = update(out, runs)
    done = {figures.command for figures in table.rows if figures.accuracy is not None}
    for row in ROWS:
        wanted = only is None or any(text in f"{row.result} {command(row)}" for text in only)
        if wanted and command(row) not in done:
            run(row, images, runs)
            table = update(out, runs)
    return table


def update(out: Path, runs: Path) -> Table:
    """Return the figures of every result under `runs`, and for rows without one what `out` holds; write them there."""
    old = Table.model_validate_json(out.read_text(encoding="utf-8")) if out.exists() else None
    table = article_figures.collect([(row, command(row)) for row in ROWS], runs, old)
    with write_whole(out) as file:
        file.write(table.model_dump_json(indent=1) + "\n")
    return table


def command(row: Row) -> str:
    """Return the command of a row as it is published, with `runs` as the folder of the runs."""
    return shlex.join(["python", *row.arguments("runs")])


def run(row: Row, images: Path | None, runs: Path) -> None:
    """Run a row's command, before it the features of its run if they are missing."""
    folder = runs / row.run
    if not any(folder.glob("features/*.h5")):
        options = RUNS[row.run][1].split()
        call(["-m", "pipeline", "features", *dataset(row.images, images, runs), "--run", str(folder), *options])
    call(row.arguments(str(runs)))


def dataset(which: str, images: Path | None, runs: Path) -> list[str]:
    """Return the options that name the images, all of them or the subset, which is drawn if it is missing."""
    zipped = images is not None and images.suffix == ".zip"
    if which != SUBSET:
        return ["--dataset", "cifar10", *(["--data", str(images)] if images else [])]
    path = (runs / "subset.zip" if zipped else runs / "subset.npz").absolute()
    if not path.exists():
        runs.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_stem("subset-unfinished")
        if images and zipped:
            subset.main(images, unfinished, SIZES)
        else:
            write_subset(images, unfinished, SIZES)
        unfinished.replace(path)
    return ["--dataset", f"{'folder' if zipped else 'npz'}:{path}"]


def call(arguments: Sequence[str]) -> None:
    """Run Python with the arguments at the root of the repository; what it says is passed on."""
    print(shlex.join(["python", *arguments]), file=sys.stderr, flush=True)
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.article_table", description=__doc__)
    parser.add_argument("--images", type=Path, help="CIFAR-10: a zipped image folder, a folder or the original archive")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "article_table.json", help="the figures")
    parser.add_argument("--only", nargs="*", metavar="TEXT", help="rows to run; without a text none")
    parser.add_argument("--docs", action="store_true", help="put the table into docs/article.md")
    given = parser.parse_args()
    place = given.images and given.images.expanduser().absolute()
    found = article_figures.markdown(main(place, given.runs.absolute(), given.out.absolute(), given.only))
    print(found, end="")
    if given.docs:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(before + BEGIN + found + END + rest.partition(END)[2], encoding="utf-8")
