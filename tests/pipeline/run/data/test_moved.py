"""Data in another place: the run goes on if the same images lie there, and refuses any other."""

import logging

import pytest

from thaw.features.errors import InputError
from thaw.pipeline.config import Shared
from thaw.pipeline.extraction.extract import begin_run
from thaw.pipeline.run.data.dataset import dataset_of
from thaw.pipeline.run.data.images_csv import is_of_run, warn_of_changes
from thaw.pipeline.run.feature_sets import with_feature_set
from thaw.pipeline.run.run_json import read_run

from tests.builders.images import folder, png


def begun(root) -> Shared:
    folder(root / "data", *(f"{kind}/{i}.png" for kind in "ab" for i in range(6)))
    settings = with_feature_set(Shared(run=root / "run", dataset=f"folder:{root}/data"))
    begin_run(settings, dataset_of(settings))
    return settings


def test_the_same_images_in_another_place_are_gone_on_with(tmp_path, caplog):
    settings = begun(tmp_path)
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    with caplog.at_level(logging.INFO, "thaw"):
        complete = with_feature_set(Shared(run=tmp_path / "run", dataset=f"folder:{tmp_path}/elsewhere"))
    assert (
        f"the data moved from folder:{tmp_path}/data to folder:{tmp_path}/elsewhere: the same images" in caplog.messages
    )
    record = read_run(tmp_path / "run")
    assert record is not None
    assert record.settings["dataset"] == complete.dataset == f"folder:{tmp_path}/elsewhere"
    assert complete.feature_set == settings.feature_set
    assert is_of_run(tmp_path / "run", dataset_of(complete).digest())
    caplog.clear()
    warn_of_changes(complete)
    assert caplog.messages == []


def test_other_images_in_another_place_are_refused(tmp_path):
    begun(tmp_path)
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/a/0.png").write_bytes(png(99))
    with pytest.raises(
        InputError, match="was made with other settings: --dataset was folder:.*data and is now folder:.*else"
    ):
        with_feature_set(Shared(run=tmp_path / "run", dataset=f"folder:{tmp_path}/elsewhere"))
