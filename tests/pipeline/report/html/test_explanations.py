"""What explains a label: images like it in its feature set, and what the report shows without them."""

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from thaw.features.datasets.dataset import load_dataset
from thaw.pipeline.comparison.comparison import load_run
from thaw.pipeline.report.html.explanations import Explanations, explain, explained_shots
from thaw.pipeline.run.results import Entry
from thaw.pipeline.thumbnails import Pictures

from tests.builders.features import OTHERS, ROWS, feature_file, features_of
from tests.builders.results import IDS, add
from tests.pipeline.report.test_report import ROOT


def entry(run: Path, name: str = "svm", **changed: Any) -> Entry:
    add(run, name, ROWS.tolist(), **changed)
    return next(one for one in load_run(run) if one.report.name == name)


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    for name in (*IDS, *OTHERS):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((40, 40, 3), 99, np.uint8)).save(path)
    return Pictures(load_dataset(f"folder:{tmp_path / 'images'}"))


def explained(run: Path, pictures: Pictures, *entries: Entry) -> Explanations:
    return explain(run, pictures, [(one, ROWS) for one in entries])


def nearest(layer: np.ndarray, place: int) -> list[str]:
    others = layer[60:] - layer[60:].mean(axis=0)
    query = layer[place] - layer[60:].mean(axis=0)
    cosines = others @ query / np.linalg.norm(others, axis=1)
    return [OTHERS[at] for at in np.argsort(-cosines)[:3]]


def test_the_most_similar_images_are_training_and_validation_images(tmp_path: Path, pictures: Pictures) -> None:
    layers, one = feature_file(tmp_path), entry(tmp_path)
    found = explained(tmp_path, pictures, one)
    assert set(found.similar) == {("svm", row) for row in ROWS}
    for row in ROWS.tolist():
        like = found.similar["svm", row]
        assert [image.id for image in like] == nearest(layers["block5_pool"], IDS.index(one.ids[row]))
        assert [image.label for image in like] == [image.id.split("/")[1] for image in like]
        assert 1 >= like[0].similarity >= like[1].similarity >= like[2].similarity >= -1
    assert (found.heat, found.layers, found.missing) == ({}, {"svm": "block5_pool"}, [])


def test_a_linear_strategy_is_explained_by_its_own_features_and_any_other_by_the_last_layer(
    tmp_path: Path, pictures: Pictures
) -> None:
    layers = feature_file(tmp_path)
    roots = {"layer": "block4_pool", "hyperparameters": {"transform": "sqrt"}}
    own = entry(tmp_path, "logreg", strategy="logreg", **roots)
    older = entry(tmp_path, "older", strategy="logreg", features_sha256="f" * 64, **roots)
    both = entry(tmp_path, "both", layer="block4_pool+block5_pool")
    found = explained(tmp_path, pictures, own, older, both)
    assert found.layers == {"logreg": "block4_pool", "older": "block5_pool", "both": "block4_pool+block5_pool"}
    sides = {
        "logreg": np.sqrt(layers["block4_pool"]),
        "older": layers["block5_pool"],
        "both": np.hstack([layers["block4_pool"], layers["block5_pool"]]),
    }
    for name, values in sides.items():
        for row in ROWS.tolist():
            place = IDS.index(own.ids[row])
            assert [image.id for image in found.similar[name, row]] == nearest(values, place)


@pytest.mark.parametrize(
    ("make", "problem"),
    [(lambda run: None, "they need {run}/features/vgg16-48.h5, which is gone; type: make features RUN={run} ARGS="),
     (lambda run: feature_file(run) and features_of(run).write_bytes(b"no HDF5"),
      "{run}/features/vgg16-48.h5 is not a whole feature file"),
     (lambda run: feature_file(run, split_sha256="d" * 64), "{run}/features/vgg16-48.h5 is of another split than svm")],
)  # fmt: skip
def test_without_fitting_features_one_line_says_so(
    make: Any, problem: str, tmp_path: Path, pictures: Pictures, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path)
    with caplog.at_level(logging.WARNING):
        found = explained(tmp_path, pictures, entry(tmp_path), entry(tmp_path, "svm2"))
    said = f"Training images like these: {problem.format(run=tmp_path)}"
    assert found.missing[0].startswith(said)
    assert [record.message.startswith(said) for record in caplog.records] == [True]
    assert (found.similar, found.heat) == ({}, {})
    shots = explained_shots(pictures, found, entry(tmp_path), ROWS)
    assert [(shot.heat, list(shot.similar)) for shot in shots] == [(None, [])] * 3


