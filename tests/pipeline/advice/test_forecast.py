"""Leads on a sample and gains of trials become forecasts: drawn towards 0 by their errors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thaw.models.selection.learning_curve import PowerLaw
from thaw.models.selection.probing import Probed, standard_error
from thaw.pipeline.advice.fine_tuning_trials import FineTuningTrial, cuts_of
from thaw.pipeline.advice.forecast import GROWTH, forecast_fine_tuning, lead_posterior
from thaw.pipeline.advice.linear_probes import LinearProbe
from thaw.pipeline.advice.sample import Survey
from thaw.pipeline.config import Shared


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


class Images:
    """The part of a feature file that a forecast reads: 2,000 images, 500 of them test images."""

    ids = tuple(map(str, range(2000)))
    labels = np.arange(2000) % 2
    split = np.repeat(np.array([0, 2], np.uint8), [1500, 500])
    attributes = {"seconds": 10.0}  # noqa: RUF012


def expected_gain(law: PowerLaw) -> float:
    """Return the gain of a trial that labels 80 % correctly and began from a probe that labels 70 % correctly."""
    survey = Survey(Shared(), Images())  # type: ignore[arg-type]
    correct, reference = np.arange(1000) < 800, np.arange(1000) < 700
    best = LinearProbe("logreg", "block5_pool", "none", Probed(0.01, np.arange(1000) < 850, ()), 1200, 0.1)
    trial = FineTuningTrial("block5_conv1", 120, 4, reference, correct, 100.0, 10.0)
    return forecast_fine_tuning(survey, trial, reference, best, law).gain


def test_a_trial_gains_over_the_better_of_its_probe_and_the_learning_curve() -> None:
    flat = PowerLaw(ceiling=0.6, drop=0.0, exponent=0.5)
    assert expected_gain(flat) == pytest.approx(0.1, abs=0.01)
    assert expected_gain(PowerLaw(ceiling=0.78, drop=0.0, exponent=0.5)) == pytest.approx(0.015, abs=0.006)
    assert expected_gain(PowerLaw(ceiling=0.85, drop=0.0, exponent=0.5)) < 0
