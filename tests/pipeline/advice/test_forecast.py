"""Leads on a sample and gains of trials become forecasts: drawn towards 0 by their errors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thaw.models.selection.learning_curve import PowerLaw
from thaw.models.selection.probing import Probed, standard_error
from thaw.pipeline.advice.fine_tuning_trials import FineTuningTrial, cuts_of
from thaw.pipeline.advice.forecast import GROWTH, forecast_fine_tuning, interval, lead_posterior
from thaw.pipeline.advice.linear_probes import LinearProbe

from tests.builders.surveys import survey_of


@given(st.floats(-0.5, 0.5), st.floats(1e-4, 0.3), st.floats(1e-3, 0.1))
def test_a_lead_never_grows_nor_turns(lead: float, error: float, likely: float) -> None:
    mean, deviation = lead_posterior(lead, error, likely)
    assert abs(mean) <= abs(lead) + 1e-9
    assert mean * lead >= -1e-9
    assert deviation <= error + 1e-9


def test_a_sure_lead_stays_and_an_unsure_one_goes() -> None:
    assert lead_posterior(0.05, 1e-4, 0.02)[0] == pytest.approx(0.05, rel=1e-3)
    assert abs(lead_posterior(0.05, 0.2, 0.02)[0]) < 1e-3
    assert lead_posterior(0.18, 0.011, 0.03)[0] > 0.17  # however large it is


def test_the_posterior_agrees_with_a_simulation() -> None:
    generator = np.random.default_rng(0)
    leads = generator.laplace(0, 0.02 / np.sqrt(2), 400_000)
    measured = leads + generator.normal(0, 0.03, len(leads))
    near = leads[np.abs(measured - 0.03) < 0.002]
    mean, deviation = lead_posterior(0.03, 0.03, 0.02)
    assert near.mean() == pytest.approx(mean, abs=5e-4)
    assert near.std() == pytest.approx(deviation, abs=5e-4)


def test_each_cut_has_its_growth() -> None:
    assert cuts_of("vgg16") == ("head", "block5_conv1", "block4_conv1", "block1_conv1")
    assert len(GROWTH) == len(cuts_of("vgg16"))


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_no_accuracy_is_without_error(num_images: int, accuracy: float) -> None:
    error = standard_error(accuracy, num_images)
    assert 0 < error <= 0.5
    assert error == pytest.approx(standard_error(1 - accuracy, num_images), rel=1e-6)


def expected_gain(law: PowerLaw) -> float:
    """Return the gain of a trial that labels 80 % correctly and began from a probe that labels 70 % correctly."""
    survey = survey_of(np.arange(2000) % 2, np.repeat(np.array([0, 2], np.uint8), [1500, 500]))
    correct, reference = np.arange(1000) < 800, np.arange(1000) < 700
    best = LinearProbe("logreg", "block5_pool", "none", Probed(0.01, np.arange(1000) < 850, ()), 1200, 0.1)
    trial = FineTuningTrial("block5_conv1", 120, 4, reference, correct, 100.0, 10.0)
    return forecast_fine_tuning(survey, trial, reference, best, law).gain


def test_a_trial_gains_over_the_better_of_its_probe_and_the_learning_curve() -> None:
    flat = PowerLaw(ceiling=0.6, drop=0.0, exponent=0.5)
    assert expected_gain(flat) == pytest.approx(0.1, abs=0.01)
    assert expected_gain(PowerLaw(ceiling=0.78, drop=0.0, exponent=0.5)) == pytest.approx(0.015, abs=0.006)
    assert expected_gain(PowerLaw(ceiling=0.85, drop=0.0, exponent=0.5)) < 0


@pytest.mark.parametrize(("num_test", "at_least"), [(20, 0.2), (500, 0.04), (10_000, 0.009)])
def test_an_interval_is_as_wide_as_the_chance_of_its_test_images(num_test: int, at_least: float) -> None:
    survey = survey_of(np.zeros(num_test, np.int64), np.full(num_test, 2, np.uint8))
    low, high = interval(survey, 0.5, 0.0)
    assert (high - low) / 2 >= at_least
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(0.25 / num_test), rel=0.05)
    assert interval(survey, 1.0, 0.0)[1] == 1.0
