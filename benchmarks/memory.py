"""Peak memory of the features stage on all images of a zipped image folder, and on every tenth of them.

`python -m benchmarks.memory cifar10-images.zip` writes the smaller zip into a temporary folder, runs the stage on both
as separate processes, and prints the operating system's account of each.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path


def every_tenth(source: Path, target: Path) -> int:
    """Write every tenth file of the zip `source` to `target`; return how many there are."""
    with zipfile.ZipFile(source) as images, zipfile.ZipFile(target, "w") as smaller:
        names = [name for name in images.namelist() if not name.endswith("/")][::10]
        for name in names:
            smaller.writestr(name, images.read(name))
    return len(names)


def peak_mb(dataset: Path, run: Path) -> float:
    """Run the features stage to its end and return its peak resident memory in MB (10^6 bytes)."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "features", "--dataset", f"folder:{dataset}", "--run", str(run)],
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the features stage on {dataset} ended with status {status}")
    return usage.ru_maxrss * 1024 / 1e6


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path, help="a zipped image folder")
    source = parser.parse_args().images
    with tempfile.TemporaryDirectory() as folder:
        smaller = Path(folder) / "tenth.zip"
        count = every_tenth(source, smaller)
        tenth, whole = peak_mb(smaller, Path(folder) / "tenth"), peak_mb(source, Path(folder) / "whole")
    print(json.dumps({"images_in_a_tenth": count, "tenth_mb": tenth, "whole_mb": whole, "more_mb": whole - tenth}))


if __name__ == "__main__":
    main()
