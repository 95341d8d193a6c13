"""The serve stage: the command line, a port in use, and the real server from its start to Ctrl-C."""

import http.client
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from thaw.features.errors import InputError
from thaw.pipeline.cli import run
from thaw.pipeline.commands import program
from thaw.pipeline.serving.access import is_loopback
from thaw.pipeline.serving.serve import _address, listen

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that is in use."""
    with listen("127.0.0.1", 0) as listening:
        yield listening.getsockname()[1]


def test_a_port_in_use_is_one_line_that_says_what_to_type(
    pictures_run: Path,
    taken: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["serve", "--run", str(pictures_run), "--strategy", "svm", "--port", str(taken)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        f"error: port {taken} of 127.0.0.1 is in use, perhaps by another {program()} serve; type --port {taken + 1}\n"
    )


def test_a_port_is_taken_from_the_first_moment_on() -> None:
    with listen("127.0.0.1", 0) as listening:
        assert listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        with pytest.raises(InputError, match="is in use"):
            listen("127.0.0.1", listening.getsockname()[1])


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a b", "192.0.2.1", "x" * 300])
def test_a_host_that_is_none_of_this_machines_is_one_line(host: str) -> None:
    with pytest.raises(InputError, match=r"^--host .*type --host 127\.0\.0\.1$"):
        listen(host, 0)


def test_a_port_of_the_system_is_an_error_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(InputError, match="port 80 of 127.0.0.1 is not for everybody; type --port 8000"):
        listen("127.0.0.1", 80)


@pytest.mark.parametrize(
    ("option", "value"), [("--port", "65536"), ("--port", "-1"), ("--max-mb", "0"), ("--rate", "0"), ("--reject", "2")]
)
def test_options_out_of_range_are_wrong_usage(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", f"{option}={value}"]) == 2
    assert f"{option} received '{value}'" in capsys.readouterr().err


def test_a_run_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--run", str(tmp_path)]) == 1
    assert "has no trained model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000/"),
        ("0.0.0.0", "http://127.0.0.1:8000/"),  # noqa: S104
        ("::", "http://[::1]:8000/"),
        ("[::1]", "http://[::1]:8000/"),
        ("desk", "http://desk:8000/"),
    ],
)
def test_the_address_is_one_to_type(host: str, address: str) -> None:
    assert _address(host, 8000) == address


def test_loopback_is_told_from_other_hosts() -> None:
    assert [is_loopback(host) for host in ("localhost", "127.0.0.1", "127.8.0.1", "::1")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "192.0.2.1", "desk")] == [False] * 4  # noqa: S104


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("0.0.0.0", True)])  # noqa: S104
def test_a_real_server_answers_at_the_address_that_it_prints_and_stops_on_ctrl_c(
    pictures_run: Path,
    image_folder: Path,
    host: str,
    warned: bool,
) -> None:
    command = [sys.executable, "-m", "pipeline", "serve", "--run", str(pictures_run), "--strategy", "svm"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    with subprocess.Popen([*command, "--host", host, "--port", "0"], **pipes) as process:
        try:
            address = process.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:")
            connection = http.client.HTTPConnection(address.removeprefix("http://").rstrip("/"), timeout=60)
            picture = (image_folder / "sunset" / "01.png").read_bytes()
            connection.request("POST", "/api/predict", picture, {"Content-Type": "image/png"})
            assert b'"label":"sunset"' in connection.getresponse().read()
            connection.close()
        finally:
            process.send_signal(signal.SIGINT)
            out, log = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert ("there is no password" in log) == warned
    assert log.splitlines()[-1] == "stopped"
