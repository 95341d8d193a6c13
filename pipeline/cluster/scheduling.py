"""The features stage over a cluster: what every worker must see is tried out, then its parts are the tasks."""

import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thaw.features.datasets.dataset import Dataset
from thaw.features.datasets.remote import RemotePath
from thaw.features.errors import InputError
from thaw.features.extraction.extraction import Extraction
from thaw.pipeline.cluster.client import workers_of
from thaw.pipeline.cluster.worker import Job, Shown, look_around, make_part, read_note, settle, write_note

if TYPE_CHECKING:
    from distributed import Client, Future

log = logging.getLogger("thaw")

TASKS_PER_WORKER = 2  # one that is done, one that waits at the worker
NUM_SHOWN = 16  # images that every worker reads at the start
POLL_SECONDS, PATIENCE_SECONDS = 2.0, 180.0


def neighbours(client: "Client") -> dict[str, int]:
    """Return how many workers there are on each host."""
    from distributed.comm import get_address_host

    return dict(Counter(str(get_address_host(worker)) for worker in workers_of(client)))


def run(client: "Client", extraction: Extraction, job: Job, progress: Callable[[int], None]) -> None:
    """Have the workers make every missing part; `progress` is told the images of each that is finished.

    Parts of a worker that is lost are made by others. Raises InputError where no worker is left, and what a part itself
    raises; other parts that were finished stay.
    """
    todo = iter(extraction.begin())
    running: dict[Future, int] = {}
    try:
        while _fill(client, running, todo, (extraction, job)) or running:
            for future in _some_done(client, list(running)):
                start = running.pop(future)
                future.result()
                progress(extraction.part_size(start))
    finally:
        client.cancel(list(running))
    _wait_until_visible(extraction)


def _fill(client: "Client", running: dict["Future", int], todo: Iterator[int], what: tuple[Extraction, Job]) -> bool:
    """Submit parts while the workers have room for more; return whether any was."""
    extraction, job = what
    room = TASKS_PER_WORKER * max(1, len(workers_of(client))) - len(running)
    submitted = False
    for _, start in zip(range(room), todo, strict=False):
        rows = extraction.rows(start)
        key = f"the part of images {rows[0]} to {rows[-1]} ({secrets.token_hex(4)})"
        given = (job, extraction.maker_of(start), rows, extraction.part_path(start))
        running[client.submit(make_part, *given, key=key, pure=False)] = start
        submitted = True
    return submitted


def _some_done(client: "Client", futures: list["Future"]) -> list["Future"]:
    """Wait until a future is done and return those that are; raises InputError where all workers stay away."""
    from distributed import wait

    last_seen = time.monotonic()
    while True:
        try:
            return list(wait(futures, timeout=POLL_SECONDS, return_when="FIRST_COMPLETED").done)
        except TimeoutError:
            now = time.monotonic()
            last_seen = now if workers_of(client) else last_seen
            if now - last_seen > PATIENCE_SECONDS:
                raise InputError(
                    f"the scheduler at {client.scheduler.address} has had no worker for {PATIENCE_SECONDS:.0f} s; "
                    "start workers again and type the same command: what was finished is kept"
                ) from None


def _wait_until_visible(extraction: Extraction) -> None:
    """Give a network's file system time to show what other machines have written."""
    until = time.monotonic() + PATIENCE_SECONDS
    while extraction.missing() and time.monotonic() < until:
        time.sleep(1)


def check_workers(client: "Client", folder: Path | RemotePath, dataset: Dataset, job: Job) -> Job:
    """Return the job with the engine and device that the workers take for those that it asks for.

    A file that this machine writes into `folder`, where the parts go, is read by every worker, which writes one beside
    it that this machine reads; some images are opened by every worker, with the same bytes; the weights are the same.
    Raises InputError, naming the worker, where that is not so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _note_in(folder) as (note, text):
        answers = client.run(look_around, job, _shown(dataset, note, text), on_error="return")
        there = workers_of(client)
        answers = {worker: answer for worker, answer in answers.items() if worker in there}
        for worker, answer in answers.items():
            if isinstance(answer, Exception):
                raise InputError(f"worker {worker}: {' '.join(str(answer).split())}") from None
        _check_answers(note, text, len(answers))
    return _alike(job, answers)


def _alike(job: Job, answers: dict[str, tuple[str, str]]) -> Job:
    workers = {choice: worker for worker, choice in answers.items()}
    if len(workers) > 1:
        said = ", ".join(f"{engine} on {device} at {worker}" for (engine, device), worker in sorted(workers.items()))
        raise InputError(f"the workers would not compute alike: {said}; choose by --engine and --device")
    ((engine, device),) = workers
    return replace(job, engine=engine, device=device)


def compare_engines(client: "Client", job: Job, requested: str, pictures: np.ndarray) -> Job:
    """Return the job with `mnn` only where its output is Keras' own on one worker of each host, else with `keras`.

    `pictures`: a few images, network input (n, S, S, 3). Raises InputError where `requested` is mnn and it is not.
    """
    from distributed.comm import get_address_host

    one_a_host = {get_address_host(worker): worker for worker in workers_of(client)}
    log.info("comparing mnn's output with Keras' own on each host, once for this network")
    asked = [
        client.submit(settle, job, requested, pictures, workers=[worker], pure=False) for worker in one_a_host.values()
    ]
    engines = {engine for engine, _ in client.gather(asked)}
    return replace(job, engine="keras" if "keras" in engines else "mnn")


@contextmanager
def _note_in(folder: Any) -> Iterator[tuple[Any, str]]:
    text = secrets.token_hex(16)
    note = folder / f".note-{text[:8]}"
    write_note(note, text)
    try:
        yield note, text
    finally:
        for path in list(folder.iterdir()):
            if path.name.startswith(note.name):
                path.unlink(missing_ok=True)


def _shown(dataset: Dataset, note: Any, text: str) -> Shown:
    from distributed.protocol.pickle import dumps

    rows = np.unique(np.linspace(0, len(dataset.ids) - 1, NUM_SHOWN).astype(int)).tolist()
    images = dataset.take(rows)
    digests = tuple(sha256(images.content(i)).hexdigest() for i in range(len(rows)))
    return Shown(note, text, dumps(images), digests)


def _check_answers(note: Any, text: str, number: int) -> None:
    until = time.monotonic() + 10
    while True:
        answers = [path for path in note.parent.iterdir() if path.name.startswith(f"{note.name}.")]
        if len(answers) >= number and all(read_note(path) == text for path in answers):
            return
        if time.monotonic() > until:
            raise InputError(
                f"{number - len(answers)} of {number} workers write to another {note.parent} than this machine's; "
                "mount the same storage at the same path, or give one that all reach by --parts"
            )
        time.sleep(0.2)