def test_a_network_that_is_gone_costs_one_line(
    tmp_path: Path, pictures: Pictures, caplog: pytest.LogCaptureFixture
) -> None:
    feature_file(tmp_path)
    tuned = entry(tmp_path, "finetune", strategy="finetune", layer="block5_conv1")
    with caplog.at_level(logging.WARNING):
        found = explained(tmp_path, pictures, tuned)
    again = f"there is no model {tmp_path}/finetune/model.json; type: make finetune RUN={tmp_path}"
    assert found.missing == [f"Heat maps of finetune: {again}"]
    assert caplog.messages == found.missing
    assert len(found.similar) == 3


def test_a_network_that_cannot_be_loaded_costs_one_line(
    tmp_path: Path, pictures: Pictures, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    feature_file(tmp_path)
    monkeypatch.setitem(sys.modules, "thaw.models.neural.gradcam", None)  # as where TensorFlow is not there
    found = explained(tmp_path, pictures, entry(tmp_path, "scratch", strategy="scratch", layer="block1_conv1"))
    assert found.missing == ["Heat maps of scratch could not be made (ModuleNotFoundError)."]
    assert len(caplog.messages) == 1


def test_a_head_on_one_position_is_not_loaded(tmp_path: Path, pictures: Pictures) -> None:
    feature_file(tmp_path)
    found = explained(tmp_path, pictures, entry(tmp_path, "head", strategy="head"))
    assert (found.missing, found.heat) == ([], {})
    assert found.layers == {"head": "block5_pool"}


def test_similar_images_are_beside_the_image(tmp_path: Path, pictures: Pictures) -> None:
    feature_file(tmp_path)
    one = entry(tmp_path)
    found = explained(tmp_path, pictures, one)
    found.heat["svm", 4] = np.array([[0, 0], [0, 1]], np.float32)
    shots = explained_shots(pictures, found, one, ROWS)
    assert [shot.id for shot in shots] == [one.ids[row] for row in ROWS]
    assert [(shot.heat is not None, shot.heat_position) for shot in shots] == [
        *((False, ""), (True, "lower right"), (False, "")),
    ]
    for row, shot in zip(ROWS.tolist(), shots, strict=True):
        assert [(like.id, like.similarity) for like in shot.similar] == [
            (i.id, i.similarity) for i in found.similar["svm", row]
        ]
        assert all(like.source and like.source.startswith("data:image/jpeg") for like in shot.similar)


def test_nothing_to_show_needs_nothing(tmp_path: Path, pictures: Pictures) -> None:
    one = entry(tmp_path)
    assert explain(tmp_path, pictures, [(one, ROWS[:0])]) == Explanations({}, {}, {}, [])
    assert explain(tmp_path, pictures, []) == Explanations({}, {}, {}, [])


def test_no_neural_library_is_imported_for_linear_strategies(tmp_path: Path, pictures: Pictures) -> None:
    feature_file(tmp_path)
    entry(tmp_path)
    settings = f'{{"dataset": "folder:{tmp_path / "images"}"}}'
    code = (
        "import json, sys; from pathlib import Path; import numpy as np\n"
        "from thaw.pipeline.comparison.comparison import load_run\n"
        "from thaw.features.datasets.dataset import load_dataset\n"
        "from thaw.pipeline.thumbnails import Pictures\n"
        "from thaw.pipeline.report.html.explanations import explain\n"
        f"folder, dataset = Path({str(tmp_path)!r}), json.loads({settings!r})['dataset']\n"
        "found = explain(folder, Pictures(load_dataset(dataset)), [(load_run(folder)[0], np.array([0]))])\n"
        "print(len(found.similar), *sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    number, *loaded = ran.stdout.split()
    assert number == "1"
    assert not {"tensorflow", "keras", "jax", "torch"} & set(loaded)
