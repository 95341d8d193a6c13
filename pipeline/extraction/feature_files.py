"""The feature files of a run: where each lies, what it is made with, and whether a file that is there is that."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from thaw.features.datasets.dataset import Dataset
from thaw.features.engines.network import Network
from thaw.features.errors import InputError
from thaw.features.extraction.extraction import parts_folder
from thaw.features.extraction.spec import FeatureRequest, Preprocessing, StoredLayers
from thaw.features.foreign.extractors import get_extractor, weights_of
from thaw.features.images.decode import DECODING
from thaw.features.joined import JoinedFeatures
from thaw.features.pooling import layer_and_pooling, pooled_shape
from thaw.features.store import FeatureFile
from thaw.pipeline.config import FORMER, Shared
from thaw.pipeline.run import split_csv
from thaw.pipeline.run.data.images_csv import is_of_run
from thaw.pipeline.run.run_json import another_run, features_command, features_path

# What a feature file records, and what has to agree before it is used again.
RECORDED = (
    *("dataset", "backbone", "weights_sha256", "image_size", "resize", "aspect", "normalize", "pooling", "views"),
    *("dtype", "layers", "dataset_sha256", "split_sha256", "view", "white", "engine", "engine_precision", "decoding"),
)


Given = TypeVar("Given", bound=Shared)


@dataclass(frozen=True)
class FeatureSet:
    """One feature file of a run, by the settings that it is made with.

    `name` is its path within the run if it is not the one of the feature set that the settings name. With `flip` it
    is of the mirrored images. A sample is of some of the images.
    """

    settings: Shared
    name: str | None = None
    flip: bool = False
    is_sample: bool = False

    @property
    def path(self) -> Path:
        """The file's path."""
        given = self.settings
        return given.run_folder / self.name if self.name else features_path(given.run_folder, given.feature_set)

    def record(self) -> dict[str, Any]:
        """Return what the file records of its settings; with the engine `auto` any engine's file will do."""
        names = ("dataset", "backbone", "image_size", "resize", "aspect", "normalize", "engine_precision", "pooling")
        record = {name: getattr(self.settings, name) for name in (*names, "views", "dtype")}
        record |= {"layers": ",".join(sorted(self.settings.layer_names)), "decoding": DECODING}
        record |= {"view": "flip"} if self.flip else {}
        record |= {"white": self.settings.white} if self.settings.white else {}
        return record | ({"engine": self.settings.engine} if self.settings.engine != "auto" else {})

    def network(self) -> Network:
        """Return the frozen network, its weights read; raises InputError if they cannot be had."""
        given = self.settings
        backbone = get_extractor(given.backbone, given.weights)
        layers = tuple(dict.fromkeys(layer_and_pooling(name, given.pooling)[0] for name in given.layer_names))
        weights = weights_of(backbone, given.weights, given.seed)
        return Network(
            *(backbone, weights, layers, given.image_size, given.engine_precision),
            source=given.weights,
            seed=given.seed,
        )

    def layers(self, network: Network) -> StoredLayers:
        """Return the layers of the file; raises InputError if one cannot be had or pooled."""
        given = self.settings
        return StoredLayers.of(network, given.layer_names, given.pooling, given.dtype)

    def request(self, dataset: Dataset, split: np.ndarray, network: Network | None = None) -> FeatureRequest:
        """Return the request for the file of N images, each in a split, uint8 (N,)."""
        given, network = self.settings, network or self.network()
        digests = {
            "weights_sha256": network.weights.sha256,
            "dataset_sha256": dataset.digest(),
            "split_sha256": split_csv.digest(given.run_folder),
        }
        return FeatureRequest(
            run=given.run_folder,
            path=self.path,
            dataset=dataset,
            split=split,
            layers=self.layers(network),
            network=network,
            preprocessing=Preprocessing(
                *(given.image_size, given.resize, given.aspect, given.normalize, self.flip, given.views),
            ),
            record={**self.record(), **digests},
            folder=parts_folder(self.path, given.parts),
            engine=given.engine,
            device=given.device,
            batch_size=min(given.batch_size, len(dataset.ids)),
            skip_bad=given.skip_bad,
            is_sample=self.is_sample,
        )


@contextmanager
def open_features(run: Path, names: Sequence[str]) -> Iterator[FeatureFile]:
    """Open the file of a feature set of a run, or the files of several as one.

    Raises InputError if a file is gone or damaged, or if they hold different images.
    """
    for name in names:
        if not features_path(run, name).exists():
            raise InputError(f"it needs {features_path(run, name)}, which is gone; type: {features_command(run, name)}")
    with ExitStack() as closing:
        files = {name: closing.enter_context(FeatureFile(features_path(run, name))) for name in names}
        yield next(iter(files.values())) if len(files) == 1 else JoinedFeatures(files)


def random_of(settings: Given) -> Given:
    """Return the settings of the baseline `random`: the same layers of the seeded random network.

    Raises InputError for a network that has no weights but its own.
    """
    get_extractor(settings.backbone, "random")
    return settings.model_copy(update={"weights": "random", "features": settings.feature_set})


def activations_of(settings: Shared, layer: str, flip: bool = False, engine: str | None = None) -> FeatureSet:
    """Return the feature set of one layer's whole activations, of the images or of their mirrors.

    By an `engine` that is not the run's own they lie in a file beside.
    """
    engine = engine or settings.engine
    name = f"{layer}{'-flip' if flip else ''}{f'-{engine}' if engine != settings.engine else ''}.h5"
    whole = {"layers": layer, "pooling": "none", "views": "one", "dtype": "float32", "engine": engine}
    return FeatureSet(settings.model_copy(update=whole), f"activations/{settings.feature_set}/{name}", flip)


def megabytes_of(settings: Shared, num_images: int) -> float:
    """Return the MB (10^6 bytes) that a feature set of so many images takes on disk."""
    extractor = get_extractor(settings.backbone, settings.weights)
    values = 0
    for name in settings.layer_names:
        layer, pooling = layer_and_pooling(name, settings.pooling)
        values += int(np.prod(pooled_shape(pooling, extractor.output_shape(layer, settings.image_size))))
    return num_images * values * np.dtype(settings.dtype).itemsize / 1e6


def check_features(path: Path, expected: Mapping[str, Any], run: Path) -> None:
    """Raise InputError if a feature file of the run was made from other settings, images or weights than `expected`."""
    with FeatureFile(path) as features:
        received = {**FORMER, **features.attributes}
    differing = [name for name in RECORDED if name in expected and received.get(name) != expected[name]]
    if "dataset" in differing and is_of_run(run, received.get("dataset_sha256")):  # it was moved
        differing.remove("dataset")
    if not differing:
        return
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
