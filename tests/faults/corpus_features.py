"""Hostile feature files: what is wrong with one -> what makes it so, in the place of a whole run's."""

from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np

Change = Callable[[Path], object]


def _hdf5(change: Callable[[h5py.File], object]) -> Change:
    def made(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file)

    return made


def _replaced(name: str, make: Callable[[h5py.File], object]) -> Change:
    def change(file: h5py.File) -> None:
        del file[name]
        make(file)

    return _hdf5(change)


def features() -> Iterator[tuple[str, Change]]:
    layer = "features/block5_pool"

    def linked(link: object) -> Callable[[h5py.File], object]:
        return lambda file: file.__setitem__(layer, link)

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((480, 512), "f4")
        layout[:] = h5py.VirtualSource("/etc/passwd.h5", "x", (480, 512))
        file.create_virtual_dataset(layer, layout)

    yield "an external link", _replaced(layer, linked(h5py.ExternalLink("/etc/passwd.h5", "/x")))
    yield "a soft link to itself", _replaced(layer, linked(h5py.SoftLink(f"/{layer}")))
    yield "a soft link to another layer", _replaced(layer, linked(h5py.SoftLink("/features/block4_pool")))
    yield "a group in place of a layer", _replaced(layer, lambda file: file.create_group(layer))
    yield "a group that holds itself", _hdf5(lambda file: file.__setitem__("features/again", file["features"]))
    yield "virtual values", _replaced(layer, virtual)
    raw = [("/etc/hostname", 0, 480 * 512 * 4)]
    yield "values in another file", _replaced(layer, lambda f: f.create_dataset(layer, (480, 512), "f4", external=raw))
    yield "values of text", _replaced(layer, lambda file: file.create_dataset(layer, data=[b"x"] * 480))
    yield "values of objects", _replaced(layer, lambda f: f.create_dataset(layer, (480,), h5py.ref_dtype))
    yield "values of 64 bits", _replaced(layer, lambda file: file.create_dataset(layer, (480, 512), "f8"))
    yield (
        "a declared size of 10^13",
        _replaced(layer, lambda file: file.create_dataset(layer, (480, 20_000_000_000), "f4", chunks=(1, 1024))),
    )
    yield "10^12 rows", _replaced(layer, lambda file: file.create_dataset(layer, (10**12, 512), "f4", chunks=(1, 512)))
    yield "fewer rows", _replaced(layer, lambda file: file.create_dataset(layer, (10, 512), "f4"))
    yield "NaN", _hdf5(lambda file: file[layer].__setitem__((0, 0), np.nan))
    yield "infinity", _hdf5(lambda file: file[layer].__setitem__((0, 0), np.inf))
    yield "another value", _hdf5(lambda file: file[layer].__setitem__((0, 0), 0.5))
    yield "10^11 labels", _replaced("labels", lambda f: f.create_dataset("labels", (10**11,), "i8", chunks=(1024,)))
    yield "labels beyond the classes", _hdf5(lambda file: file["labels"].__setitem__(0, 99))
    yield "negative labels", _hdf5(lambda file: file["labels"].__setitem__(0, -1))
    yield "labels of floats", _replaced("labels", lambda file: file.create_dataset("labels", (480,), "f4"))
    yield "a fourth side", _hdf5(lambda file: file["split"].__setitem__(0, 3))
    yield "an id twice", _hdf5(lambda file: file["ids"].__setitem__(0, file["ids"][1]))
    yield "ids that are not UTF-8", _hdf5(lambda file: file["ids"].__setitem__(0, b"\xff\xfe"))
    yield "no labels", _hdf5(lambda file: file.__delitem__("labels"))
    yield "no layers", _hdf5(lambda file: file.__delitem__("features"))
    yield from _more_features()
    yield "a schema of tomorrow", _hdf5(lambda file: file.attrs.__setitem__("schema_version", 99))
    yield "a schema of text", _hdf5(lambda file: file.attrs.__setitem__("schema_version", "<b>"))
    yield "another network's name", _hdf5(lambda file: file.attrs.__setitem__("backbone", "vgg19"))


def _more_features() -> Iterator[tuple[str, Change]]:
    layer = "features/block5_pool"

    def loop(file: h5py.File) -> None:
        file[layer], file["elsewhere"] = h5py.SoftLink("/elsewhere"), h5py.SoftLink(f"/{layer}")

    yield "two soft links that lead to each other", _replaced(layer, loop)
    yield "a soft link to nothing", _replaced(layer, lambda file: file.__setitem__(layer, h5py.SoftLink("/gone")))
    yield (
        "labels by an external link",
        _replaced("labels", _linked("labels", h5py.ExternalLink("/etc/passwd.h5", "/x"))),
    )
    yield "ids by a soft link", _replaced("ids", _linked("ids", h5py.SoftLink("/class_names")))
    yield "layers by a soft link", _replaced("features", _linked("features", h5py.SoftLink("/")))
    yield "a scalar as a layer", _replaced(layer, lambda file: file.create_dataset(layer, data=1.0))
    yield "a layer of nothing", _replaced(layer, lambda file: file.create_dataset(layer, dtype="f4", shape=None))
    yield "a layer of 32 dimensions", _replaced(layer, lambda f: f.create_dataset(layer, (480, *[1] * 31), "f4"))
    yield "ids of any length", _replaced("ids", lambda f: f.create_dataset("ids", data=["x"] * 480))
    yield "names of numbers", _replaced("class_names", lambda f: f.create_dataset("class_names", data=[1, 2, 3]))
    yield "a type in place of the labels", _replaced("labels", lambda f: f.__setitem__("labels", np.dtype("i8")))
    yield "another normalisation", _hdf5(lambda file: file.attrs.__setitem__("normalize", "<script>"))
    yield "settings that are arrays", _hdf5(lambda file: file.attrs.__setitem__("image_size", np.arange(1000)))
    yield "a class name of HTML", _hdf5(lambda file: file["class_names"].__setitem__(0, b"<b>"))


def _linked(name: str, link: object) -> Callable[[h5py.File], object]:
    return lambda file: file.__setitem__(name, link)
