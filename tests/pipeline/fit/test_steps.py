"""The order in which `fit` tries networks and sizes, and the fine-tuning that it does."""

import pytest

from thaw.pipeline.fit.clock import Clock
from thaw.pipeline.fit.steps import in_order, promising
from thaw.pipeline.run.advice_json import NetworkTried

from tests.builders.advice import advice, candidate, network, pilot


def tried(backbone: str, image_size: int, accuracy: float, kept: bool = True) -> NetworkTried:
    return NetworkTried.model_validate({**network(image_size, accuracy, kept), "backbone": backbone})


def test_the_best_size_of_each_network_comes_before_a_second_one() -> None:
    lite, larger = tried("efficientnet_lite0", 224, 0.9), tried("efficientnet_lite0", 320, 0.89)
    other, behind = tried("vgg16", 224, 0.8, kept=False), tried("vgg16", 96, 0.7, kept=False)
    assert in_order([behind, larger, other, lite]) == [lite, other, larger, behind]
    assert in_order([]) == []


def test_fine_tuning_has_to_be_better_than_its_error_and_than_linear_classifiers() -> None:
    sure = pilot("block5_conv1") | {"gain": 0.05, "gain_interval": [0.01, 0.09]}
    unsure = sure | {"gain_interval": [-0.06, 0.16]}
    network_candidate = candidate("finetune", layer="block5_conv1", accuracy=0.98)
    found = promising(advice(pilots=[sure], candidates=[candidate(), network_candidate]))
    assert found is not None
    assert found.layer == "block5_conv1"
    assert promising(advice(pilots=[unsure], candidates=[candidate(), network_candidate])) is None
    worse = network_candidate | {"accuracy": 0.9}
    assert promising(advice(pilots=[sure], candidates=[candidate(), worse])) is None
    assert promising(advice(pilots=[])) is None


def test_a_clock_counts_down() -> None:
    clock = Clock(2.0)
    assert 0 < clock.seconds_left <= 120
    assert str(clock) == "2.0 of 2 minutes left"
    assert Clock(0.0).seconds_left == pytest.approx(0, abs=1)
    assert str(Clock(0.0)) == "0.0 of 0 minutes left"
