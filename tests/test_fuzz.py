"""A short run of the fuzzer, and each kind of bytes that a long one found to end in a traceback."""

import io
import json
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from thaw.features.backbones.registry import get_backbone
from thaw.features.backbones.weights import load_weights
from thaw.features.datasets.tables.npz import list_npz
from thaw.features.errors import InputError
from thaw.features.extraction.parts import peek_part, read_part, write_part
from thaw.features.files.hdf5_guard import check_heaps
from thaw.features.store import FeatureFile
from thaw.models.artifacts import load_record
from thaw.models.neural.checkpoints import Checkpoint
from thaw.models.neural.saved_network import load as load_network
from thaw.pipeline.run.model_record import invalid_field
from thaw.pipeline.run.run_json import read_run
from thaw.pipeline.training import warm_start

from tests.builders.features import make_file

EVERYTHING = Path(__file__).resolve().parent / "fuzz" / "everything.py"
RECORD = {
    **{"model_version": 3, "strategy": "svm", "backbone": "vgg16", "weights": "random", "weights_sha256": "c" * 64},
    **{"seed": 0, "layer": "block5_pool", "class_names": ["a", "b"], "image_size": 48, "resize": "bilinear"},
    **{"aspect": "crop", "normalize": "caffe", "pooling": "max", "dtype": "float32", "decoding": 2, "views": 1},
    **{"engine": "keras", "engine_layers": ["block5_pool"], "engine_precision": "float32", "batch_size": 8},
}


