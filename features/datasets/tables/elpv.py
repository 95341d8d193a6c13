"""List the images of the package elpv_dataset by its own table."""

import importlib.util
from pathlib import Path

from thaw.features.datasets.listing import ImageFiles, Listing
from thaw.features.errors import InputError, shown

_ELPV_TARGETS = {
    "binary": ("functional", "defective"),
    "four": ("functional", "possibly_defective", "likely_defective", "defective"),
}


def list_elpv(target: str, max_pixels: int, white: float | None = None) -> Listing:
    """List the images of the package elpv_dataset, in two classes (`target` binary) or four."""
    if target not in _ELPV_TARGETS:
        raise InputError(f"--target {shown(target)}: expected binary or four; type --target binary")
    spec = importlib.util.find_spec("elpv_dataset")  # found, not imported: only its files are wanted
    places = spec.submodule_search_locations if spec else None
    table = Path(places[0], "data", "labels.csv") if places else None
    if table is None or not table.is_file():
        raise InputError(
            "the package elpv_dataset is not installed; expected it for --dataset elpv (its images are "
            "CC BY-NC-SA 4.0); type make setup EXTRA=elpv, or pip install elpv-dataset"
        )
    rows = [line.split() for line in table.read_text(encoding="utf-8").splitlines() if line.strip()]
    ids = tuple(row[0] for row in rows)
    defective = [float(row[1]) for row in rows]  # 0, 1/3, 2/3 or 1
    order = _ELPV_TARGETS[target]
    names = [order[p > 0.5] if target == "binary" else order[round(3 * p)] for p in defective]
    return Listing(ImageFiles(ids, max_pixels, white, table.parent), ids, names, [""] * len(ids), order=order)
