"""The Dask cluster that a stage spreads its work over: one on this machine, or a scheduler that is running already."""

import asyncio
import hashlib
import logging
import os
import platform
import re
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thaw.features.engines.backend import LIBRARIES, backend_name, may_have_gpu
from thaw.features.errors import InputError
from thaw.features.processor import num_cores
from thaw.pipeline.config import Shared
from thaw.pipeline.versions import installed_version

if TYPE_CHECKING:
    from distributed import Client, SpecCluster

log = logging.getLogger("thaw")

CONNECT_SECONDS, WORKER_SECONDS, LOCAL_SECONDS = 10, 15, 120
ALLOWED_FAILURES = 3  # workers that may be lost with the same piece of work before it is given up
DECIDING = ("numpy", "keras", "MNN", "h5py", "pillow", "scikit-learn", "scipy", "distributed")

_open: dict[tuple[int | None, str | None], "Client"] = {}


@contextmanager
def connected(settings: Shared) -> Iterator["Client | None"]:
    """Yield a client of the cluster that the settings name, None if they name none (`workers`, `cluster`).

    Within the block of another call with the same two settings the same client is yielded, and stays open. The workers
    are there and have the client's versions. Raises InputError if they are not, and if the block ends because the
    scheduler is lost or a piece of work has ended several workers.
    """
    key = (settings.workers, settings.cluster)
    if key == (None, None) or key in _open:
        yield _open.get(key)
        return
    with ExitStack() as closing:
        client = closing.enter_context(_client(settings))
        _wait_for_workers(client, settings)
        check_versions(client)
        log.info("cluster: %d worker(s) at %s", len(workers_of(client)), client.scheduler.address)
        _open[key] = client
        closing.callback(_open.pop, key)
        closing.enter_context(client.as_current())
        with explained(client):
            yield client


def workers_of(client: "Client") -> list[str]:
    """Return the addresses of the workers that are there now, sorted."""
    return sorted(client.scheduler_info(n_workers=-1)["workers"])


@contextmanager
def explained(client: "Client") -> Iterator[None]:
    """Raise InputError, one line that says what to do, if the block ends because the cluster has failed."""
    from distributed import KilledWorker
    from distributed.comm import CommClosedError

    address = client.scheduler.address
    try:
        yield
    except KilledWorker as error:
        raise InputError(
            f"{error.task} was given up: {error.allowed_failures + 1} workers were lost with it, the last at "
            f"{error.last_worker.address}; look at the workers' logs (out of memory, most likely: give --memory or a "
            "smaller --batch-size) and type the command again: what was finished is kept"
        ) from None
    except (asyncio.CancelledError, CancelledError, OSError) as error:
        lost = isinstance(error, CommClosedError) or (client.status != "running" and getattr(error, "errno", 0) is None)
        if isinstance(error, OSError) and not lost:  # of a file or another connection
            raise
        raise InputError(
            f"the scheduler at {address} was lost ({type(error).__name__}); start it and its workers again, then type "
            "the same command: what was finished is kept"
        ) from None


@contextmanager
def _client(settings: Shared) -> Iterator["Client"]:
    try:
        import distributed
    except ImportError:
        option = f"--workers {settings.workers}" if settings.workers else f"--cluster {settings.cluster}"
        raise InputError(
            f"{option}: the package distributed is not installed; type make setup EXTRA=cluster, or leave it out"
        ) from None
    if not settings.debug:
        for name in ("distributed", "distributed.client"):  # an error is one line, printed here
            logging.getLogger(name).setLevel(logging.CRITICAL)
    with ExitStack() as closing:
        address: Any = settings.cluster or closing.enter_context(_local_cluster(settings))
        try:
            client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise InputError(
                f"no scheduler answers at {settings.cluster} within {CONNECT_SECONDS} s ({_line(error)}); start one by "
                ".venv/bin/dask scheduler, or correct the address (--cluster HOST:PORT)"
            ) from None
        closing.callback(client.close, timeout=2)
        yield client


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 80 else type(error).__name__


