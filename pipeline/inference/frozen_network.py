"""The frozen network below a trained model: started as it ran in the training, or on another engine."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from thaw.features.backbones.weights import TensorsLater, Weights
from thaw.features.engines.network import Engine, Network
from thaw.features.errors import InputError
from thaw.features.extraction.choice import agreed_engine, choose_engine
from thaw.features.foreign.extractors import Extractor, engines_of, get_extractor, weights_of
from thaw.pipeline.config import Trained

log = logging.getLogger("thaw")


AS_TRAINED = Trained()
"""The options of a stage that uses a model, if nothing is to differ from the training."""


def start_engine(folder: Path, record: dict[str, Any], options: Trained) -> Engine:
    """Return the engine that made the features, or if it is not there another one with the same output."""
    # A network that was converted before, for these very weights, is run without reading them again.
    tensors = TensorsLater(lambda: frozen_weights(folder, record, options.weights).tensors)
    weights = Weights(tensors, str(options.weights or record["weights"]), record["weights_sha256"])
    layers, size, batch_size = tuple(record["engine_layers"]), int(record["image_size"]), int(record["batch_size"])
    extractor = extractor_of(record, options.weights)
    network = Network(extractor, weights, layers, size, record["engine_precision"], keep=True)
    # Without other options Keras runs again if it ran in training; a GPU may run in place of MNN.
    as_trained = options.engine == "auto" and record["engine"] != "mnn"
    requested = str(record["engine"]) if as_trained else options.engine
    engine, device = choose_engine(requested, options.device, network.precision, engines_of(extractor))
    engine = agreed_engine(requested, engine, network, batch_size, lambda: np.empty((0, size, size, 3), np.float32))
    if engine != record["engine"]:
        log.info("the features were made by %s; %s gives the same to about 1e-4", record["engine"], engine)
    return network.start(engine, batch_size, device)


def frozen_weights(folder: Path, record: dict[str, Any], source: str | None) -> Weights:
    """Return the frozen network's weights, from `source` if it is given; raises InputError if they are others."""
    weights = weights_of(extractor_of(record, source), source or record["weights"], record["seed"])
    if weights.sha256 != record["weights_sha256"]:
        raise InputError(
            f"the model in {folder} was trained on a network with the weights {record['weights_sha256'][:12]}..., and "
            f"those from {weights.source} are {weights.sha256[:12]}...; give the same file: --weights PATH"
        )
    return weights


def extractor_of(record: dict[str, Any], source: str | None) -> Extractor:
    """Return the network that a model's record names; `source` is the file of its weights if that was moved."""
    return get_extractor(record["backbone"], source or record["weights"])