def test_a_short_run_of_the_fuzzer_finds_nothing(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris is made for Linux alone")
    command = [sys.executable, str(EVERYTHING), "--each", "200", "--seed", "1", "--out", str(tmp_path / "fuzz.json")]
    ended = subprocess.run(
        [*command, "--findings", str(tmp_path / "found")], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    counts = json.loads((tmp_path / "fuzz.json").read_text())
    assert len(counts) >= 28
    assert all(count["executions"] >= 20 and not count["findings"] for count in counts)


def header(text: bytes, names: tuple[str, ...]) -> bytes:
    """Return an .npz whose arrays have `text` as their header."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text)
    return out.getvalue()


def squeezed(names: tuple[str, ...]) -> bytes:
    """Return a zip whose members claim to be compressed, and are not."""
    content = header(b"\xff" * 90, names)
    for pattern in (rb"(PK\x03\x04.{4})..", rb"(PK\x01\x02.{6}).."):
        content = re.sub(pattern, lambda match: match[1] + b"\x08\0", content, flags=re.DOTALL)
    return content


def of_tomorrow(names: tuple[str, ...]) -> bytes:
    """Return a zip that needs version 25.5 to be read."""
    return re.sub(rb"(PK\x01\x02..)..", lambda match: match[1] + b"\xff\0", header(b"x", names), flags=re.DOTALL)


NO_ARRAYS: dict[str, Callable[[tuple[str, ...]], bytes]] = {
    "a header that does not end": lambda names: header(b"{'descr': (", names),
    "members that cannot be unpacked": squeezed,
    "a version of tomorrow": of_tomorrow,
    "nothing": lambda names: b"",
}


@pytest.mark.parametrize("make", NO_ARRAYS.values(), ids=NO_ARRAYS.keys())
def test_zips_that_cannot_be_read_are_refused(tmp_path: Path, make: Callable[[tuple[str, ...]], bytes]) -> None:
    path = tmp_path / "made up.npz"

    def made(*names: str) -> Path:
        path.write_bytes(make(names))
        return path

    with pytest.raises(InputError, match="cannot be read|is not an .npz"):
        list_npz(made("x.npy", "y.npy"))
    with pytest.raises(InputError, match="the weights in .* are not those of alexnet"):
        load_weights(str(made("features.0.weight.npy")), get_backbone("alexnet"))
    with pytest.raises(InputError, match="is not a model that can be read"):
        load_record(made("record.json"))
    assert warm_start._read(made("content.npy"), {}) is None
    assert Checkpoint(made("record.npy"), "a" * 64).peek() is None


def test_a_damaged_table_of_names_is_said_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "features.h5"
    make_file(path)
    path.write_bytes(path.read_bytes().replace(b"SNOD", b"SNOX"))  # h5py reports it by a RuntimeError
    with pytest.raises(InputError, match="is not a whole feature file .*symbol table node"):
        FeatureFile(path)


def test_a_file_that_is_refused_is_not_left_open(tmp_path: Path) -> None:
    path = tmp_path / "features.h5"
    make_file(path)
    with h5py.File(path, "r+") as file:
        del file["labels"]
    with pytest.raises(InputError, match="labels is missing") as caught:
        FeatureFile(path)
    with h5py.File(path, "r+"):  # HDF5 refuses to change what is open elsewhere in the process
        assert caught.value


@pytest.mark.parametrize("what", ["giant", "loop", "text"])
def test_a_part_is_none_before_anything_is_allocated(tmp_path: Path, what: str) -> None:
    path = tmp_path / "part.h5"
    write_part(path, {"x": np.ones((3, 8), np.float32)}, np.arange(3), {"settings_sha256": "s"})
    with h5py.File(path, "r+") as file:
        del file["x"]
        if what == "giant":
            file.create_dataset("x", (8, 2**40), "f4", chunks=(1, 64))
        elif what == "loop":
            file["x"] = h5py.SoftLink("/x")
        else:
            file["x"] = [b"text"] * 3
    assert peek_part(path)
    assert read_part(path, ["x"]) is None


def test_a_heap_that_leads_nowhere_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "part.h5"
    write_part(path, {"x": np.ones((3, 8), np.float32)}, np.arange(3), {"settings_sha256": "s"})
    data = bytearray(path.read_bytes())
    at = data.index(b"GCOL") + 16
    for index, size in ((0, 0), (0, 8), (1, 2**64 - 4), (1, 2**40)):
        struct.pack_into("<HHIQ", data, at, index, 0, 0, size)
        path.write_bytes(bytes(data))
        with pytest.raises(ValueError, match=f"a heap of its texts has an object of {size} bytes"):
            check_heaps(path)
        assert peek_part(path) is None


def test_layers_that_are_an_array_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "features.h5"
    make_file(path)
    with h5py.File(path, "r+") as file:
        del file["features"]
        file.create_dataset("features", (8, 2**40), "i8", chunks=(1, 64))
    with pytest.raises(InputError, match="it has no layers"):
        FeatureFile(path)


def test_labels_of_no_characters_are_refused(tmp_path: Path) -> None:
    labels = np.array(["a", "b"])
    labels.view(np.uint32)[0] = 0xFFFFFFFF
    for text in (labels, labels.astype(labels.dtype.newbyteorder())):
        np.savez(tmp_path / "x.npz", x=np.zeros((2, 3, 3), np.uint8), y=text)
        with pytest.raises(InputError, match="cannot be read .*character"):
            list_npz(tmp_path / "x.npz")


@pytest.mark.parametrize("content", ['{"dataset": "folder:~nobody-here/x"}', '"engine"', "[]", '["engine"]'])
def test_settings_that_are_no_object_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match="run.json is damaged"):
        read_run(tmp_path)


def test_an_onnx_file_with_a_name_that_is_no_text_or_with_values_elsewhere(tmp_path: Path) -> None:
    import onnx

    kernel = onnx.numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "block1_conv1")
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], [kernel])).SerializeToString()
    path = tmp_path / "weights.onnx"
    path.write_bytes(model.replace(b"block1_conv1", b"block1\xff\xfe\xfd\xfc\xfb\xfa"))
    with pytest.raises(InputError, match="the weights in .* are not those of vgg16"):
        load_weights(str(path), get_backbone("vgg16"))
    onnx.external_data_helper.set_external_data(kernel, "/etc/hostname")
    kernel.ClearField("raw_data")
    path.write_bytes(onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], [kernel])).SerializeToString())
    with pytest.raises(InputError, match="its tensors lie in another file"):
        load_weights(str(path), get_backbone("vgg16"))


def test_weights_that_claim_more_than_the_network_has(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file.create_dataset("block1_conv1/kernel", (3, 3, 2**20, 2**20), "f4", chunks=(1, 1, 64, 64))
    with pytest.raises(InputError, match="block1_conv1/kernel lies elsewhere, or claims"):
        load_weights(str(tmp_path / "weights.h5"), get_backbone("vgg16"))


def test_a_network_whose_record_is_none(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps({"architecture": {}, "record": "text"}))
    with pytest.raises(InputError, match="is not a network that can be read"):
        load_network(tmp_path / "model.json")


def test_the_record_of_a_model_is_held_to_its_types() -> None:
    assert invalid_field(RECORD) is None
    wrong = {"image_size": "48", "batch_size": 0, "views": 3, "engine_layers": "x", "resize": "", "aspect": "stretch"}
    for name, value in wrong.items():
        assert str(invalid_field(RECORD | {name: value})).startswith(f"{name}: ")
    scrambled = str(invalid_field(RECORD | {"resize": "article"}))
    assert scrambled.startswith("aspect: Value error, --aspect crop does not go with --resize article; ")
    assert invalid_field({}) == "backbone: Field required"