def _local_cluster(settings: Shared) -> "SpecCluster":
    """Return a scheduler and workers on this machine, one thread each, that listen on the loopback interface alone."""
    import distributed

    number = int(settings.workers or 1)
    devices = _devices(settings, number)
    host = {"host": "127.0.0.1", "dashboard": False, "dashboard_address": "127.0.0.1:0"}
    scheduler = {"cls": distributed.Scheduler, "options": {**host, "port": 0, "allowed_failures": ALLOWED_FAILURES}}
    memory = distributed.system.MEMORY_LIMIT // number
    common = {**host, "nthreads": 1, "memory_limit": memory, "silence_logs": _level(settings)}
    cores = {"LOKY_MAX_CPU_COUNT": str(max(1, num_cores() // number))}  # what `num_cores` and TensorFlow then follow
    workers = {
        i: {"cls": distributed.Nanny, "options": {**common, "env": {**cores, **devices[i]}}} for i in range(number)
    }
    return distributed.SpecCluster(workers=workers, scheduler=scheduler, silence_logs=_level(settings))


def _level(settings: Shared) -> int:
    return logging.INFO if settings.debug else logging.CRITICAL


def _devices(settings: Shared, number: int) -> list[dict[str, str]]:
    """Return what each worker's environment says of GPUs: one for each worker, none with --device cpu.

    Raises InputError if there are fewer GPUs than workers.
    """
    if settings.device == "cpu":
        return [{"CUDA_VISIBLE_DEVICES": "-1"}] * number
    gpus = _gpus()
    if not gpus:
        return [{}] * number
    if number > len(gpus):
        raise InputError(
            f"--workers {number}: this machine has {len(gpus)} GPU(s), and each takes one worker; type --workers "
            f"{len(gpus)}, or --device cpu"
        )
    return [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus[:number]]


def _gpus() -> list[str]:
    """Return NVIDIA's GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if not may_have_gpu():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [gpu for gpu in named.split(",") if gpu.strip() not in ("", "-1")]
    numbers = [re.fullmatch(r"nvidia(\d+)", path.name) for path in Path("/dev").glob("nvidia*")]
    return [str(i) for i in range(sum(number is not None for number in numbers))]


def _wait_for_workers(client: "Client", settings: Shared) -> None:
    """Wait for all workers of a local cluster, for one of another; raises InputError if none comes."""
    number, seconds = (settings.workers, LOCAL_SECONDS) if settings.workers else (1, WORKER_SECONDS)
    began = time.monotonic()
    while len(workers_of(client)) < number:
        if time.monotonic() - began > seconds:
            address = client.scheduler.address
            raise InputError(
                f"the scheduler at {address} has {len(workers_of(client))} worker(s) after {seconds} s, expected "
                f"{number}; start one on each machine: .venv/bin/dask worker {address} --nthreads 1"
            )
        time.sleep(0.1)


def installed() -> dict[str, str]:
    """Return the versions of everything that a value depends on, of the process that calls it."""
    backend = backend_name()  # Keras': what it computes with decides values too
    found = {name.lower(): installed_version(name) or "none" for name in (*DECIDING, *LIBRARIES[backend])}
    thaw = f"{installed_version('thaw') or 'none'} ({_source_digest()[:12]})"
    python = ".".join(platform.python_version_tuple()[:2])
    return {"thaw": thaw, "python": python, "backend": backend, **found}


def _source_digest() -> str:
    """Return the SHA-256 over this project's own source and graphs, which may differ if the version does not."""
    root, digest = Path(__file__).resolve().parents[2], hashlib.sha256()
    for package in ("features", "models", "pipeline"):
        for path in sorted(path for kind in ("*.py", "graphs/*.json") for path in (root / package).rglob(kind)):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def check_versions(client: "Client") -> None:
    """Raise InputError if a worker has other versions than this process of what decides values; it names both."""
    own = installed()
    for worker, found in client.run(installed, on_error="return").items():
        compare_versions(worker, found, own)


def compare_versions(worker: str, found: Mapping[str, str] | Exception, own: Mapping[str, str]) -> None:
    """Raise InputError if a worker's `found` versions are not the client's `own`, or it could not find them."""
    if isinstance(found, Exception):
        raise InputError(
            f"worker {worker} cannot run Thaw ({_line(found)}); on its machine type make setup EXTRA=cluster, and "
            "start the worker from there: .venv/bin/dask worker"
        )
    differing = [name for name in own if found.get(name) != own[name]]
    if differing:
        versions = ", ".join(f"{name} {found.get(name)} on the worker and {own[name]} here" for name in differing)
        raise InputError(
            f"worker {worker} has other versions: {versions}; bring both to the same commit, type make setup "
            "EXTRA=cluster there and here, and start the worker again"
        )
