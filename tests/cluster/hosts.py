"""A scheduler and workers as processes of their own, each on a host of its own where `prefix` puts it there."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
STARTS_WITHIN = 240.0  # seconds, on a machine that is busy


class Host:
    """One process group: a scheduler, or a worker with the nanny that starts it again when it dies."""

    def __init__(self, command: Sequence[str], folder: Path, prefix: Sequence[str] = ()):
        folder.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with (folder / "log.txt").open("ab") as out:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "dask", *command],
                **{"cwd": folder, "env": environment, "stdout": out, "stderr": out},
                start_new_session=True,
            )

    def kill(self) -> None:
        """End the process and all that it started at once, as a machine ends that loses its power."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def scheduler(folder: Path, host: str = "127.0.0.1", port: int = 0, prefix: Sequence[str] = ()) -> tuple[Host, str]:
    """Start a scheduler; return it and its address."""
    told = folder / "scheduler.json"
    told.unlink(missing_ok=True)
    listens = ["--host", host, "--port", str(port), "--no-dashboard", "--dashboard-address", f"{host}:0"]
    process = Host(["scheduler", *listens, "--scheduler-file", str(told)], folder, prefix)
    until = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < until:
        try:
            return process, str(json.loads(told.read_text())["address"])
        except (FileNotFoundError, ValueError):
            time.sleep(0.1)
    process.kill()
    raise RuntimeError(f"the scheduler does not start: {(folder / 'log.txt').read_text()}")


def worker(address: str, folder: Path, host: str = "127.0.0.1", prefix: Sequence[str] = ()) -> Host:
    """Start a worker of one thread."""
    given = ["--nthreads", "1", "--host", host, "--no-dashboard", "--dashboard-address", f"{host}:0"]
    return Host(["worker", address, *given, "--local-directory", str(folder / "scratch")], folder, prefix)


@contextmanager
def cluster(folder: Path, num_workers: int) -> Iterator[tuple[Host, str]]:
    """Yield a scheduler with workers on loopback, and its address; all have ended afterwards."""
    hosts: list[Host] = []
    try:
        head, address = scheduler(folder / "scheduler")
        hosts.append(head)
        hosts += [worker(address, folder / f"worker-{i}") for i in range(num_workers)]
        yield head, address
    finally:
        for host in reversed(hosts):
            host.kill()
