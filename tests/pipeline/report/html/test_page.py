"""report.html on small made-up runs: its structure, what it escapes, and what it shows if something is missing."""

import errno
import io
import json
import re
import shutil
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from thaw.models.metrics import evaluate, top_confusions, worst_classes
from thaw.pipeline.comparison.comparison import compare_all, load_run
from thaw.pipeline.config import Shared, StrategySettings
from thaw.pipeline.report import report as stage
from thaw.pipeline.report.html import classes, comparison, explanations, parts
from thaw.pipeline.report.html import page as html
from thaw.pipeline.report.html.parts import Part, attempt
from thaw.pipeline.report.inputs import ReportInputs
from thaw.pipeline.run.advice_json import write_advice
from thaw.pipeline.run.report_json import Report, read_report
from thaw.pipeline.run.results import Entry, result_folder
from thaw.pipeline.run.run_json import write_run

from tests.builders.advice import advice
from tests.builders.features import OTHERS, feature_file
from tests.builders.results import CLASSES, IDS, add, baseline, refusal

VOID = {"meta", "link", "img", "br", "input", "hr"}
HOSTILE = ['<script>alert("x")</script>', "a\u202eb\x1b[31m", "x" * 200]
CURVE = (
    "epoch,learning_rate,loss,accuracy,validation_loss,validation_accuracy,validation_balanced_accuracy,seconds\n"
    "0,0.001,,,1.2,0.4,0.4,1.0\n1,0.001,0.9,0.7,0.8,0.75,0.75,2.0\n2,0.001,0.5,0.9,0.6,0.8,0.8,2.0\n"
)


class Page(HTMLParser):
    """A page as its elements: (tag, attributes, text inside), and what is not closed as it was opened."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.problems: list[str] = []
        self._open: list[int] = []
        self.feed(text)
        self.problems += [self.elements[at][0] for at in self._open]

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.elements.append((tag, dict(attributes), []))
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attributes: Any) -> None:
        self.elements.append((tag, dict(attributes), []))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self.elements[self._open[-1]][0] != tag:
            self.problems.append(f"</{tag}> at {self.getpos()}")
        else:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        for at in self._open:
            self.elements[at][2].append(data)

    def all(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(given, " ".join("".join(text).split())) for name, given, text in self.elements if name == tag]

    def texts(self, tag: str) -> list[str]:
        return [text for _, text in self.all(tag)]


def written(run: Path) -> Page:
    """Run the stage and return its page, checked for what every page must have."""
    stage.main(run, console=Console(file=io.StringIO(), width=120))
    page = Page((run / "report.html").read_text(encoding="utf-8"))
    check(page)
    return page


def check(page: Page) -> None:
    assert page.problems == []
    assert len(page.texts("h1")) == 1
    assert page.all("html")[0][0]["lang"] == "en"
    assert {"header", "main", "nav", "footer", "title"} <= {tag for tag, _, _ in page.elements}
    ids = [given["id"] for _, given, _ in page.elements if "id" in given]
    assert len(ids) == len(set(ids))
    links = [given["href"] for given, _ in page.all("a")]
    assert links
    assert all(link and link.startswith("#") and link[1:] in ids for link in links)
    assert all(given.get("alt") for given, _ in page.all("img"))
    assert all(given.get("role") == "img" and given.get("aria-label") for given, _ in page.all("svg"))
    regions = [given for given, _ in page.all("div") if given.get("class") == "scroll"]
    assert all(given["tabindex"] == "0" and given["role"] == "region" for given in regions)
    labels = [given["aria-label"] for given in regions]
    assert len(labels) == len(set(labels)) == len(page.all("table")) == len(page.all("caption"))
    assert all(given.get("scope") in ("row", "col") for given, _ in page.all("th"))
    for _, given, _ in page.elements:
        for name in ("src", "href", "xlink:href"):
            assert (given.get(name) or "#").startswith(("#", "data:"))


def pictures(folder: Path, ids: Sequence[str] = IDS, side: int = 120) -> Path:
    """Write an image for each id below `folder`."""
    generator = np.random.default_rng(0)
    for name in ids:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (side, side, 3), dtype=np.uint8)).save(folder / name)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Five strategies and a baseline, with images, a learning curve and advice."""
    run = tmp_path / "animals"
    add(run, "svm", [0, 1, 2])
    add(run, "logreg", [1], strategy="logreg", layer="block4_pool", hyperparameters={"transform": "none", "tried": [1]})
    tuned = {"kept_epoch": 2, "selection_accuracy": 0.8}
    folder = add(run, "finetune", [1, 7], strategy="finetune", layer="block5_conv1", hyperparameters=tuned)
    (folder / "learning_curve.csv").write_text(CURVE, encoding="utf-8")
    baseline(run)
    images = pictures(tmp_path / "images", [*IDS, *(f"train/{name}/1.png" for name in CLASSES)])
    write_run(Shared(run=run, dataset=f"folder:{images}"))
    write_advice(run, advice())
    return run


