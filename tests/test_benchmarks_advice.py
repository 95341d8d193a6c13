"""The cases that advice is judged on, without a network: data, commands, what is counted and what is published."""

import json
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import advice_table, case_images, case_runs, elpv_protocol, synthetic_images
from benchmarks.advice_results import Advised, CaseResult, CaseResults, Outcome, collect
from benchmarks.cases import CASES, LARGE, Case

ROOT = Path(__file__).resolve().parent.parent
GENERATOR = np.random.default_rng(1)


def picture(side=32):
    return np.random.default_rng(2).integers(0, 256, (side, side, 3), np.uint8)


def test_the_list_fills_all_four_cells_with_twenty_cases_or_more():
    names = [case.name for case in CASES]
    assert len(names) >= 22
    assert len(set(names)) == len(names)
    cells = Counter(case.cell for case in CASES)
    assert set(cells) == {"small-similar", "small-different", "large-similar", "large-different"}
    assert LARGE * 0.9 >= 10_000  # a tenth is for validation


def test_blocks_are_moved_whole_and_alike_in_every_picture():
    given = picture()
    moved = case_images.permute_blocks(given, GENERATOR)
    blocks = {
        name: [pixels[y : y + 8, x : x + 8].tobytes() for y in range(0, 32, 8) for x in range(0, 32, 8)]
        for name, pixels in (("given", given), ("moved", moved))
    }
    assert sorted(blocks["given"]) == sorted(blocks["moved"])
    assert blocks["given"] != blocks["moved"]
    order = [blocks["given"].index(block) for block in blocks["moved"]]
    again = case_images.permute_blocks(255 - given, GENERATOR)
    assert again[:8, :8].tobytes() == (255 - given)[order[0] // 4 * 8 :, order[0] % 4 * 8 :][:8, :8].tobytes()


def test_a_coarse_picture_has_the_mean_of_each_block_in_its_place():
    given = picture()
    coarse = case_images.coarsen(given, GENERATOR)
    assert np.array_equal(coarse[4:6, 6:8], np.broadcast_to(coarse[4, 6], (2, 2, 3)))
    assert np.allclose(coarse[4, 6], given[4:6, 6:8].mean(axis=(0, 1)), atol=0.5)


@pytest.mark.parametrize(
    "change",
    [
        case_images.permute_pixels,
        case_images.invert,
        case_images.grey,
        case_images.quarter_turns,
        case_images.upside_down,
        case_images.swap_colours,
        case_images.coarsen,
    ],
)
def test_changes_keep_shape_and_type_and_leave_the_original(change):
    given = picture()
    kept = given.copy()
    changed = change(given, np.random.default_rng(0))
    assert (changed.shape, changed.dtype) == (given.shape, np.uint8)
    assert np.array_equal(given, kept)
    assert not np.array_equal(changed, given)


def test_falling_counts_end_at_the_ratio():
    counts = case_images.falling_counts("abc", 100, 200, 4)
    assert counts == {"train": {"a": 100, "b": 50, "c": 25}, "test": {"a": 200, "b": 100, "c": 50}}


def images_zip(path, per_class=6):
    with zipfile.ZipFile(path, "w") as archive:
        for side in ("train", "test"):
            for label in ("cat", "dog"):
                for number in range(per_class):
                    with archive.open(f"{side}/{label}/{number}.png", "w") as file:
                        Image.fromarray(np.full((4, 4, 3), 10 * number, np.uint8)).save(file, "png")
    return path


def test_a_drawn_folder_holds_the_counts_and_is_the_same_each_time(tmp_path):
    source = images_zip(tmp_path / "all.zip")
    counts = case_images.equal_counts(("cat", "dog"), 3, 2)
    made = []
    for name in ("a case", "a case", "another case"):
        case_images.write_folder(tmp_path / "a.zip", case_images.draw(source, name, counts))
        made.append((tmp_path / "a.zip").read_bytes())
    assert made[0] == made[1] != made[2]
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        found = Counter(name.rsplit("/", 1)[0] for name in archive.namelist())
    assert found == {"train/cat": 3, "train/dog": 3, "test/cat": 2, "test/dog": 2}


@pytest.mark.parametrize(
    ("pictures", "classes", "train", "test"),
    [
        (lambda: case_images.digits(2, 3), 10, 2, 3),
        (lambda: case_images.photograph_parts(40, 64), 8, 40, 64),
        (lambda: synthetic_images.pictures(synthetic_images.TEXTURES, 2, 3), 6, 2, 3),
        (lambda: synthetic_images.pictures(synthetic_images.SPECTROGRAMS, 2, 3), 5, 2, 3),
    ],
)
def test_made_pictures_have_their_counts_and_are_all_different(pictures, classes, train, test):
    made = list(pictures())
    assert Counter(side for side, _, _ in made) == {"train": classes * train, "test": classes * test}
    assert len({label for _, label, _ in made}) == classes
    assert len({pixels.tobytes() for _, _, pixels in made}) == len(made)
    assert all(pixels.dtype == np.uint8 and pixels.shape[2] == 3 for _, _, pixels in made)


CASE = Case("toy", "a toy", "small-similar", options=("--dataset", "digits"))


def test_commands_of_a_case_name_its_run_once_and_the_data_first():
    commands = dict(case_runs.strategy_commands(CASE, CASE.options))
    assert list(commands) == ["features", *case_runs.STRATEGIES]
    assert commands["features"] == ["features", "--run", "runs/toy", "--dataset", "digits", "--image-size", "48"]
    assert commands["scratch"] == ["scratch", "--run", "runs/toy", "--epochs", "2"]
    assert commands["svm"] == ["svm", "--run", "runs/toy"]
    advise = case_runs.advise_command(CASE, CASE.options)
    assert advise == ["advise", "--run", "advice/toy", "--dataset", "digits", "--image-size", "48"]


def test_a_free_case_leaves_the_size_to_advice():
    free = Case("toy", "a toy", "small-similar", options=("--dataset", "digits"), size_given=False)
    assert "--image-size" not in case_runs.advise_command(free, free.options)


def test_a_recommended_command_is_read_as_a_shell_would():
    words = case_runs.recommended_words('thaw svm --run "runs/a b" --layer block4_pool')
    assert words == ["svm", "--run", "runs/a b", "--layer", "block4_pool"]
    assert case_runs.result_folder(words, Path("w")) == Path("w/runs/a b/svm")
    assert case_runs.result_folder([*words, "--name", "other"], Path("w")) == Path("w/runs/a b/other")
    assert case_runs.result_folder(["svm", "--run=a=b", "--name=other"], Path("w")) == Path("w/a=b/other")


def fake_stage(work, seconds=10.0):
    """Stand in for the commands: a report for each, two epochs of 4 seconds for the networks."""
    calls = []

    def measure(words, _):
        calls.append(words[0])
        folder = work / words[2] / words[0]
        folder.mkdir(parents=True, exist_ok=True)
        fields = {"accuracy": 0.5, "accuracy_ci95": [0.4, 0.6], "layer": "a", "num_train": 9, "num_validation": 1}
        (folder / "report.json").write_text(json.dumps(fields | {"num_test": 4}))
        if words[0] == "scratch":
            (folder / "learning_curve.csv").write_text("epoch,seconds\n0,1\n1,6\n2,4\n")
        return {"command": " ".join(words), "seconds": seconds, "cpu_seconds": 2 * seconds, "failed": None}

    return measure, calls


def test_a_second_call_runs_only_what_is_missing_and_scratch_counts_nine_epochs(tmp_path, monkeypatch):
    measure, calls = fake_stage(tmp_path)
    monkeypatch.setattr(case_runs, "measure", measure)
    ledger = case_runs.Ledger(tmp_path / "measured.json")
    case_runs.run_strategies(CASE, tmp_path, tmp_path, ledger)
    assert calls == ["features", *case_runs.STRATEGIES]
    again = case_runs.Ledger(tmp_path / "measured.json")
    again.entries["toy"]["knn"]["failed"] = "exit code 1"
    case_runs.run_strategies(CASE, tmp_path, tmp_path, again)
    assert calls[9:] == ["knn"]
    scratch = again.entries["toy"]["scratch"]
    assert (scratch["epochs"], scratch["counted_cpu_seconds"]) == (2, 20 + 7 * 4 * 2)
    case = collect([CASE], again.entries)[0]
    assert (case.num_train, case.num_test, case.advised) == (10, 4, None)
    assert case.cpu_seconds == 8 * 20 + 76
    del again.entries["toy"]["scratch"]
    assert collect([CASE], again.entries)[0].cpu_seconds == 8 * 20


def test_a_case_without_all_strategies_is_left_out():
    assert collect([CASE], {"toy": {"features": {"failed": None}, "svm": {"failed": "exit code 1"}}}) == []


def result(measured, interval=(0.88, 0.92), num_test=1000, finetune=0.9, seconds=50.0):
    fields = {"command": "c", "cpu_seconds": 25.0}
    strategies = {name: Outcome(accuracy=0.8, **fields) for name in case_runs.STRATEGIES}
    strategies["finetune"] = Outcome(accuracy=finetune, **fields)
    advised = Advised(
        **(fields | {"cpu_seconds": seconds}),
        **{"cell": "small-similar", "gain": 0.2, "agrees": True, "strategy": "svm", "image_size": 48},
        **{"layer": "block4_pool", "recommended": "r", "expected": 0.9, "interval": interval, "measured": measured},
    )
    return CaseResult(
        **{"name": "toy", "what": "a toy", "meant_for": "small-similar", "num_train": 10, "num_test": num_test},
        **{"features_cpu_seconds": 0.0, "strategies": strategies, "advised": advised},
    )


def test_a_case_is_judged_by_interval_choice_and_time():
    good = result(0.89)
    assert (good.inside, good.narrow, good.near_best, good.share) == (True, True, True, 0.25)
    assert good.best == ("finetune", 0.9)
    poor = result(0.87, interval=(0.88, 0.94))
    assert (poor.inside, poor.narrow, poor.near_best) == (False, False, False)
    assert result(0.87, interval=(0.88, 0.94), num_test=499).narrow is True
    assert result(0.91).best == ("recommended", 0.91)
    fewer = {name: outcome for name, outcome in good.strategies.items() if name != "scratch"}
    assert good.model_copy(update={"strategies": fewer}).share is None


def test_the_tables_count_what_was_met_and_stand_between_their_markers(tmp_path):
    results = CaseResults(command="c", machine="m", cases=[result(0.89), result(0.87)])
    table = advice_table.markdown(results)
    assert "| the interval holds what was measured | 1 of 2 | 9 of 10 |" in table
    assert "| its time over theirs, together | 0.25 | at most 0.25 |" in table
    page = f"before\n{advice_table.BEGIN}\nold\n{advice_table.END}\nafter"
    assert advice_table.put_between(page, table) == page.replace("old\n", table)
    with pytest.raises(ValueError, match="markers"):
        advice_table.put_between("nothing", table)


def test_the_plot_is_the_same_each_time(tmp_path):
    cases = [result(0.89), result(0.87).model_copy(update={"name": "cifar-250"})]
    drawn = []
    for name in ("a.svg", "b.svg"):
        advice_table.draw(tmp_path / name, cases)
        drawn.append((tmp_path / name).read_bytes())
    assert drawn[0] == drawn[1]
    assert b"cifar-250" in drawn[0]
    fewer = {name: cases[0].strategies[name] for name in ("svm", "logreg", "finetune")}
    advice_table.draw(tmp_path / "a.svg", [cases[0].model_copy(update={"strategies": fewer})])  # no point of one kind
    assert b"cifar-250" not in (tmp_path / "a.svg").read_bytes()


def test_what_is_published_is_of_this_schema_and_in_the_page():
    path = ROOT / "benchmarks" / "advice.json"
    if not path.exists():
        pytest.skip("no benchmarks/advice.json")
    results = CaseResults.model_validate_json(path.read_text("utf-8"))
    assert results.cases
    assert advice_table.markdown(results) in (ROOT / "docs" / "results.md").read_text("utf-8")


def test_elpv_is_split_by_label_and_type_and_by_seed():
    labels = ["functional"] * 60 + ["defective"] * 40
    types = (["mono"] * 20 + ["poly"] * 40) + ["mono"] * 20 + ["poly"] * 20
    first, second = (elpv_protocol.test_rows(labels, types, seed) for seed in (0, 1))
    counts = Counter((labels[row], types[row]) for row in np.flatnonzero(first))
    assert counts == {
        ("functional", "mono"): 5,
        ("functional", "poly"): 10,
        ("defective", "mono"): 5,
        ("defective", "poly"): 5,
    }
    assert not np.array_equal(first, second)


def test_elpv_table_gives_mean_and_deviation(tmp_path):
    (tmp_path / "labels.csv").write_text("images/a.png  1.0  mono\nimages/b.png  0.3333333333333333  poly\n")
    assert elpv_protocol.read_labels(tmp_path / "labels.csv") == [
        ("images/a.png", "defective", "mono"),
        ("images/b.png", "functional", "poly"),
    ]
    results = [
        {name: {"accuracy": value, "roc_auc": 0.9, "macro_f1": value} for name in elpv_protocol.STRATEGIES}
        for value in (0.8, 0.82)
    ]
    assert "| `svm` | 81.00 ± 1.41 | 0.900 ± 0.000 | 81.00 ± 1.41 |" in elpv_protocol.table(results)
