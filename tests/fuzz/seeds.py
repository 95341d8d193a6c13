"""Small valid files of every kind that a parser of ours meets, made by the writers of the product."""

import io
import json
import struct
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "faults")]

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 7, 3)).astype(np.uint8)
CLASSES = ["ant", "bee"]


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return the file of an image."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


PNG = saved(Image.fromarray(PIXELS), "PNG")


def images() -> list[bytes]:
    """Return the hostile corpus's images that are small: whole, of every mode, damaged, and none at all."""
    from corpus_images import images as corpus

    return [content for _, content, _ in corpus() if len(content) < 20_000]


def archives() -> list[bytes]:
    """Return zipped image folders with classes, with sides, and with a top folder."""
    found = []
    for names in (("ant/1.png", "bee/1.png"), ("train/ant/1.png", "test/bee/1.png"), ("top/ant/", "top/bee/1.png")):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                archive.writestr(name, b"" if name.endswith("/") else PNG)
        found.append(out.getvalue())
    written = found[1].replace(b"ant", "猫a".encode("gbk"))
    return [*found, written.replace(b"bee", "猫b".encode("gbk"))]


def tables() -> list[bytes]:
    """Return tables of images; those that they name lie beside the table."""
    return [
        b"path,label\n1.png,ant\n2.png,bee\n",
        b'path,label,split,group\r\n"1.png",ant,train,a\r\n2.png,"b,""ee",test,b\r\nsub/3.png,ant,,a\r\n',
        "\ufeffpath,label,split\n1.png,\u00e4\u4e2d,val\n2.png,bee,train\n".encode(),
        b"sep=;\nImage;ant;bee\n1.png;1;0\n2.png;0.0;1.0\n;;\n",
        "id\tclass\tsubset\n1.png\t01\tTRAIN\n2.png\t2\tUNASSIGNED\n".encode("utf-16"),
        b"filename, category\n1.png, \xe4\n2.png, nan\n",
    ]


def coco() -> list[bytes]:
    """Return COCO files of one category an image, and of several."""
    images = [{"id": number, "file_name": f"{number}.png"} for number in (1, 2)]
    categories = [{"id": 5, "name": "ant"}, {"id": 6, "name": "bee"}]
    found = []
    for pairs in (((1, 5), (2, 6)), ((1, 5), (2, 5), (2, 6))):
        annotations = [{"image_id": image, "category_id": category} for image, category in pairs]
        found.append(json.dumps({"images": images, "annotations": annotations, "categories": categories}).encode())
    return found


def json_lines() -> list[bytes]:
    """Return lines of JSON with the images beside the table."""
    return [
        b'{"file_name": "1.png", "label": "ant"}\n{"file_name": "2.png", "label": 7, "split": "train"}\n',
        b'{"image": "1.png", "class": null}\n\n{"image": "2.png", "class": true, "x": [1, {}]}\n',
    ]


def lists() -> list[bytes]:
    """Return lists of path and label that blanks separate, and tables without a header."""
    return [
        b"1.png 0\n2.png 1\nsub/3.png  1\n",
        b"TRAIN,1.png,ant\nUNASSIGNED,2.png,bee,0,1\n",
        b"1.png,ant\n2.png,bee\n",
    ]


def npz(**arrays: object) -> bytes:
    """Return the bytes of an .npz."""
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def arrays() -> list[bytes]:
    """Return .npz data sets."""
    few = np.zeros((4, 3, 3, 3), np.uint8)
    labels = np.arange(4) % 2
    names = {"x_train": few, "y_train": labels, "x_test": few, "y_test": labels}
    return [
        npz(x=few, y=labels),
        npz(**names, class_names=np.array(CLASSES)),
        npz(x=few[..., :1], y=np.array(["a", "b", "a", "b"])[:, np.newaxis]),
        npz(x=few[..., 0], y=labels.astype(np.uint8)),
        npz(train_images=few / 2, train_labels=np.eye(2)[labels], extra=labels),
        npz(images=np.zeros((4, 4, 3, 5), np.uint16) + 300, labels=np.array([b"a", b"b", b"a", b"b"])),
    ]


def feature_files(folder: Path) -> list[bytes]:
    """Return feature files: of two layers with groups, and of whole activations."""
    from thaw.features.extraction.extraction import _seal
    from thaw.features.schema import create_feature_file

    found = []
    for number, shapes in enumerate(({"block4_pool": (8, 3), "block5_pool": (8, 2)}, {"block5_pool": (8, 1, 1, 2)})):
        columns = {"labels": np.arange(8) % 2, "ids": [f"{k}.png" for k in range(8)], "class_names": CLASSES}
        columns["split"] = np.array([0, 0, 0, 0, 1, 1, 2, 2], np.uint8)
        columns |= {"groups": list("abcdefgh")} if number == 0 else {}
        path = folder / "seed.h5"
        attributes = {"backbone": "vgg16", "image_size": 48, "decoding": 2, "seconds": 1.5}
        with create_feature_file(path, shapes, "float32", columns, attributes) as file:
            for name, shape in shapes.items():
                file[f"features/{name}"][...] = np.ones(shape)
        _seal(path, tuple(shapes))
        found.append(path.read_bytes())
    return found


