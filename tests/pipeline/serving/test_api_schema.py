"""The API as its own OpenAPI schema tells it: schemathesis makes requests of it and judges the answers."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.server import Server, serving

OPERATIONS = {"/healthz": {"get"}, "/api/model": {"get"}, "/api/predict": {"post"}}
# What a valid body is, no schema can say; random bytes are refused as images, as they should be.
PICTURES = """
import io
import numpy as np
import schemathesis
from hypothesis import strategies as st
from PIL import Image

def picture(size, kind):
    file = io.BytesIO()
    Image.fromarray(np.full((*size, 3), 99, np.uint8)).save(file, kind)
    return file.getvalue()

SIDES = st.integers(1, 31)
PICTURES = st.builds(picture, st.tuples(SIDES, SIDES), st.sampled_from(["PNG", "JPEG", "GIF", "BMP"]))
for media_type in ("image/*", "application/octet-stream"):
    schemathesis.openapi.media_type(media_type, PICTURES)
"""


@pytest.fixture(scope="module")
def server(pictures_run: Path) -> Iterator[Server]:
    with serving(pictures_run, max_mb=0.01, max_pixels=1000) as one:
        yield one


def test_schemathesis_finds_nothing_that_the_schema_does_not_say(server: Server, tmp_path: Path) -> None:
    (tmp_path / "pictures_as_bodies.py").write_text(PICTURES)
    program = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]
    options = ["--seed", "1", "--max-examples", "20", "--no-color", "--checks", "all"]
    done = subprocess.run(
        [*program, "run", f"http://127.0.0.1:{server.port}/openapi.json", *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "SCHEMATHESIS_HOOKS": "pictures_as_bodies"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Tested: 3" in done.stdout
    generated, passed = map(int, re.search(r"(\d+) generated, (\d+) passed", done.stdout).groups())
    assert generated == passed >= 50


def test_the_schema_names_the_operations_and_every_status(server: Server) -> None:
    described = server.ask("GET", "/openapi.json").json
    assert {path: set(operations) for path, operations in described["paths"].items()} == OPERATIONS
    statuses = set(described["paths"]["/api/predict"]["post"]["responses"])
    assert statuses == {"200", "400", "403", "408", "413", "415", "422", "429", "503"}
    for status in statuses - {"200"}:
        content = described["paths"]["/api/predict"]["post"]["responses"][status]["content"]
        assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/Problem"}
    assert "HTTPValidationError" not in described["components"]["schemas"]