def test_a_whole_run_has_every_section(run: Path) -> None:
    page = written(run)
    sections = {given["id"]: text for given, text in page.all("section")}
    assert list(sections) == [anchor for anchor, _ in html.SECTIONS]
    assert "Best: logreg, with 98.3 % of 60 test images correct." in sections["verdict"]
    assert "inside the expected interval; the best of this run" in sections["verdict"]
    assert "The frontier, the quickest first" in sections["cost"]
    assert "finetune. Epoch 0 is the network before training." in sections["curves"]
    assert "Similar to ImageNet: Block 4 is the best." in sections["advice"]
    gone = f"{run}/features/vgg16-48.h5, which is gone; type: make features RUN={run} ARGS='--features vgg16-48'"
    assert f"The map: it needs {gone}" in sections["map"]
    assert "1 test image that svm misclassifies" not in sections["mistakes"]
    assert "2 test images that svm misclassifies and finetune labels correctly." in sections["mistakes"]
    assert "1 test image that svm labels correctly and finetune misclassifies." in sections["mistakes"]
    assert "thaw svm --name logreg" in sections["made"]


def test_charts_lie_beside_the_page_as_svg_and_png(run: Path) -> None:
    page = written(run)
    names = ["classes-finetune", "classes-logreg", "classes-svm", "confusions-finetune", "confusions-logreg",
             "confusions-svm", "cost", "data-efficiency", "layers", "learning-finetune"]  # fmt: skip
    plots = sorted(path.name for path in (run / "plots").iterdir())
    assert plots == sorted(f"{name}.{kind}" for name in names for kind in ("png", "svg"))
    assert len(page.all("svg")) == len(names)
    with Image.open(run / "plots" / "cost.png") as image:
        assert image.width == 800


def test_charts_of_a_strategy_that_is_gone_are_removed_and_other_files_stay(run: Path) -> None:
    written(run)
    (run / "plots" / "own.png").write_bytes(b"")
    shutil.rmtree(run / "svm")
    written(run)
    names = {path.name for path in (run / "plots").iterdir()}
    assert not {name for name in names if "svm" in name}
    assert {"own.png", "classes-finetune.svg"} <= names


def test_the_same_run_gives_the_same_page(run: Path) -> None:
    written(run)
    first = (run / "report.html").read_bytes()
    written(run)
    assert (run / "report.html").read_bytes() == first


def test_mistakes_are_shown_with_names_classes_and_confidence(run: Path) -> None:
    alts = [given["alt"] for given, _ in written(run).all("img")]
    assert "test/dog/001.png: true class dog, predicted eel, confidence 90 %" in alts
    assert len(alts) == 1 + 2 + 1
    assert all(given["src"].startswith("data:image/jpeg;base64,") for given, _ in written(run).all("img"))


def heat_maps(folder: Path, entry: Entry, rows: list[int], shown: Any) -> dict[tuple[str, int], np.ndarray]:
    """Maps of random heat, hottest in the upper left; no network is needed for them."""
    maps = np.random.default_rng(0).random((len(rows), 3, 3)).astype(np.float32)
    maps[:, 0, 0] = 1
    return {(entry.report.name, row): one for row, one in zip(rows, maps, strict=True)}


