"""Stage `serve`: offer a trained model on a local page and by a JSON API, until it is stopped."""

import contextlib
import errno
import logging
import os
import socket
import webbrowser
from typing import TYPE_CHECKING

from thaw.features.errors import InputError
from thaw.pipeline.config import Serve
from thaw.pipeline.inference.loading import load_classifier
from thaw.pipeline.inference.trained import find_result
from thaw.pipeline.serving.access import is_loopback

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

log = logging.getLogger("thaw")

MAX_PENDING = 128  # connections that are not accepted yet
SECONDS_TO_STOP = 3  # seconds that requests have to end in
MAX_CONNECTIONS = 256


def main(settings: Serve) -> None:
    """Serve the model that the settings name, and print the page's address once it answers; return on Ctrl-C.

    Raises InputError if the port is in use or not allowed, or if the model cannot be used.
    """
    folder = find_result(settings.run_folder, settings.strategy)
    with listen(settings.host, settings.port) as listening:  # a port in use is an error before the model is loaded
        from thaw.pipeline.inference.similar_images import open_nearest
        from thaw.pipeline.serving.app import create_app

        classifier = load_classifier(folder, settings)
        app = create_app(classifier, open_nearest(settings.run_folder, classifier), settings)
        if not is_loopback(settings.host):
            log.warning(
                "--host %s: whoever reaches this address can send images; there is no password and no encryption",
                settings.host,
            )
        server = make_server(app)
        address = _address(settings.host, listening.getsockname()[1])
        print(address, flush=True)
        log.info("serving %s; Ctrl-C stops it", folder)
        if settings.open:
            webbrowser.open(address)
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again after all is closed
            server.run(sockets=[listening])
        log.info("stopped")


def make_server(app: "FastAPI") -> "uvicorn.Server":
    """Return the server of an application, to be run on sockets that listen already."""
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            proxy_headers=False,  # the address that a request claims to come from would evade the rate limit
            server_header=False,
            ws="none",
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=SECONDS_TO_STOP,
        )
    )


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at `host` and `port`; raises InputError if it cannot."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise InputError(f"--host {host} is no address ({_one_line(error)}); type --host 127.0.0.1") from None
    family, *_, address = found[0]
    both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    try:
        return socket.create_server(address, family=family, backlog=MAX_PENDING, dualstack_ipv6=both)
    except OSError as error:
        raise InputError(_reason(host, port, error)) from None


def _reason(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        other = port + 1 if port < 65535 else 0
        return f"port {port} of {host} is in use, perhaps by another make serve; type --port {other}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"port {port} of {host} is not for everybody; type --port 8000, or another above 1023"
    return f"--host {host} cannot be listened at ({os.strerror(error.errno or 0)}); type --host 127.0.0.1"


def _one_line(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())


def _address(host: str, port: int) -> str:
    """Return what to type in a browser on this machine."""
    name = host.strip("[]")
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)  # noqa: S104 (nothing is bound here)
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/"
