"""Hostile artifacts: name -> what puts one in the place of a whole run's, which check meets it, what has to come."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from corpus_features import Change, features
from corpus_images import READ, REFUSED
from small_run import FEATURES

Case = tuple[str, str, Change, str]  # name, the file in the run, the change, what has to come


class Executes:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        """Return what to call."""
        return os.system, ("touch executed",)


def artifacts() -> Iterator[Case]:
    """Yield every case; each changes one file of a copy of a whole run."""
    yield "features as they are", FEATURES, lambda path: None, READ
    yield from (("features with " + name, FEATURES, change, REFUSED) for name, change in (*COMMON.items(), *features()))
    yield "skops model as it is", "svm/model.skops", lambda path: None, READ
    yield from (("skops model " + name, "svm/model.skops", change, REFUSED) for name, change in _skops())
    yield "network as it is", "head/model.json", lambda path: None, READ
    yield from (("network with " + name, "head/model.json", change, REFUSED) for name, change in _networks())
    yield from (("weights " + name, "head/model.weights.h5", change, REFUSED) for name, change in _weights())
    yield from (("report with " + name, "svm/report.json", change, REFUSED) for name, change in _reports())
    yield from (("predictions with " + name, "svm/predictions.csv", change, REFUSED) for name, change in _predictions())
    yield from (("run.json with " + name, "run.json", change, REFUSED) for name, change in _runs())
    yield from (("split.csv with " + name, "split.csv", change, REFUSED) for name, change in _splits())


def _bytes(change: Callable[[bytes], bytes]) -> Change:
    return lambda path: path.write_bytes(change(path.read_bytes()))


def _json(**fields: Any) -> Change:
    def change(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return change


def _set(**fields: Any) -> Change:
    """Return what changes the settings of the run's feature set."""

    def change(path: Path) -> None:
        content = json.loads(path.read_text())
        for given in content["feature_sets"].values():
            given.update(fields)
        path.write_text(json.dumps(content))

    return change


