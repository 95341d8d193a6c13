"""The local page as a parser of requests: bytes are taken as an HTTP request and handed to the application itself."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import numpy as np
import seeds
from targets import MOST_PIXELS, Target

from thaw.features.images.decode import decode
from thaw.pipeline.config import Serve
from thaw.pipeline.run.report_json import Report
from thaw.pipeline.serving.app import create_app

from tests.builders.results import CLASSES, fields, probabilities_with

STATUSES = {200, 400, 403, 404, 405, 413, 415, 422, 429, 503}


def web_targets(folder: Path) -> Iterator[Target]:
    """Yield that of requests; the application is made in the process that asks."""
    applications: list[Any] = []

    def meet(content: bytes) -> None:
        if not applications:
            applications.extend((_application(folder), asyncio.new_event_loop()))
        app, loop = applications
        status, body = loop.run_until_complete(asyncio.wait_for(_answer(app, content), 9))
        if status not in STATUSES:
            raise AssertionError(f"status {status}: {body[:200]!r}")
        if status >= 400 and status not in (404, 405) and "\n" in json.loads(body)["detail"]:
            raise AssertionError(f"more than one line: {body[:200]!r}")

    yield Target("web request", meet, seeds.requests(), 20)


def _application(folder: Path) -> Any:
    report = Report.model_validate(fields("svm", probabilities_with([0]), CLASSES))
    stub = SimpleNamespace(
        report=report, class_names=CLASSES, batch_size=4, read=_read,
        views=lambda inputs: [inputs],
        average=lambda views: np.full((len(views[0]), 3), 1 / 3),
    )  # fmt: skip
    settings = Serve(run=folder, rate=1e6, max_mb=0.003, max_pixels=MOST_PIXELS)
    return create_app(stub, None, settings)  # type: ignore[arg-type]


def _read(source: bytes, name: str, max_pixels: int) -> np.ndarray:
    """Return network input of zeros for an image that can be read."""
    decode(source, name, max_pixels)
    return np.zeros((8, 8, 3), np.float32)


def scope_of(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the ASGI scope and the body of a request, as a server would hand them on, however odd they are."""
    head, _, body = content.partition(b"\r\n\r\n")
    line, *headers = head.split(b"\r\n")
    method, _, rest = line.partition(b" ")
    path, _, query = rest.partition(b" ")[0].partition(b"?")
    pairs = [(name.strip().lower(), value.strip()) for name, _, value in (one.partition(b":") for one in headers)]
    scope = {
        **{"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1"},
        **{
            "method": method.decode("latin-1").upper(),
            "scheme": "http",
            "path": "/" + unquote(path.decode("latin-1")).lstrip("/"),
        },
        **{"raw_path": path, "query_string": query, "root_path": "", "headers": pairs},
        **{"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000)},
    }
    return scope, body


async def _answer(app: Any, content: bytes) -> tuple[int, bytes]:
    scope, body = scope_of(content)
    half = len(body) // 2
    waiting = [
        {"type": "http.request", "body": body[:half], "more_body": True},
        {"type": "http.request", "body": body[half:], "more_body": False},
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])
