"""All harnesses, one after the other: `python tests/faults/everything.py --kills 500 --flips 1000`.

Their ledgers lie in `--ledgers`, so that the same command goes on where it was broken off. In the end a table tells of
each harness its cases and what was wrong, and `summary.json` in the folder says the same.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from ledger import Ledger

HERE = Path(__file__).resolve().parent


class Harness(NamedTuple):
    """A program beside this one, what it counts in a ledger (None: it measures and says so itself), and its options."""

    name: str
    counted: str | None
    options: list[str]


def harnesses(options: argparse.Namespace) -> list[Harness]:
    """Return all harnesses, those that end soon first."""
    seed = ["--seed", str(options.seed)]
    return [
        Harness("corpus", "inputs", []),
        Harness("leaks", None, []),
        Harness("bounds", None, []),
        Harness("footprints", None, []),
        Harness("flips", "flips", ["--flips", str(options.flips), *seed]),
        Harness("reads", "cases", []),
        Harness("permissions", "cases", []),
        Harness("disk", "cases", []),
        Harness("kills", "kills", ["--kills", str(options.kills), *seed]),
    ]


def run(harness: Harness, ledgers: Path) -> int:
    """Run a harness and return its exit code."""
    command = [sys.executable, str(HERE / f"{harness.name}.py"), *harness.options]
    ledger = ["--ledger", str(ledgers / f"{harness.name}.json")] if harness.counted else []
    return subprocess.run([*command, *ledger], check=False).returncode


def summarised(harness: Harness, ledgers: Path) -> dict[str, object]:
    """Return the counts of a harness over all its sessions, and what was wrong."""
    if harness.counted is None:
        return {"cases": 1, "counts": {}, "faults": []}
    ledger = Ledger(ledgers / f"{harness.name}.json", "")
    counts = ledger.totals()
    faults = ledger.faults()
    return {"cases": sum(counts.get(harness.counted, {}).values()), "counts": counts, "faults": faults}


def say(summary: dict[str, dict[str, object]], codes: dict[str, int]) -> None:
    """Print the table."""
    print(f"\n{'harness':<14}{'cases':>8}{'faults':>8}  exit")
    for name, found in summary.items():
        faults = found["faults"]
        assert isinstance(faults, list)
        print(f"{name:<14}{found['cases']:>8}{len(faults):>8}  {codes[name]}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ledgers", type=Path, default=Path("runs/faults"), help="the folder of the ledgers")
    options = parser.parse_args()
    options.ledgers.mkdir(parents=True, exist_ok=True)
    codes = {harness.name: run(harness, options.ledgers) for harness in harnesses(options)}
    summary = {harness.name: summarised(harness, options.ledgers) for harness in harnesses(options)}
    (options.ledgers / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", "utf-8")
    say(summary, codes)
    raise SystemExit(max(codes.values()))


if __name__ == "__main__":
    main()
