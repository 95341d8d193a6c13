"""Flip single bits in every artifact of a run: `python tests/faults/flips.py --flips 1000 --ledger flips.json`.

Each flip has to be found by `python -m pipeline verify`, or to change no result: it lies in a file that no stage reads
(curves, reports and plots, which are written anew from the others), or in bytes of a feature file that HDF5 does not
read, so that all values, names and settings that are read still have their digests.
"""

import argparse
import random
from pathlib import Path

from ledger import Ledger
from prepared import prepared

from thaw.features.errors import InputError
from thaw.pipeline.verify.verify import findings

NOT_READ = (".lock", ".html", ".md", ".svg", ".png")


def problems(run_folder: Path) -> list[str]:
    """Return what verify finds."""
    try:
        return [name for name, why in findings(run_folder) if why]
    except InputError as error:
        return [str(error)]


def artifacts(run_folder: Path) -> list[Path]:
    """Return the files of a whole run that have bits to flip; ends where verify finds something in it already."""
    if found := problems(run_folder):
        raise SystemExit(f"before any flip verify finds {found}")
    return sorted(path for path in run_folder.rglob("*") if path.is_file() and path.stat().st_size)


def flip(path: Path, run_folder: Path, generator: random.Random) -> tuple[int, list[str]]:
    """Flip a random bit of a file, ask verify, and put the bit back; return the bit and what was found."""
    kept = path.read_bytes()
    bit = generator.randrange(8 * len(kept))
    path.write_bytes(kept[: bit // 8] + bytes([kept[bit // 8] ^ (1 << bit % 8)]) + kept[bit // 8 + 1 :])
    found = problems(run_folder)
    path.write_bytes(kept)
    return bit, found


def may_be_missed(path: Path) -> bool:
    """Return whether a flip in this file can be without effect on any result."""
    values = path.suffix == ".h5" and not path.name.endswith(".weights.h5")  # all that is read has digests
    return values or path.suffix in NOT_READ or path.name.startswith((".", "learning_curve"))


def one_flip(path: Path, run_folder: Path, generator: random.Random, ledger: Ledger) -> None:
    """Flip one bit of a file and count what came of it."""
    bit, found = flip(path, run_folder, generator)
    kind = "found" if found else "harmless" if may_be_missed(path) else "missed"
    ledger.count("flips", kind)
    if kind == "missed":
        ledger.fault(f"missed: bit {bit} of {path.relative_to(run_folder)}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=100, help="that the ledger is to have of this seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ledger", type=Path, help="JSON with the counts, added to")
    options = parser.parse_args()
    ledger = Ledger(options.ledger, f"seed {options.seed}")
    if ledger.number < options.flips:
        with prepared() as made:
            files = artifacts(made.run_folder)
            print(f"{len(files)} files", flush=True)
            for number in range(ledger.number, options.flips):
                path, generator = files[number % len(files)], random.Random(f"{options.seed}/{number}")
                one_flip(path, made.run_folder, generator, ledger)
                ledger.done(number)
    raise SystemExit(ledger.say("flips"))


if __name__ == "__main__":
    main()
