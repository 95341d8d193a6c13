"""The report stage on small made-up runs, and report.json and predictions.csv on their own."""

import csv
import hashlib
import io
import json
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from thaw.models.metrics import compare
from thaw.pipeline.comparison.comparison import compare_all, load_run
from thaw.pipeline.report import report as stage
from thaw.pipeline.run.predictions_csv import read_predictions, write_predictions
from thaw.pipeline.run.report_json import Report, read_report, write_report

from tests.builders.results import CLASSES, IDS, LABELS, add, baseline, fields, probabilities_with, refusal

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page has tests of its own; its pictures would take most of the time of these."""
    monkeypatch.setattr(stage, "write_html", lambda inputs: inputs.folder / "report.html")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three strategies and a baseline: `logreg` the best, `svm` near it, `deep-layers` far behind."""
    add(tmp_path, "svm", [0, 1, 2])
    add(tmp_path, "logreg", [0], strategy="logreg", layer="block4_pool")
    add(tmp_path, "deep-layers", list(range(5, 35)), strategy="logreg", layer="block3_pool+block4_pool+block5_pool")
    baseline(tmp_path)
    return tmp_path


def printed(run: Path, width: int, terminal: bool = True) -> str:
    file = io.StringIO()
    stage.main(run, console=Console(file=file, width=width, force_terminal=terminal, color_system=None))
    return re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())


# report.json


def test_a_report_reads_back_as_it_was_written(tmp_path: Path) -> None:
    folder = add(tmp_path, "svm", [1, 2])
    assert write_report(folder, read_report(folder / "report.json")) == folder / "report.json"
    content = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert content == fields("svm", probabilities_with([1, 2]), CLASSES)
    assert [path.name for path in sorted(folder.iterdir())] == ["predictions.csv", "report.json"]


def test_the_fields_are_those_of_the_contract() -> None:
    expected = (
        "name strategy dataset features backbone image_size layer class_names accuracy accuracy_ci95 balanced_accuracy "
        "macro_f1 log_loss "
        "ece roc_auc per_class confusion_matrix num_train num_validation num_test hyperparameters seconds "
        "peak_memory_mb model_bytes split_sha256 features_sha256 weights_sha256 seed device versions command"
    )
    assert " ".join(Report.model_fields) == expected


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"accuracy": 1.5}, "field accuracy: Input should be less than or equal to 1"),
        ({"accuracy": "0.9"}, "field accuracy: Input should be a valid number"),
        ({"accuracy": 0.5}, "accuracy 0.5 is not confusion_matrix's, 59/60"),
        ({"strategy": "tree"}, "field strategy: received 'tree'; expected one of svm, logreg, knn, ridge, head, "
         "finetune, "
         "scratch, ensemble, random, chance"),
        ({"split_sha256": "A" * 64}, "field split_sha256: String should match pattern '^[0-9a-f]{64}$'"),
        ({"extra": 1}, "field extra: Extra inputs are not permitted"),
        ({"seconds": {"features": 1.0, "fit": 1.0}}, "field seconds.predict: Field required"),
        ({"seed": True, "num_test": 0}, "field num_test: Input should be greater than or equal to 1 (and 1 more)"),
        ({"num_test": 61}, "confusion_matrix counts 60 images and num_test 61"),
        ({"confusion_matrix": [[60]]}, "confusion_matrix is not 3 x 3, as class_names asks"),
        ({"class_names": ["cat", "cat", "eel"]}, "class_names has a name twice"),
        ({"class_names": ["cat", "eel", "dog"]}, "per_class does not list the classes of class_names in their order"),
        ({"log_loss": float("inf")}, "field log_loss: Input should be a finite number"),
    ],
)  # fmt: skip
def test_a_report_with_a_wrong_field_is_refused(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    path = add(tmp_path, "svm", [1]) / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")
    expected = f"{path} is not a valid report: {problem}; type: make svm RUN={tmp_path}"
    assert refusal(read_report, path) == expected


def test_a_report_without_a_field_is_refused(tmp_path: Path) -> None:
    path = add(tmp_path, "svm", [1]) / "report.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["ece"]
    path.write_text(json.dumps(content), encoding="utf-8")
    assert "is not a valid report: field ece: Field required; type: make svm RUN=" in refusal(read_report, path)


def test_what_is_not_json_is_refused_with_the_name_to_type(tmp_path: Path) -> None:
    path = tmp_path / "my run" / "svm-rbf" / "report.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"name": "svm-rbf", ', encoding="utf-8")
    message = refusal(read_report, path)
    assert message.startswith(f"{path} is not a valid report: Invalid JSON: EOF while parsing")
    assert message.endswith(f"; type: make STRATEGY RUN='{tmp_path}/my run' ARGS='--name svm-rbf'")
    path.unlink()
    assert refusal(read_report, path).startswith(f"{path} cannot be read (No such file or directory); type: make")


def test_the_baseline_that_has_no_target_of_its_own_is_made_again_with_another(tmp_path: Path) -> None:
    path = tmp_path / "chance" / "report.json"
    assert refusal(read_report, path).endswith(f"; type: rm -r {tmp_path}/chance; make svm RUN={tmp_path}")


# predictions.csv

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(TEXTS, min_size=2, max_size=4, unique=True),
    st.lists(TEXTS, min_size=1, max_size=6, unique=True),
    st.data(),
)
def test_predictions_read_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, classes: list[str], ids: list[str], data: st.DataObject
) -> None:
    generator = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    labels = generator.integers(0, len(classes), len(ids))
    probabilities = generator.dirichlet(np.full(len(classes), 0.05), len(ids))
    path = write_predictions(tmp_path_factory.mktemp("p") / "predictions.csv", ids, labels, probabilities, classes)
    result = read_predictions(path, classes)
    assert result.ids == ids
    assert result.labels.dtype == np.int64
    assert result.labels.tolist() == labels.tolist()
    assert result.probabilities.tobytes() == probabilities.tobytes()


