"""Flip single bits in every artifact of a run: `python tests/faults/flips.py --flips 1000 --out flips.json`.

Each flip has to be found by `python -m pipeline verify`, or to change no result: it lies in a file that no stage reads
(curves, reports and plots, which are written anew from the others), or in bytes of a feature file that HDF5 does not
read, so that all values, names and settings that are read still have their digests.
"""

import argparse
import json
import random
from collections import Counter
from pathlib import Path

from kills import prepared

from features.errors import InputError
from pipeline.verify import findings

NOT_READ = (".lock", ".html", ".md", ".svg", ".png")


def problems(run_folder: Path) -> list[str]:
    """Return what verify finds."""
    try:
        return [name for name, why in findings(run_folder) if why]
    except InputError as error:
        return [str(error)]


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON with the counts")
    options = parser.parse_args()
    generator = random.Random(options.seed)
    counts: Counter[str] = Counter()
    with prepared() as made:
        run_folder = made.run_folder
        if found := problems(run_folder):
            raise SystemExit(f"before any flip verify finds {found}")
        files = sorted(path for path in run_folder.rglob("*") if path.is_file() and path.stat().st_size)
        missed: dict[str, int] = {}
        for number in range(options.flips):
            path = files[number % len(files)]
            kept = path.read_bytes()
            bit = generator.randrange(8 * len(kept))
            path.write_bytes(kept[: bit // 8] + bytes([kept[bit // 8] ^ (1 << bit % 8)]) + kept[bit // 8 + 1 :])
            found = problems(run_folder)
            path.write_bytes(kept)
            name = str(path.relative_to(run_folder))
            not_read = path.suffix in NOT_READ or path.name.startswith((".", "learning_curve"))
            not_read |= path.suffix == ".h5" and not path.name.endswith(".weights.h5")
            kind = "found" if found else "harmless" if not_read else "missed"
            counts[kind] += 1
            if kind == "missed":
                missed[name] = missed.get(name, 0) + 1
                print(f"missed: bit {bit} of {name}", flush=True)
    print(f"{options.flips} flips over {len(files)} files: {dict(counts)}")
    if options.out:
        options.out.write_text(json.dumps({"flips": counts, "files": len(files), "missed": missed}, indent=1) + "\n")
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
