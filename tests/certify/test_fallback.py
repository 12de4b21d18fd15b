"""Which operations are left in float, on models whose weak spots are made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from vitlet.certify.fallback import fallbacks
from vitlet.data.calibration import Calibration
from vitlet.data.imageset import ImageSet
from vitlet.models.vit import build_vit
from vitlet.records import Classifier, ImageSpec, VitArchitecture

SPEC = ImageSpec(8, 8, 8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
ARCHITECTURE = VitArchitecture(
    image_height=8, image_width=8, patch=4, width=16, depth=3, heads=2, mlp_width=32, classes=5
)


def classifier(weak: tuple[int, ...] = ()) -> Classifier:
    """Three blocks whose operations all matter; in the ``weak`` ones the MLP's input has a channel that is 300 times
    the others and does nothing in float."""
    model = build_vit(ARCHITECTURE, seed=3)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.weight.mul_(10)
        for number in weak:
            model.blocks[number].mlp_norm.weight[5] = 300
            model.blocks[number].mlp.up.weight[:, 5] = 0
    return Classifier(model.eval(), ARCHITECTURE, SPEC, tuple("abcde"), "test:vit", "checkpoint")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    path = tmp_path_factory.mktemp("pixels") / "pixels.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), np.uint8))
    return ImageSet(path, SPEC, tuple(f"{i}.png" for i in range(24)), (-1,) * 24)


LEARNED = Calibration(SPEC, random_count=16, seed=1)


@pytest.mark.parametrize("calibration", [LEARNED, None])
@pytest.mark.parametrize("weak", [(1,), (0, 2)])
def test_the_weak_ones_are_left(images: ImageSet, weak: tuple[int, ...], calibration: Calibration | None) -> None:
    found = fallbacks(classifier(weak), images, calibration)
    assert set(found[-1][: len(weak)]) == {f"blocks.{number}.mlp.up" for number in weak}
    assert len(found[0]) <= len(weak)
    assert all(found[-1][: len(one)] == one for one in found)


def test_no_more_than_a_third_where_none_is_to_blame(images: ImageSet) -> None:
    (names,) = fallbacks(classifier(), images, LEARNED)
    assert 1 <= len(names) <= 14 / 3


def test_a_model_without_anything_to_quantize(images: ImageSet) -> None:
    plain = classifier()
    nothing = replace(plain, module=nn.Sequential(nn.AvgPool2d(4), nn.Flatten()))
    assert fallbacks(nothing, images, LEARNED) == ()