def test_predictions_are_plain_csv_with_class_names(tmp_path: Path) -> None:
    path = tmp_path / "new" / "predictions.csv"
    probabilities = np.array([[0.1, 0.9], [np.float32(0.7), 1 - np.float64(np.float32(0.7))]])
    write_predictions(path, ['a,"b".png', "c.png"], np.array([0, 0]), probabilities, ["no", "yes, sir"])
    assert path.read_text(encoding="utf-8").splitlines() == [
        'id,label,predicted,p_no,"p_yes, sir"',
        '"a,""b"".png",no,"yes, sir",0.1,0.9',
        "c.png,no,no,0.699999988079071,0.30000001192092896",
    ]


def test_writing_predictions_of_other_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^got 60 ids, 59 different; expected 60 different$"):
        write_predictions(tmp_path / "p.csv", [*IDS[:-1], IDS[0]], LABELS, probabilities_with([]), CLASSES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("p_eel", "p_fox", "its columns are id,label,predicted,p_cat,p_dog,p_fox; expected "
         "id,label,predicted,p_cat,p_dog,p_eel"),
        ("000.png,cat,cat", "000.png,cow,cat", "line 2 has a class that is not in class_names"),
        ("001.png,dog,dog", "001.png,dog,cat", "line 3: predicted is not the class of the largest probability"),
        ("dog/001", "cat/000", "line 3 has the id 'test/cat/000.png' for the second time"),
        ("0.9,0.05,0.05\n", "0.9,0.05\n", "line 2 has 5 columns; expected 6"),
        ("0.9,0.05,0.05\n", "0.9,0.05,x\n", "could not convert string to float: 'x'"),
        ("0.9,0.05,0.05\n", "0.9,0.05,nan\n", "probabilities of row 0 are not finite; expected numbers from 0 to 1"),
        ("0.9,0.05,0.05\n", "0.9,0.2,0.05\n", "probabilities of row 0 sum to 1.15; expected 1"),
    ],
)  # fmt: skip
def test_damaged_predictions_are_refused(tmp_path: Path, old: str, new: str, problem: str) -> None:
    path = add(tmp_path, "svm", []) / "predictions.csv"
    text = (
        path.read_text(encoding="utf-8").replace("dog/001", "cat/001") if old == "dog/001" else path.read_text("utf-8")
    )
    path.write_text(text.replace(old.replace("dog/001", "cat/001"), new, 1), encoding="utf-8")
    expected = f"{path} is not valid: {problem}; type: make svm RUN={tmp_path}"
    assert refusal(read_predictions, path, CLASSES) == expected


