"""Changes that pass what a checksum or a grammar would stop: of a value in JSON, a member of a zip, a part of HDF5."""

import io
import json
import random
import zipfile
from collections.abc import Callable
from typing import Any

import atheris
import h5py
import numpy as np

Change = Callable[[bytes, int, random.Random], bytes]

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**400, 0.5, -0.0, 1e308, 5e-324),
    *map(float, ("nan", "inf")),
    *("", "x", "engine", "0", "../..", "/", "~nobody", "a\0b", "\ud800", "\u202e", "x" * 999),
    *([], {}, [[]], [0], ["x"], {"x": 0}, [[0] * 40] * 40),
)


def raw(data: bytes, size: int, choice: random.Random) -> bytes:
    """Return the bytes changed as libFuzzer does."""
    return atheris.Mutate(data, size)


def in_json(data: bytes, size: int, choice: random.Random) -> bytes:
    """Return JSON with one of its values, names or fields changed."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return raw(data, size, choice)
    whole: list[Any] = [content]
    holder: Any = whole
    place: Any = 0
    while isinstance(holder[place], dict | list) and holder[place] and choice.random() < 0.8:
        holder = holder[place]
        place = choice.choice(list(holder)) if isinstance(holder, dict) else choice.randrange(len(holder))
    _change(holder, place, choice)
    changed = json.dumps(whole[0]).encode()
    return changed if len(changed) <= size else raw(data, size, choice)


def _change(holder: Any, place: Any, choice: random.Random) -> None:
    old = holder[place]
    kind = choice.randrange(6)
    if kind == 0 and isinstance(holder, dict):
        del holder[place]
    elif kind == 1 and isinstance(holder, dict):
        holder[str(choice.choice(ODD))] = old
    elif kind == 2 and isinstance(old, list):
        holder[place] = old * 2 if choice.random() < 0.5 else old[1:]
    elif kind == 3 and isinstance(old, str):
        holder[place] = atheris.Mutate(old.encode("utf-8", "surrogatepass"), len(old) + 8).decode("utf-8", "replace")
    elif kind == 4 and isinstance(old, int | float):
        holder[place] = choice.choice([old + 1, -old, old * 10**9, str(old), 1e-3 * choice.randrange(-9999, 9999)])
    else:
        holder[place] = choice.choice(ODD)


def in_zip(data: bytes, size: int, choice: random.Random) -> bytes:
    """Return a zip with one member changed, renamed, left out or twice, its checksums right; or changed as bytes."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(name, archive.read(name)) for name in archive.namelist()]
    except Exception:  # whatever a broken zip raises
        return raw(data, size, choice)
    if not members or choice.random() < 0.3:
        return raw(data, size, choice)
    place = choice.randrange(len(members))
    name, content = members[place]
    kind = choice.randrange(8)
    if kind == 0:
        del members[place]
    elif kind == 1:
        members.append((name, content))
    elif kind == 2:
        members[place] = (atheris.Mutate(name.encode(), 64).decode("utf-8", "replace") or "x", content)
    else:
        change = in_json if name.endswith(".json") and kind < 7 else raw
        members[place] = (name, change(content, size, choice))
    return zipped(members, choice.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))[:size]


def zipped(members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip of (name, content) pairs, a name twice where it is given twice."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return out.getvalue()


def in_hdf5(seed: bytes) -> Change:
    """Return what changes a part of the HDF5 file `seed` through HDF5 itself, or bytes of any as libFuzzer does."""

    def change(data: bytes, size: int, choice: random.Random) -> bytes:
        if choice.random() < 0.7:
            return raw(data, size, choice)
        out = io.BytesIO(seed)
        with h5py.File(out, "r+") as file:
            names: list[str] = []
            file.visit(names.append)
            for _ in range(choice.randint(1, 3)):
                try:
                    _change_hdf5(file, choice.choice(names), choice)
                except Exception:  # noqa: S112, a combination that HDF5 itself refuses
                    continue
        return out.getvalue()[:size]

    return change


def _change_hdf5(file: h5py.File, name: str, choice: random.Random) -> None:
    kind = choice.randrange(5)
    if kind == 0:
        attributes = list(file.attrs) or ["record"]
        file.attrs[choice.choice(attributes)] = choice.choice([*ODD[:21], np.zeros(3), b"\xff", h5py.Empty("f4")])
    elif kind == 1 and isinstance(file[name], h5py.Dataset):
        file[name][...] = choice.choice([0, -1, 255, np.nan, np.inf, b"\xff\xfe", b"x"])
    elif kind == 2:
        del file[name]
    else:
        del file[name]
        _replace_hdf5(file, name, choice)


def _replace_hdf5(file: h5py.File, name: str, choice: random.Random) -> None:
    shape = choice.choice([(), (0,), (3,), (8,), (8, 2), (8, 0), (8, 1, 1, 2), (8, 2**40), (2**62,), (1,) * 9])
    dtype = choice.choice(["f4", "f2", "f8", "i8", "u1", "S3", h5py.string_dtype(), h5py.ref_dtype, "c8", "V5"])
    kind = choice.randrange(6)
    if kind == 0:
        file[name] = choice.choice([h5py.SoftLink("/labels"), h5py.ExternalLink("x.h5", "/x"), h5py.SoftLink(name)])
    elif kind == 1:
        file.create_group(name)
    elif kind == 2:
        file[name] = np.dtype("f4")
    elif kind == 3:
        file.create_dataset(name, (), dtype)
    else:
        file.create_dataset(name, shape, dtype, chunks=tuple(max(1, min(side, 64)) for side in shape) or None)