def test_mistakes_are_explained(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(run.parent / "images", OTHERS)
    feature_file(run)
    monkeypatch.setattr(explanations, "_heat", heat_maps)
    page = written(run)
    alts = [str(given["alt"]) for given, _ in page.all("img")]
    assert "Heat map of test/dog/007.png: what speaks for eel is mostly in the upper left" in alts
    assert sum(alt.startswith("Heat map of ") for alt in alts) == 1  # of those shown, finetune breaks one
    like = [re.fullmatch(r"Training image train/(\w+)/\d.png of class (\w+), similarity -?[01]\.\d\d", a) for a in alts]
    found = [match for match in like if match]
    assert len(found) == 3 * 4
    assert all(match[1] == match[2] for match in found)
    assert len(alts) == 4 + 1 + 3 * 4
    text = next(text for given, text in page.all("section") if given["id"] == "mistakes")
    assert "shows where finetune finds the class that it predicts (Grad-CAM)" in text
    assert "by their features of block5_pool" in text
    lists = [given["aria-label"] for given, _ in page.all("ul") if given.get("class") == "like"]
    assert len(lists) == 4
    assert "Most like test/dog/007.png" in lists


def test_a_missing_explanation_is_reported_once(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    page = written(run)
    command = f"make features RUN={run} ARGS='--features vgg16-48'"
    gone = f"Training images like these: they need {run}/features/vgg16-48.h5, which is gone; type: {command}"
    network = f"Heat maps of finetune: there is no model {run}/finetune/model.json; type: make finetune RUN={run}"
    assert [text for text in page.texts("p") if text in (gone, network)] == [gone, network]
    assert [message for message in caplog.messages if message in (gone, network)] == [gone, network]


def test_a_page_full_of_explained_mistakes_stays_under_five_megabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "full"
    add(run, "svm", list(range(19)))
    add(run, "finetune", list(range(20, 38)), strategy="finetune", layer="block5_conv1")
    images = pictures(tmp_path / "images", [*IDS, *OTHERS])  # of noise, the worst for JPEG
    write_run(Shared(run=run, dataset=f"folder:{images}"))
    feature_file(run)
    monkeypatch.setattr(explanations, "_heat", heat_maps)
    page = written(run)
    assert len(page.all("img")) == 3 * 18 * (1 + 3) + 2 * 18  # two of the three galleries are finetune's
    assert (run / "report.html").stat().st_size < 3e6


def test_names_are_text_in_every_section(tmp_path: Path) -> None:
    names = HOSTILE
    add(tmp_path, "svm", [0, 1, 2], names, dataset=f"folder:{HOSTILE[0]}", command=HOSTILE[0], layer=HOSTILE[1])
    write_advice(tmp_path, advice(names))
    page = written(tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(page.all("script")) == 1
    assert "alert" not in page.texts("script")[0]
    assert not {"\u202e", "\x1b"} & set(text)
    assert HOSTILE[0] in page.texts("code")
    assert any(HOSTILE[0] in cell for cell in page.texts("th"))
    titles = [given["title"] for given, _ in page.all("bdi") if "title" in given]
    assert HOSTILE[2] in titles
    assert all(len(text) <= html.LONGEST_NAME for text in page.texts("bdi"))
    assert any(label.startswith("<script>aler") for label in page.texts("text"))


def test_one_strategy_alone_has_a_page(tmp_path: Path) -> None:
    add(tmp_path, "svm", [])
    sections = {given["id"]: text for given, text in written(tmp_path).all("section")}
    assert f"To compare: make logreg RUN={tmp_path}" in sections["comparison"]
    assert "No test image is misclassified." in sections["classes"]
    assert f"make finetune RUN={tmp_path}" in sections["curves"]
    assert f"Not measured yet; type: make advise RUN={tmp_path}" in sections["advice"]
    assert f"type: make features RUN={tmp_path}" in sections["map"]
    assert "run.json, which says where the images are, is gone" in sections["mistakes"]
    assert f"make advise RUN={tmp_path}" in sections["audit"]


def test_images_that_are_gone_are_reported(run: Path) -> None:
    images = run.parent / "images"
    for path in images.glob("test/dog/*"):
        path.unlink()
    page = written(run)
    assert "image not at hand" in page.texts("span")
    assert all(given["alt"] and "dog/" not in given["alt"] for given, _ in page.all("img"))
    images.rename(run.parent / "moved")
    sections = {given["id"]: text for given, text in written(run).all("section")}
    assert f"Pictures of images: --dataset folder:{images} does not exist" in sections["mistakes"]
    assert "2 %" not in sections["verdict"]


def test_what_a_picture_cannot_show_does_not_cost_the_tables(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("no room")

    monkeypatch.setattr(parts, "draw", fail)
    page = written(run)
    assert page.all("svg") == []
    assert "The chart cost could not be made (ZeroDivisionError)." in page.texts("p")
    assert "Strategies, best first. A heading sorts the table." in page.texts("caption")
    assert "The chart cost could not be made (ZeroDivisionError: no room)" in caplog.messages


def test_a_chart_that_cannot_be_written_ends_the_stage(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "plots/cost.svg")

    monkeypatch.setattr(parts, "draw", fail)
    with pytest.raises(PermissionError, match=r"plots/cost\.svg"):
        written(run)


def test_a_damaged_learning_curve_is_reported(run: Path) -> None:
    path = run / "finetune" / "learning_curve.csv"
    for text, problem in (
        ("epoch,loss\n1,x\n", "cannot be read (could not convert"),
        ("a\n1\n", "is not a learning curve"),
    ):
        path.write_text(text, encoding="utf-8")
        assert any(f"{path} {problem}" in said for said in written(run).texts("p"))


@pytest.mark.parametrize(
    ("change", "said"),
    [(lambda path: path.write_text("{"), "is damaged"),
     (lambda path: write_advice(path.parent, advice(split_sha256="d" * 64)), "was made on another split")],
)  # fmt: skip
def test_advice_that_does_not_fit_is_not_used(run: Path, change: Callable[[Path], Any], said: str) -> None:
    change(run / "advice.json")
    page = written(run)
    sections = {given["id"]: text for given, text in page.all("section")}
    for anchor in ("advice", "audit"):
        assert said in sections[anchor]
        assert f"make advise RUN={run}" in sections[anchor]


def test_the_terminal_and_markdown_say_how_good_the_advice_was(run: Path) -> None:
    file = io.StringIO()
    stage.main(run, console=Console(file=file, width=1000, force_terminal=False))
    lines = file.getvalue().splitlines()
    said = (
        "Advice: logreg on block4_pool at 48 pixels, expected 97.0 % [94.0, 99.0]; measured 98.3 % (logreg), "
        "inside the expected interval; the best of this run; 30.0 s expected, 15.8 s taken."
    )
    assert lines[-1] == said
    assert "expected 97.0 % \\[94.0, 99.0\\]; measured" in (run / "report.md").read_text(encoding="utf-8")


def test_accuracy_is_restated_without_duplicates(run: Path) -> None:
    page = written(run)
    cells = [text for given, text in page.all("td")]
    # Of logreg's 60 images one is wrong, and it is a duplicate: 58 of 58 without the two.
    assert any(text.startswith("100.0 [93.8, 100.0]") for text in cells)
    assert any("2 of 60 test images are training or validation images too" in text for text in page.texts("p"))


def test_json_writes_no_page(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage.main(run, as_json=True)
    assert set(json.loads(capsys.readouterr().out)) == {"strategies", "comparisons"}
    assert not (run / "report.html").exists()


def test_reports_of_different_splits_make_no_page(run: Path) -> None:
    add(run, "old", [3], split_sha256="d" * 64)
    assert "were made on different splits" in refusal(stage.main, run)
    assert not (run / "report.html").exists()


def test_tables_sort_by_values(run: Path) -> None:
    text = (written(run), (run / "report.html").read_text(encoding="utf-8"))[1]
    assert 'setAttribute("aria-sort"' in text
    digest = re.search(r"script-src 'sha256-([^']+)'", text)
    assert digest
    values = re.findall(r'<td class="text wide" data-v="([^"]*)"', text)
    assert [round(60 * float(value)) for value in values] == [0, -1, -2, -39]


# Many classes, many images


def synthetic(name: str, num_images: int, num_classes: int, seed: int) -> Entry:
    """A strategy of random predictions, right in nine of ten."""
    generator = np.random.default_rng(seed)
    labels = np.arange(num_images) % num_classes
    called = np.where(generator.random(num_images) < 0.9, labels, generator.integers(0, num_classes, num_images))
    names = [f"class {k:04d}" for k in range(num_classes)]
    probabilities = np.full((num_images, num_classes), 0.1 / (num_classes - 1))
    probabilities[np.arange(num_images), called] = 0.9
    figures = evaluate(labels, probabilities, names)
    del probabilities
    report = Report.model_validate(
        {
            "name": name, "strategy": name, "dataset": "folder:many", "features": "vgg16-48",
            "backbone": "vgg16", "image_size": 48, "layer": "block5_pool",
            "class_names": names, **figures, "num_train": 5, "num_validation": 5,
            "num_test": num_images, "hyperparameters": {},
            "seconds": {"features": 9.0, "fit": 1.0 + seed, "predict": 1.0},
            "peak_memory_mb": 1.0, "model_bytes": 1, "split_sha256": "a" * 64, "features_sha256": None,
            "weights_sha256": None, "seed": 0, "device": "cpu", "versions": {}, "command": "python",
        }
    )  # fmt: skip
    ids = [f"test/{row:06d}.jpg" for row in range(num_images)]
    confidence = generator.random(num_images)
    return Entry(report, Path(name), ids, [names[k] for k in labels], called == labels, called, confidence)


def page_of(folder: Path, entries: list[Entry]) -> Page:
    entries = sorted(entries, key=lambda entry: -entry.report.accuracy)
    html.write_html(ReportInputs(folder, entries, compare_all(entries), None, "No advice."))
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    check(page)
    return page


def test_more_than_a_thousand_classes_fold(tmp_path: Path) -> None:
    page = page_of(tmp_path, [synthetic(name, 3600, 1200, seed) for seed, name in enumerate(("svm", "logreg"))])
    assert "Shown are the 30 classes of 1,200 with the lowest recall." in page.texts("p")
    assert "All 1,200 classes by svm" in page.texts("summary") or "All 1,200 classes by logreg" in page.texts("summary")
    assert any("The 25 of 1,200 classes with the most mistakes." in text for text in page.texts("figcaption"))
    rows = len(page.all("tr"))
    assert 1200 < rows < 1400
    assert (tmp_path / "report.html").stat().st_size < 2e6


def test_a_hundred_thousand_test_images_stay_under_five_megabytes(tmp_path: Path) -> None:
    names = ("svm", "logreg", "knn")
    page = page_of(tmp_path, [synthetic(name, 100_000, 100, seed) for seed, name in enumerate(names)])
    assert any("100,000 test images correct" in text for text in page.texts("p"))
    assert (tmp_path / "report.html").stat().st_size < 5e6


# The parts


def test_the_worst_classes_come_first_and_a_class_without_images_is_left_out(tmp_path: Path) -> None:
    names = [*CLASSES, "fox"]
    report = read_report(add(tmp_path, "svm", [1, 4, 0], names) / "report.json")
    matrix = np.array(report.confusion_matrix)
    assert [names[k] for k in worst_classes(matrix, 9)] == ["dog", "cat", "eel"]
    assert top_confusions(matrix, names, 9) == [("dog", "eel", 2, 0.1), ("cat", "dog", 1, 0.05)]
    shown = classes.shown_confusions(matrix, 2)
    assert [names[k] for k in shown] == ["dog", "eel"]
    assert matrix[np.ix_(shown, shown)].tolist() == [[18, 2], [0, 20]]


def test_intervals_are_drawn_to_one_scale_and_chance_may_be_off_it(tmp_path: Path) -> None:
    for name, wrong in (("svm", []), ("logreg", [1, 2, 3])):
        add(tmp_path, name, wrong, strategy=name)
    baseline(tmp_path)
    reports = [entry.report for entry in load_run(tmp_path)]
    low, high, rows = comparison.strategy_rows(reports, [])
    assert (low, high) == (85.0, 100.0)
    assert [row["strip"] is None for row in rows] == [False, False, True]
    assert all(
        0 <= row["strip"][0] <= row["strip"][2] <= row["strip"][0] + row["strip"][1] <= 100.1 for row in rows[:2]
    )


def test_a_part_that_fails_says_so_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    assert attempt("It", lambda: 3) == Part(3)
    assert attempt("It", lambda: 1 // 0) == Part(missing="It could not be made (ZeroDivisionError).")
    assert len(caplog.messages) == 1
    assert "\n" not in caplog.messages[0]


def test_no_strategy_may_take_the_charts_folder(tmp_path: Path) -> None:
    settings = StrategySettings(run=tmp_path, name="plots")
    assert refusal(result_folder, settings, "svm") == (
        f"--name plots: {tmp_path}/plots is the run's own; choose another name"
    )
