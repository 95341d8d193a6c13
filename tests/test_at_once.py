"""Commands that meet in one run: which are refused, which wait, and which do not care."""

import json
import logging
import shutil
import threading
from pathlib import Path

import pytest

from thaw.features.errors import InputError
from thaw.features.files.locks import held
from thaw.pipeline.cli import run
from thaw.pipeline.config import RUN_FIELDS, SET_FIELDS, Shared
from thaw.pipeline.run.run_json import check_agrees, read_run, write_run

from tests.builders.features import features_of


@pytest.fixture
def copy(pictures_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pictures_run, tmp_path / "run"))


@pytest.mark.parametrize("stage", [["svm", "--run"], ["head", "--epochs", "1", "--run"], ["export", "--name", "svm"]])
def test_a_result_that_is_being_made_is_not_made_twice(
    copy: Path, stage: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy / ("head" if stage[0] == "head" else "svm")
    before = (folder / "report.json").read_bytes()
    with held(folder):
        assert run([*stage, str(copy)]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"error: {folder} is being made by process ")
    assert said.endswith("; wait for its end and type the command again, or give this one a name of its own by --name")
    assert (folder / "report.json").read_bytes() == before


def test_reports_and_checks_do_not_wait_for_a_training(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with held(features_of(copy)), held(copy / "svm"), held(copy / "report.html"):
        assert run(["report", "--run", str(copy), "--json"]) == 0
        assert "svm" in [report["name"] for report in json.loads(capsys.readouterr().out)["strategies"]]
        assert run(["verify", str(copy)]) == 0
    assert ".lock" not in capsys.readouterr().out


def test_another_name_is_trained_at_the_same_time(copy: Path) -> None:
    with held(copy / "svm"):
        assert run(["svm", "--run", str(copy), "--name", "svm-2", "--values", "0.001"]) == 0
    assert (copy / "svm-2" / "report.json").exists()


def test_features_that_are_being_made_are_waited_for(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = features_of(copy)
    kept = path.rename(copy / "kept.h5")
    codes: list[int] = []
    second = threading.Thread(target=lambda: codes.append(run(["features", "--run", str(copy)])))
    with caplog.at_level(logging.INFO, "thaw"), held(path):
        second.start()
        while not any(said.startswith(f"waiting for {path}") for said in caplog.messages):
            second.join(0.05)
            assert second.is_alive(), caplog.messages
        kept.rename(path)
    second.join()
    assert codes == [0]
    assert caplog.messages[-1] == f"{path} is whole and up to date"


def test_who_begins_a_run_or_a_set_second_has_its_settings_or_is_refused(tmp_path: Path) -> None:
    write_run(Shared(run=tmp_path, image_size=64, features="mine"))
    begun = read_run(tmp_path)
    check_agrees(Shared(run=tmp_path, image_size=64, features="mine"), begun, (*RUN_FIELDS, *SET_FIELDS))
    with pytest.raises(InputError, match="was made with other settings: --image-size was 64 and is now 48"):
        check_agrees(Shared(run=tmp_path, image_size=48, features="mine"), begun, SET_FIELDS)
    with pytest.raises(InputError, match="was made with other settings: --seed was 0 and is now 1"):
        check_agrees(Shared(run=tmp_path, image_size=48, seed=1), begun, RUN_FIELDS)
