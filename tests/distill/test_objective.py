"""The whole loss of a step is put together as DeiT's equations 2 and 3 say, for every objective."""

from itertools import product

import numpy as np
import pytest
import torch
from timm.data.mixup import mixup_target
from timm.task import TokenDistillationTask
from torch import nn

from vitlet.distill.objective import total_loss
from vitlet.distill.recipe import Objective
from vitlet.errors import InvalidValue

BATCH, CLASSES = 6, 4
DRAWN = np.random.default_rng(8).normal(0, 2, (3, BATCH, CLASSES)).astype(np.float32)
LABELS = np.random.default_rng(9).integers(0, CLASSES, BATCH)
HEADS, TEACHER = (torch.from_numpy(DRAWN[0]), torch.from_numpy(DRAWN[1])), torch.from_numpy(DRAWN[2])
TARGETS = torch.from_numpy(LABELS)


def by_hand(objective: Objective, targets: np.ndarray, heads: int = 2) -> float:
    """In float64, from the paper."""
    z = DRAWN.astype(np.float64)

    def psi(logits):
        exponentials = np.exp(logits)
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    def cross_entropy(logits, target):
        return -(target * np.log(psi(logits))).sum(axis=1).mean()

    def distance(logits):
        if objective.kind == "hard":
            return cross_entropy(logits, np.eye(CLASSES)[z[2].argmax(axis=1)])
        tau = objective.temperature
        p, q = psi(z[2] / tau), psi(logits / tau)
        return tau**2 * (p * np.log(p / q)).sum(axis=1).mean()

    if objective.kind == "none":
        return float(np.mean([cross_entropy(z[n], targets) for n in range(heads)]))
    taught = {"class": [z[0]], "token": [z[1]], "both": [z[0], z[1]]}[objective.through]
    by_teacher = np.mean([distance(logits) for logits in taught])
    return float((1 - objective.weight) * cross_entropy(z[0], targets) + objective.weight * by_teacher)


@pytest.mark.parametrize(
    ("kind", "through", "weight"), list(product(["none", "soft", "hard"], ["class", "token", "both"], [0.1, 0.5, 1.0]))
)
def test_every_objective_with_plain_labels(kind, through, weight):
    objective = Objective(kind, through, weight, temperature=3.0, label_smoothing=0.1)
    smoothed = 0.9 * np.eye(CLASSES)[LABELS] + 0.1 / CLASSES
    found = total_loss(objective, HEADS, TARGETS, None if kind == "none" else TEACHER)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(by_hand(objective, smoothed), rel=0, abs=1e-6)


@pytest.mark.parametrize(("kind", "weight"), [("soft", 0.1), ("hard", 0.5)])
def test_the_papers_weights(kind, weight):
    found = total_loss(Objective(kind), HEADS, TARGETS, TEACHER)
    assert found == total_loss(Objective(kind, weight=weight), HEADS, TARGETS, TEACHER)


@pytest.mark.parametrize(("kind", "through"), list(product(["none", "soft", "hard"], ["class", "token", "both"])))
def test_mixed_targets_are_smoothed_by_the_mixing_alone(kind, through):
    objective = Objective(kind, through, 0.3, temperature=2.0, label_smoothing=0.2)
    mixed = mixup_target(TARGETS, CLASSES, lam=0.7, smoothing=0.2)  # as timm's Mixup makes them
    smoothed = 0.8 * np.eye(CLASSES)[LABELS] + 0.2 / CLASSES
    expected = by_hand(objective, 0.7 * smoothed + 0.3 * smoothed[::-1])
    found = total_loss(objective, HEADS, mixed, None if kind == "none" else TEACHER)
    assert found.item() == pytest.approx(expected, rel=0, abs=1e-6)


@pytest.mark.parametrize("kind", ["none", "soft", "hard"])
def test_one_head(kind):
    objective = Objective(kind, "class", 0.4, label_smoothing=0.0)
    found = total_loss(objective, HEADS[:1], TARGETS, None if kind == "none" else TEACHER)
    assert found.item() == pytest.approx(by_hand(objective, np.eye(CLASSES)[LABELS], heads=1), rel=0, abs=1e-6)


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_deits_objective_is_timms(kind):
    class Fixed(nn.Module):
        def __init__(self, output):
            super().__init__()
            self.output, self.num_classes, self.in_chans = output, CLASSES, 3
            self.pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3}

        def set_distilled_training(self, enable):
            pass

        def forward(self, images):
            return self.output

    task = TokenDistillationTask(
        Fixed(HEADS),
        Fixed(TEACHER),
        criterion=nn.CrossEntropyLoss(label_smoothing=0.1),
        distill_type=kind,
        task_loss_weight=0.7,  # the teacher has the rest
        temperature=3.0,
        verbose=False,
    )
    theirs = task(torch.zeros(BATCH, 3, 2, 2), TARGETS)["loss"]
    mine = total_loss(Objective(kind, "token", 0.3, 3.0, label_smoothing=0.1), HEADS, TARGETS, TEACHER)
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "through", "taught"),
    [
        ("none", "token", (True, True)),
        ("hard", "class", (True, False)),
        ("hard", "token", (False, True)),
        ("soft", "both", (True, True)),
    ],
)
def test_each_head_learns_from_whom_the_objective_says(kind, through, taught):
    """With all the weight on the teacher, or without one, these heads and no other get a gradient."""
    heads = tuple(logits.clone().requires_grad_() for logits in HEADS)
    objective = Objective(kind, through, weight=1.0)
    total_loss(objective, heads, TARGETS, None if kind == "none" else TEACHER).backward()
    assert tuple(logits.grad is not None and bool(logits.grad.any()) for logits in heads) == taught


def test_bfloat16_logits_are_computed_in_float32():
    heads, teacher = tuple(logits.bfloat16() for logits in HEADS), TEACHER.bfloat16()
    objective = Objective("soft", "both")
    found = total_loss(objective, heads, TARGETS, teacher)
    assert found.dtype == torch.float32
    expected = total_loss(objective, tuple(logits.float() for logits in heads), TARGETS, teacher.float())
    assert found.item() == pytest.approx(expected.item(), rel=0, abs=1e-6)


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_a_teacher_that_is_missing(kind):
    with pytest.raises(InvalidValue, match=f"objective '{kind}' needs a teacher's logits"):
        total_loss(Objective(kind), HEADS, TARGETS, None)


@pytest.mark.parametrize("through", ["token", "both"])
def test_a_distillation_token_that_is_missing(through):
    with pytest.raises(InvalidValue, match=f"'hard' through '{through}' needs a distillation token"):
        total_loss(Objective("hard", through), HEADS[:1], TARGETS, TEACHER)


@pytest.mark.parametrize("through", ["class", "token"])
def test_a_head_that_the_student_will_not_have_cannot_be_chosen(through):
    assert Objective("hard", "token", head="distillation").head == "distillation"
    kind = "none" if through == "token" else "hard"
    with pytest.raises(InvalidValue, match=r"objective\.head is 'distillation', but without a distillation token"):
        Objective(kind, through, head="distillation")
