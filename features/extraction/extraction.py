"""Data set -> engine -> parts -> `features.h5`: whole parts, resumable, in constant memory."""

import errno
import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import h5py
import numpy as np

from thaw.features.datasets.dataset import Dataset
from thaw.features.datasets.remote import RemotePath, place
from thaw.features.errors import InputError
from thaw.features.extraction.part_maker import PartMaker
from thaw.features.extraction.parts import peek_part, read_part
from thaw.features.extraction.spec import Engine, Recipe
from thaw.features.files.atomic import check_space, remove_leftovers, reserve, whole_path
from thaw.features.images.decode import DECODING
from thaw.features.store import create_feature_file, record_digest, values_digest

log = logging.getLogger("thaw")

REMOVALS = 3  # of the parts, a second apart


class Extraction:
    """The parts of one feature file: which are done, doing the others, and joining them.

    Parts lie in the folder `<file>.parts` beside the feature file until it is whole, or in a folder of their own within
    `parts`, a path or a URL.
    """

    def __init__(self, path: Path, dataset: Dataset, recipe: Recipe, batch_size: int, parts: str | None = None):
        self.path, self.dataset, self.recipe, self.batch_size = path, dataset, recipe, batch_size
        self.folder = parts_folder(path, parts)
        self.settings_sha256 = recipe.digest(len(dataset.ids), batch_size)
        self.part_rows = recipe.part_rows(batch_size)
        self.starts = range(0, len(dataset.ids), self.part_rows)

    def part_path(self, start: int) -> Path | RemotePath:
        """Return where the part that begins with image `start` lies."""
        return self.folder / f"part-{start:09d}.h5"

    def part_size(self, start: int) -> int:
        """Return how many images of the data set that part covers."""
        return min(self.part_rows, len(self.dataset.ids) - start)

    def missing(self) -> list[int]:
        """Return the starts of the parts that are not there whole and made by these settings."""
        return [start for start in self.starts if not self._is_done(start)]

    def _is_done(self, start: int) -> bool:
        record = peek_part(self.part_path(start))
        return record is not None and record.get("settings_sha256") == self.settings_sha256

    def run(self, engine: Engine, progress: Callable[[int], None] = lambda count: None) -> None:
        """Make every missing part; `progress` is told how many images each finished batch covered."""
        missing = self.begin()
        self.maker().make({self.rows(start): self.part_path(start) for start in missing}, engine, progress)

    def begin(self) -> list[int]:
        """Make the folder of the parts, see that the disk has room, and return the starts of the missing parts."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if isinstance(self.folder, Path):
            remove_leftovers(self.folder)
        remove_leftovers(self.path.parent, self.path.name)
        missing = self.missing()
        todo = sum(self.part_size(start) for start in missing)
        # The parts that are missing, then beside all parts the file that they are joined into.
        beside = todo if self.folder.name == f"{self.path.name}.parts" else 0
        check_space(self.path, self.recipe.image_bytes * (beside + len(self.dataset.ids)))
        return missing

    def maker(self) -> PartMaker:
        """Return what makes parts from the data set here."""
        return PartMaker(self.dataset, self.recipe, self.batch_size, self.settings_sha256)

    def maker_of(self, start: int) -> PartMaker:
        """Return what makes the part that begins with image `start` anywhere: it holds that part's images alone."""
        images = self.dataset.take(self.rows(start))
        return PartMaker(images, self.recipe, self.batch_size, self.settings_sha256, start)

    def rows(self, start: int) -> range:
        """Return the places of a part's images in the data set."""
        return range(start, start + self.part_size(start))

    def join(self, split: np.ndarray, attributes: Mapping[str, Any]) -> dict[str, str]:
        """Write the feature file from its parts, check it, give it its name and remove the parts.

        `split` (N,) uint8 is the side of each of the data set's images. Returns the skipped images, id -> reason.
        Raises InputError where a part is damaged (it is removed, so that a second call makes it again) or a value
        is not finite.
        """
        records = [self._record(start) for start in self.starts]
        skipped: dict[str, str] = {name: why for record in records for name, why in record["skipped"].items()}
        rows = np.array([i for i, name in enumerate(self.dataset.ids) if name not in skipped], np.int64)
        if len(rows) == 0:
            raise InputError(f"none of the {len(skipped)} images of {self.dataset.word} can be read")
        shapes = {name: (len(rows), *shape) for name, shape in self.recipe.shapes.items()}
        seconds = sum(record["seconds"] for record in records)
        remove_leftovers(self.path.parent, self.path.name)  # of a process that was killed while it joined
        needed = self.recipe.image_bytes * len(rows)
        check_space(self.path, needed)
        with whole_path(self.path) as temporary:
            columns = self._columns(rows, split)
            recorded = {**attributes, "decoding": DECODING}
            with create_feature_file(temporary, shapes, self.recipe.dtype, columns, recorded) as file:
                reserve(temporary, needed)  # check_space may have counted on room that another process took
                file.attrs["seconds"] = seconds
                self._copy_parts(file, rows)
            _seal(temporary, tuple(shapes))
        self._remove_parts()
        return skipped

    def _record(self, start: int) -> dict[str, Any]:
        record = peek_part(self.part_path(start))
        return self._give_up(start) if record is None else record

    def _give_up(self, start: int) -> NoReturn:
        path = self.part_path(start)
        path.unlink(missing_ok=True)
        raise InputError(f"{path} was damaged and has been removed; type the command again")

    def _columns(self, rows: np.ndarray, split: np.ndarray) -> dict[str, Any]:
        columns: dict[str, Any] = {
            "labels": self.dataset.labels[rows],
            "ids": [self.dataset.ids[row] for row in rows],
            "split": split[rows],
            "class_names": self.dataset.class_names,
        }
        if self.dataset.groups is not None:
            columns["groups"] = [self.dataset.groups[row] for row in rows]
        return columns

    def _copy_parts(self, file: h5py.File, rows: np.ndarray) -> None:
        done = 0
        for start in self.starts:
            part = read_part(self.part_path(start), tuple(self.recipe.shapes))
            values, part_rows, _ = part or self._give_up(start)
            if not np.array_equal(part_rows, rows[done : done + len(part_rows)]):
                raise RuntimeError(f"{self.part_path(start)} holds other images than its place in the order says")
            for name, block in values.items():
                file[f"features/{name}"][done : done + len(part_rows)] = block
            done += len(part_rows)
        if done != len(rows):
            raise RuntimeError(f"the parts hold {done} images, expected {len(rows)}")

    def _remove_parts(self) -> None:
        """Remove the folder of the parts, into which a worker that was lost may still write one that nobody wants."""
        for _ in range(REMOVALS):
            for path in self.folder.iterdir():
                path.unlink(missing_ok=True)
            try:
                self.folder.rmdir()
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
                time.sleep(1)
            else:
                return
        log.warning("%s is not needed any more, but something writes there; remove it later", self.folder)


def parts_folder(path: Path, parts: str | None) -> Path | RemotePath:
    """Return where the parts of the feature file `path` lie; within `parts` other runs may have theirs too."""
    if parts is None:
        return path.absolute().with_name(f"{path.name}.parts")
    return place(parts) / f"{path.name}.{hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:16]}.parts"


def _seal(path: Path, layers: tuple[str, ...]) -> None:
    """Read the joined file back from its start, check every value, and add the digests over all that it holds."""
    with h5py.File(path, "r+") as file:
        try:
            file.attrs["values_sha256"] = values_digest(file, layers)
            file.attrs["record_sha256"] = record_digest(file)
        except ValueError as error:
            raise InputError(
                f"{error}; expected finite numbers: check the weights, or start another run with --dtype float32"
            ) from None
