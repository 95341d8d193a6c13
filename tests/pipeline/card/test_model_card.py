"""The model card: its metadata, its figures, and names that try to be more than names."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from thaw.models.metrics import evaluate, expected_calibration_error, reliability
from thaw.pipeline.card import model_card
from thaw.pipeline.card.licences import licence_lines
from thaw.pipeline.run.predictions_csv import Predictions
from thaw.pipeline.run.report_json import Report

HOSTILE = [
    "<script>alert(1)</script>", "a | b", "]: x", "two\nlines", 'say "so"', "'", "---", "- x: y", "# top",
    "[l](javascript:1)", "`code`", "$x$", "&lt;", "{{ 7 * 7 }}", "\u202eleft", "  ", "\\", "été",
]  # fmt: skip


def made(run: Path, classes: list[str], wrong: int = 3, **changed: Any) -> tuple[Report, str, dict[str, Any]]:
    """Write the model card of a report; return the report, the card and its metadata.

    Each class has 40 images, the first `wrong` of which are labelled as the next class.
    """
    labels = np.repeat(np.arange(len(classes)), 40)
    called = labels.copy()
    called[np.arange(len(labels)) % 40 < wrong] += 1
    sure = np.linspace(0.51, 0.99, len(labels))[:, np.newaxis]
    chosen = np.eye(len(classes))[called % len(classes)]
    probabilities = chosen * sure + (1 - chosen) * (1 - sure) / (len(classes) - 1)
    labels, probabilities = labels[: len(classes) * 40], probabilities[: len(classes) * 40]
    content = {
        "name": "svm", "strategy": "svm", "dataset": "folder:/home/me/animals", "features": "vgg16-48",
        "backbone": "vgg16", "image_size": 48,
        "layer": "block5_pool", "class_names": classes, **evaluate(labels, probabilities, classes),
        "num_train": 200, "num_validation": 20, "num_test": len(labels), "hyperparameters": {"C": 0.01},
        "seconds": {"features": 12.0, "fit": 3.5, "predict": 0.25}, "peak_memory_mb": 812.0, "model_bytes": 61_440,
        "split_sha256": "a" * 64, "features_sha256": "b" * 64, "weights_sha256": "c" * 64, "seed": 0, "device": "cpu",
        "versions": {"numpy": "2.0"}, "command": "thaw svm --name '<b>`x`</b>'",
    }  # fmt: skip
    report = Report.model_validate(content | changed)
    ids = [f"test/{row:05d}" for row in range(len(labels))]
    path = model_card.write(run / "svm", report, Predictions(ids, labels, probabilities), {})
    text = path.read_text(encoding="utf-8")
    return report, text, metadata(text)


def metadata(text: str) -> dict[str, Any]:
    start, front, _ = text.split("---\n", 2)
    assert start == ""
    given = yaml.safe_load(front)
    assert isinstance(given, dict)
    return given


def rows_of(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, split where Markdown would."""
    part = text.split(heading, 1)[1].split("\n\n| ", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in f"| {part}".splitlines()[2:]]


def test_the_metadata_are_of_the_hub_and_have_the_results(tmp_path: Path) -> None:
    report, text, given = made(tmp_path, ["cat", "dog", "eel"])
    assert given["pipeline_tag"] == "image-classification"
    assert given["library_name"] == "onnx"
    assert {"svm", "vgg16", "image-classification"} <= set(given["tags"])
    assert given["datasets"] == ["folder:animals"]
    assert "/home/me" not in text
    [entry] = given["model-index"]
    [result] = entry["results"]
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert values["accuracy"] == pytest.approx(report.accuracy, abs=1e-6)
    assert values["ece"] == pytest.approx(report.ece, abs=1e-6)
    assert result["task"] == {"type": "image-classification"}


@pytest.mark.parametrize(
    ("dataset", "licence", "said"),
    [
        ("digits", "cc-by-4.0", "UCI Machine Learning Repository, CC BY 4.0"),
        ("elpv", "cc-by-nc-sa-4.0", "CC BY-NC-SA 4.0: not for commercial use"),
        ("cifar10", "unknown", "published without a licence"),
        ("folder:/home/me/animals", "unknown", "the user's own; their licence is not known here"),
    ],
)
def test_licences_are_named_or_asked_for(tmp_path: Path, dataset: str, licence: str, said: str) -> None:
    _, text, given = made(tmp_path, ["cat", "dog"], dataset=dataset)
    assert given["license"] == licence
    assert said in text


