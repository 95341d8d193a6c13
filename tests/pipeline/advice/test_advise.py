"""`advise` as a whole, on a small folder of images and a random network, and what it writes and prints."""

import json
import shlex
from pathlib import Path

import h5py
import numpy as np
import pytest

from thaw.features.errors import InputError
from thaw.features.store import FeatureFile
from thaw.models.selection.learning_curve import PowerLaw
from thaw.pipeline.advice.sample import Sampled, Survey
from thaw.pipeline.cli import run
from thaw.pipeline.comparison.advice_outcome import matches
from thaw.pipeline.config import Shared
from thaw.pipeline.run.advice_json import Advice, read_advice
from thaw.pipeline.run.data.dataset import dataset_of
from thaw.pipeline.run.feature_sets import with_feature_set
from thaw.pipeline.run.report_json import read_report

from tests.builders.features import copy_run, features_of

FAST = ["--image-size", "32", "--weights", "random", "--layers", "block4_pool,block5_pool"]


def thaw(*arguments: object) -> int:
    return run([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def advised(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "images"
    assert thaw("advise", "--dataset", f"folder:{image_folder}", "--run", folder, *FAST, "--budget", "30") == 0
    return folder


@pytest.fixture(scope="module")
def advice(advised: Path) -> Advice:
    found = read_advice(advised)
    assert found is not None
    return found


def test_the_run_is_left_with_its_features_and_without_samples(advised: Path) -> None:
    assert {path.name for path in advised.iterdir() if not path.name.startswith(".")} == {
        *("run.json", "split.csv", "images.csv", "features", "advice.json", "chance"),
    }


def test_the_file_has_the_fields_of_the_contract(advised: Path) -> None:
    content = json.loads((advised / "advice.json").read_text())
    assert {"size", "similarity", "layers", "configurations", "learning_curve", "recommended", "rule_of_thumb"} <= set(
        content
    )
    assert {
        *("strategy", "features", "backbone", "image_size", "layer", "pooling", "transform", "command"),
        *("accuracy", "accuracy_interval", "minutes"),
    } <= set(content["recommended"])
    assert {"cell", "strategy", "agrees"} <= set(content["rule_of_thumb"])


def test_every_pooling_layer_is_profiled_beside_a_random_network(advice: Advice) -> None:
    assert [layer.layer for layer in advice.layers] == [f"block{block}_pool" for block in range(1, 6)]
    for layer in advice.layers:
        assert 0 <= layer.random_accuracy <= 1
        assert np.isfinite([layer.log_me]).all()


def test_each_cut_has_its_trial(advice: Advice) -> None:
    cuts = ["head", "block5_conv1", "block4_conv1", "block1_conv1"]
    assert [forecast.unfreeze_from for forecast in advice.pilots] == cuts
    for forecast in advice.pilots:
        assert forecast.gain_interval[0] <= forecast.gain <= forecast.gain_interval[1]
        assert forecast.minutes > 0


def test_a_size_that_was_given_is_not_searched_over(advice: Advice) -> None:
    assert {configuration.image_size for configuration in advice.configurations} == {32}


def test_the_recommended_command_runs_and_its_accuracy_is_in_the_report(advised: Path, advice: Advice) -> None:
    words = shlex.split(advice.recommended.command)
    assert words[0] == "thaw"
    assert thaw(*words[1:]) == 0
    options = dict(zip(words[2::2], words[3::2], strict=True))
    [path] = (path for path in advised.glob("*/report.json") if path.parent.name != "chance")
    assert options["--run"] == str(advised)
    assert matches(advice.recommended, read_report(path))


def test_wrong_test_labels_change_no_advice(
    advised: Path, advice: Advice, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The test split chooses nothing; and a second call measures the same."""
    folder = copy_run(advised, tmp_path / "run", "run.json", "split.csv", "features")
    with h5py.File(features_of(folder), "r+") as file:
        labels = file["labels"][...]
        test = file["split"][...] == 2
        labels[test] = (labels[test] + 1) % 3
        file["labels"][...] = labels
    assert thaw("advise", "--run", folder, "--image-size", "32", "--budget", "30") == 0
    other = read_advice(folder)
    assert other is not None
    assert accuracies(other) == accuracies(advice)
    printed = capsys.readouterr().out
    assert f"Recommended: {other.recommended.strategy}" in printed
    assert other.recommended.command in printed
    assert f"Rule of thumb ({other.rule_of_thumb.cell})" in printed


def accuracies(advice: Advice) -> list[object]:
    """Return what does not depend on the speed of the machine: a search continues as long as there is time."""
    return [
        *((layer.average_accuracy, layer.auto_accuracy, layer.random_accuracy) for layer in advice.layers),
        *(point.accuracy for point in advice.learning_curve.points),
        *(forecast.accuracy for forecast in advice.pilots),
        *(
            (one.strategy, one.layer, round(one.accuracy, 9)) for one in advice.candidates[:2]
        ),  # on the run's own features
    ]


def test_samples_hold_the_values_of_the_runs_own_features(advised: Path) -> None:
    settings = with_feature_set(Shared(run=advised))
    with FeatureFile(features_of(advised)) as features:
        survey = Survey.of(Sampled(settings, dataset_of(settings), features.split), settings, features)
        rows = survey.order[:20]
        assert (features.split[rows] != 2).all()
        path = survey.sample("some", rows, ["block4_pool", "block4_pool:avg"])
        with FeatureFile(path) as sample:
            mask = np.zeros(len(features.ids), bool)
            mask[rows] = True
            everyone = np.ones(20, bool)
            ours, theirs = features.read(["block4_pool"], mask), sample.read(["block4_pool"], everyone)
            averaged = sample.read(["block4_pool:avg"], everyone)
            assert sample.ids == [features.ids[row] for row in np.sort(rows)]
        survey.clear()
    np.testing.assert_allclose(theirs, ours, rtol=1e-3, atol=1e-3 * np.abs(ours).max())
    np.testing.assert_allclose(averaged, theirs.reshape(20, -1, 512).mean(axis=1), rtol=1e-4, atol=1e-4)
    assert not survey.folder.exists()


def test_a_law_without_a_slope_expects_no_more_of_more_images() -> None:
    assert PowerLaw(0.8, 0.0, 1.0)(10) == PowerLaw(0.8, 0.0, 1.0)(1e6)


def test_a_run_that_is_not_there_is_a_typo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert thaw("advise", "--run", tmp_path / "nothing") == 1
    assert "there is no run in" in capsys.readouterr().err


def test_a_budget_is_positive(capsys: pytest.CaptureFixture[str]) -> None:
    assert thaw("advise", "--budget", "0") == 2
    assert "--budget received" in capsys.readouterr().err


def test_damaged_advice_says_what_to_type(advised: Path, tmp_path: Path) -> None:
    (tmp_path / "advice.json").write_text("{")
    with pytest.raises(InputError, match="make advise RUN="):
        read_advice(tmp_path)
    assert read_advice(tmp_path / "empty") is None
