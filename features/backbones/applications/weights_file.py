"""Read the weights of a network from Keras' old HDF5 format, in which its published files are, without Keras.

A file lists its layers in Keras' order, each a group that lists its weights. Keras itself takes them by their order,
since the names in its files are older than those of its networks. So does this.
"""

import io
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from thaw.features.backbones.applications.graph_files import read_places
from thaw.features.backbones.graph import Tensors

Shapes = tuple[tuple[int, ...], ...]
MOST_BYTES = 8  # of a number
WHOLE_MODEL = "model_weights"  # the group that holds the weights if a whole model was saved


def read_weights_file(path: Path, network: str, tensor_shapes: Mapping[str, Shapes]) -> Tensors | None:
    """Return the tensors of a network's operations, float32; None if the file is in another format.

    Args:
        path: The file.
        network: The name of the network in the list.
        tensor_shapes: The shapes of the tensors of each of its operations that has any.

    Raises:
        ValueError: the file is another network's, or its tensors lie elsewhere.
    """
    places = read_places(network)
    by_place: dict[int, list[str]] = {}
    for name in tensor_shapes:
        by_place.setdefault(places[name], []).append(name)
    with h5py.File(io.BytesIO(path.read_bytes()), "r") as file:
        root = file.get(WHOLE_MODEL, file)
        layers = _names(root, "layer_names")
        if not layers:
            return None
        held = {layer: _names(root[layer], "weight_names") for layer in layers}
        with_weights = [layer for layer in layers if held[layer]]
        if len(with_weights) != len(by_place):
            raise ValueError(f"it has {len(with_weights)} layers with weights, not {len(by_place)}")
        found: dict[str, tuple[np.ndarray, ...]] = {}
        for place, layer in enumerate(with_weights):
            wanted = {name: tensor_shapes[name] for name in by_place[place]}
            found |= _tensors_of_layer(root[layer], held[layer], wanted)
    return found


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """Return a list of names, empty if there is none; Keras cuts a long one into `names0`, `names1` and so on."""
    if attribute in group.attrs:
        pieces = [group.attrs[attribute]]
    else:
        numbered = (f"{attribute}{number}" for number in range(len(group.attrs)))
        pieces = [group.attrs[name] for name in numbered if name in group.attrs]
    return [name.decode() if isinstance(name, bytes) else str(name) for piece in pieces for name in piece]


def _tensors_of_layer(
    group: h5py.Group, names: list[str], wanted: Mapping[str, Shapes]
) -> dict[str, tuple[np.ndarray, ...]]:
    """Return the tensors of the operations of one layer.

    What a preprocessing layer was adapted to comes with a count, which is left out: a layer may have one weight more.
    """
    shapes = [shape for of_operation in wanted.values() for shape in of_operation]
    if len(names) not in (len(shapes), len(shapes) + 1):
        raise ValueError(f"{group.name} has {len(names)} weights, not {len(shapes)}")
    tensors = iter([_tensor(group[name], shape) for name, shape in zip(names, shapes, strict=False)])
    return {name: tuple(next(tensors) for _ in of_operation) for name, of_operation in wanted.items()}


def _tensor(dataset: h5py.Dataset, shape: tuple[int, ...]) -> np.ndarray:
    """Return a weight of Keras in the shape of our tensor, which may have other axes of length 1."""
    if dataset.is_virtual or dataset.external or dataset.dtype.itemsize > MOST_BYTES:
        raise ValueError(f"{dataset.name} lies elsewhere, or is not made of numbers")
    if [length for length in dataset.shape if length > 1] != [length for length in shape if length > 1]:
        raise ValueError(f"{dataset.name} has the shape {dataset.shape}, not {shape}")
    return np.asarray(dataset[...], np.float32).reshape(shape)
