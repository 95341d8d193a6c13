"""The local page, served to a test."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from thaw.pipeline.config import Serve
from thaw.pipeline.inference.loading import load_classifier
from thaw.pipeline.inference.similar_images import open_nearest
from thaw.pipeline.serving.app import Service, create_app
from thaw.pipeline.serving.serve import listen, make_server

FAST = ["--image-size", "32", "--weights", "random", "--engine", "keras"]


class Reply(NamedTuple):
    """A response: its status, its headers by lower-case name, and its body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server(NamedTuple):
    """A server that runs in a thread of this process."""

    port: int
    service: Service

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """Return the reply; header names are written with _ for -. A body that is an iterator is sent in chunks."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            response = connection.getresponse()
            return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def predict(self, body: Any, query: str = "", **headers: str) -> Reply:
        return self.ask("POST", f"/api/predict{query}", body, **{"Content_Type": "image/png", **headers})


@contextmanager
def serving(run_folder: Path, strategy: str = "svm", **options: Any) -> Iterator[Server]:
    """Serve a strategy of the run on a free port."""
    settings = Serve(run=run_folder, **{"rate": 1e6, **options})
    classifier = load_classifier(run_folder / strategy)
    app = create_app(classifier, open_nearest(run_folder, classifier), settings)
    with listen(settings.host, 0) as listening:
        server = make_server(app)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield Server(listening.getsockname()[1], app.state.service)
        finally:
            server.should_exit = True
            thread.join()
