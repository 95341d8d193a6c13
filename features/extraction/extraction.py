"""Dataset -> engine -> parts -> feature file: whole parts, resumable, in constant memory."""

import errno
import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import h5py
import numpy as np

from thaw.features.datasets.remote import RemotePath, path_or_url
from thaw.features.engines.network import Engine
from thaw.features.errors import InputError
from thaw.features.extraction.part_maker import PartMaker
from thaw.features.extraction.parts import peek_part, read_part
from thaw.features.extraction.spec import FeatureRequest
from thaw.features.files.atomic import check_space, remove_leftovers, reserve, whole_path
from thaw.features.images.decode import DECODING
from thaw.features.schema import create_feature_file, record_digest, row_blocks, stored_row_bytes, values_digest
from thaw.features.store import FeatureFile

log = logging.getLogger("thaw")

DIGESTS = ("values_sha256", "record_sha256")
REMOVALS = 3  # attempts to remove the folder of the parts, a second apart


class Extraction:
    """The parts of one feature file: which are done, making the others, and joining them."""

    def __init__(self, request: FeatureRequest):
        self.request, self.path, self.folder = request, request.path, request.folder
        self.num_images = len(request.dataset.ids)
        self.part_rows = request.layers.part_rows(request.batch_size)
        self.starts = range(0, self.num_images, self.part_rows)
        self.settings_sha256 = self._settings_digest()

    def _settings_digest(self) -> str:
        """Return the SHA-256 over what determines a part; parts with another digest are not reused."""
        record = {
            **self.request.record,
            "decoding": DECODING,
            "part_rows": self.part_rows,
            "batch_size": self.request.batch_size,
            "num_images": self.num_images,
        }
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()

    def part_path(self, start: int) -> Path | RemotePath:
        """Return the path of the part that begins with image `start`."""
        return self.folder / f"part-{start:09d}.h5"

    def rows(self, start: int) -> range:
        """Return the rows of a part's images in the dataset."""
        return range(start, min(start + self.part_rows, self.num_images))

    def missing(self) -> list[int]:
        """Return the starts of the parts that are not there whole and made by these settings."""
        return [start for start in self.starts if not self._is_done(start)]

    def _is_done(self, start: int) -> bool:
        record = peek_part(self.part_path(start))
        return record is not None and record.get("settings_sha256") == self.settings_sha256

    def run(self, engine: Engine, progress: Callable[[int], None] = lambda count: None) -> None:
        """Make every missing part; `progress` gets the number of images of each finished batch."""
        missing = self.begin()
        maker = PartMaker(self.request, self.settings_sha256)
        maker.make({self.rows(start): self.part_path(start) for start in missing}, engine, progress)

    def begin(self) -> list[int]:
        """Make the folder of the parts, check that the disk has room, and return the starts of the missing parts."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if isinstance(self.folder, Path):
            remove_leftovers(self.folder)
        remove_leftovers(self.path.parent, self.path.name)
        missing = self.missing()
        todo = sum(len(self.rows(start)) for start in missing)
        # The parts that are missing, then beside all parts the file that they are joined into.
        beside = todo if self.folder.name == f"{self.path.name}.parts" else 0
        check_space(self.path, self.request.layers.image_bytes * (beside + self.num_images))
        return missing

    def maker_of(self, start: int) -> PartMaker:
        """Return what makes the part that begins with image `start` on any machine: it holds that part's images."""
        return PartMaker(self.request.of_rows(self.rows(start)), self.settings_sha256, start)

    def join(self, attributes: Mapping[str, Any]) -> dict[str, str]:
        """Write the feature file from its parts, check it, give it its name and remove the parts.

        `attributes` become the file's root attributes.
        Returns the skipped images, id -> reason. Raises InputError if a part is damaged (it is removed, so that a
        second call makes it again) or a value is not finite.
        """
        dataset = self.request.dataset
        records = [peek_part(self.part_path(start)) or self._give_up(start) for start in self.starts]
        skipped: dict[str, str] = {name: why for record in records for name, why in record["skipped"].items()}
        rows = np.array([row for row, name in enumerate(dataset.ids) if name not in skipped], np.int64)
        if len(rows) == 0:
            raise InputError(f"none of the {len(skipped)} images of {dataset.name} can be read")
        recorded = {**attributes, "decoding": DECODING, "seconds": sum(record["seconds"] for record in records)}
        self.write_rows(rows, recorded, lambda file: self._copy_parts(file, rows))
        self._remove_parts()
        return skipped

    def copy(self, made: FeatureFile, attributes: Mapping[str, Any]) -> None:
        """Write the feature file from the values of one that is of the same images and settings, but another split.

        `attributes` become the file's root attributes, beside those of `made` that they do not name.
        """
        made.check_digests()

        def fill(file: h5py.File) -> None:
            for name in self.request.layers.shapes:
                layer = file[f"features/{name}"]
                for rows in row_blocks(self.num_images, stored_row_bytes(layer)):
                    layer[rows] = made.read_rows(name, np.arange(rows.start, rows.stop))

        same = {name: value for name, value in made.attributes.items() if name not in DIGESTS}
        self.write_rows(np.arange(self.num_images), {**same, **attributes}, fill)

    def write_rows(self, rows: np.ndarray, attributes: Mapping[str, Any], fill: Callable[[h5py.File], None]) -> None:
        """Write the feature file of the images at `rows` (N,) whole; `fill` writes the layers' values into it."""
        layers = self.request.layers
        shapes = {name: (len(rows), *shape) for name, shape in layers.shapes.items()}
        remove_leftovers(self.path.parent, self.path.name)  # of a process that was killed while it joined
        needed = layers.image_bytes * len(rows)
        check_space(self.path, needed)
        with whole_path(self.path) as temporary:
            with create_feature_file(temporary, shapes, layers.dtype, self._columns(rows), attributes) as file:
                reserve(temporary, needed)  # check_space may have counted on room that another process took
                fill(file)
            _seal(temporary, tuple(shapes))

    def _give_up(self, start: int) -> NoReturn:
        path = self.part_path(start)
        path.unlink(missing_ok=True)
        raise InputError(f"{path} was damaged and has been removed; type the command again")

    def _columns(self, rows: np.ndarray) -> dict[str, Any]:
        dataset = self.request.dataset
        columns: dict[str, Any] = {
            "labels": dataset.labels[rows],
            "ids": [dataset.ids[row] for row in rows],
            "split": self.request.split[rows],
            "class_names": dataset.class_names,
        }
        if dataset.groups is not None:
            columns["groups"] = [dataset.groups[row] for row in rows]
        return columns

    def _copy_parts(self, file: h5py.File, rows: np.ndarray) -> None:
        done = 0
        for start in self.starts:
            part = read_part(self.part_path(start), tuple(self.request.layers.shapes))
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
    """Return the folder of the parts of the feature file `path`: beside it, or one of its own in the folder `parts`."""
    if parts is None:
        return path.absolute().with_name(f"{path.name}.parts")
    return path_or_url(parts) / f"{path.name}.{hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:16]}.parts"


def _seal(path: Path, layers: tuple[str, ...]) -> None:
    """Read the joined file back from its start, check every value, and add the digests over all that it holds."""
    with h5py.File(path, "r+") as file:
        try:
            file.attrs["values_sha256"] = values_digest(file, sorted(layers))  # as a reader finds them in the file
            file.attrs["record_sha256"] = record_digest(file)
        except ValueError as error:
            raise InputError(
                f"{error}; expected finite numbers: check the weights, or start another run with --dtype float32"
            ) from None
