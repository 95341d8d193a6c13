import dataclasses
import hashlib
import io
import pickle
import struct
import sys
import tarfile
import types
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from thaw.features.datasets import cifar as archives
from thaw.features.datasets.dataset import load_dataset

from tests.builders.images import refusal


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes as Python 2 wrote str, and NumPy's names of that time: so the originals were made."""

    dispatch: ClassVar[dict] = dict(pickle._Pickler.dispatch)

    def save_str(self, value):
        data = value if isinstance(value, bytes) else value.encode("latin-1")
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[bytes] = dispatch[str] = save_str

    def save_global(self, obj, name=None):
        module = "numpy.core.multiarray" if obj.__name__ == "_reconstruct" else obj.__module__
        self.write(pickle.GLOBAL + f"{module}\n{obj.__name__}\n".encode())
        self.memoize(obj)

    dispatch[type] = dispatch[types.FunctionType] = dispatch[types.BuiltinFunctionType] = save_global


def python2(value: object) -> bytes:
    stream = io.BytesIO()
    Python2Pickler(stream, 2).dump(value)
    return stream.getvalue()


def cifar_batch(num: int, labels_key: bytes, seed: int) -> dict[bytes, object]:
    data = np.random.default_rng(seed).integers(0, 256, (num, 3072), dtype=np.uint8)
    return {b"data": data, labels_key: [(seed + i) % 3 for i in range(num)], b"filenames": [b"x.png"] * num}


def cifar_archive(path: Path, word: str, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(f"{archives.CIFAR[word].folder}/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def accept(monkeypatch, word: str, path: Path) -> None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(archives.CIFAR, word, dataclasses.replace(archives.CIFAR[word], sha256=digest))


def tiny(path: Path, word: str) -> Path:
    cifar = archives.CIFAR[word]
    files = {name: cifar_batch(2, cifar.key_prefix + b"labels", k) for k, name in enumerate((*cifar.train, cifar.test))}
    if word == "cifar100":
        for batch in files.values():
            batch[b"coarse_labels"] = [0, 0]
    files[cifar.meta] = {cifar.key_prefix + b"label_names": [b"ant", b"bee", b"cow"]}
    return cifar_archive(path, word, {name: python2(value) for name, value in files.items()})


@pytest.mark.parametrize(("word", "num_train"), [("cifar10", 10), ("cifar100", 2)])
def test_cifar_from_an_archive(tmp_path, monkeypatch, word, num_train):
    path = tiny(tmp_path / "c.tar.gz", word)
    accept(monkeypatch, word, path)
    dataset = load_dataset(word, data=path)
    assert dataset.name == word
    assert dataset.class_names == ("ant", "bee", "cow")
    assert dataset.given_split == ("train",) * num_train + ("test",) * 2
    assert dataset.ids[num_train] == "test/00000"
    assert dataset.ids[num_train - 1] == f"train/{num_train - 1:05d}"
    np.testing.assert_array_equal(dataset.labels[:2], [0, 1])
    first = cifar_batch(2, b"", 0)[b"data"][0]
    np.testing.assert_array_equal(dataset.read(0), first.reshape(3, 32, 32).transpose(1, 2, 0))


@pytest.mark.parametrize("word", ["cifar10", "cifar100"])
def test_cifar_from_the_keras_cache(tmp_path, monkeypatch, word):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "datasets").mkdir()
    names = archives.CIFAR[word].cached_as
    (tmp_path / "datasets" / names[0]).write_bytes(b"half a download")
    path = tiny(tmp_path / "datasets" / names[1], word)
    accept(monkeypatch, word, path)
    assert load_dataset(word).class_names == ("ant", "bee", "cow")


def fake_keras(monkeypatch, get_file) -> None:
    utils = types.ModuleType("keras.utils")
    utils.get_file = get_file
    keras = types.ModuleType("keras")
    keras.utils = utils
    monkeypatch.setitem(sys.modules, "keras", keras)
    monkeypatch.setitem(sys.modules, "keras.utils", utils)


def test_cifar_from_keras_download(tmp_path, monkeypatch):
    path = tiny(tmp_path / "c.tar.gz", "cifar10")
    accept(monkeypatch, "cifar10", path)
    asked = {}
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "empty"))
    fake_keras(monkeypatch, lambda **options: asked.update(options) or str(path))
    assert len(load_dataset("cifar10").ids) == 12
    assert asked == {
        "fname": "cifar-10-batches-py-target_archive",
        "origin": "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "file_hash": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def test_cifar_that_cannot_be_downloaded(tmp_path, monkeypatch):
    def get_file(**options):
        raise Exception("URL fetch failure on https://x: None -- no route")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    fake_keras(monkeypatch, get_file)
    assert refusal("cifar10") == (
        "cifar10 could not be downloaded (URL fetch failure on https://x: None -- no route); expected "
        "cifar-10-python.tar.gz in the Keras cache or by --data; type --data PATH with that archive, "
        "an image folder or a .zip (with make: DATA=cifar10-images.zip)"
    )


class Boom:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (eval, (f"open({str(self.path)!r}, 'w')",))


def test_an_archive_with_another_digest_is_not_unpickled(tmp_path):
    files = {"data_batch_1": pickle.dumps(Boom(tmp_path / "boom"))}
    path = cifar_archive(tmp_path / "c.tar.gz", "cifar10", files)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert refusal("cifar10", data=path) == (
        f"{path} has sha256 {digest}; expected 6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce of "
        "cifar-10-python.tar.gz; it was not unpacked: download it again, or give an image folder or .zip by "
        "--data PATH"
    )
    assert not (tmp_path / "boom").exists()


def test_a_malicious_pickle_executes_nothing_whatever_its_digest(tmp_path, monkeypatch):
    files = {"data_batch_1": pickle.dumps(Boom(tmp_path / "boom"))}
    path = cifar_archive(tmp_path / "c.tar.gz", "cifar10", files)
    accept(monkeypatch, "cifar10", path)
    assert refusal("cifar10", data=path) == (
        f"{path} cannot be read as a CIFAR archive (it asks for builtins.eval); expected cifar-10-python.tar.gz; "
        "download it again, or give an image folder or .zip by --data PATH"
    )
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("array", [np.array([None]), np.zeros(3), np.array(["a"])])
def test_arrays_of_anything_but_bytes_are_refused(tmp_path, monkeypatch, array):
    path = cifar_archive(tmp_path / "c.tar.gz", "cifar10", {"data_batch_1": python2(array)})
    accept(monkeypatch, "cifar10", path)
    assert "(it asks for an array of b'" in refusal("cifar10", data=path)


@pytest.mark.parametrize("files", [{}, {"data_batch_1": b"junk"}, {"data_batch_1": python2([1])}])
def test_an_archive_that_holds_something_else(tmp_path, monkeypatch, files):
    path = cifar_archive(tmp_path / "c.tar.gz", "cifar10", files)
    accept(monkeypatch, "cifar10", path)
    assert f"{path} cannot be read as a CIFAR archive (" in refusal("cifar10", data=path)
