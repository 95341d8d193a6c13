"""Images of a data set -> engine -> whole parts of a feature file, here or on another machine."""

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thaw.features.datasets.dataset import Dataset
from thaw.features.datasets.remote import RemotePath
from thaw.features.errors import InputError
from thaw.features.extraction.parts import GrowingPart
from thaw.features.prefetch import Behind, load_ahead

if TYPE_CHECKING:
    from thaw.features.extraction.spec import Engine, Recipe


@dataclass(frozen=True)
class _Batch:
    """Network input, float32 (n, S, S, 3), of the images at `rows` (n,); `skipped` id -> reason."""

    rows: list[int]
    inputs: np.ndarray
    skipped: dict[str, str]


@dataclass(frozen=True)
class PartMaker:
    """Makes parts of images of `dataset`, the first of which has the number `first` in the whole data set.

    Every part is made in batches of its own, so that its values do not depend on which parts are made beside it.
    """

    dataset: Dataset
    recipe: "Recipe"
    batch_size: int
    settings_sha256: str
    first: int = 0

    def make(
        self,
        parts: Mapping[range, Path | RemotePath],
        engine: "Engine",
        progress: Callable[[int], None] = lambda count: None,
    ) -> None:
        """Make each part, rows -> where it is put; `progress` is told how many images each finished batch covered.

        Images are decoded and resized in threads, some batches ahead and across the borders of parts; features are
        pooled and parts written in another thread; this one does nothing but run the network.
        """
        batches = {rows: self._batches(rows) for rows in parts}
        loading = load_ahead(self._load, [batch for some in batches.values() for batch in some])
        with Behind() as writer, closing(loading) as loaded:
            for rows, path in parts.items():
                began = time.perf_counter()
                part = GrowingPart(self.recipe.shapes, self.recipe.pooling, self.recipe.dtype)
                for batch in islice(loaded, len(batches[rows])):
                    activations = engine(batch.inputs) if batch.rows else {}
                    writer.hand(part.add, batch.rows, activations, batch.skipped)
                    progress(len(batch.rows) + len(batch.skipped))
                record = {"settings_sha256": self.settings_sha256, "seconds": time.perf_counter() - began}
                writer.hand(part.write, path, record)

    def _batches(self, rows: range) -> list[range]:
        return [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]

    def _load(self, rows: range) -> _Batch:
        inputs = np.empty((len(rows), self.recipe.image_size, self.recipe.image_size, 3), np.float32)
        read: list[int] = []
        skipped: dict[str, str] = {}
        for row in rows:
            try:
                inputs[len(read)] = self.recipe.load(self.dataset, row - self.first)
                read.append(row)
            except InputError as error:
                if not self.recipe.skip_bad:
                    raise
                skipped[self.dataset.ids[row - self.first]] = str(error)
        return _Batch(read, inputs[: len(read)], skipped)
