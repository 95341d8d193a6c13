"""On how many images fine-tuning is tried, and where it is not."""

import logging

import numpy as np
import pytest

from thaw.pipeline.advice.fine_tuning_trials import num_affordable

from tests.builders.surveys import survey_of

HOUR = 3600


def test_features_of_both_views_are_not_fine_tuned(caplog: pytest.LogCaptureFixture) -> None:
    labels, split = np.arange(2000) % 4, np.repeat(np.array([0, 2], np.uint8), [1600, 400])
    assert num_affordable(survey_of(labels, split), HOUR) > 0
    with caplog.at_level(logging.INFO, "thaw"):
        assert num_affordable(survey_of(labels, split, views="flip"), HOUR) == 0
    assert caplog.messages == [
        "fine-tuning was not tried: --views flip is of features, and a network learns from images as they are"
    ]
