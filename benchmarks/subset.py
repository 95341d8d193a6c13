"""A fixed stratified part of a zipped image folder, as another zip: `train/<class>/*` and `test/<class>/*`.

`python -m benchmarks.subset cifar10-images.zip cifar10-subset.zip` keeps 10,000 training and 2,000 test images, the
same number of each class, drawn by seed 0 from the names in alphabetical order.
"""

import argparse
import zipfile
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np


def main(source: Path, target: Path, sizes: dict[str, int], seed: int = 0) -> None:
    """Write `target` with sizes[split] images of each split of `source`."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as subset:
        members: dict[tuple[str, str], list[str]] = defaultdict(list)
        for name in sorted(archive.namelist()):
            parts = PurePosixPath(name).parts
            if not name.endswith("/") and len(parts) >= 3 and parts[-3] in sizes:
                members[parts[-3], parts[-2]].append(name)
        generator = np.random.default_rng(seed)
        for split, size in sizes.items():
            classes = [key for key in members if key[0] == split]
            for key in classes:
                chosen = generator.choice(len(members[key]), size // len(classes), replace=False)
                for name in (members[key][number] for number in sorted(chosen)):
                    subset.writestr("/".join(PurePosixPath(name).parts[-3:]), archive.read(name))
    print(target)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--train", type=int, default=10_000)
    parser.add_argument("--test", type=int, default=2_000)
    given = parser.parse_args()
    main(given.source, given.target, {"train": given.train, "test": given.test})
