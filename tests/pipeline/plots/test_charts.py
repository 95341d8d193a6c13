"""The report's charts: what is on them, and that they are the same for a page, a file and a screen reader."""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.figure import Figure

from thaw.pipeline.plots import charts
from thaw.pipeline.plots.svg import BLUE, INK, PAPER, draw, inline
from thaw.pipeline.run.advice_json import LayerProfile
from thaw.pipeline.run.report_json import ClassFigures, Report

from tests.builders.advice import advice, layer, report

TEXT = "{http://www.w3.org/2000/svg}text"


def timed(name: str, wrong: int, seconds: float, strategy: str = "svm") -> Report:
    spent = {"features": seconds / 2, "fit": seconds / 2, "predict": None}
    return report(name, list(range(wrong)), strategy=strategy, seconds=spent)


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in ElementTree.fromstring(svg).iter(TEXT)]  # noqa: S314 (our own)


def line(figure: Figure) -> None:
    axes = figure.subplots()
    axes.plot([1, 2], [1, 2], color=BLUE, marker="o", label="a")
    axes.scatter([1], [2], rasterized=True)


def test_no_strategy_on_the_frontier_is_beaten_in_both() -> None:
    slow, quick, behind, equal = (
        timed("slow", 0, 90),
        timed("quick", 4, 10),
        timed("behind", 5, 20),
        timed("equal", 4, 30),
    )
    nothing = timed("chance", 40, 0.001, "chance")
    assert charts.frontier([slow, quick, behind, equal, nothing]) == [quick, slow]
    assert charts.frontier([nothing]) == []


def test_accuracy_against_cost_names_every_strategy_once(tmp_path: Path) -> None:
    reports = [timed("fast", 4, 10), timed("slow & good", 0, 600), timed("random", 6, 20, "random")]
    svg = draw(tmp_path, "cost", "alt", 3.6, lambda figure: charts.accuracy_against_cost(figure, reports))
    assert {"fast", "slow & good", "random"} <= set(texts(svg))
    assert {"0.2", "1", "5", "10"} <= set(texts(svg))


def test_a_run_of_chance_alone_has_an_empty_cost_chart(tmp_path: Path) -> None:
    nothing = [timed("chance", 40, 0.001, "chance")]
    assert "chance" not in texts(draw(tmp_path, "cost", "alt", 3, lambda f: charts.accuracy_against_cost(f, nothing)))


def test_labels_do_not_lie_on_each_other() -> None:
    figure = Figure(figsize=(5, 3.6))
    crowd = [timed(f"strategy-{k}", 3, 10 + 0.01 * k) for k in range(12)]
    charts.accuracy_against_cost(figure, crowd)
    assert 1 <= len(figure.axes[0].texts) < 12


