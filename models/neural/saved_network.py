"""A trained network as two files: `model.json` with architecture and record, `model.weights.h5` with the weights."""

import json
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np

from thaw.features.backbones.registry import get_backbone
from thaw.features.errors import FILE_ERRORS, InputError
from thaw.features.files.atomic import check_space, whole_path, write_whole
from thaw.features.files.hdf5_guard import check_heaps
from thaw.models.neural.network import Architecture, build
from thaw.models.neural.probe import ProbeShape

WEIGHTS_SUFFIX = ".weights.h5"
MAX_UNITS = 10**6  # of a layer in a file that is loaded
ERRORS = (*FILE_ERRORS, UserWarning)  # Keras only warns if a part of the weights is missing


def save(path: Path, model: keras.Model, architecture: Architecture, record: dict[str, Any]) -> None:
    """Write a network to `path`, with its weights beside it, each file whole.

    Args:
        path: the JSON file.
        model: the network.
        architecture: what the network was built from.
        record: the settings of the training, JSON values.
    """
    weights_path = path.with_suffix(WEIGHTS_SUFFIX)
    # HDF5 crashes the process if the disk fills up under it.
    check_space(weights_path, 4 * model.count_params())
    with whole_path(weights_path, WEIGHTS_SUFFIX) as temporary:
        model.save_weights(temporary)
    with write_whole(path) as file:
        file.write(json.dumps({"architecture": asdict(architecture), "record": record}, indent=2) + "\n")


def load(path: Path) -> tuple[keras.Model, Architecture, dict[str, Any]]:
    """Return (model, architecture, record): the network is built here, then filled with the file's numbers.

    Raises InputError if a file is missing or damaged, or if the two do not fit each other.
    """
    weights_path = path.with_suffix(WEIGHTS_SUFFIX)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        fields = content["architecture"]
        probe, sides = fields.pop("probe"), fields.pop("input_sides", None)
        architecture = Architecture(
            **fields, probe=ProbeShape(**probe) if probe else None, input_sides=tuple(sides) if sides else None
        )
        _check_size(architecture, weights_path)
        check_heaps(weights_path)
        model = build(architecture, None, seed=0)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            model.load_weights(weights_path)
        return model, architecture, dict(content["record"])
    except PermissionError as error:
        error.filename = error.filename or str(weights_path)  # HDF5 names the file in the text alone
        raise
    except ERRORS as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is not a network that can be read ({reason}); train the model again") from None


def _check_size(architecture: Architecture, weights_path: Path) -> None:
    """Raise ValueError if the head is larger than the file of its weights, before anything is allocated."""
    sizes = (architecture.units, architecture.num_classes, architecture.image_size, *(architecture.input_sides or ()))
    if any(not isinstance(size, int) or not 0 < size < MAX_UNITS for size in sizes):
        raise ValueError(f"units, classes and image size are {sizes}")
    if architecture.input_sides is None:
        get_backbone(architecture.backbone).check_image_size(architecture.image_size)
    elif len(architecture.input_sides) != 3:
        raise ValueError(f"its input has the sides {architecture.input_sides}")
    needed = 4 * architecture.units * (int(np.prod(architecture.output_shape)) + architecture.num_classes)
    held = weights_path.stat().st_size
    if needed > held:
        raise ValueError(f"its head takes {needed} bytes and its weights have {held}")
