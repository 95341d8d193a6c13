import sys
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from thaw.features.errors import InputError
from thaw.pipeline.cli import run
from thaw.pipeline.cluster import client as cluster
from thaw.pipeline.config import Shared


def test_without_an_option_there_is_no_client() -> None:
    with cluster.connected(Shared()) as client:
        assert client is None


def test_both_options_are_one_too_many(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["features", "--workers", "2", "--cluster", "host:8786"]) == 2
    assert "--cluster received 'host:8786': expected it without --workers 2" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["8786", "http://host:80", "host", "host:port", "tcp://", "host:8786/x", "a b:1"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="address of a Dask scheduler"):
        Shared(cluster=address)


@pytest.mark.parametrize("address", ["host:8786", "tcp://10.0.0.1:8786", "tls://h.example:1", "tcp://[::1]:8786"])
def test_addresses_are_taken(address: str) -> None:
    assert Shared(cluster=address).cluster == address


@pytest.mark.parametrize("number", ["0", "-1", "two", "4000"])
def test_a_number_of_workers_that_cannot_be_is_refused(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["svm", "--workers", number]) == 2
    assert "--workers received" in capsys.readouterr().err


def test_the_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(InputError, match="--workers 2: the package distributed is not installed; type make setup EXTRA"),
        cluster.connected(Shared(workers=2)),
    ):
        pass


def test_a_scheduler_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    with (
        pytest.raises(InputError, match=r"no scheduler answers at 127.0.0.1:1 within 1 s .*dask scheduler"),
        cluster.connected(Shared(cluster="127.0.0.1:1")),
    ):
        pass


def test_versions_that_differ_are_named_with_both() -> None:
    own = cluster.installed()
    cluster.compare_versions("tcp://w:1", dict(own), own)
    with pytest.raises(InputError, match=r"worker tcp://w:1 .*numpy 1\.0 on the worker and .* here, h5py None on"):
        cluster.compare_versions("tcp://w:1", {**own, "numpy": "1.0", "h5py": None}, own)  # type: ignore[dict-item]
    with pytest.raises(InputError, match=r"worker tcp://w:1 cannot run Thaw \(No module named 'pipeline'\)"):
        cluster.compare_versions("tcp://w:1", ModuleNotFoundError("No module named 'pipeline'"), own)


def test_versions_hold_what_values_depend_on() -> None:
    assert {"thaw", "python", "numpy", "keras", "tensorflow", "mnn", "h5py", "pillow"} <= cluster.installed().keys()


def test_each_worker_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "may_have_gpu", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    settings = Shared(workers=2)
    assert cluster._devices(settings, 2) == [{"CUDA_VISIBLE_DEVICES": "2"}, {"CUDA_VISIBLE_DEVICES": "5"}]
    with pytest.raises(
        InputError, match=r"--workers 3: this machine has 2 GPU\(s\).*type --workers 2, or --device cpu"
    ):
        cluster._devices(settings, 3)
    assert cluster._devices(Shared(device="cpu"), 3) == [{"CUDA_VISIBLE_DEVICES": "-1"}] * 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert cluster._devices(settings, 3) == [{}] * 3


def test_work_that_ends_several_workers_is_one_line() -> None:
    from distributed import KilledWorker

    client = SimpleNamespace(scheduler=SimpleNamespace(address="tcp://s:1"))
    last = SimpleNamespace(address="tcp://w:2")
    with (
        pytest.raises(
            InputError, match=r"the part of images 0 to 511 was given up: 4 workers .* at tcp://w:2; look at"
        ),
        cluster.explained(client),  # type: ignore[arg-type]
    ):
        raise KilledWorker("the part of images 0 to 511", last, 3)


def test_parts_that_are_given_up_with_their_scheduler_are_one_line() -> None:
    from distributed.client import CancelledFuturesGroup, FutureCancelledError, FuturesCancelledError

    client = SimpleNamespace(scheduler=SimpleNamespace(address="tcp://s:1"), status="connecting")
    group = CancelledFuturesGroup([FutureCancelledError("the part of images 0 to 511", "lost")], "scheduler-lost")
    with (
        pytest.raises(InputError, match="the scheduler at tcp://s:1 was lost .* type the same command"),
        cluster.explained(client),  # type: ignore[arg-type]
    ):
        raise FuturesCancelledError([group])


@pytest.mark.parametrize(
    ("error", "status", "lost"),
    [
        (OSError("Timed out trying to connect to tcp://s:1"), "connecting", True),
        (OSError(28, "No space left on device", "features.h5"), "connecting", False),
        (TimeoutError("a data set's server is slow"), "running", False),
    ],
)
def test_only_what_the_scheduler_does_is_laid_at_its_door(error: OSError, status: str, lost: bool) -> None:
    client = SimpleNamespace(scheduler=SimpleNamespace(address="tcp://s:1"), status=status)
    with (
        pytest.raises(InputError if lost else OSError, match="the scheduler at tcp://s:1 was lost" if lost else None),
        cluster.explained(client),  # type: ignore[arg-type]
    ):
        raise error
