"""Write the networks of `keras.applications` as data of the package: `.venv/bin/python -m benchmarks.keras_graphs`.

Each network is built as if with its ImageNet weights, which changes the graph of some (EfficientNet then rescales its
input once more), but without reading them. Names, preprocessing, image sizes and the files of the weights come from
Keras in the same way. Paddings are told from several sizes. It takes about ten minutes on two cores.
"""

import argparse
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import keras
import numpy as np
from keras.src.applications import imagenet_utils
from keras.src.utils import file_utils

from thaw.features.backbones.applications.graph_files import FOLDER, LIST, graph_as_text, list_as_text
from thaw.features.backbones.applications.reader import places_of_weights, read_graph
from thaw.features.backbones.graph import Graph
from thaw.features.files.atomic import write_whole
from thaw.features.images.preprocess import NORMALIZATIONS, normalize

log = logging.getLogger("thaw")

# Even and odd maps at every stride that is padded, of networks that round up, round down, or cut the edge of the image.
SIZES = (256, 257, 259, 260, 264, 272)
USUAL_SIZES = {"min_size": 32, "default_size": 224}  # of the networks that do not ask Keras to check the size
MODULES = {  # of keras.applications, that have the preprocessing, by what a network's name begins with
    "VGG16": "vgg16",
    "VGG19": "vgg19",
    "ResNet50V2": "resnet_v2",
    "ResNet101V2": "resnet_v2",
    "ResNet152V2": "resnet_v2",
    "ResNet": "resnet",
    "InceptionResNetV2": "inception_resnet_v2",
    "InceptionV3": "inception_v3",
    "Xception": "xception",
    "DenseNet": "densenet",
    "MobileNetV3": "mobilenet_v3",
    "MobileNetV2": "mobilenet_v2",
    "MobileNet": "mobilenet",
    "NASNet": "nasnet",
    "EfficientNetV2": "efficientnet_v2",
    "EfficientNet": "efficientnet",
    "ConvNeXt": "convnext",
}
BUILDERS = (
    *("VGG16", "VGG19", "ResNet50", "ResNet101", "ResNet152", "ResNet50V2", "ResNet101V2", "ResNet152V2"),
    *("InceptionV3", "InceptionResNetV2", "Xception", "DenseNet121", "DenseNet169", "DenseNet201"),
    *("MobileNet", "MobileNetV2", "MobileNetV3Small", "MobileNetV3Large", "NASNetMobile", "NASNetLarge"),
    *(f"EfficientNetB{number}" for number in range(8)),
    *("EfficientNetV2B0", "EfficientNetV2B1", "EfficientNetV2B2", "EfficientNetV2B3"),
    *("EfficientNetV2S", "EfficientNetV2M", "EfficientNetV2L"),
    *("ConvNeXtTiny", "ConvNeXtSmall", "ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtXLarge"),
)


@contextmanager
def seen_in_building() -> Iterator[dict[str, Any]]:
    """Let networks be built as if with ImageNet weights inside the `with` block, without reading them.

    The dictionary gets what Keras is asked for meanwhile: `file`, `url` and `digest` of the weights (None if Keras
    knows none, as of MobileNet and MobileNetV2), and `min_size` and `default_size` of the images.
    """
    seen: dict[str, Any] = {}
    obtain = imagenet_utils.obtain_input_shape

    def no_download(fname: str, origin: str, file_hash: str | None = None, **_: Any) -> str:
        seen.update(file=fname, url=origin, digest=file_hash)
        return fname

    def obtain_input_shape(*given: Any, **options: Any) -> Any:
        seen.update({name: options[name] for name in USUAL_SIZES})
        return obtain(*given, **options)

    with (
        mock.patch.object(file_utils, "get_file", no_download),
        mock.patch.object(imagenet_utils, "obtain_input_shape", obtain_input_shape),
        mock.patch.object(keras.Model, "load_weights"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", UserWarning)  # that a size is not the one of the weights
        yield seen


def as_published(builder: str, image_size: int) -> tuple[keras.Model, dict[str, Any]]:
    """Return a network without its top, built as if with ImageNet weights, and what was seen in building it."""
    with seen_in_building() as seen:
        shape = (image_size, image_size, 3)
        model = getattr(keras.applications, builder)(weights="imagenet", include_top=False, input_shape=shape)
    return model, {**USUAL_SIZES, **seen}


def read(builder: str) -> tuple[dict[str, Any], str]:
    """Return a network's row in the list, and the content of its file."""
    models, seen = [], dict[str, Any]()
    for size in SIZES:
        model, seen = as_published(builder, size)
        models.append(model)
        if len(models) > 1 and (graph := _readable(models)):
            break
    else:
        graph = read_graph(models)
    row = {
        "name": builder.lower(),
        "builder": builder,
        "normalization": normalization(builder),
        "min_image_size": seen["min_size"],
        "own_image_size": seen["default_size"],
        **{name: seen[name] for name in ("file", "url", "digest")},
    }
    return row, graph_as_text(graph, places_of_weights(models[0]))


def _readable(models: list[keras.Model]) -> Graph | None:
    """Return the graph, None if there are paddings that need more sizes."""
    try:
        return read_graph(models)
    except ValueError as error:
        if "read it at more sizes" not in str(error):
            raise
        return None


def normalization(builder: str) -> str:
    """Return our name of what Keras does to the images before the network; raises ValueError if there is none."""
    images = np.random.default_rng(0).uniform(0, 255, (1, 4, 4, 3)).astype(np.float32)
    module = next(module for name, module in MODULES.items() if builder.startswith(name))
    expected = getattr(keras.applications, module).preprocess_input(images.copy())
    for method in NORMALIZATIONS:
        if np.allclose(normalize(images, method), expected, rtol=1e-5, atol=1e-4):
            return method
    raise ValueError(f"the preprocessing of {builder} is none of {', '.join(NORMALIZATIONS)}")


def main() -> None:
    """Read the networks and write their files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=BUILDERS, help="the graphs of these networks alone, not the list")
    wanted = parser.parse_args().only or BUILDERS
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    FOLDER.mkdir(exist_ok=True)
    rows = []
    for builder in wanted:
        row, content = read(builder)
        rows.append(row)
        with write_whole(FOLDER / f"{row['name']}.json") as file:
            file.write(content)
        log.info("%s: %d operations", row["name"], content.count('"kind"'))
    if len(wanted) == len(BUILDERS):
        with write_whole(FOLDER / LIST) as file:
            file.write(list_as_text(rows))


if __name__ == "__main__":
    main()
