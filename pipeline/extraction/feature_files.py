"""The feature files of a run: where each lies, what it is made from, and whether it is that."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thaw.features.datasets.dataset import Dataset
from thaw.features.errors import InputError
from thaw.features.images.decode import DECODING
from thaw.features.store import FeatureFile
from thaw.pipeline.config import Shared
from thaw.pipeline.run.run_json import another_run

if TYPE_CHECKING:
    pass
log = logging.getLogger("thaw")


# What a feature file records, and what has to agree before it is used again.
RECORDED = (
    *("dataset", "backbone", "weights_sha256", "image_size", "resize", "normalize", "pooling", "dtype", "layers"),
    *("dataset_sha256", "split_sha256", "view", "engine", "engine_precision", "decoding"),
)


# What a file has where it records nothing, having been made before there was a choice.
UNSAID = {"engine_precision": "float32", "decoding": 1}


@dataclass(frozen=True)
class Sample:
    """Some images of the data set, and the side of each in the sample's own split, (n,) uint8."""

    dataset: Dataset
    sides: np.ndarray


@dataclass(frozen=True)
class Wanted:
    """One feature file: where it lies, what it holds, from which weights, if of mirrored images, and by what engine.

    With a `sample` it is of these images alone, and the engine's numbers, compared for the run, are not compared again.
    """

    path: Path
    layers: tuple[str, ...]
    pooling: str
    dtype: str
    weights: str
    flip: bool = False
    engine: str = "auto"
    sample: Sample | None = None

    def settings(self, settings: Shared) -> dict[str, Any]:
        """Return what the file records of the run's settings and of its own."""
        names = ("dataset", "backbone", "image_size", "resize", "normalize", "engine_precision")
        own: dict[str, Any] = {"pooling": self.pooling, "dtype": self.dtype, "layers": ",".join(sorted(self.layers))}
        own |= {"decoding": DECODING} | ({"view": "flip"} if self.flip else {})
        own |= {"engine": self.engine} if self.engine != "auto" else {}  # auto takes what is there
        return {**{name: getattr(settings, name) for name in names}, **own}


def features_of(settings: Shared) -> Wanted:
    """Return the run's own feature file."""
    path = settings.run_folder / "features.h5"
    given = (settings.layer_names, settings.pooling, settings.dtype, settings.weights)
    return Wanted(path, *given, engine=settings.engine)


def random_of(settings: Shared) -> Wanted:
    """Return the feature file of the baseline `random`: the same layers of the seeded random network."""
    return replace(features_of(settings), path=settings.run_folder / "random" / "features.h5", weights="random")


def activations_of(settings: Shared, layer: str, flip: bool = False, engine: str | None = None) -> Wanted:
    """Return the file of one layer's whole activations, of the images or of their mirrors.

    By an `engine` that is not the run's own they lie in a file beside.
    """
    engine = engine or settings.engine
    name = f"{layer}{'-flip' if flip else ''}{f'-{engine}' if engine != settings.engine else ''}.h5"
    return Wanted(
        settings.run_folder / "activations" / name, (layer,), "none", "float32", settings.weights, flip, engine
    )


def check_features(path: Path, expected: dict[str, Any], run: Path) -> None:
    """Raise InputError where the feature file at `path` was made from other settings, images or weights."""
    with FeatureFile(path) as features:
        received = {**UNSAID, **features.attributes}
    differing = [name for name in RECORDED if name in expected and received.get(name) != expected[name]]
    if differing:
        name = differing[0]
        if name == "split_sha256":
            raise InputError(
                f"{run / 'split.csv'} was changed after {path} was made by it; put it back, remove {path} to extract "
                f"by what it says now, or start another run: {another_run(run)}"
            )
        raise InputError(
            f"{path} was made with another {name} ({received.get(name)}; now {expected[name]}); "
            f"remove it to extract again, or start another run: {another_run(run)}"
        )