def parts(folder: Path) -> list[bytes]:
    """Return a part of a feature file."""
    from thaw.features.extraction.parts import write_part

    record = {"settings_sha256": "a" * 64, "skipped": {"x.png": "no"}, "seconds": 0.5}
    write_part(folder / "seed.part", {"block5_pool": np.ones((3, 2), np.float32)}, np.arange(3), record)
    return [(folder / "seed.part").read_bytes()]


def onnx_weights() -> list[bytes]:
    """Return an ONNX file with a kernel and a bias of one layer."""
    import onnx

    tensors = [
        onnx.numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "vgg/block1_conv1/kernel"),
        onnx.numpy_helper.from_array(np.ones(2, np.float32), "vgg/block1_conv1/bias"),
    ]
    graph = onnx.helper.make_graph([], "g", [], [], tensors)
    return [onnx.helper.make_model(graph).SerializeToString()]


def onnx_networks(folder: Path) -> list[bytes]:
    """Return networks as ONNX files: a convolutional one, a vision transformer, and one whose tensors lie elsewhere."""
    from tests.builders.onnx_networks import convolutional, vision_transformer

    elsewhere = {"save_as_external_data": True, "location": "elsewhere.data", "size_threshold": 0}
    paths = (
        convolutional(folder / "convolutional.onnx"),
        convolutional(folder / "external.onnx", **elsewhere),
        vision_transformer(folder / "transformer.onnx", width=4),
    )
    return [path.read_bytes() for path in paths]


def stated() -> list[bytes]:
    """Return what the JSON beside an ONNX file states, short and whole."""
    short = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    whole = {**short, "order": "bgr", "scale": 1, "size": 224, "aspect": "crop", "resize": "bicubic"}
    return [json.dumps(content).encode() for content in (short, whole)]


def keras_weights(folder: Path) -> list[bytes]:
    """Return HDF5 files with a layer of weights by the layer's name, and by Keras' numbers."""
    found = []
    for name in ("block1_conv1/block1_conv1", "layers/conv2d/vars"):
        with h5py.File(folder / "seed.h5", "w") as file:
            file[f"{name}/0"] = np.ones((1, 1, 3, 2), np.float32)
            file[f"{name}/1"] = np.ones(2, np.float32)
        found.append((folder / "seed.h5").read_bytes())
    return found


def pytorch_state() -> dict[str, np.ndarray]:
    """Return AlexNet's state dict with kernels of one value."""
    from thaw.features.backbones.pytorch_names import ALEXNET

    kernels = {f"{place}.weight": np.ones((2, 1, 1, 1), np.float32) for place in ALEXNET.values()}
    return kernels | {f"{place}.bias": np.ones(2, np.float32) for place in ALEXNET.values()}


def pytorch_files() -> list[bytes]:
    """Return files of PyTorch's old format: whole ones, and the hostile ones of the corpus."""
    from tests.builders.pytorch import saved
    from tests.builders.pytorch_hostile import HOSTILE

    steps = {"_conv_stem.weight": np.ones((2, 1, 1, 1), np.float32), "_bn0.num_batches_tracked": np.array(7)}
    return [saved(steps), *(content for content, _ in HOSTILE.values())]


def safetensors_weights() -> list[bytes]:
    """Return a safetensors file, and one whose header says more than there is."""
    from safetensors.numpy import save

    whole = save(pytorch_state())
    return [whole, struct.pack("<Q", 2**40) + whole[8:]]


def probes() -> list[bytes]:
    """Return the fitted probe and the checkpoint that an interrupted fine-tuning leaves."""
    numbers = {name: np.ones((2, 2), np.float32) for name in ("mean", "scale", "kernel", "bias")}
    shape = {"layer": "block5_pool", "pooling": "flat", "transform": "none"}
    content = {"made_for": {}, "shape": shape, "value": 1.0, "chosen_by": "advise", "seconds": 1.0}
    curve = {"settings_sha256": "a" * 64, "history": [], "best_epoch": -1, "stopped": None, "collapsed": False}
    record = np.frombuffer(json.dumps(curve).encode(), np.uint8)
    return [npz(content=np.array(json.dumps(content)), **numbers), npz(record=record, variable_0=np.ones(2))]


def requests() -> list[bytes]:
    """Return HTTP requests to the local page, good and bad."""
    host = b"Host: localhost:8000\r\n"
    post = b"POST /api/predict?top=2&neighbours=1 HTTP/1.1\r\n" + host
    return [
        b"GET / HTTP/1.1\r\n" + host + b"\r\n",
        b"GET /api/model HTTP/1.1\r\n" + host + b"\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n",
        b"GET /openapi.json HTTP/1.1\r\n" + host + b"\r\n",
        post + b"Content-Type: image/png\r\nOrigin: http://localhost:8000\r\n\r\n" + PNG,
        post
        + b"Content-Type: application/octet-stream\r\nContent-Length: 9\r\nSec-Fetch-Site: none\r\n\r\n"
        + PNG[:50],
        b"DELETE /api/predict?top=x HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    ]
