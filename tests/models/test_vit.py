"""The canonical ViT by itself: initialisation, positions, heads, training behaviour."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from timm.layers import build_sincos2d_pos_embed, resample_abs_pos_embed

from vitlet.errors import InvalidValue, ModelUnreadable
from vitlet.models.positions import resized_spec, split_positions
from vitlet.models.vit import build_vit, interpolate_positions, sine_cosine_positions
from vitlet.records import ImageSpec, VitArchitecture

SMALL = VitArchitecture(32, 48, 8, 48, 2, 3, 64, 5)


def test_sine_cosine_positions_are_timms() -> None:
    """timm's channels are (sin, cos) of (row, column); MAE's and ours (column, row) of (sin, cos)."""
    theirs = build_sincos2d_pos_embed([4, 6], dim=48).reshape(24, 2, 2, 12)
    assert torch.allclose(sine_cosine_positions(4, 6, 48)[0], theirs.transpose(1, 2).flip(1).reshape(24, 48), atol=1e-6)
    with pytest.raises(InvalidValue, match="multiple of 4, not 50"):
        sine_cosine_positions(4, 6, 50)


def test_sine_cosine_positions_stay_fixed_and_are_used() -> None:
    model = build_vit(replace(SMALL, position="sincos"))
    assert not model.position.requires_grad
    assert torch.equal(model.position, sine_cosine_positions(4, 6, 48))


@pytest.mark.parametrize("grid", [(6, 6), (3, 5), (9, 2)])
def test_positions_are_interpolated_as_timm_does(grid: tuple[int, int]) -> None:
    position = torch.randn(1, 16, 8)
    theirs = resample_abs_pos_embed(position, new_size=list(grid), old_size=[4, 4], num_prefix_tokens=0)
    assert torch.allclose(interpolate_positions(position, (4, 4), grid), theirs, atol=1e-6)


@pytest.mark.parametrize(
    ("count", "prefix", "grid", "found"),
    [
        (197, 1, None, (1, (14, 14))),
        (198, 2, (14, 14), (2, (14, 14))),
        (196, 1, (14, 14), (0, (14, 14))),
        (25, 1, (4, 6), (1, (4, 6))),
        (257, 5, None, (1, (16, 16))),
        (9, 5, (3, 3), (0, (3, 3))),
        (9, 5, (2, 2), (5, (2, 2))),
        (577, 1, (14, 14), (1, (24, 24))),
        (4, 0, None, (0, (2, 2))),
    ],
)
def test_positions_are_split(
    count: int, prefix: int, grid: tuple[int, int] | None, found: tuple[int, tuple[int, int]]
) -> None:
    assert split_positions(count, prefix_tokens=prefix, grid=grid, origin="x") == found


@pytest.mark.parametrize("count", [0, 3, 8])
def test_positions_that_fit_nothing(count: int) -> None:
    with pytest.raises(ModelUnreadable, match=f"{count} position embeddings fit no square grid"):
        split_positions(count, prefix_tokens=1, grid=None, origin="x")


@pytest.mark.parametrize(
    ("spec", "resize"),
    [
        (ImageSpec(224, 224, 256), 439),
        (ImageSpec(224, 224, (256, 248)), (439, 425)),
        (ImageSpec(224, 224, 224), 384),
    ],
)
def test_a_resized_spec_keeps_the_share_of_the_crop(spec: ImageSpec, resize: object) -> None:
    larger = resized_spec(spec, 384)
    assert (larger.height, larger.width, larger.resize) == (384, 384, resize)


def test_two_heads_are_averaged_and_can_be_had_apart() -> None:
    model = build_vit(replace(SMALL, distillation_token=True), seed=3)
    images = torch.randn(2, 3, 32, 48)
    with torch.inference_mode():
        by_class, by_teacher = model.both_heads(images)
        assert torch.allclose(model(images), (by_class + by_teacher) / 2)
        assert not torch.allclose(by_class, by_teacher)


def test_drop_path_keeps_the_mean_in_training_and_is_off_in_evaluation() -> None:
    model = build_vit(SMALL, drop_path=0.5)
    plain = build_vit(SMALL)
    images = torch.randn(1, 3, 32, 48)
    with torch.inference_mode():
        assert torch.equal(model(images), plain(images))
        drop = model.blocks[1].drop_path.train()
        dropped = drop(torch.ones(4000, 1, 1))
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert dropped.mean().item() == pytest.approx(1, abs=0.1)


def test_initialisation_is_seeded() -> None:
    state = torch.random.get_rng_state()
    one, same, other = (build_vit(SMALL, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])
    assert torch.equal(state, torch.random.get_rng_state())
    assert one["head.weight"].std().item() == pytest.approx(0.02, rel=0.15)
