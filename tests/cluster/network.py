"""Hosts of a network of their own: network namespaces joined by a bridge, or addresses of the loopback interface."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

HOSTS = ("scheduler", "client", "worker-0", "worker-1")


@dataclass(frozen=True)
class Network:
    """`kind` says what the hosts are; host -> its address, and what a command begins with to run there."""

    kind: str
    addresses: dict[str, str]
    prefixes: dict[str, list[str]]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _join(names: dict[str, str]) -> None:
    """Make the namespaces and join them by a bridge inside the scheduler's, so that nothing outside is touched."""
    for name in names.values():
        _ip("netns", "add", name)
        _ip("-n", name, "link", "set", "lo", "up")
    head = names["scheduler"]
    _ip("-n", head, "link", "add", "br0", "type", "bridge")
    _ip("-n", head, "addr", "add", "10.77.0.1/24", "dev", "br0")
    _ip("-n", head, "link", "set", "br0", "up")
    for number, host in enumerate(HOSTS[1:], 2):
        name = names[host]
        _ip("-n", head, "link", "add", f"port{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("-n", head, "link", "set", f"port{number}", "master", "br0", "up")
        _ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")


@contextmanager
def network() -> Iterator[Network]:
    """Yield hosts in network namespaces where they are permitted, else on loopback; the namespaces are removed."""
    names = {host: f"thaw-{os.getpid()}-{host}" for host in HOSTS}
    try:
        if shutil.which("ip") is None:
            raise OSError("there is no ip command")
        _join(names)
    except (OSError, subprocess.CalledProcessError) as error:
        _remove(names)
        kind = f"processes on loopback (no network namespaces: {error})"
        yield Network(kind, {host: f"127.0.0.{i}" for i, host in enumerate(HOSTS, 1)}, {host: [] for host in HOSTS})
        return
    try:
        addresses = {host: f"10.77.0.{number}" for number, host in enumerate(HOSTS, 1)}
        prefixes = {host: ["ip", "netns", "exec", name] for host, name in names.items()}
        yield Network("network namespaces", addresses, prefixes)
    finally:
        _remove(names)


def _remove(names: dict[str, str]) -> None:
    for name in names.values():
        with suppress(OSError):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