def test_predictions_cut_off_or_empty_are_refused(tmp_path: Path) -> None:
    path = add(tmp_path, "svm", []) / "predictions.csv"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text(lines[0], encoding="utf-8")
    assert "got 0 labels and 3 classes; expected at least one of each" in refusal(read_predictions, path, CLASSES)
    path.write_text("", encoding="utf-8")
    assert "its columns are ; expected id,label," in refusal(read_predictions, path, CLASSES)
    path.write_bytes(b"\xff\xfe")
    assert "is not valid: 'utf-8' codec can't decode" in refusal(read_predictions, path, CLASSES)
    path.unlink()
    assert refusal(stage.main, tmp_path) == (
        f"{path} cannot be read (No such file or directory); type: make svm RUN={tmp_path}"
    )


# The stage


def test_json_holds_the_strategies_best_first_and_every_pair(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stage.main(run, as_json=True) == run / "report.md"
    content = json.loads(capsys.readouterr().out)
    names = ["logreg", "svm", "deep-layers", "chance"]
    assert list(content) == ["strategies", "comparisons"]
    assert content["strategies"] == [json.loads((run / name / "report.json").read_text("utf-8")) for name in names]
    pairs = [(names[i], names[j]) for i in range(4) for j in range(i + 1, 4)]
    assert [(pair["a"], pair["b"]) for pair in content["comparisons"]] == pairs
    wrong = np.zeros((2, 60), dtype=bool)
    wrong[0, [0]] = wrong[1, [0, 1, 2]] = True
    assert content["comparisons"][0] == {"a": "logreg", "b": "svm", **compare(~wrong[0], ~wrong[1])}
    assert content["comparisons"][0]["mcnemar_p"] == 0.5


def test_equal_accuracies_are_ordered_by_log_loss_then_name(tmp_path: Path) -> None:
    for name, log_loss in (("b", 0.3), ("c", 0.2), ("a", 0.3)):
        add(tmp_path, name, [1], log_loss=log_loss)
    assert [entry.report.name for entry in load_run(tmp_path)] == ["c", "a", "b"]


def test_folders_without_a_report_are_ignored(run: Path) -> None:
    (run / "half-done").mkdir()
    (run / "features" / "vgg16-48.h5.parts").mkdir(parents=True)
    (run / ".svm.tmp").mkdir()
    (run / ".svm.tmp" / "report.json").write_text("{", encoding="utf-8")
    (run / "report.json").write_text("{", encoding="utf-8")
    assert len(load_run(run)) == 4


def test_predictions_in_another_order_are_matched_by_id(tmp_path: Path) -> None:
    add(tmp_path, "a", [0, 1])
    folder = add(tmp_path, "b", [0, 1])
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    with (folder / "predictions.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows[::-1]])
    comparison = compare_all(load_run(tmp_path))[0]
    assert (comparison.difference, comparison.mcnemar_p) == (0, 1)


def test_a_run_without_reports_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        assert refusal(stage.main, folder) == (
            f"no report in {folder}; expected at least one {folder}/<name>/report.json; type: make svm RUN={folder}"
        )


def test_reports_of_different_splits_are_refused(run: Path) -> None:
    add(run, "old", [3], strategy="ridge", split_sha256="d" * 64)
    assert refusal(stage.main, run) == (
        f"{run}/old/report.json and {run}/chance/report.json were made on different splits (split_sha256 dddddddddddd "
        f"and aaaaaaaaaaaa); expected one split for all; type: make ridge RUN={run} ARGS='--name old'"
    )
    assert not (run / "report.md").exists()


def test_the_split_of_the_run_says_which_report_is_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "split.csv").write_text("id,label,split\n", encoding="utf-8")
    digest = hashlib.sha256(b"id,label,split\n").hexdigest()
    add(tmp_path, "knn", [1], strategy="knn")
    add(tmp_path, "ridge", [1], strategy="ridge")
    add(tmp_path, "svm", [1], split_sha256=digest)
    assert refusal(stage.main, tmp_path).endswith(f"; type: make knn RUN={tmp_path}")


def test_predictions_of_other_images_are_refused(run: Path) -> None:
    path = run / "svm" / "predictions.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(IDS[7], "test/other.png"), encoding="utf-8")
    first = run / "chance" / "predictions.csv"
    assert refusal(stage.main, run) == (
        f"{path} and {first} differ in their images ('test/dog/007.png' as 'dog' is in one only); "
        f"expected the same test images; type: make svm RUN={run}"
    )


def test_predictions_that_are_not_the_report_s_are_refused(run: Path) -> None:
    path = run / "svm" / "predictions.csv"
    write_predictions(path, IDS, LABELS, probabilities_with([4, 5, 6, 7, 8, 9]), CLASSES)
    assert refusal(stage.main, run) == (
        f"{path} has the accuracy 0.9 on 60 images; expected 0.95 on 60, confusion_matrix included, "
        f"as in {run}/svm/report.json; type: make svm RUN={run}"
    )


def test_a_renamed_folder_goes_by_its_new_name(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    (run / "svm").rename(run / "svm-old")
    assert "svm-old" in [entry.report.name for entry in load_run(run)]
    assert f"{run}/svm-old/report.json calls itself svm; its folder's name is used" in caplog.messages


def test_what_was_written_is_logged(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "thaw")
    printed(run, 100)
    assert caplog.messages == [f"compared 4 strategies; wrote {run}/report.md and {run}/report.html"]


# The terminal


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_a_terminal_shows_every_name_and_accuracy_within_its_width(run: Path, width: int) -> None:
    add(run, "svm-block3_block4_block5-power", [0, 1, 2, 3], layer="block3_pool+block4_pool+block5_pool")
    lines = printed(run, width).splitlines()
    assert max(map(len, lines)) <= width
    rows = [line.split() for line in lines]
    for name in ("logreg", "svm", "svm-block3_block4_block5-power", "deep-layers"):
        report = read_report(run / name / "report.json")
        low, high = report.accuracy_ci95
        shown = [f"{100 * report.accuracy:.1f}", f"[{100 * low:.1f},", f"{100 * high:.1f}]"]
        row = next(row for row in rows if row[:1] == [name] and len(row) > 4)
        assert any(row[at : at + 3] == shown for at in range(len(row)))


def test_a_narrow_terminal_says_which_columns_it_left_out(run: Path) -> None:
    narrow, wide = printed(run, 80), printed(run, 180)
    assert "Left out at this width: Strategy, Balanced acc. %," in narrow
    assert "Left out" not in wide
    for heading in ("Strategy", "Network", "Image", "Layer", "Balanced", "Macro", "ECE", "memory", "95 % interval"):
        assert heading in wide
    assert "block3_pool+block4_pool+block5_pool" in wide


def test_a_long_name_is_folded_and_never_cut(tmp_path: Path) -> None:
    name = "-".join(f"part{k}" for k in range(20))
    add(tmp_path, name, [1])
    text = printed(tmp_path, 60)
    cells = [re.split(r"  +", line.strip())[0] for line in text.splitlines() if "part" in line]
    assert "".join(cells).startswith(name)
    assert "98.3 [91.1, 99.7]" in text
    assert "…" not in text


def test_the_terminal_compares_the_best_with_each_other_strategy(run: Path) -> None:
    lines = [" ".join(line.split()) for line in printed(run, 160).splitlines()]
    assert "no significant difference between logreg and svm +3.33 [-2.19, +8.64] 0.500 0.500" in lines
    assert "logreg beats deep-layers +48.33 [+33.20, +60.35] <0.001 <0.001" in lines
    assert lines[0] == "folder:animals: 3 classes; 200 training, 20 validation and 60 test images; vgg16 backbone"
    assert lines[-1] == "Best: logreg, with 98.3 % of 60 test images correct. Not significantly worse: svm."
    assert not any(line.startswith(("svm beats", "deep-layers beats")) for line in lines)
    assert any(line.startswith("Verdicts hold at the 5 % level for all 6 pairs together") for line in lines)


def test_a_narrow_terminal_names_only_the_other_strategy(tmp_path: Path) -> None:
    add(tmp_path, "logreg-of-flattened-block4", [0])
    add(tmp_path, "svm-of-flattened-block4", list(range(20)))
    lines = [" ".join(line.split()) for line in printed(tmp_path, 80).splitlines()]
    assert any(line.startswith("beats svm-of-flattened-block4 +31.67 ") for line in lines)
    assert any(line.startswith("The verdict holds at the 5 % level (exact McNemar test). ") for line in lines)


def test_a_single_strategy_has_nothing_to_compare(tmp_path: Path) -> None:
    add(tmp_path, "svm", [1])
    text = printed(tmp_path, 100)
    assert "McNemar" not in text
    assert "McNemar" not in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert text.splitlines()[-1] == "Best: svm, with 98.3 % of 60 test images correct."


def test_baselines_are_marked(run: Path) -> None:
    add(run, "random", list(range(3, 40)), strategy="random")
    text = printed(run, 100)
    assert re.search(r"^ *chance \* ", text, re.MULTILINE)
    assert re.search(r"^ *random \* ", text, re.MULTILINE)
    assert "* a baseline." in text
    assert "logreg *" not in text


def test_a_pipe_gets_plain_text_and_every_column(run: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from thaw.pipeline.report import report; report.main(Path(sys.argv[1]))"
    )
    environment = {"PATH": "/usr/bin", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-c", code, run], capture_output=True, check=True, cwd=ROOT, env=environment, text=True
    )
    assert "\x1b" not in done.stdout
    assert done.stdout.isascii()
    row = next(line for line in done.stdout.splitlines() if line.startswith("deep-layers"))
    layers = "block3_pool+block4_pool+block5_pool"
    assert row.split()[:6] == ["deep-layers", "logreg", "vgg16", "48", layers, "50.0"]
    assert row.split()[-6:] == ["15.8", "s", "812", "MB", "61.4", "kB"]
    assert done.stderr == ""


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    add(tmp_path, "svm", [1], dataset="folder:\x1b]0;owned\x07\nsecond", layer="[bold]block\x1b[2J")
    file = io.StringIO()
    stage.main(tmp_path, console=Console(file=file, width=160, force_terminal=False))
    assert "\x1b" not in file.getvalue()
    assert "\x07" not in file.getvalue()
    assert "[bold]block" in file.getvalue()


# report.md


def test_markdown_holds_the_table_all_pairs_the_classes_and_the_confusions(run: Path) -> None:
    printed(run, 100)
    text = (run / "report.md").read_text(encoding="utf-8")
    lines = text.splitlines()
    assert lines[0] == "# folder:animals: 4 strategies compared"
    assert f"(split.csv's sha256: `{'a' * 64}`)" in text
    assert (
        "| logreg | logreg | vgg16 | 48 | block4_pool | 98.3 \\[91.1, 99.7\\] | 98.3 | 0.983 | 0.154 | 0.083 | 3.5 s | "
        "15.8 s | 812 MB | 61.4 kB |"
    ) in lines
    assert any(line.startswith("| chance \\* | chance | - | - | - | ") for line in lines)
    assert sum(" beats " in line or "no significant" in line for line in lines if line.startswith("|")) == 6
    assert "| cat | 100.0 | 95.0 | 0.974 | 20 |" in lines
    matrix = lines.index("## Confusions of svm")
    assert lines[matrix + 4 : matrix + 9] == [
        "|  | cat | dog | eel |",
        "| :-- | --: | --: | --: |",
        "| cat | 19 | 1 | 0 |",
        "| dog | 0 | 19 | 1 |",
        "| eel | 1 | 0 | 19 |",
    ]
    assert "  <code>thaw svm --name logreg</code>" in lines
    assert '- logreg: 200 training images, seed 0, on cpu; {"C": 0.01, "kernel": null}  ' in lines


def test_markdown_escapes_class_names(tmp_path: Path) -> None:
    names = ["a|b", "`x`\n<script>&*_y_ block5_pool", "c\\"]
    add(tmp_path, "svm", [1], names)
    printed(tmp_path, 100)
    lines = (tmp_path / "report.md").read_text(encoding="utf-8").splitlines()
    assert "|  | a\\|b | \\`x\\` &lt;script&gt;&amp;\\*\\_y\\_ block5_pool | c&#92; |" in lines
    assert [line for line in lines if line.startswith("| c&#92; |")]
    unescaped = [re.sub(r"\\.", "", line) for line in lines if line.startswith("| a\\|b ")]
    assert [line.count("|") for line in unescaped] == [6, 5]


def test_large_confusion_matrices_are_left_out_and_absent_classes_shown(tmp_path: Path) -> None:
    add(tmp_path, "svm", [1], [f"k{k}" for k in range(21)])
    printed(tmp_path, 100)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "Confusions" not in text
    assert "| k20 | 0.0 | - | 0.000 | 0 |" in text


def test_test_images_of_classes_without_training_images_are_said(run: Path) -> None:
    (run / "split.csv").write_text("id,label,split\n1,a,train\n2,<c>,test\n")
    said = "1 test image(s) are of classes without training images, <c> (1): every strategy is wrong on them"
    assert said in " ".join(printed(run, 300).split())
    assert said.replace("<c>", "&lt;c&gt;") in (run / "report.md").read_text()
