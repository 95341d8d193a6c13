"""The table of what the article's choices are worth: its rows, its figures, the page it stands on, and the picture."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import article_figures, article_picture, article_table, head_on_layer
from benchmarks.article_figures import Figures, Table
from benchmarks.article_rows import ROWS, RUNS, Row
from thaw.features.images.preprocess import normalize
from thaw.features.schema import create_feature_file
from thaw.models.metrics import compare, evaluate
from thaw.pipeline.cli import App
from thaw.pipeline.run.predictions_csv import write_predictions

ROOT = Path(__file__).resolve().parent.parent
CLASSES = ("cat", "dog")
ARTICLE, OTHER = Row("1", "nothing", "subset-article", "head"), Row("1", "layer", "subset-article", "head", "", "other")


def result(runs, row, labels, predicted):
    probabilities = np.eye(len(CLASSES))[predicted]
    ids = [f"test/{number}" for number in range(len(labels))]
    write_predictions(runs / row.result / "predictions.csv", ids, np.array(labels), probabilities, CLASSES)


def collected(runs, old=None):
    return article_figures.collect([(row, article_table.command(row)) for row in (ARTICLE, OTHER)], runs, old).rows


def test_figures_are_those_of_the_products_reports_and_comparisons(tmp_path):
    labels = [0, 1] * 20
    first, second = np.array(labels), np.array(labels)
    first[:15] = 0
    second[:4] = 1
    result(tmp_path, ARTICLE, labels, first)
    result(tmp_path, OTHER, labels, second)
    own, other = collected(tmp_path)
    report = evaluate(np.array(labels), np.eye(2)[second], CLASSES)
    assert (other.accuracy, other.accuracy_ci95) == (report["accuracy"], pytest.approx(report["accuracy_ci95"]))
    paired = compare(second == labels, first == labels)
    assert (other.difference, other.difference_ci95) == (pytest.approx(paired["difference"]), paired["ci95"])
    assert other.paired
    assert (own.difference, own.num_test) == (None, 40)


def test_a_result_that_is_gone_stays_in_the_figures_and_one_that_never_was_is_not_invented(tmp_path):
    result(tmp_path / "runs", ARTICLE, [0, 1, 1], [0, 1, 0])
    found = collected(tmp_path / "runs")
    assert found[1].accuracy is None
    assert article_figures.cells(found[1])[3:5] == ("not run", "")
    kept = collected(tmp_path / "nothing", Table(machine={}, rows=found))
    assert kept == found


def test_a_network_that_knows_one_answer_only_is_called_collapsed(tmp_path):
    result(tmp_path, ARTICLE, [0, 1, 1], [1, 1, 1])
    assert collected(tmp_path)[0].note == "collapsed: every image gets the same label"


def test_results_on_other_images_are_not_compared(tmp_path):
    result(tmp_path, ARTICLE, [0, 1, 1], [0, 1, 0])
    result(tmp_path, OTHER, [0, 1], [0, 1])
    with pytest.raises(ValueError, match="its test images are others than those of python -m pipeline head"):
        collected(tmp_path)


def test_without_the_predictions_the_interval_is_that_of_different_images():
    """Newcombe 1998, table II, column (a): 56/70 less 48/80 by method 10."""
    given = {"experiment": "1", "images": "full", "corrected": "nothing", "command": "head"}
    ours, theirs = (
        article_figures.measured(Figures(**given), article_figures.Labelled([], np.arange(total) < hits, 2))
        for hits, total in ((56, 70), (48, 80))
    )
    assert article_figures.unpaired_interval(ours, theirs) == pytest.approx([0.0524, 0.3339], abs=5e-5)
    found = article_figures.compared(ours, theirs, {})
    assert (found.difference, found.paired) == (pytest.approx(0.2), False)
    assert article_figures.cells(found)[4] == "+20.00 [+5.24, +33.39], not paired"


def test_a_figure_without_its_interval_is_refused():
    with pytest.raises(ValueError, match="expected num_test, accuracy and its interval, or none of them"):
        Figures(experiment="1", images="full", corrected="nothing", command="head", accuracy=0.5)


def test_only_rows_without_a_result_are_run(tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(article_table, "ROWS", (ARTICLE, OTHER))
    monkeypatch.setattr(article_table, "run", lambda row, images, runs: called.append(row))
    result(tmp_path, ARTICLE, [0, 1, 1], [0, 1, 0])
    article_table.main(None, tmp_path, tmp_path / "table.json", None)
    assert called == [OTHER]
    article_table.main(None, tmp_path, tmp_path / "table.json", [])
    article_table.main(None, tmp_path, tmp_path / "table.json", ["subset-article/head "])
    assert called == [OTHER]


def test_every_row_is_a_command_that_the_product_knows():
    stages = App.model_fields
    for row in ROWS:
        assert row.stage in stages or row.stage == "benchmarks.head_on_layer", row
    commands = [article_table.command(row) for row in ROWS]
    assert len(set(commands)) == len(commands)
    assert {row.run for row in ROWS} == set(RUNS)


def test_the_first_row_of_each_experiment_is_the_articles_own_and_the_last_has_all_corrected():
    for experiment in {row.experiment for row in ROWS}:
        for images in ("subset", "full"):
            rows = [row for row in ROWS if (row.experiment, row.images) == (experiment, images)]
            assert (rows[0].run.endswith("article"), rows[0].options) == (True, "--recipe article")
            assert rows[-1].changed == "all of these"


def test_the_table_that_is_published_is_that_of_the_figures():
    path = ROOT / "benchmarks" / "article_table.json"
    table = Table.model_validate_json(path.read_text(encoding="utf-8"))
    assert [figures.command for figures in table.rows] == [article_table.command(row) for row in ROWS]
    page = article_table.PAGE.read_text(encoding="utf-8")
    published = page.partition(article_table.BEGIN)[2].partition(article_table.END)[0]
    assert published == article_figures.markdown(table)


def test_the_head_learns_on_the_layer_that_it_is_given(tmp_path):
    generator, labels = np.random.default_rng(0), np.arange(120) % 2
    columns = {"labels": labels, "split": np.repeat([0, 1, 2], [80, 10, 30]).astype(np.uint8)}
    columns |= {"ids": [f"{number:03}" for number in range(120)], "class_names": ["cat", "dog"]}
    shapes = {"told": (120, 2, 2, 3), "noise": (120, 5)}
    (tmp_path / "features").mkdir()
    with create_feature_file(tmp_path / "features" / "vgg16-48.h5", shapes, "float32", columns, {}) as file:
        file["features/told"][...] = generator.normal(4 * labels[:, None, None, None] - 2, 1, shapes["told"])
        file["features/noise"][...] = generator.normal(size=shapes["noise"])
    shares = {name: right(head_on_layer.main(tmp_path, name, name)) for name in shapes}
    assert shares["told"] == 1
    assert shares["noise"] < 0.9


def right(path):
    labelled = article_figures.read(path)
    assert labelled.ids == [f"{number:03}" for number in range(90, 120)]
    return labelled.correct.mean()


def test_np_resize_leaves_no_pixel_above_its_neighbour():
    image = article_picture.picture()
    assert (image.shape, image.dtype) == ((32, 32, 3), np.uint8)
    scrambled = article_picture.as_bytes(article_picture.resize(image, 48, "article"))
    assert np.array_equal(scrambled.reshape(-1, 3)[:1024], image.reshape(-1, 3))
    assert np.array_equal(normalize(scrambled[None], "article")[0], np.float32(np.resize(image, (48, 48, 3)) / 255))
    beside, below = article_picture.still_neighbours(32, 48)
    assert (beside, below) == (46 / 47, 0.0)
    assert article_picture.still_neighbours(32, 32) == (1.0, 1.0)


def test_the_picture_in_the_docs_can_be_drawn_again(tmp_path):
    from PIL import Image

    article_picture.draw(tmp_path / "drawn.png")
    with Image.open(tmp_path / "drawn.png") as drawn, Image.open(article_picture.TARGET) as published:
        assert drawn.size == published.size
        difference = np.abs(np.float32(drawn.convert("RGB")) - np.float32(published.convert("RGB")))
    assert difference.mean() < 3  # fonts may differ between machines, not the pictures
