"""A frozen network that gives features, by its name: one of our own, or one from an ONNX file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from thaw.features.backbones.registry import Backbone, get_backbone
from thaw.features.errors import InputError
from thaw.features.foreign.network import PREFIX, OnnxNetwork, name_of, open_network

if TYPE_CHECKING:
    from thaw.features.backbones.weights import Weights

Extractor = Backbone | OnnxNetwork
"""A frozen network that features are taken from; a `Backbone` can be trained too."""

OUR_ENGINES, FOREIGN_ENGINES = ("keras", "mnn", "onnxruntime"), ("onnxruntime",)


def get_extractor(name: str, weights: str = "imagenet") -> Extractor:
    """Return a network by its name; `onnx:` and a name mean the network in the ONNX file whose path is `weights`.

    Raises InputError that lists the names, or if the network of a file is to have other weights than its own.
    """
    if not is_foreign(name):
        return get_backbone(name)
    if weights in ("imagenet", "random"):
        raise InputError(
            f"{name} has the weights in its file alone, and cannot be had with {weights} ones; leave --weights, or the "
            "baseline random, out"
        )
    return open_network(Path(weights), name)


def is_foreign(name: str) -> bool:
    """Return whether a name is of a network from an ONNX file."""
    return name.startswith(PREFIX)


def trainable_backbone(name: str, what: str) -> Backbone:
    """Return one of our own networks; raises InputError if it is a foreign one, which cannot do `what`."""
    if is_foreign(name):
        raise InputError(
            f"{what} needs a network that is built here, and {name} is a file that is run as it is; take another "
            "--backbone, or a strategy on its features: svm, logreg, knn, ridge, head"
        )
    return get_backbone(name)


def weights_of(extractor: Extractor, source: str, seed: int = 0) -> "Weights":
    """Return the weights of a network, as `load_weights` does; of a foreign one their digest alone.

    A foreign network's tensors stay in its file, beside the operators that take them.
    """
    from thaw.features.backbones.weights import Weights, load_weights  # imports h5py, which --help need not wait for

    if isinstance(extractor, OnnxNetwork):
        return Weights({}, str(extractor.path), extractor.content.sha256)
    return load_weights(source, extractor, seed)


def engines_of(extractor: Extractor) -> tuple[str, ...]:
    """Return the names of the engines that can run a network."""
    return FOREIGN_ENGINES if isinstance(extractor, OnnxNetwork) else OUR_ENGINES


def without_path(given: dict[str, Any]) -> dict[str, Any]:
    """Return settings in which `onnx:FILE` is two: the network's name `onnx:<stem>`, and as `weights` the file's path.

    Settings that are like that already, or of another network, are returned as they are. Raises InputError if other
    weights are given beside the file.
    """
    word, weights = given.get("backbone"), given.get("weights")
    if not isinstance(word, str) or not is_foreign(word):
        return given
    if isinstance(weights, str) and weights not in ("imagenet", "random") and name_of(Path(weights)) == word:
        return given
    if weights not in (None, "imagenet"):
        raise InputError(f"--backbone {word} has its weights in its own file; leave --weights {weights} out")
    if not (file := word.removeprefix(PREFIX)):
        raise InputError("--backbone onnx: names no file; expected its path, for example --backbone onnx:resnet18.onnx")
    path = Path(file).expanduser().absolute()
    return {**given, "backbone": name_of(path), "weights": str(path)}
