"""What a worker of a cluster does for the features stage: it sees that all is there, and makes parts."""

import hashlib
import os
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thaw.features.backbones.registry import get_backbone
from thaw.features.backbones.weights import load_weights
from thaw.features.datasets.dataset import Dataset
from thaw.features.datasets.remote import RemotePath
from thaw.features.engines.network import Network
from thaw.features.errors import InputError
from thaw.features.extraction import choice
from thaw.features.extraction.choice import choose_engine
from thaw.features.extraction.part_maker import PartMaker
from thaw.features.extraction.parts import peek_part
from thaw.features.processor import num_cores

ENGINES_KEPT = 1  # networks that a worker holds; two would take twice the memory


@dataclass(frozen=True)
class Job:
    """What all parts of one feature file share: the network, by name, and who shares a machine.

    `weights` is the source and `weights_sha256` what it has to hold; `engine` and `device` what is asked for, `auto`
    too, until the workers have said what they take; `num_neighbours` host -> workers on it.
    """

    backbone: str
    weights: str
    weights_sha256: str
    seed: int
    layers: tuple[str, ...]
    image_size: int
    precision: str
    engine: str
    device: str
    batch_size: int
    num_neighbours: Mapping[str, int]

    def network(self) -> Network:
        """Return the network with this machine's own weights; raises InputError where they are not the client's."""
        backbone = get_backbone(self.backbone)
        weights = load_weights(self.weights, backbone, self.seed)
        if weights.sha256 != self.weights_sha256:
            raise InputError(
                f"{socket.gethostname()} has other weights (sha256 {weights.sha256[:12]}..., expected "
                f"{self.weights_sha256[:12]}...) from {weights.source}; put the same file there, or name one on shared "
                "storage by --weights PATH"
            )
        return Network(backbone, weights, self.layers, self.image_size, self.precision)


_engines: dict[tuple[Any, ...], Any] = {}
_one_at_a_time = threading.Lock()  # a worker of several threads has one network all the same


def make_part(job: Job, maker: PartMaker, rows: range, path: Path | RemotePath) -> dict[str, Any]:
    """Make one part, put it at `path`, and return its record; raises InputError where it is not there then."""
    with _one_at_a_time:
        maker.make({rows: path}, _engine(job))
    record = peek_part(path)
    if record is None:
        raise InputError(f"{path} was written and cannot be read back; look after the storage, then type it again")
    return record


def start_engine(job: Job) -> None:
    """Start the network that the job's parts are made with, so that the first of them does not."""
    with _one_at_a_time:
        _engine(job)


def _engine(job: Job) -> Any:
    """Return the started network, which the process keeps until it is asked for another."""
    key = _without_neighbours(job)
    if key not in _engines:
        share_cores(job.num_neighbours)
        while len(_engines) >= ENGINES_KEPT:
            _engines.popitem()
        _engines[key] = job.network().start(job.engine, job.batch_size, job.device)
    return _engines[key]


def _without_neighbours(job: Job) -> tuple[Any, ...]:
    return tuple(value for name, value in vars(job).items() if name != "num_neighbours")


def share_cores(num_neighbours: Mapping[str, int], worker: Any = None) -> None:
    """Take an equal share of the cores, unless the environment says how many: TensorFlow and MNN then heed it.

    The number of threads does not change a value of the keras engine (VGG16, ResNet50 and DenseNet121 at 1, 2 and 4
    threads gave the same bits); mnn's differ a little.
    """
    from distributed import get_worker
    from distributed.comm import get_address_host

    host = str(get_address_host((worker or get_worker()).address))
    cores = num_cores() // num_neighbours.get(host, 1)
    os.environ.setdefault("LOKY_MAX_CPU_COUNT", str(max(1, cores)))


@dataclass(frozen=True)
class Shown:
    """What the client shows each worker: a file in the folder of the parts, and some images.

    `note` is the file with `text` in it; `images` are pickled, so that a worker that cannot open their archive says so,
    and `digests` are of what the client reads for each.
    """

    note: Path | RemotePath
    text: str
    images: bytes
    digests: tuple[str, ...]


def look_around(job: Job, shown: Shown, dask_worker: Any = None) -> tuple[str, str]:
    """Return the engine and device that this worker takes for those that the job asks for.

    Raises InputError where it does not see the client's storage, images or weights. `dask_worker` is given by Dask.
    """
    share_cores(job.num_neighbours, dask_worker)
    _check_storage(shown)
    _check_images(shown)
    _check_weights(job)
    return choose_engine(job.engine, job.device, job.precision)


def settle(job: Job, requested: str, pictures: np.ndarray) -> tuple[str, str]:
    """Return `mnn` where its output is Keras' own on this machine, else `keras`, and the device."""
    share_cores(job.num_neighbours)
    return choice.settle(requested, job.device, job.network(), job.batch_size, lambda: pictures)


_weights_checked: set[tuple[str, str, int, str]] = set()


def _check_weights(job: Job) -> None:
    source = (job.backbone, job.weights, job.seed, job.weights_sha256)
    if source not in _weights_checked:
        job.network()
        _weights_checked.add(source)


def _check_storage(shown: Shown) -> None:
    try:
        text = read_note(shown.note)
        write_note(shown.note.parent / f"{shown.note.name}.{os.getpid()}-{socket.gethostname()}", shown.text)
    except OSError as error:
        raise InputError(
            f"it cannot read and write {shown.note.parent} ({error.strerror or error}); mount the run's folder at the "
            "same path on every machine, or give a folder or URL that all reach by --parts"
        ) from None
    if text != shown.text:
        raise InputError(f"it sees another {shown.note.parent} than this machine; mount the same storage there")


def _check_images(shown: Shown) -> None:
    from distributed.protocol.pickle import loads

    advice = "mount the data set at the same path on every machine, or give a URL: --dataset folder:URL"
    try:
        images: Dataset = loads(shown.images)
    except (OSError, InputError) as error:
        raise InputError(f"it cannot open the data set ({error}); {advice}") from None
    for i, digest in enumerate(shown.digests):
        if hashlib.sha256(images.content(i)).hexdigest() != digest:
            where = getattr(getattr(images.read, "__self__", None), "root", images.word)
            raise InputError(f"it cannot read {images.ids[i]} in {where} as this machine does; {advice}")


def read_note(path: Path | RemotePath) -> str:
    """Return the text of a small file."""
    with path.open("rb") if isinstance(path, Path) else path.open_binary() as file:
        return file.read().decode()


def write_note(path: Path | RemotePath, text: str) -> None:
    """Write a small file."""
    (path.write_bytes if isinstance(path, Path) else path.write)(text.encode())
