"""Stage `backbones`: list the networks with their costs and whether their weights are here, or the layers of one."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from thaw.features.backbones.cuts import Layer
from thaw.features.backbones.registry import BACKBONES, Backbone, get_backbone
from thaw.features.backbones.weights import at_hand, how_to_get, keras_models_folder
from thaw.features.foreign.extractors import is_foreign, without_path
from thaw.features.foreign.network import open_network
from thaw.pipeline.config import Backbones
from thaw.pipeline.terminal import console_for, empty_table, say

OVERVIEW = ("network", "least image", "image here", "parameters", "multiply-adds", "fine-tuned from", "weights")
COLUMNS = ("layer", "output", "parameters", "multiply-adds", "features", "unfreeze from")
NUMBERS = ("least image", "image here", "output", "parameters", "multiply-adds")


def main(settings: Backbones) -> None:
    """Print a table of all networks, or the layers of one; raises InputError if there is no such network."""
    console = console_for()
    if settings.backbone and is_foreign(settings.backbone):
        _show_foreign(console, settings)
        return
    if settings.backbone is None:
        console.print(_overview(console, settings.image_size))
        say(
            console,
            "Parameters and multiply-adds are those of one image of the size here, up to the network's last layer. "
            "thaw backbones --backbone NAME lists the layers of a network, and says how to get its weights.",
        )
        return
    backbone = get_backbone(settings.backbone)
    image_size = settings.image_size or backbone.default_image_size
    backbone.check_image_size(image_size)
    say(
        console,
        f"{backbone.name}: images of {backbone.min_image_size} pixels or more, here {image_size}; --normalize "
        f"{backbone.normalization}; parameters and multiply-adds of one image up to a layer",
        style="bold",
    )
    say(console, _weights(backbone))
    console.print(_table(console, backbone, image_size))
    if not backbone.is_fine_tuned:
        say(console, f"{backbone.name} is not fine-tuned: no layer of its upper part splits the network")


def _overview(console: Console, image_size: int | None) -> Table:
    """Return a row for each network, for images of one size, or each network's default."""
    table = _empty(console, OVERVIEW)
    for backbone in BACKBONES.values():
        size = image_size or backbone.default_image_size
        cells = [backbone.name, str(backbone.min_image_size)]
        if size < backbone.min_image_size:
            cells += ["-"] * 3
        else:
            parameters, multiply_adds = backbone.cost(backbone.layers[-1].name, size)
            cells += [str(size), f"{parameters:,}", f"{multiply_adds:,}"]
        table.add_row(*cells, backbone.default_cut, "at hand" if at_hand(backbone) else "not at hand")
    return table


def _empty(console: Console, columns: tuple[str, ...]) -> Table:
    table = empty_table(console)
    for name in columns:
        table.add_column(name, justify="right" if name in NUMBERS else "left", no_wrap=name in NUMBERS, overflow="fold")
    return table


def _show_foreign(console: Console, settings: Backbones) -> None:
    """Print what is in an ONNX file: its input, and its layers with what becomes of them."""
    given = without_path({"backbone": settings.backbone})
    network = open_network(Path(given["weights"]), given["backbone"])
    image_size = settings.image_size or network.default_image_size
    axes = "N, 3, H, W" if network.image.channels_first else "N, H, W, 3"
    sizes = f"of {network.image.size} pixels" if network.image.size else f"of any size, here {image_size} pixels"
    say(console, f"{network.name}: images ({axes}) {sizes}; {network.num_parameters:,} parameters", style="bold")
    say(console, f"its file: {network.path} (sha256 {network.content.sha256})")
    table = empty_table(console)
    for name in ("layer", "output", "features"):
        table.add_column(name, justify="right" if name == "output" else "left", no_wrap=True)
    for layer in network.layers:
        shape = network.output_shape(layer.name, image_size)
        table.add_row(layer.name, "x".join(str(length) for length in shape), "default")
    console.print(table)
    say(console, f"any other tensor of it by --layers: {', '.join(network.tensor_names)}")


def _weights(backbone: Backbone) -> str:
    """Return a line that says whether the network's ImageNet weights are on this machine, and from where."""
    if source := at_hand(backbone):
        return f"ImageNet weights: at hand, from {source}"
    tried = backbone.published is not None and backbone.published.digest is not None
    download = "Keras' download is tried when they are needed; or " if tried else ""
    return f"ImageNet weights: not at hand; {download}{how_to_get(backbone, keras_models_folder())}"


def _table(console: Console, backbone: Backbone, image_size: int) -> Table:
    table = _empty(console, COLUMNS)
    for layer in backbone.layers:
        table.add_row(*_cells(backbone, layer, image_size))
    return table


def _cells(backbone: Backbone, layer: Layer, image_size: int) -> list[str]:
    """Return the cells of a layer's row; `default` marks the layers that the options take by themselves."""
    parameters, multiply_adds = backbone.cost(layer.name, image_size)
    output = "x".join(str(length) for length in backbone.output_shape(layer.name, image_size))
    is_default = layer.name in backbone.default_layers.split(",")
    features = "default" if is_default else "yes" if layer.probed else ""
    can_begin = layer.trainable and backbone.is_fine_tuned
    unfreeze = "default" if layer.name == backbone.default_cut else "yes" if can_begin else ""
    return [layer.name, output, f"{parameters:,}", f"{multiply_adds:,}", features, unfreeze]
