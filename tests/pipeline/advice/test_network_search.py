"""Successive halving over networks and image sizes, on made-up features whose quality is known."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from thaw.features.backbones.registry import get_backbone
from thaw.models.selection.probing import Probed
from thaw.pipeline.advice import arms, network_search
from thaw.pipeline.advice.arms import Arm, Setting, arms_of, not_at_hand, set_of, settings_of, sizes_of
from thaw.pipeline.advice.network_search import Found, arm_optimism, chosen_arm, search
from thaw.pipeline.advice.sample import Sampled, Survey
from thaw.pipeline.config import Shared

from tests.builders.surveys import survey_of

NUM_IMAGES = 1200
LABELS = np.arange(NUM_IMAGES) % 3
NETWORKS = ("vgg16", "efficientnet_lite0")

Quality = dict[tuple[str, int], float]
Extracted = Callable[[Quality], list[tuple[str, int, int]]]


def images_of(given: frozenset[str] = frozenset(), **settings: object) -> Survey:
    return survey_of(LABELS, np.zeros(NUM_IMAGES, np.uint8), given, **settings)


@pytest.fixture(autouse=True)
def _two_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arms, "at_hand", lambda backbone: "here" if backbone.name in NETWORKS else None)
    monkeypatch.setattr(arms, "expected_seconds", lambda backbone, size, number: number * size**2 * 1e-7)


@pytest.fixture
def extracted(monkeypatch: pytest.MonkeyPatch) -> Extracted:
    """Return what makes the features of each arm as good as is asked, and lists (network, size, images) extracted."""

    def made(quality: Quality) -> list[tuple[str, int, int]]:
        calls: list[tuple[str, int, int]] = []

        def extract(images: Sampled, arm: Arm, num_rows: int) -> None:
            key = (arm.shared.backbone, arm.shared.image_size)
            calls.append((*key, num_rows - len(arm.rows)))
            arm.rows = images.order[:num_rows]
            labels = LABELS[arm.rows]
            for name in {name for setting in arm.settings for name in setting.names}:
                noise = np.random.default_rng(0).normal(0, 1, (num_rows, 6))
                arm.features[name] = (quality.get(key, 0.3) * np.eye(6)[labels] + noise).astype(np.float32)

        monkeypatch.setattr(network_search, "extract_more", extract)
        return calls

    return made


def found(images: Survey, seconds: float = 100.0) -> Found:
    return search(images, arms_of(images), seconds)


def names(some: Sequence[Arm]) -> list[tuple[str, int]]:
    return [(arm.shared.backbone, arm.shared.image_size) for arm in some]


def test_the_best_network_and_size_are_found(extracted: Extracted) -> None:
    best = ("efficientnet_lite0", 224)
    extracted({("vgg16", 48): 1.0, ("vgg16", 64): 1.5, best: 3.0, ("efficientnet_lite0", 160): 2.9})
    result = found(images_of())
    assert names(result.best)[0] == best
    assert names([chosen_arm(result)]) == [best]
    assert result.best[0].accuracy > 0.9
    assert max(row.round for row in result.tried) > 1
    assert {row.backbone for row in result.tried if row.round == 1} == set(NETWORKS)


def test_every_network_is_tried_at_its_own_size_and_at_two_others_one_of_them_above_it() -> None:
    for name in ("vgg16", "efficientnet_lite0", "efficientnet_lite2", "resnet50"):
        backbone = get_backbone(name)
        for side in (8, 32, 100, 240, 4000):
            sizes = sizes_of(backbone, side, 300)
            assert backbone.own_image_size in sizes
            assert len(sizes) >= 3
            assert max(sizes) > backbone.own_image_size


def test_options_that_were_given_are_not_searched_over(
    extracted: Extracted,
) -> None:
    assert {arm.shared.image_size for arm in arms_of(images_of(frozenset({"image_size"}), image_size=96))} == {96}
    of_network = arms_of(images_of(frozenset({"backbone"}), backbone="efficientnet_lite0"))
    assert {arm.shared.backbone for arm in of_network} == {"efficientnet_lite0"}
    assert not_at_hand(images_of(frozenset({"backbone"}))) == []
    assert "resnet50" in not_at_hand(images_of())
    extracted({})
    only = images_of(frozenset({"image_size", "backbone"}), image_size=96)
    assert names(found(only).best) == [("vgg16", 96)]


def test_without_time_the_cheapest_is_tried_and_the_others_are_named(
    extracted: Extracted,
) -> None:
    calls = extracted({})
    result = found(images_of(), 0.0)
    assert [call[:2] for call in calls] == [("vgg16", 48)]
    assert names(result.best) == [("vgg16", 48)]
    assert len(result.untried) == len(arms_of(images_of())) - 1
    assert any("efficientnet_lite0 at 320 pixels" in line for line in result.untried)


def test_the_largest_size_of_a_network_that_is_clearly_behind_is_not_tried(
    extracted: Extracted,
) -> None:
    good = {("efficientnet_lite0", size): 3.0 for size in (128, 160, 192, 224, 320)}
    calls = extracted({**good, **{("vgg16", size): 0.2 for size in (48, 64, 96, 224, 320)}})
    result = found(images_of())
    assert ("vgg16", 320) not in {call[:2] for call in calls}
    assert any(line.startswith("vgg16 at 320 pixels: its smaller sizes") for line in result.untried)


def test_of_arms_within_half_a_point_the_cheaper_is_chosen(extracted: Extracted) -> None:
    extracted({(name, size): 4.0 for name in NETWORKS for size in (48, 64, 96, 128, 160, 192, 224, 320)})
    result = found(images_of())
    for arm in result.best:
        arm.extraction = float(arm.shared.image_size)
    cheapest = min(result.best, key=lambda arm: arm.shared.image_size)
    assert chosen_arm(result) is cheapest


def test_picking_among_equal_arms_flatters_and_of_one_arm_it_does_not(extracted: Extracted) -> None:
    extracted({})
    only = images_of(frozenset({"image_size", "backbone"}), image_size=96)
    assert arm_optimism(only, found(only)) == 0.0
    result = found(images_of())
    assert arm_optimism(images_of(), result) >= 0.0


def test_layers_are_tried_alone_and_joined_maps_with_square_roots() -> None:
    images = images_of()
    tried = settings_of(images, Shared(image_size=48))
    named = {f"{one.layer}:{one.pooling}:{one.transform}" for one in tried}
    assert {"block4_pool:auto:none", "block4_pool:auto:sqrt", "block4_pool:avg:none"} <= named
    assert {"block4_pool+block5_pool:auto:none", "block3_pool+block4_pool+block5_pool:auto:sqrt"} <= named
    lite = settings_of(images, Shared(backbone="efficientnet_lite0", image_size=224))
    assert [one.layer for one in lite] == ["block5c_add", "top_activation", "block5c_add+top_activation"]
    assert {one.pooling for one in lite} == {"avg"}
    alone = settings_of(images_of(frozenset({"layers"})), Shared(layers="block5_pool"))
    assert {one.layer for one in alone} == {"block5_pool"}


def test_an_unusual_setting_has_to_be_better_by_more_than_half_a_point() -> None:
    usual, unusual = Setting("block4_pool", "auto", "none"), Setting("block3_pool", "auto", "none")
    arm = Arm(Shared(image_size=48), [usual, unusual], 0.1)
    for number, wins in ((1000, False), (1003, False), (1020, True)):
        arm.probed = {
            setting: Probed(0.1, np.arange(2000) < correct, ())
            for setting, correct in ((usual, 1000), (unusual, number))
        }
        assert (arm.best == unusual) is wins
        assert (set_of(arm).feature_set != "vgg16-48") is wins
