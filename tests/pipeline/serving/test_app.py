"""The local page's API: what it answers over HTTP, to whom, and that it writes nothing."""

import csv
import io
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from thaw.features.datasets.dataset import load_dataset
from thaw.pipeline.cli import run
from thaw.pipeline.serving.access import Buckets
from thaw.pipeline.serving.app import MAX_AT_ONCE

from tests.builders.server import FAST, Server, serving

ROOT = Path(__file__).resolve().parents[3]


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def predictions(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def server(pictures_run: Path) -> Iterator[Server]:
    with serving(pictures_run, max_mb=0.1, max_pixels=10_000) as one:
        yield one


@pytest.fixture(scope="module")
def picture(image_folder: Path) -> bytes:
    return (image_folder / "grass" / "05.png").read_bytes()


def test_an_image_is_labelled_with_probabilities_and_its_nearest(server: Server, picture: bytes) -> None:
    reply = server.predict(picture, "?top=2&neighbours=4")
    assert reply.status == 200
    answer = reply.json
    assert (answer["status"], answer["label"]) == ("ok", "grass")
    assert answer["top"][0]["label"] == "grass"
    assert len(answer["top"]) == 2
    assert answer["top"][0]["probability"] >= answer["top"][1]["probability"]
    assert len(answer["neighbours"]) == 4
    similarities = [neighbour["similarity"] for neighbour in answer["neighbours"]]
    assert similarities == sorted(similarities, reverse=True)
    for neighbour in answer["neighbours"]:
        assert neighbour["id"].startswith(f"{neighbour['label']}/")
        assert neighbour["thumbnail"].startswith("data:image/")


def test_the_nearest_of_a_training_image_is_itself_and_no_test_image(
    server: Server, pictures_run: Path, image_folder: Path
) -> None:
    tested = {row["id"] for row in predictions(pictures_run / "svm")}
    for path in sorted(image_folder.glob("*/0*.png")):
        name = path.relative_to(image_folder).as_posix()
        nearest = server.predict(path.read_bytes(), "?neighbours=12").json["neighbours"]
        assert tested.isdisjoint(neighbour["id"] for neighbour in nearest)
        if name not in tested:
            assert nearest[0]["id"] == name
            assert nearest[0]["similarity"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("strategy", ["svm", "head"])
def test_the_page_says_what_the_test_split_was_given(pictures_run: Path, image_folder: Path, strategy: str) -> None:
    rows = predictions(pictures_run / strategy)
    with serving(pictures_run, strategy) as one, ThreadPoolExecutor(4) as clients:
        bodies = [(image_folder / row["id"]).read_bytes() for row in rows]
        answers = [reply.json for reply in clients.map(one.predict, bodies)]
        has_neighbours = one.service.model.has_neighbours
    assert has_neighbours == (strategy == "svm")  # the network sees whole activations, which are not kept
    for row, answer in zip(rows, answers, strict=True):
        assert answer["label"] == row["predicted"]
        for share in answer["top"]:
            assert share["probability"] == pytest.approx(float(row[f"p_{share['label']}"]), abs=1e-6)
        assert bool(answer["neighbours"]) == has_neighbours


@pytest.mark.slow
def test_digits_are_labelled_as_in_the_test_split(tmp_path: Path) -> None:
    quick = ["--layers", "block1_pool", "--pooling", "avg", "--batch-size", "16"]
    assert run(["features", *FAST, *quick, "--dataset", "digits", "--run", str(tmp_path)]) == 0
    assert run(["logreg", "--values", "1", "--run", str(tmp_path)]) == 0
    digits, rows = load_dataset("digits"), predictions(tmp_path / "logreg")
    with serving(tmp_path, "logreg") as one, ThreadPoolExecutor(MAX_AT_ONCE) as clients:
        bodies = [png(digits.read(digits.row_of[row["id"]])) for row in rows]
        answers = [reply.json for reply in clients.map(lambda body: one.predict(body, "?top=10"), bodies)]
    assert len(rows) == 360
    assert [answer["label"] for answer in answers] == [row["predicted"] for row in rows]
    differences = [
        abs(share["probability"] - float(row[f"p_{share['label']}"]))
        for row, answer in zip(rows, answers, strict=True)
        for share in answer["top"]
    ]
    assert len(differences) == 3600
    assert max(differences) < 1e-5


def test_what_is_not_probable_enough_is_unsure(pictures_run: Path, picture: bytes) -> None:
    probability = None
    for reject, status, label in ((None, "ok", "grass"), (0.9, "unsure", None), (0.3, "ok", "grass")):
        with serving(pictures_run, "logreg", reject=reject) as one:
            answer = one.predict(picture, "?top=1").json
        assert (answer["status"], answer["label"]) == (status, label)
        assert answer["top"][0]["label"] == "grass"
        assert probability in (None, answer["top"][0]["probability"])
        probability = answer["top"][0]["probability"]
        assert 1 / 3 < probability < 0.9


def test_the_model_is_described(server: Server) -> None:
    model = server.ask("GET", "/api/model").json
    assert model["classes"] == ["blue sky", "grass", "sunset"]
    assert (model["strategy"], model["image_size"], model["num_test"]) == ("svm", 32, 15)
    low, high = model["accuracy_ci95"]
    assert low <= model["accuracy"] <= high
    assert re.fullmatch(r"folder:[^/]+", model["dataset"])  # not where it lies on this machine
    assert model["limits"] == {"max_bytes": 100_000, "max_pixels": 10_000, "rate": 1e6}
    assert server.ask("GET", "/healthz").json == {"status": "ok"}


BAD_BODIES = {
    "text": (b"no image at all", 400, "cannot identify image file"),
    "empty": (b"", 400, "the body is empty"),
    "cut short": (png(np.zeros((50, 50, 3), np.uint8))[:-40], 400, "the image is damaged"),
    "too many pixels": (png(np.zeros((101, 100, 3), np.uint8)), 400, "has 10100 pixels (100 x 101)"),
    "too many bytes": (bytes(100_001), 413, "more than 0.1 MB"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_bad_bodies_are_refused_in_one_line(server: Server, name: str) -> None:
    body, status, said = BAD_BODIES[name]
    reply = server.predict(body)
    assert reply.status == status
    assert said in reply.json["detail"]
    assert "\n" not in reply.json["detail"]
    assert "--skip-bad" not in reply.json["detail"]


def test_too_many_bytes_are_noticed_without_a_length(server: Server) -> None:
    reply = server.predict(iter([bytes(60_000), bytes(60_000)]))
    assert (reply.status, reply.json["detail"]) == (413, "the image has more than 0.1 MB, which is what is accepted")


def test_an_image_in_chunks_is_labelled(server: Server, picture: bytes) -> None:
    assert server.predict(iter([picture[:1000], picture[1000:]])).json["label"] == "grass"


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", "image/", "application/json", ""])
def test_other_content_types_are_refused(server: Server, picture: bytes, kind: str) -> None:
    reply = server.predict(picture, Content_Type=kind)
    assert reply.status == 415
    assert "expected image/... or application/octet-stream" in reply.json["detail"]


@pytest.mark.parametrize("kind", ["IMAGE/JPEG", "image/png; q=1", "application/octet-stream"])
def test_any_type_of_image_is_accepted_whatever_the_image_is(server: Server, picture: bytes, kind: str) -> None:
    assert server.predict(picture, Content_Type=kind).status == 200


@pytest.mark.parametrize("query", ["?top=0", "?top=x", "?top=101", "?neighbours=-1", "?neighbours=13", "?top="])
def test_wrong_parameters_are_refused_in_one_line(server: Server, picture: bytes, query: str) -> None:
    reply = server.predict(picture, query)
    assert reply.status == 422
    name = query[1:].partition("=")[0]
    assert reply.json["detail"].startswith(f"{name} received ")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "[::1", ""])
@pytest.mark.parametrize("path", ["/", "/api/model", "/healthz"])
def test_another_host_is_refused(server: Server, host: str, path: str) -> None:
    reply = server.ask("GET", path, Host=host)
    assert reply.status == 403
    assert f"this page is not called {host!r}" in reply.json["detail"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST:1"])
def test_this_machine_is_known_by_its_own_names(server: Server, host: str) -> None:
    assert server.ask("GET", "/healthz", Host=host).status == 200


def test_an_address_of_every_interface_is_known_by_numbers_and_the_machines_name(
    pictures_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Desk")
    with serving(pictures_run, host="0.0.0.0") as one:  # noqa: S104
        statuses = [one.ask("GET", "/healthz", Host=host).status for host in ("192.0.2.7", "desk:80", "evil.example")]
    assert statuses == [200, 200, 403]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://[::1"},
        {"Origin": "http://[of-no-version]"},
        {"Origin": "http://localhost:9"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_another_sites_page_may_not_send_images(server: Server, picture: bytes, headers: dict[str, str]) -> None:
    reply = server.predict(picture, **headers)
    assert reply.status == 403
    assert "another site's page" in reply.json["detail"]


def test_the_page_itself_may_send_images(server: Server, picture: bytes) -> None:
    own = {"Origin": f"http://127.0.0.1:{server.port}", "Sec_Fetch_Site": "same-origin"}
    assert server.predict(picture, **own).status == 200


def test_the_rate_is_limited_for_each_address(pictures_run: Path, picture: bytes) -> None:
    with serving(pictures_run, rate=0.001) as one:
        replies = [one.predict(picture, X_Forwarded_For=f"192.0.2.{number}") for number in range(2)]
        assert one.ask("GET", "/api/model").status == 200
    assert [reply.status for reply in replies] == [200, 429]
    assert replies[1].headers["retry-after"] == "1000"
    assert "send this one again in 1000 s" in replies[1].json["detail"]


def test_a_bucket_lets_in_its_burst_and_then_its_rate() -> None:
    now = 0.0
    buckets = Buckets(2, 4, lambda: now)
    assert [buckets.wait("a") for _ in range(5)] == [0, 0, 0, 0, 1]
    assert buckets.wait("b") == 0
    now = 1.0
    assert [buckets.wait("a") for _ in range(3)] == [0, 0, 1]
    now = 1000.0
    assert [buckets.wait("a") for _ in range(5)] == [0, 0, 0, 0, 1]


def test_as_many_clients_are_remembered_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thaw.pipeline.serving.access.MOST_CLIENTS", 2)
    buckets = Buckets(1, 1, lambda: 0.0)
    assert [buckets.wait(client) for client in "abab"] == [0, 0, 1, 1]
    assert [buckets.wait(client) for client in "cba"] == [0, 1, 0]


def test_requests_beyond_the_limit_are_refused_for_a_second(server: Server, picture: bytes) -> None:
    arrived, go_on = threading.Semaphore(0), threading.Event()

    def slow_body() -> Iterator[bytes]:
        yield picture[:10]
        arrived.release()
        go_on.wait(60)
        yield picture[10:]

    with ThreadPoolExecutor(MAX_AT_ONCE) as clients:
        inside = [clients.submit(server.predict, slow_body()) for _ in range(MAX_AT_ONCE)]
        try:
            for _ in inside:
                assert arrived.acquire(timeout=60)
            wait_for(lambda: server.service.free.locked())
            refused = server.predict(picture)
        finally:
            go_on.set()
        assert {reply.result().json["label"] for reply in inside} == {"grass"}
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert "16 images are being labelled already" in refused.json["detail"]
    assert server.predict(picture).status == 200


def wait_for(holds: Any) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_images_that_wait_together_are_labelled_in_one_pass(
    server: Server, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    labeller = server.service.labeller
    go_on, counts, label_all = threading.Event(), [], labeller._pass

    def counted(inputs: np.ndarray) -> Any:
        counts.append(len(inputs))
        go_on.wait(60)
        return label_all(inputs)

    monkeypatch.setattr(labeller, "_pass", counted)
    with ThreadPoolExecutor(6) as clients:
        replies = [clients.submit(server.predict, picture)]
        wait_for(lambda: counts == [1])
        replies += [clients.submit(server.predict, picture) for _ in range(5)]
        wait_for(lambda: len(labeller._waiting) == 5)
        go_on.set()
        assert {reply.result().json["label"] for reply in replies} == {"grass"}
    assert counts == [1, 5]


def test_an_image_that_does_not_arrive_is_given_up(
    server: Server, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thaw.pipeline.serving.app.UPLOAD_SECONDS", 0.05)
    ended = threading.Event()

    def never_whole() -> Iterator[bytes]:
        yield picture[:10]
        ended.wait(1)
        yield picture[10:]

    assert server.predict(never_whole()).status == 408
    assert server.service.free._value == MAX_AT_ONCE


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_of_the_program_is_one_line_and_does_not_end_it(
    server: Server, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(inputs: np.ndarray) -> Any:
        raise RuntimeError("secret")

    with monkeypatch.context() as patch:
        patch.setattr(server.service.labeller, "_pass", broken)
        reply = server.predict(picture)
    assert (reply.status, reply.json) == (500, {"detail": "the program failed (RuntimeError); its terminal says more"})
    assert server.predict(picture).status == 200


def test_every_answer_keeps_others_out(server: Server, picture: bytes) -> None:
    for reply in (server.ask("GET", "/"), server.predict(picture), server.predict(b"x"), server.ask("GET", "/none")):
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in reply.headers
        assert "server" not in reply.headers


def test_the_page_needs_nothing_from_outside_and_runs_its_own_script_alone(server: Server) -> None:
    first, second = (server.ask("GET", "/") for _ in range(2))
    nonces = [
        re.findall(r"'nonce-([\w-]{20,})'", reply.headers["content-security-policy"]) for reply in (first, second)
    ]
    assert nonces[0][0] != nonces[1][0]
    text = first.body.decode()
    assert set(re.findall(r'nonce="([^"]*)"', text)) == set(nonces[0])
    assert not re.search(r"<(link|script|img|iframe)[^>]*(src|href)=\"(?!data:)", text)
    assert " style=" not in text
    assert not re.search(r"\son\w+=", text)


def test_hostile_names_are_text_on_the_page(server: Server) -> None:
    from thaw.pipeline.serving.page import page

    hostile = '</script><script>alert(1)</script>"\u202e'
    text = page(server.service.model.model_copy(update={"classes": [hostile], "name": hostile}), "http://x/", "n")
    assert "<script>alert" not in text
    assert "\u202e" not in text
    assert text.count("&lt;script&gt;alert(1)") == 2


WRITES = r"""
import os, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], f"{sys.argv[1]}/tests"]
from tests.pipeline.serving.test_app import serving
run_folder, picture, folder = Path(sys.argv[2]), Path(sys.argv[3]).read_bytes(), Path(sys.argv[4])
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink", "os.truncate", "os.chmod", "shutil.move",
           "tempfile.mkstemp", "tempfile.mkdtemp"}
writes = []
def audit(event, arguments):
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        writes.append(str(arguments[0]))
    elif event in CHANGES:
        writes.append(f"{event} {arguments}")
def files():
    return {str(path): path.stat().st_mtime_ns for path in [*folder.rglob("*"), *run_folder.rglob("*")]}
with serving(run_folder, max_mb=2) as one:
    assert one.predict(picture).status == 200  # libraries that are imported on the first image keep caches
    before = files()
    sys.addaudithook(audit)
    replies = [one.predict(body) for body in (picture, picture[:-40], b"x", bytes(10**6), bytes(3 * 10**6))]
    replies += [one.predict(iter([bytes(10**6)] * 3)), one.predict(picture, Content_Type="text/plain")]
    replies += [one.ask("GET", "/"), one.ask("GET", "/api/model"), one.ask("GET", "/openapi.json")]
    assert files() == before, files()
    (folder / "seen").touch()
    assert files() != before
print([reply.status for reply in replies], writes)
"""


def test_no_file_is_written(pictures_run: Path, image_folder: Path, tmp_path: Path) -> None:
    homes = {name: str(tmp_path / name) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    for folder in homes.values():
        Path(folder).mkdir()
    picture = image_folder / "grass" / "05.png"
    done = subprocess.run(
        [sys.executable, "-B", "-c", WRITES, ROOT, pictures_run, picture, tmp_path],
        **{"capture_output": True, "text": True, "check": False, "cwd": tmp_path, "env": {**os.environ, **homes}},
    )
    statuses = [200, 400, 400, 400, 413, 413, 415, 200, 200, 200]
    assert done.stdout.strip() == f"{statuses} ['{tmp_path / 'seen'}']", done.stderr
