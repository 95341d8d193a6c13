"""All harnesses, one after the other: `python tests/faults/everything.py --kills 500 --flips 1000`."""

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    alone = ("corpus.py", "bounds.py", "leaks.py")
    codes = [subprocess.run([sys.executable, str(HERE / script)], check=False).returncode for script in alone]
    for script, name, count in (("flips.py", "--flips", options.flips), ("kills.py", "--kills", options.kills)):
        command = [sys.executable, str(HERE / script), name, str(count), "--seed", str(options.seed)]
        codes.append(subprocess.run(command, check=False).returncode)
    raise SystemExit(max(codes))


if __name__ == "__main__":
    main()