def test_the_weights_have_the_licence_of_their_source(tmp_path: Path) -> None:
    report, _, _ = made(tmp_path, ["cat", "dog"])
    assert "K. Simonyan and A. Zisserman, CC BY 4.0" in licence_lines(report, {"weights": "imagenet"})[1]
    assert "seeded random ones" in licence_lines(report, {"weights": "random"})[1]
    assert "not known here" in licence_lines(report, {"weights": "/home/me/weights.h5"})[1]


def test_classes_confusions_and_limits(tmp_path: Path) -> None:
    (tmp_path / "split.csv").write_text("id,label,split\n1,cat,train\n2,cat,test\n3,dog,validation\n4,dog,train\n")
    _, text, _ = made(tmp_path, ["cat", "dog"])
    assert rows_of(text, "## Data") == [["cat", "1", "0", "1"], ["dog", "1", "1", "0"]]
    assert rows_of(text, "### Each class")[0] == ["cat", "92.5 \\[80.1, 97.4\\]", "92.5", "0.925", "40"]
    assert rows_of(text, "### Most frequent confusions") == [["cat", "dog", "3", "7.5"], ["dog", "cat", "3", "7.5"]]
    assert "- Weakest class: cat, recall 92.5 \\[80.1, 97.4\\] %." in text
    assert "are wrong." in text


def test_a_card_without_mistakes_or_split_file(tmp_path: Path) -> None:
    _, text, _ = made(tmp_path, ["cat", "dog"], wrong=0)
    assert "No test image is misclassified." in text
    assert "Weakest" not in text
    assert "| Class | Training |" not in text


def test_the_reliability_table_has_ten_bins_and_all_images(tmp_path: Path) -> None:
    report, text, _ = made(tmp_path, ["cat", "dog", "eel"])
    rows = rows_of(text, "### Calibration")
    assert [row[0] for row in rows] == [f"{low} to {low + 10} %" for low in range(0, 100, 10)]
    assert sum(int(row[1]) for row in rows) == 120
    assert rows[0][1:] == ["0", "-", "-"]
    assert (tmp_path / "svm" / "reliability.svg").is_file()
    assert (tmp_path / "svm" / "reliability.png").is_file()
    assert f"The expected calibration error is {report.ece:.4f}: " in text


def test_the_bins_give_the_expected_calibration_error() -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.full(4, 0.5), 300)
    labels = generator.integers(0, 4, 300)
    bins = reliability(labels, probabilities, 15)
    gaps = [one["count"] * abs(one["accuracy"] - one["confidence"]) for one in bins if one["count"]]
    assert sum(gaps) / 300 == pytest.approx(expected_calibration_error(labels, probabilities))


def test_hostile_names_stay_names(tmp_path: Path) -> None:
    (tmp_path / "split.csv").write_text("id,label,split\n")
    _, text, given = made(tmp_path, HOSTILE, dataset='folder:/data/x"\n- evil: [<script>')
    assert given["datasets"] == ['folder:x" - evil: [<script>']
    assert set(given) == {
        *("license", "library_name", "pipeline_tag", "tags", "datasets", "metrics", "model-index"),
    }
    body = text.split("---\n", 2)[2]
    assert "<script" not in body
    assert "<b>" not in body
    assert "\u202e" not in text
    assert not re.search(r"(?<!\\)\[l(?<!\\)\]", body)
    classes = rows_of(text, "### Each class")
    assert len(classes) == len(HOSTILE)
    assert all(len(row) == 5 for row in classes)
    assert classes[0][0] == "&lt;script&gt;alert(1)&lt;/script&gt;"
    assert classes[1][0] == "a \\| b"
    assert classes[3][0] == "two lines"
    assert classes[13][0] == "{{ 7 \\* 7 }}"
    assert classes[15][0] == "(no name)"
    headings = [line for line in body.splitlines() if line.startswith("#")]
    assert len(headings) == 11
