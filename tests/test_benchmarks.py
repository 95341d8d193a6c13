"""What of the benchmarks needs no clock: the checks of outputs, the results' schema, the counts and fits."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import linear, machine, networks, results, runner, samples, scaling
from benchmarks.checks import relative_error
from benchmarks.runner import Contender, ContenderError, Result, take_turns
from thaw.features.backbones.registry import BACKBONES

ROOT = Path(__file__).resolve().parent.parent


def doubled(numbers, factor=2.0, noise=""):
    """A contender: its output is the numbers times the factor."""
    print(noise)
    if factor == 0:
        raise ValueError("no factor")
    return lambda: {"out": factor * np.asarray(numbers)}


def late(numbers):
    """A contender whose output is made after the clock has stopped."""
    return lambda: lambda: {"out": 2 * np.asarray(numbers)}


def largest(output, reference):
    return float(np.max(np.abs(output["out"] - reference["out"])))


def contender(name, function="doubled", **arguments):
    return Contender(name, f"tests.test_benchmarks:{function}", {"numbers": [1, 2, 3], **arguments})


def test_contenders_take_turns_and_a_wrong_output_is_not_timed():
    entries = [
        contender("reference", noise="what a library prints"),
        contender("late", "late"),
        contender("nearly", factor=2.0001),
        contender("wrong", factor=2.1),
        contender("nan", factor=float("nan")),
        contender("broken", factor=0),
    ]
    found = take_turns(entries, 3, largest)
    assert [len(found[name].seconds) for name in ("reference", "late", "nearly")] == [3, 3, 3]
    assert found["nearly"].difference == pytest.approx(3e-4)
    assert found["wrong"].failed == "wrong output: it differs by 0.3"
    assert found["nan"].failed == "wrong output: it differs by nan"
    assert found["broken"].failed == "ValueError: no factor"
    assert not any(found[name].seconds for name in ("wrong", "nan", "broken"))


def test_work_of_minutes_is_checked_in_its_first_timed_turn():
    found = take_turns([contender("reference"), contender("wrong", factor=3)], 1, largest, warm_up=False)
    assert len(found["reference"].seconds) == 1
    assert found["wrong"].seconds == []


def test_a_peer_that_is_not_installed_says_what_to_type(monkeypatch, tmp_path):
    monkeypatch.setattr(runner, "PEERS_PYTHON", tmp_path / "python")
    peer = Contender("peer", "tests.test_benchmarks:doubled", {"numbers": [1]}, peer=True)
    with pytest.raises(ContenderError, match=r"^not installed; type make bench-setup$"):
        runner.Process(peer, tmp_path)


def test_environment_leaves_tensorflow_its_default_switch(monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    assert "TF_ENABLE_ONEDNN_OPTS" not in runner.environment(runner.DEFAULTS)
    assert runner.environment("0")["TF_ENABLE_ONEDNN_OPTS"] == "0"


def test_modules_of_keras_own_contenders_do_not_turn_onednn_on():
    for module in (networks, runner, results):
        source = Path(module.__file__).read_text(encoding="utf-8")
        top = [line for line in source.splitlines() if line.startswith(("import ", "from "))]
        assert not [line for line in top if "features" in line or "pipeline" in line]


def test_a_failed_contender_has_a_row_with_its_reason_and_no_figure():
    found = {"ours": Result([2.0, 1.0, 4.0]), "slow": Result([6.0], 1e-6), "wrong": Result(failed="wrong output")}
    rows = results.rows_of("extraction", "48 px", found, "ours", 100, "images/s")
    assert [(row.value, row.ours_is) for row in rows] == [(50.0, 1.0), (100 / 6, 3.0), (None, None)]
    assert (rows[0].low, rows[0].high, rows[0].repeats) == (25.0, 100.0, 3)
    assert results.cells(rows[2])[2:] == ("failed", "", "", "", "", "wrong output")


def test_a_row_has_a_value_or_a_reason():
    with pytest.raises(ValueError, match="expected a value, or why there is none"):
        results.Row(section="a", task="b", contender="c", unit="s")


def outcome(section, value, required):
    row = results.Row(section=section, task="task", contender="ours", unit="s", value=value, repeats=1)
    target = results.Target(section=section, what=f"{section} | ratio", required=required, measured=value)
    given = {"command": "python -m benchmarks", "machine": {}, "limits": {"sgemm": 1.0}, "seconds": {section: value}}
    return results.Results(**given, rows=[row], targets=[target])


def test_a_section_that_runs_again_replaces_its_own_rows_only(tmp_path):
    path = tmp_path / "results.json"
    for section, value in (("linear", 1.0), ("rbf", 2.0), ("linear", 3.0)):
        path.write_text(results.merge(results.read(path), outcome(section, value, 2.5)).model_dump_json())
    found = results.Results.model_validate_json(path.read_text())
    assert {row.section: row.value for row in found.rows} == {"rbf": 2.0, "linear": 3.0}
    assert {target.section: target.met for target in found.targets} == {"rbf": False, "linear": True}
    assert "| linear / ratio | at least 2.5 | 3 | yes |" in results.markdown(found)


def test_the_results_that_are_published_are_of_this_schema():
    path = ROOT / "benchmarks" / "results.json"
    if not path.exists():
        pytest.skip("no benchmarks/results.json")
    found = results.Results.model_validate(json.loads(path.read_text(encoding="utf-8")))
    assert found.rows
    assert results.markdown(found) in (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")


def test_relative_error_is_of_the_worst_image():
    reference = np.array([[3.0, 4.0], [6.0, 8.0]])
    assert relative_error(reference + np.array([[0, 0], [0, 1]]), reference) == pytest.approx(0.1)
    assert relative_error(reference[:1], reference) == float("inf")


def test_operations_of_the_network_are_the_published_ones():
    operations = machine.network_operations(BACKBONES["vgg16"], 224, "block5_pool")
    assert operations / 2 == pytest.approx(15.35e9, rel=0.01)
    assert machine.network_operations(BACKBONES["vgg16"], 48, "block1_conv1") == 2 * 9 * 3 * 64 * 48 * 48


def test_objectives_are_those_of_scikit_learn():
    from scipy.optimize import approx_fprime
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    generator = np.random.default_rng(0)
    features, labels = generator.standard_normal((60, 3)).astype(np.float32), generator.integers(0, 3, 60)
    data = samples.Samples(features, labels, features[:0], labels[:0])
    solvers = {"svm": LinearSVC(C=0.3, tol=1e-10, max_iter=10**5), "logreg": LogisticRegression(C=0.3, tol=1e-10)}
    for kind, solver in solvers.items():
        solver.fit(np.float64(features), labels)
        objective = linear.objectives(kind, data, 0.3)

        def at(flat, objective=objective):
            return objective({"coefficients": flat.reshape(3, 4)[:, :3], "intercepts": flat.reshape(3, 4)[:, 3]})

        solution = np.column_stack([solver.coef_, solver.intercept_]).ravel()
        assert np.abs(approx_fprime(solution, at, 1e-6)).max() < 1e-3  # they minimise it
        assert at(solution) < at(np.zeros(12))


def test_another_choice_of_c_is_a_wrong_output():
    reference = {"chosen": np.array(0.1), "scores": np.array([0.5, 0.6])}
    assert linear.other_choice({"chosen": np.array(0.1), "scores": np.array([0.5, 0.61])}, reference) < 0.011
    assert linear.other_choice({"chosen": np.array(1.0), "scores": np.array([0.5, 0.6])}, reference) == float("inf")


def test_exponent_is_the_slope_of_the_logarithms():
    assert scaling.exponent([1, 4, 16], [3 * amount**1.5 for amount in (1, 4, 16)]) == pytest.approx(1.5)
    rows, target = scaling.report("svm", [1, 4, 16], [Result([amount]) for amount in (2.0, 8.0, 32.0)])
    assert (rows[-1].note, target.met) == ("exponent 1.00", True)
    _, target = scaling.report("svm", [1, 4], [Result([1.0]), Result(failed="no memory")])
    assert target.met is None
