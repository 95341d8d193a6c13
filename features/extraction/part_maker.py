"""Images of a dataset -> engine -> whole parts of a feature file, on this machine or on another one."""

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from thaw.features.datasets.remote import RemotePath
from thaw.features.engines.network import Engine
from thaw.features.errors import InputError
from thaw.features.extraction.parts import GrowingPart
from thaw.features.extraction.spec import FeatureRequest
from thaw.features.prefetch import Behind, load_ahead


@dataclass(frozen=True)
class _Batch:
    """Network input, float32 (n, S, S, 3), of the images at `rows` (n,); `skipped` id -> reason."""

    rows: list[int]
    inputs: np.ndarray
    skipped: dict[str, str]


@dataclass(frozen=True)
class PartMaker:
    """Makes parts of the images of `request`, the first of which has the row `first` in the whole dataset.

    Every part is made in batches of its own, so that its values do not depend on which parts are made beside it.
    """

    request: FeatureRequest
    settings_sha256: str
    first: int = 0

    def make(
        self,
        parts: Mapping[range, Path | RemotePath],
        engine: Engine,
        progress: Callable[[int], None] = lambda count: None,
    ) -> None:
        """Make parts; images are decoded in threads ahead of the network, and features pooled in a thread behind it.

        Args:
            parts: The rows of each part, and the path that it is written to.
            engine: What runs the network; this thread does nothing else.
            progress: Gets the number of images of each finished batch.
        """
        batches = {rows: self._batches(rows) for rows in parts}
        loading = load_ahead(self._load, [batch for some in batches.values() for batch in some])
        with Behind() as writer, closing(loading) as loaded:
            for rows, path in parts.items():
                began = time.perf_counter()
                part = GrowingPart(self.request.layers)
                for batch in islice(loaded, len(batches[rows])):
                    views = self.request.preprocessing.views_of(batch.inputs) if batch.rows else []
                    writer.hand(part.add, batch.rows, [engine(view) for view in views], batch.skipped)
                    progress(len(batch.rows) + len(batch.skipped))
                record = {"settings_sha256": self.settings_sha256, "seconds": time.perf_counter() - began}
                writer.hand(part.write, path, record)

    def _batches(self, rows: range) -> list[range]:
        size = self.request.batch_size
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    def _load(self, rows: range) -> _Batch:
        dataset, preprocessing = self.request.dataset, self.request.preprocessing
        inputs = np.empty((len(rows), preprocessing.image_size, preprocessing.image_size, 3), np.float32)
        read: list[int] = []
        skipped: dict[str, str] = {}
        for row in rows:
            try:
                inputs[len(read)] = preprocessing.load(dataset, row - self.first)
                read.append(row)
            except InputError as error:
                if not self.request.skip_bad:
                    raise
                skipped[dataset.ids[row - self.first]] = str(error)
        return _Batch(read, inputs[: len(read)], skipped)
