"""The features stage over a cluster: what every worker must see is tried out, then its parts are the tasks."""

import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from thaw.features.datasets.dataset import Dataset
from thaw.features.errors import InputError
from thaw.features.extraction.choice import compared_images
from thaw.features.extraction.extraction import Extraction
from thaw.features.extraction.spec import FeatureRequest
from thaw.pipeline.cluster.client import workers_of
from thaw.pipeline.cluster.worker import (
    SharedStorage,
    agreed_engine_here,
    check_surroundings,
    make_part,
    read_note,
    write_note,
)

if TYPE_CHECKING:
    from distributed import Client, Future

log = logging.getLogger("thaw")

TASKS_PER_WORKER = 2  # one that is done, one that waits at the worker
NUM_SHOWN = 16  # images that every worker reads at the start
POLL_SECONDS, PATIENCE_SECONDS = 2.0, 180.0


def neighbours_of(client: "Client") -> dict[str, int]:
    """Return the number of workers on each host."""
    from distributed.comm import get_address_host

    return dict(Counter(str(get_address_host(worker)) for worker in workers_of(client)))


def run(client: "Client", extraction: Extraction, progress: Callable[[int], None]) -> None:
    """Have the workers make every missing part; `progress` gets the number of images of each finished part.

    Parts of a worker that is lost are made by others. Raises InputError if no worker is left, and what a part itself
    raises; other parts that were finished stay.
    """
    todo = iter(extraction.begin())
    running: dict[Future, int] = {}
    try:
        while _fill(client, running, todo, extraction) or running:
            for future in _some_done(client, list(running)):
                start = running.pop(future)
                future.result()
                progress(len(extraction.rows(start)))
    finally:
        client.cancel(list(running))
    _wait_until_visible(extraction)


def _fill(client: "Client", running: dict["Future", int], todo: Iterator[int], extraction: Extraction) -> bool:
    """Submit parts while the workers have room for more; return whether any was."""
    room = TASKS_PER_WORKER * max(1, len(workers_of(client))) - len(running)
    submitted = False
    for _, start in zip(range(room), todo, strict=False):
        rows = extraction.rows(start)
        key = f"the part of images {rows[0]} to {rows[-1]} ({secrets.token_hex(4)})"
        given = (extraction.maker_of(start), rows, extraction.part_path(start), neighbours_of(client))
        running[client.submit(make_part, *given, key=key, pure=False)] = start
        submitted = True
    return submitted


def _some_done(client: "Client", futures: list["Future"]) -> list["Future"]:
    """Wait until a future is done and return those that are; raises InputError if all workers stay away."""
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


def check_workers(client: "Client", request: FeatureRequest) -> FeatureRequest:
    """Return the request with the engine and the device that the workers take.

    A file that this machine writes into the folder of the parts is read by every worker, which writes one beside
    it that this machine reads; some images are opened by every worker, with the same bytes; the weights are the same.
    Raises InputError, naming the worker, if that is not so.
    """
    folder = request.folder
    folder.mkdir(parents=True, exist_ok=True)
    with _note_in(folder) as (note, text):
        asked = (request.network, (request.engine, request.device), _storage(request.dataset, note, text))
        answers = client.run(check_surroundings, *asked, neighbours_of(client), on_error="return")
        there = workers_of(client)
        answers = {worker: answer for worker, answer in answers.items() if worker in there}
        for worker, answer in answers.items():
            if isinstance(answer, Exception):
                raise InputError(f"worker {worker}: {' '.join(str(answer).split())}") from None
        _check_notes(note, text, len(answers))
    engine, device = _common_choice(answers)
    return replace(request, engine=engine, device=device)


def _common_choice(answers: dict[str, tuple[str, str]]) -> tuple[str, str]:
    """Return the engine and the device that all workers take; raises InputError if they differ."""
    workers = {choice: worker for worker, choice in answers.items()}
    if len(workers) > 1:
        choices = ", ".join(f"{engine} on {device} at {worker}" for (engine, device), worker in sorted(workers.items()))
        raise InputError(f"the workers would not compute alike: {choices}; choose by --engine and --device")
    (choice,) = workers
    return choice


def compare_engines(client: "Client", request: FeatureRequest, requested: str) -> FeatureRequest:
    """Return the request with `mnn` only if its output is Keras' own on one worker of each host, else with `keras`.

    Raises InputError if `requested` is mnn and it is not.
    """
    from distributed.comm import get_address_host

    one_a_host = {get_address_host(worker): worker for worker in workers_of(client)}
    log.info("comparing mnn's output with Keras' own on each host, once for this network")
    given = (replace(request.of_rows(range(0)), engine="mnn"), requested, compared_images(request))
    asked = [
        client.submit(agreed_engine_here, *given, neighbours_of(client), workers=[worker], pure=False)
        for worker in one_a_host.values()
    ]
    return replace(request, engine="keras" if "keras" in client.gather(asked) else "mnn")


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


def _storage(images: Dataset, note: Any, text: str) -> SharedStorage:
    from distributed.protocol.pickle import dumps

    rows = np.unique(np.linspace(0, len(images.ids) - 1, NUM_SHOWN).astype(int)).tolist()
    shown = images.take(rows)
    digests = tuple(sha256(shown.content(row)).hexdigest() for row in range(len(rows)))
    return SharedStorage(note, text, dumps(shown), digests)


def _check_notes(note: Any, text: str, number: int) -> None:
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