COMMON: dict[str, Change] = {
    "nothing in it": _bytes(lambda data: b""),
    "half of its bytes": _bytes(lambda data: data[: len(data) // 2]),
    "zeros in place of its bytes": _bytes(lambda data: bytes(len(data))),
    "a pickle in its place": _bytes(lambda data: pickle.dumps(Executes())),
    "HTML in its place": _bytes(lambda data: b"<script>alert(1)</script>" * 50),
}


def _archive(change: Callable[[dict[str, bytes]], object]) -> Change:
    """Return what changes the members of a zip."""

    def made(path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        change(members)
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)

    return made


def _schema(old: str, new: str) -> Change:
    return _archive(lambda m: m.__setitem__("schema.json", m["schema.json"].replace(old.encode(), new.encode())))


def _skops() -> Iterator[tuple[str, Change]]:
    for name, change in COMMON.items():
        yield f"with {name}", change
    yield "that names os.system", _schema('"LinearSVM"', '"system"')
    yield "of a module os", _schema('"thaw.models.linear"', '"os"')
    yield "of subprocess.Popen", _schema("thaw.models.linear", "subprocess")
    yield "without its schema", _archive(lambda members: members.pop("schema.json"))
    yield "with a schema that is a list", _archive(lambda members: members.__setitem__("schema.json", b"[1]"))
    yield "with a schema 5,000 deep", _archive(lambda m: m.__setitem__("schema.json", b"[" * 5000 + b"]" * 5000))
    yield "without its arrays", _archive(lambda m: [m.pop(name) for name in list(m) if name.endswith(".npy")])
    yield "with pickled arrays", _archive(_pickle_arrays)
    yield "with a model of text", _foreign("just text")
    yield "with a list as a model", _foreign([1, 2, 3])


def _pickle_arrays(members: dict[str, bytes]) -> None:
    out = io.BytesIO()
    np.save(out, np.array([Executes()], object), allow_pickle=True)
    members.update({name: out.getvalue() for name in members if name.endswith(".npy")})


def _foreign(model: object) -> Change:
    def change(path: Path) -> None:
        from thaw.models.artifacts import load_record, save_model

        save_model(path, model, load_record(path))

    return change


def _architecture(**fields: Any) -> Change:
    def change(path: Path) -> None:
        content = json.loads(path.read_text())
        content["architecture"] |= fields
        path.write_text(json.dumps(content))

    return change


def _networks() -> Iterator[tuple[str, Change]]:
    yield from COMMON.items()
    yield "10^11 units", _architecture(units=10**11)
    yield "10^9 classes", _architecture(num_classes=10**9)
    yield "images of 10^6 pixels a side", _architecture(image_size=10**6)
    yield "negative units", _architecture(units=-1)
    yield "units of text", _architecture(units="1000")
    yield "a layer that is none", _architecture(input_layer="../../etc/passwd")
    yield "a backbone that is none", _architecture(backbone="os.system")
    yield "a precision that is none", _architecture(precision="float1")
    yield "a field more", _architecture(code="import os")
    yield "a probe that is none", _architecture(probe={"layer": "x", "pooling": "y", "transform": "z"})
    yield "no architecture", lambda path: path.write_text("{}")
    yield "lists 50,000 deep", lambda path: path.write_text("[" * 50_000 + "]" * 50_000)


def _weights() -> Iterator[tuple[str, Change]]:
    for name, change in COMMON.items():
        yield f"with {name}", change

    def first(file: h5py.File) -> str:
        found: list[str] = []
        file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) and item.size else None)
        return found[0]

    def externally(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            name = first(file)
            del file[name]
            file[name] = h5py.ExternalLink("/etc/passwd.h5", "/x")

    def giant(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            name = first(file)
            del file[name]
            file.create_dataset(name, (10**6, 10**6), "f4", chunks=(1024, 1024))

    def virtual(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            name = first(file)
            layout = h5py.VirtualLayout(file[name].shape, "f4")
            layout[:] = h5py.VirtualSource("/etc/passwd.h5", "x", file[name].shape)
            del file[name]
            file.create_virtual_dataset(name, layout)

    def changed(make: Callable[[h5py.File, str], object]) -> Change:
        def change(path: Path) -> None:
            with h5py.File(path, "r+") as file:
                make(file, first(file))

        return change

    def looped(file: h5py.File, name: str) -> None:
        del file[name]
        file[name] = h5py.SoftLink(f"/{name}")

    yield "with an external link", externally
    yield "with virtual values", virtual
    yield "with a soft link to itself", changed(looped)
    yield "with NaN", changed(lambda file, name: file[name].__setitem__(..., np.nan))
    yield "with a layer less", changed(lambda file, name: file.__delitem__(name))
    yield "with a declared size of 4 TB", giant


def _reports() -> Iterator[tuple[str, Change]]:
    yield from COMMON.items()
    yield "an accuracy of 2", _json(accuracy=2)
    yield "an accuracy of text", _json(accuracy="<b>1</b>")
    yield "another accuracy", _json(accuracy=0.123)
    yield "NaN", _json(log_loss=float("nan"))
    yield "a field more", _json(code="import os")
    yield "a strategy that is none", _json(strategy="../../x")
    yield "a split that is another", _json(split_sha256="0" * 64)
    yield "a matrix of another size", _json(confusion_matrix=[[1]])
    yield "a list in its place", lambda path: path.write_text("[1]")
    yield "lists 50,000 deep", lambda path: path.write_text("[" * 50_000 + "]" * 50_000)
    yield (
        "a count of 10^400",
        _bytes(lambda data: data.replace(b'"num_test":', b'"num_test": 1' + b"0" * 400 + b', "x":', 1)),
    )
    yield "a class name that is a number", _json(class_names=[1, 2])
    yield "a field less", _json(strategy=None)
    yield "10^6 classes", _json(class_names=[str(k) for k in range(10**6)])


def _predictions() -> Iterator[tuple[str, Change]]:
    yield from COMMON.items()
    yield "a column less", _bytes(lambda data: data.replace(b",p_bark", b"", 1))
    yield "NaN", _bytes(lambda data: data.rpartition(b",")[0] + b",nan\n")
    yield "a probability of 5", _bytes(lambda data: data.rpartition(b",")[0] + b",5.0\n")
    yield "an image twice", _bytes(lambda data: data + data.splitlines(keepends=True)[-1])
    yield "an image less", _bytes(lambda data: b"".join(data.splitlines(keepends=True)[:-1]))
    yield "a NUL", _bytes(lambda data: data + b"\0\n")
    yield "bytes that are not UTF-8", _bytes(lambda data: data + b"\xff\xfe,a,a,1\n")
    yield "a field of 10 MB", _bytes(lambda data: data + b"x" * 10_000_000 + b"\n")
    yield "a class that is none", _bytes(lambda data: data.replace(b",bark,", b",<b>,", 1))
    yield "a formula as an id", _bytes(lambda data: data.replace(b"\n", b"\n=1+", 1))


def _runs() -> Iterator[tuple[str, Change]]:
    yield from COMMON.items()
    yield "a seed of text", _json(seed="0")
    yield "another image size", _set(image_size=64)
    yield "another network", _set(backbone="vgg19")
    yield "a network that is none", _set(backbone="../x")
    yield "a feature set that is a list", _json(feature_sets=["vgg16-48"])
    yield "a feature set outside of the run", _json(feature_sets={"../../x": {}})
    yield "the form of a former version", _json(backbone="vgg16", image_size=48)
    yield "a field less", lambda path: path.write_text("{}")
    yield "another seed", _json(seed=7)
    yield "NaN", _json(seed=float("nan"))
    yield "a data set of HTML", _json(dataset="<script>alert(1)</script>")
    yield "lists 50,000 deep", lambda path: path.write_text("[" * 50_000 + "]" * 50_000)


def _splits() -> Iterator[tuple[str, Change]]:
    yield from COMMON.items()
    yield "a fourth side", _bytes(lambda data: data.replace(b",train", b",exam", 1))
    yield "an image on another side", _bytes(lambda data: data.replace(b",train", b",test", 1))
    yield "an image less", _bytes(lambda data: b"".join(data.splitlines(keepends=True)[:-1]))
