"""The learning rate rises and falls as the recipe says, and weights decay that should."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from vitlet.distill.recipe import Training
from vitlet.distill.recipe_file import load_recipe
from vitlet.distill.schedule import make_optimizer, make_schedule
from vitlet.errors import InvalidValue
from vitlet.models.build import build
from vitlet.models.vit import VisionTransformer
from vitlet.records import TimmArchitecture, VitArchitecture

STEPS = 5
DISTILLED = VitArchitecture(
    8, 8, 2, width=16, depth=2, heads=2, mlp_width=32, classes=10, distillation_token=True, layer_scale=True
)


@pytest.fixture
def vit() -> VisionTransformer:
    return build(DISTILLED)


def rates(training: Training, steps: int = STEPS) -> list[float]:
    """The learning rate of each step of the run."""
    optimizer = make_optimizer(nn.Linear(2, 2), training)
    schedule, found = make_schedule(optimizer, training, steps), []
    for step in range(training.epochs * steps):
        schedule.step_update(step)
        found += {group["lr"] for group in optimizer.param_groups}
    assert len(found) == training.epochs * steps  # all groups have the same
    return found


def test_the_learning_rate_rises_by_a_line_and_falls_by_a_cosine():
    found = rates(
        Training(
            epochs=10,
            batch=1024,  # so 0.2 is 0.4
            learning_rate=0.2,
            warmup_epochs=2,
            warmup_learning_rate=0.1,
            final_learning_rate=0.05,
        )
    )
    warming = [0.1 + 0.3 * step / 10 for step in range(10)]
    falling = [0.05 + 0.35 * (1 + math.cos(math.pi * step / 40)) / 2 for step in range(40)]
    assert found == pytest.approx(warming + falling)
    assert found[10] == pytest.approx(0.4)
    assert found[30] == pytest.approx((0.4 + 0.05) / 2)
    assert found[-1] == pytest.approx(0.05, abs=1e-3)


def test_deits_learning_rate_at_given_epochs():
    training = load_recipe("deit").training
    found = rates(training, steps=10)
    assert found[0] == pytest.approx(1e-6)
    assert found[5 * 10] == pytest.approx(1e-3)  # 0.0005 x 1024 / 512
    assert found[-1] == pytest.approx(1e-5, rel=0.01)
    assert max(found) == found[50]


def test_a_constant_learning_rate():
    found = rates(load_recipe("deit-384").training)
    assert found[5 * STEPS :] == pytest.approx([5e-6] * 25 * STEPS)


def test_part_of_an_epoch_as_warm_up():
    found = rates(Training(epochs=2, warmup_epochs=0.6, learning_rate=1.0, batch=512, warmup_learning_rate=0))
    assert found[:4] == pytest.approx([0, 1 / 3, 2 / 3, 1])


@pytest.mark.parametrize(
    ("training", "steps"),
    [
        (Training(epochs=1, warmup_epochs=1), 1),
        (Training(epochs=1, warmup_epochs=0), 1),
        (Training(epochs=3, warmup_epochs=3), 4),
        (Training(epochs=2, learning_rate=1e-6, warmup_epochs=1), 4),  # the end and the start above the peak
    ],
)
def test_the_shortest_runs(training, steps):
    found = rates(training, steps)
    assert all(0 < rate <= training.peak_learning_rate for rate in found)


def test_without_warm_up_the_first_step_has_the_highest():
    found = rates(Training(epochs=4, warmup_epochs=0))
    assert found[0] == 1e-3
    assert all(before > after for before, after in pairwise(found))


def test_the_schedule_needs_no_state_to_go_on():
    """A run that is resumed asks for a step without those before it."""
    training = Training(epochs=4, warmup_epochs=1)
    whole = rates(training)
    for step in (0, 3, 7, 19):
        optimizer = make_optimizer(nn.Linear(2, 2), training)
        make_schedule(optimizer, training, STEPS).step_update(step)
        assert optimizer.param_groups[0]["lr"] == whole[step]


def names(module: nn.Module, optimizer: torch.optim.Optimizer, wanted) -> set[str]:
    """The parameters in the groups that are wanted."""
    by_id = {id(parameter): name for name, parameter in module.named_parameters()}
    return {by_id[id(p)] for group in optimizer.param_groups if wanted(group) for p in group["params"]}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lamb", "muon"])
def test_decay_spares_biases_norms_scales_tokens_and_positions(vit, optimizer):
    made = make_optimizer(vit, Training(optimizer=optimizer, weight_decay=0.3))
    decaying = names(vit, made, lambda group: group["weight_decay"] > 0)
    everything = {name for name, _ in vit.named_parameters()}
    spared = {name for name in everything if name.endswith("bias") or "norm" in name or "scale" in name}
    assert decaying == everything - spared - {"prefix", "position"}
    assert "head.weight" in decaying
    assert names(vit, made, lambda group: True) == everything
    assert {group["weight_decay"] for group in made.param_groups} == {0.0, 0.3}


def test_decay_is_done_to_those_alone(vit):
    before = {name: value.detach().clone() for name, value in vit.named_parameters()}
    made = make_optimizer(vit, Training(weight_decay=0.5, learning_rate=0.1, batch=512))
    for parameter in vit.parameters():
        parameter.grad = torch.zeros_like(parameter)
    made.step()
    for name, value in vit.named_parameters():
        if value.dim() > 1 and name not in ("prefix", "position"):
            torch.testing.assert_close(value.detach(), before[name] * (1 - 0.1 * 0.5))
        else:
            assert torch.equal(value.detach(), before[name])


def test_fixed_positions_are_not_trained():
    sincos = build(VitArchitecture(8, 8, 2, width=16, depth=1, heads=2, mlp_width=16, classes=3, position="sincos"))
    made = make_optimizer(sincos, Training())
    assert "position" not in names(sincos, made, lambda group: True)


def test_a_convolutional_teacher():
    module = build(TimmArchitecture("vitlet_small_resnet", 3, 8, 8))
    made = make_optimizer(module, Training(weight_decay=0.3))
    decaying = names(module, made, lambda group: group["weight_decay"] > 0)
    assert decaying == {name for name, value in module.named_parameters() if value.dim() > 1}


def test_the_peak_is_what_the_optimizer_gets(vit):
    made = make_optimizer(vit, Training(learning_rate=0.01, batch=128))
    assert [group["lr"] for group in made.param_groups] == pytest.approx([0.0025] * 2)


@pytest.mark.parametrize("name", ["adamw", "AdamW", "sgd", "lion", "lamb", "muon", "nadamuon"])
def test_a_step_changes_every_parameter(vit, name):
    training = Training(optimizer=name, learning_rate=0.01, batch=512, weight_decay=0.0)
    before = {key: value.detach().clone() for key, value in vit.named_parameters()}
    made = make_optimizer(vit, training)
    schedule = make_schedule(made, training, STEPS)
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    first = None
    for step in range(5 * STEPS, 5 * STEPS + 6):
        schedule.step_update(step)
        by_class, by_teacher = vit.both_heads(images)
        loss = nn.functional.cross_entropy(by_class + by_teacher, torch.tensor([0, 1, 2, 0]))
        made.zero_grad()
        loss.backward()
        made.step()
        first = first or loss.item()
    assert loss.item() < first
    for key, value in vit.named_parameters():
        assert not torch.equal(value.detach(), before[key]), key


def by_muon(module: nn.Module, name: str) -> set[str]:
    """The parameters that are not left to the AdamW that comes with it."""
    made = make_optimizer(module, Training(optimizer=name, weight_decay=0.1))
    for parameter in module.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    made.step()
    return {key for key, value in module.named_parameters() if made.state[value]["use_muon"]}


@pytest.mark.parametrize("name", ["muon", "nadamuon"])
def test_muon_is_for_matrices(vit, name):
    """And for the patch embedding, whose kernels make a matrix."""
    matrices = {key for key, value in vit.named_parameters() if value.dim() == 2}
    assert by_muon(vit, name) == matrices | {"embed.weight"}


@pytest.mark.parametrize("name", ["adam w", "", "adamv", "timm"])
def test_an_optimizer_that_timm_does_not_have(vit, name):
    with pytest.raises(InvalidValue, match=rf"timm has no optimizer '{name}'; adamw is DeiT's"):
        make_optimizer(vit, Training(optimizer=name))


def test_an_optimizer_that_cannot_be_used_here(vit):
    """NVIDIA's apex is not installed for the tests."""
    with pytest.raises(InvalidValue, match="optimizer 'fusedadam' cannot be used here"):
        make_optimizer(vit, Training(optimizer="fusedadam"))
