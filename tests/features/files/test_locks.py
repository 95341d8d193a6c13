import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from thaw.features.errors import InputError
from thaw.features.files.locks import held, holder

ROOT = Path(__file__).resolve().parents[3]
HOLDING = (
    "import sys; from pathlib import Path; from thaw.features.files.locks import held\n"
    "with held(Path(sys.argv[1])): print('holding', flush=True); sys.stdin.read()"
)


@contextmanager
def another_process(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", HOLDING, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"holding\n"
        yield other
        other.kill()


def test_who_comes_second_is_told_who_holds_the_file_and_what_to_type(tmp_path: Path) -> None:
    path = tmp_path / "svm" / "report.json"
    path.parent.mkdir()
    with (
        another_process(path) as other,
        pytest.raises(InputError) as error,
        held(path, otherwise=", or give it another --name"),
    ):
        pass
    message = str(error.value)
    assert message.startswith(f"{path} is being made by process {other.pid} since 2")
    assert message.endswith(f"(thaw {path}); wait for its end and type the command again, or give it another --name")


def test_the_lock_of_a_killed_process_holds_nobody_up(tmp_path: Path) -> None:
    path = tmp_path / "features.h5"
    with another_process(path):
        pass
    left = tmp_path / ".features.h5.lock"
    assert json.loads(left.read_text())["command"] == f"thaw {path}"
    with held(path):
        assert holder(path).startswith(f"process {os.getpid()} since ")
    assert left.read_text() == ""


def test_who_waits_says_for_whom_and_goes_on_after_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "features.h5"
    with another_process(path) as other, caplog.at_level(logging.INFO, "thaw"):
        kill = threading.Timer(0.2, other.kill)
        kill.start()
        with held(path, wait=True):
            assert other.wait() != 0
    assert caplog.messages[0].startswith(f"waiting for {path}, which is being made by process {other.pid} since ")
    assert caplog.messages[0].endswith("Ctrl-C gives up")


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        ("", "another process"),
        ("{", "another process"),
        ('{"process": 7}', "another process"),
        (
            '{"process": 7, "host": "far", "since": "2026-01-01 10:00:00+00:00", "command": "thaw"}',
            "process 7 on far since 2026-01-01 10:00:00+00:00 (thaw)",
        ),
    ],
)
def test_the_holder_as_far_as_its_signature_names_it(tmp_path: Path, signature: str, expected: str) -> None:
    (tmp_path / ".a.lock").write_text(signature)
    assert holder(tmp_path / "a") == expected


def test_a_folder_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file" / "features.h5"
    path.parent.write_text("not a folder")
    with pytest.raises(OSError, match="exists|Not a directory") as error, held(path):
        pass
    assert error.value.filename == str(path.parent)