def test_class_bars_are_as_long_as_the_recall() -> None:
    rows = [ClassFigures.model_validate({"class": name, "precision": 1.0, "recall": recall, "f1": 0.5, "support": 4})
            for name, recall in (("$x$", 0.25), ("b", 1.0))]  # fmt: skip
    figure = Figure()
    charts.class_bars(figure, rows)
    axes = figure.axes[0]
    assert [patch.get_width() for patch in axes.patches] == [25, 100]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["$x$", "b"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


def test_confusions_are_written_into_their_cells_if_these_are_few(tmp_path: Path) -> None:
    matrix = np.array([[7, 3], [0, 9]])
    svg = draw(tmp_path, "confusions", "alt", 3, lambda figure: charts.confusions(figure, matrix, ["cat", "dog"]))
    assert sorted(text for text in texts(svg) if text.isdigit()) == ["3", "7", "9"]
    many = np.eye(20, dtype=int)
    svg = draw(tmp_path, "many", "alt", 5, lambda figure: charts.confusions(figure, many, [f"c{k}" for k in range(20)]))
    assert not [text for text in texts(svg) if text.isdigit()]


def test_a_learning_curve_leaves_out_missing_values() -> None:
    rows: list[dict[str, float | None]] = [
        {"epoch": 0, "accuracy": None, "loss": None, "test_accuracy": 0.1, "test_loss": 90.0},
        {"epoch": 1, "accuracy": 0.5, "loss": 1.0, "test_accuracy": 0.4, "test_loss": 2.0},
        {"epoch": 2, "accuracy": 0.6, "loss": 0.5, "test_accuracy": 0.5, "test_loss": float("inf")},
    ]
    figure = Figure()
    charts.learning(figure, rows, "test", 1)
    training, watched, kept = figure.axes[0].lines
    assert list(training.get_xdata()) == [1, 2]
    assert list(watched.get_ydata()) == [10, 40, 50]
    assert kept.get_label() == "kept: epoch 1"
    assert figure.axes[1].get_ylim()[1] == pytest.approx(2.2)
    assert [len(drawn.get_xdata()) for drawn in figure.axes[1].lines[:2]] == [2, 2]


def test_the_layer_profile_and_the_data_efficiency_curve_hold_the_advice_s_figures() -> None:
    figure, other = Figure(), Figure()
    layers = [LayerProfile.model_validate(layer(depth)) for depth in range(1, 6)]
    charts.layer_profile(figure, layers)
    assert list(figure.axes[0].lines[0].get_ydata()) == [100 * one.auto_accuracy for one in layers]
    assert [text.get_text() for text in figure.axes[1].get_xticklabels()] == [f"block{k}" for k in range(1, 6)]
    curve = advice().learning_curve
    charts.data_efficiency(other, curve)
    drawn = [list(line.get_xdata()) for line in other.axes[0].lines]
    assert [20, 60, 200] in drawn
    assert [400] in drawn


def test_the_map_gives_each_class_its_own_mark() -> None:
    groups = np.repeat(np.arange(-1, 20), 3)
    figure = Figure()
    charts.feature_map(figure, np.zeros((len(groups), 2)), groups, [f"class {k}" for k in range(20)])
    styles = [(line.get_color(), line.get_marker()) for line in figure.axes[0].lines[1:]]
    assert len(set(styles)) == 20


# Drawing


def test_a_chart_lies_in_two_files_and_changes_no_setting(tmp_path: Path) -> None:
    before = dict(rcParams)
    svg = draw(tmp_path / "plots", "one", "what it shows", 3, line)
    assert dict(rcParams) == before
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["one.png", "one.svg"]
    assert (tmp_path / "plots" / "one.png").read_bytes().startswith(b"\x89PNG")
    assert draw(tmp_path / "plots", "one", "what it shows", 3, line) == svg


def test_a_chart_in_a_page_has_the_page_s_colours_and_a_description(tmp_path: Path) -> None:
    svg = draw(tmp_path, "one", 'cats & "dogs"\u202e', 3, line)
    root = ElementTree.fromstring(svg)  # noqa: S314 (our own)
    assert root.get("role") == "img"
    assert root.get("aria-label") == 'cats & "dogs" '
    assert (root.get("width"), root.get("viewBox")) == (None, "0 0 360 216")
    assert not {INK, PAPER, BLUE} & set(re.findall("#[0-9a-f]{6}", svg))
    assert {"currentColor", "var(--card)", "var(--series-1)"} <= set(re.findall(r"currentColor|var\(--[\w-]+\)", svg))
    assert "<metadata" not in svg
    assert "font-family" not in svg


def test_two_charts_in_a_page_share_no_id(tmp_path: Path) -> None:
    first, second = (draw(tmp_path, name, "alt", 3, line) for name in ("one", "two"))
    ids = [re.findall(r' id="([^"]+)"', svg) for svg in (first, second)]
    assert ids[0]
    assert not set(ids[0]) & set(ids[1])
    for svg, own in zip((first, second), ids, strict=True):
        used = re.findall(r'(?:href="#|url\(#)([^")]+)', svg)
        assert used
        assert set(used) == set(own)


def test_names_are_text_in_a_chart_too(tmp_path: Path) -> None:
    hostile = ["<b>&amp;", "$\\frac{", "a\x1b\u202eb", "日本語", 'id="x" url(#x) #1c1e21']
    figures = {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 4}
    rows = [ClassFigures.model_validate({"class": name, **figures}) for name in hostile]
    svg = draw(tmp_path, "bars", "alt", 3, lambda figure: charts.class_bars(figure, rows))
    shown = texts(svg)
    for name in ("<b>&amp;", "$\\frac{", "a  b", "日本語", 'id="x" url(#x) #1c1e21'):
        assert name in shown


def test_inline_keeps_nothing_of_the_file_s_head() -> None:
    svg = '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9pt" height="9pt" viewBox="0 0 9 9"/>'
    assert inline(svg, "x", "a<b") == (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9" role="img" aria-label="a&lt;b" class="chart" />'
    )
