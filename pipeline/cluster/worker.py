"""What a worker of a cluster does for the features stage: it checks that all is there, and makes parts."""

import hashlib
import os
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thaw.features.datasets.dataset import Dataset
from thaw.features.datasets.remote import RemotePath
from thaw.features.engines.network import Network
from thaw.features.errors import InputError
from thaw.features.extraction.choice import agreed_engine, choose_engine
from thaw.features.extraction.part_maker import PartMaker
from thaw.features.extraction.parts import peek_part
from thaw.features.extraction.spec import FeatureRequest
from thaw.features.foreign.extractors import engines_of
from thaw.features.processor import num_cores

ENGINES_KEPT = 1  # networks that a worker holds; two would take twice the memory

Neighbours = Mapping[str, int]
"""The number of workers on each host."""

_engines: dict[tuple[Any, ...], Any] = {}
_one_at_a_time = threading.Lock()  # a worker of several threads has one network all the same


def make_part(maker: PartMaker, rows: range, path: Path | RemotePath, neighbours: Neighbours) -> dict[str, Any]:
    """Make one part at `path` and return its record; raises InputError if it cannot be read back."""
    with _one_at_a_time:
        maker.make({rows: path}, _engine(maker.request, neighbours))
    record = peek_part(path)
    if record is None:
        raise InputError(f"{path} was written and cannot be read back; look after the storage, then type it again")
    return record


def start_engine(request: FeatureRequest, neighbours: Neighbours) -> None:
    """Start the network that the parts of a feature file are made with, so that the first of them does not."""
    with _one_at_a_time:
        _engine(request, neighbours)


def _engine(request: FeatureRequest, neighbours: Neighbours) -> Any:
    """Return the started network, which the process keeps until it is asked for another."""
    network = request.network
    key = (
        *(network.backbone.name, network.weights.sha256, network.layers, network.image_size, network.precision),
        *(request.engine, request.batch_size, request.device),
    )
    if key not in _engines:
        share_cores(neighbours)
        while len(_engines) >= ENGINES_KEPT:
            _engines.popitem()
        _engines[key] = network.start(request.engine, request.batch_size, request.device)
    return _engines[key]


def share_cores(neighbours: Neighbours, worker: Any = None) -> None:
    """Take an equal share of the cores, unless the environment says how many: TensorFlow and MNN then follow it.

    The number of threads does not change a value of the keras engine (VGG16, ResNet50 and DenseNet121 at 1, 2 and 4
    threads gave the same bits); mnn's differ a little.
    """
    from distributed import get_worker
    from distributed.comm import get_address_host

    host = str(get_address_host((worker or get_worker()).address))
    cores = num_cores() // neighbours.get(host, 1)
    os.environ.setdefault("LOKY_MAX_CPU_COUNT", str(max(1, cores)))


@dataclass(frozen=True)
class SharedStorage:
    """What the client shows each worker: a file in the folder of the parts, and some images.

    `note` is the file with `text` in it; `images` are pickled, so that a worker that cannot open their archive says so,
    and `digests` are of what the client reads for each.
    """

    note: Path | RemotePath
    text: str
    images: bytes
    digests: tuple[str, ...]


def check_surroundings(
    network: Network, asked: tuple[str, str], storage: SharedStorage, neighbours: Neighbours, dask_worker: Any = None
) -> tuple[str, str]:
    """Return the engine and the device that this worker takes for those that are `asked` for.

    Raises InputError if it does not see the client's storage, images or weights. `dask_worker` is given by Dask.
    """
    share_cores(neighbours, dask_worker)
    _check_storage(storage)
    _check_images(storage)
    network.check_weights()
    return choose_engine(*asked, network.precision, engines_of(network.backbone))


def agreed_engine_here(request: FeatureRequest, requested: str, images: np.ndarray, neighbours: Neighbours) -> str:
    """Return `mnn` if its output is Keras' own on this machine, else `keras`; `images` are network input."""
    share_cores(neighbours)
    return agreed_engine(requested, request.engine, request.network, request.batch_size, lambda: images)


def _check_storage(storage: SharedStorage) -> None:
    folder = storage.note.parent
    try:
        text = read_note(storage.note)
        write_note(folder / f"{storage.note.name}.{os.getpid()}-{socket.gethostname()}", storage.text)
    except OSError as error:
        raise InputError(
            f"it cannot read and write {folder} ({error.strerror or error}); mount the run's folder at the "
            "same path on every machine, or give a folder or URL that all reach by --parts"
        ) from None
    if text != storage.text:
        raise InputError(f"it sees another {folder} than this machine; mount the same storage there")


def _check_images(storage: SharedStorage) -> None:
    from distributed.protocol.pickle import loads

    advice = "mount the data set at the same path on every machine, or give a URL: --dataset folder:URL"
    try:
        images: Dataset = loads(storage.images)
    except (OSError, InputError) as error:
        raise InputError(f"it cannot open the data set ({error}); {advice}") from None
    for row, digest in enumerate(storage.digests):
        if hashlib.sha256(images.content(row)).hexdigest() != digest:
            where = getattr(images.images, "root", images.name)
            raise InputError(f"it cannot read {images.ids[row]} in {where} as this machine does; {advice}")


def read_note(path: Path | RemotePath) -> str:
    """Return the text of a small file."""
    with path.open("rb") if isinstance(path, Path) else path.open_binary() as file:
        return file.read().decode()


def write_note(path: Path | RemotePath, text: str) -> None:
    """Write a small file."""
    (path.write_bytes if isinstance(path, Path) else path.write)(text.encode())
