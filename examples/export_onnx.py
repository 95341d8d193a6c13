"""Export a pretrained network of timm, torchvision or transformers as ONNX, with the JSON that says how images go in.

    python examples/export_onnx.py timm vit_small_patch14_dinov2.lvd142m dinov2.onnx --size 224
    python examples/export_onnx.py torchvision resnet50 resnet50.onnx
    python examples/export_onnx.py transformers openai/clip-vit-base-patch32 clip.onnx

It needs the library that is named, torch and onnx; Thaw itself needs none of them. Then:

    thaw features --dataset folder:flowers --backbone onnx:dinov2.onnx
"""

import argparse
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

RESAMPLING = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers, as transformers has them
LAST = ("fc", "classifier", "head", "heads")  # torchvision's names of what classifies
OPSET = 17


class Exported(NamedTuple):
    """A network without its classifier, the names of its outputs, and what the JSON states."""

    model: Any
    outputs: list[str]
    stated: dict[str, Any]


def of_timm(name: str, pretrained: bool, size: int | None) -> Exported:
    """Return a network of timm: its pooled features, for a vision transformer those of the class token."""
    import timm

    model = timm.create_model(name, pretrained=pretrained, num_classes=0, **({"img_size": size} if size else {}))
    data = timm.data.resolve_model_data_config(model)
    stated = _stated(data["mean"], data["std"], size or data["input_size"][1], data["interpolation"])
    return Exported(model, ["features"], stated)


def of_torchvision(name: str, pretrained: bool, size: int | None) -> Exported:
    """Return a network of torchvision without what classifies, which gets its averaged features."""
    import torch
    from torchvision import models

    weights = models.get_model_weights(name).DEFAULT
    model = models.get_model(name, weights=weights if pretrained else None)
    found = next(attribute for attribute in LAST if hasattr(model, attribute))
    setattr(model, found, torch.nn.Identity())
    images = weights.transforms()
    stated = _stated(images.mean, images.std, size or images.crop_size[0], images.interpolation.value)
    return Exported(model, ["features"], stated)


def of_transformers(name: str, pretrained: bool, size: int | None) -> Exported:
    """Return an image tower of transformers: the tokens of its last layer, and its pooled output."""
    import torch
    import transformers

    processor = transformers.AutoImageProcessor.from_pretrained(name)
    if pretrained:
        model = transformers.AutoModel.from_pretrained(name, attn_implementation="eager")
    else:
        model = transformers.AutoModel.from_config(transformers.AutoConfig.from_pretrained(name))
    tower = getattr(model, "vision_model", model)  # CLIP has two towers

    class Tower(torch.nn.Module):
        """The tower with plain outputs."""

        def __init__(self) -> None:
            super().__init__()
            self.tower = tower

        def forward(self, pixels: Any) -> tuple[Any, Any]:
            found = self.tower(pixel_values=pixels)
            return found.last_hidden_state, found.pooler_output

    side = getattr(processor, "crop_size", None) or processor.size
    size = size or (side["height"] if "height" in side else side["shortest_edge"])
    stated = _stated(processor.image_mean, processor.image_std, size, RESAMPLING[int(processor.resample)])
    return Exported(Tower(), ["tokens", "pooled"], {**stated, "scale": getattr(processor, "rescale_factor", 1 / 255)})


LIBRARIES = {"timm": of_timm, "torchvision": of_torchvision, "transformers": of_transformers}


def _stated(mean: Any, deviation: Any, size: int, resize: str) -> dict[str, Any]:
    """Return what the JSON states; these libraries take the middle of an image that is not square."""
    numbers = {name: [float(value) for value in values] for name, values in (("mean", mean), ("std", deviation))}
    return {**numbers, "size": int(size), "aspect": "crop", "resize": resize}


def save(exported: Exported, path: Path) -> None:
    """Write the network as ONNX, for any number of images, and the JSON beside it."""
    import torch

    size = exported.stated["size"]
    names = ["pixels", *exported.outputs]
    torch.onnx.export(
        exported.model.eval(),
        (torch.zeros(1, 3, size, size),),
        str(path),
        input_names=names[:1],
        output_names=names[1:],
        dynamic_axes={name: {0: "N"} for name in names},
        opset_version=OPSET,
        dynamo=False,
    )
    path.with_suffix(".json").write_text(json.dumps(exported.stated, indent=2) + "\n", encoding="utf-8")


def missing(library: str) -> str | None:
    """Return a line that says what has to be installed, None if all is there."""
    absent = [name for name in (library, "torch", "onnx") if find_spec(name) is None]
    return f"{', '.join(absent)} not installed; type pip install {' '.join(absent)}" if absent else None


def main(arguments: list[str] | None = None) -> int:
    """Export what the command line names; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("name", help="the network's name in the library, or on the Hugging Face hub")
    parser.add_argument("path", type=Path, help="the .onnx file to write; the JSON goes beside it")
    parser.add_argument("--size", type=int, help="the side of the images in pixels, if it is not the network's own")
    parser.add_argument("--random", action="store_true", help="random weights, to try it without a download")
    options = parser.parse_args(arguments)
    if line := missing(options.library):
        print(f"error: {line}", file=sys.stderr)
        return 1
    save(LIBRARIES[options.library](options.name, not options.random, options.size), options.path)
    print(options.path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
