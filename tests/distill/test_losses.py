"""Each loss against its paper's formula, written out in float64, and against timm's own distillation tasks."""

import numpy as np
import pytest
import torch
from timm.task import LogitDistillationTask, TokenDistillationTask
from torch import nn

from vitlet.distill.losses import DISTILLATION_LOSSES
from vitlet.distill.losses.hard import hard_loss
from vitlet.distill.losses.label import label_loss
from vitlet.distill.losses.soft import soft_loss

BATCH, CLASSES = 8, 5
TEMPERATURES = (0.5, 1.0, 3.0, 10.0)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def cross_entropy(logits: np.ndarray, target: np.ndarray) -> float:
    """``- sum_c p_c log psi_c(z)``, the mean over the batch."""
    return float(-(target * log_softmax(logits)).sum(axis=1).mean())


def one_hot(labels: np.ndarray, smoothing: float = 0.0) -> np.ndarray:
    """1512.00567, section 7: ``(1 - e) delta(k, y) + e / K``."""
    return (1 - smoothing) * np.eye(CLASSES)[labels] + smoothing / CLASSES


def divergence(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    """``tau^2 sum_c p_c (log p_c - log q_c)`` with the teacher's p and the student's q, the mean over the batch."""
    log_q, log_p = log_softmax(student / temperature), log_softmax(teacher / temperature)
    return float(temperature**2 * (np.exp(log_p) * (log_p - log_q)).sum(axis=1).mean())


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def logits(request) -> tuple[torch.Tensor, torch.Tensor]:
    """Student's and teacher's."""
    drawn = torch.randn(2, BATCH, CLASSES, generator=torch.Generator().manual_seed(3)) * 3
    student, teacher = drawn.to(request.param)
    return student, teacher


@pytest.fixture
def labels() -> np.ndarray:
    return np.random.default_rng(5).integers(0, CLASSES, BATCH)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_label_loss_is_cross_entropy_with_a_smoothed_label(logits, labels, smoothing):
    found = label_loss(logits[0], torch.from_numpy(labels), smoothing=smoothing)
    assert found.dtype == torch.float32
    expected = cross_entropy(logits[0].double().numpy(), one_hot(labels, smoothing))
    assert found.item() == pytest.approx(expected, rel=0, abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_label_loss_takes_probabilities(logits, smoothing):
    target = np.random.default_rng(6).dirichlet(np.ones(CLASSES), BATCH)
    found = label_loss(logits[0], torch.from_numpy(target).float(), smoothing=smoothing)
    expected = cross_entropy(logits[0].double().numpy(), (1 - smoothing) * target + smoothing / CLASSES)
    assert found.item() == pytest.approx(expected, rel=0, abs=1e-6)


def test_hard_loss_is_cross_entropy_with_the_teachers_decision(logits):
    student, teacher = logits
    expected = cross_entropy(student.double().numpy(), one_hot(teacher.double().numpy().argmax(axis=1)))
    found = hard_loss(student, teacher)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected, rel=0, abs=1e-6)
    assert hard_loss(student, teacher, 7.0) == found  # a decision has no temperature
    assert hard_loss(student, teacher * 5 + 1) == found  # and nothing else of the teacher counts


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_soft_loss_is_the_divergence_of_softened_probabilities(logits, temperature):
    student, teacher = logits
    found = soft_loss(student, teacher, temperature)
    assert found.dtype == torch.float32
    expected = divergence(student.double().numpy(), teacher.double().numpy(), temperature)
    assert found.item() == pytest.approx(expected, rel=0, abs=1e-6 * max(1, temperature**2))


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_soft_loss_of_equal_probabilities_is_zero(logits, temperature):
    student, _ = logits
    assert soft_loss(student, student, temperature).item() == 0
    # Logits that differ by a constant are the same probabilities.
    assert soft_loss(student.float() + 2, student.float(), temperature).item() == pytest.approx(0, abs=1e-5)


def test_soft_loss_is_not_symmetric(logits):
    """Which of the two is the teacher matters: the divergence is from the teacher's probabilities."""
    student, teacher = logits
    assert soft_loss(student, teacher, 1.0).item() != pytest.approx(soft_loss(teacher, student, 1.0).item(), rel=0.01)


def test_gradient_of_soft_loss_at_high_temperature_is_that_of_matching_logits():
    """1503.02531, section 2.1, eq. 4: ``(z_i - v_i) / N`` for logits of mean zero (here the mean over the batch)."""
    student, teacher = torch.randn(2, BATCH, CLASSES, generator=torch.Generator().manual_seed(4))
    centred = [z - z.mean(dim=1, keepdim=True) for z in (student, teacher)]
    limit = (centred[0] - centred[1]) / (CLASSES * BATCH)
    apart = []
    for temperature in (1.0, 30.0, 300.0):
        logits = student.clone().requires_grad_()
        soft_loss(logits, teacher, temperature).backward()
        apart.append(float((logits.grad - limit).norm() / limit.norm()))
    assert apart[0] > 0.2  # so it is the temperature that does it
    assert apart[1] < 0.05
    assert apart[2] < 0.005


@pytest.mark.parametrize("name", sorted(DISTILLATION_LOSSES))
def test_a_distillation_loss_teaches_the_student_alone(name, logits):
    student, teacher = (value.clone().requires_grad_() for value in logits)
    DISTILLATION_LOSSES[name](student, teacher, 2.0).backward()
    assert student.grad is not None
    assert bool(student.grad.isfinite().all())
    assert bool((student.grad != 0).any())


class Fixed(nn.Module):
    """A model for timm's tasks whose logits are given."""

    def __init__(self, output):
        super().__init__()
        self.output, self.num_classes, self.in_chans = output, CLASSES, 3
        self.pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3}

    def set_distilled_training(self, enable):
        assert enable

    def forward(self, images):
        return self.output


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_soft_loss_is_timms(labels, temperature):
    student, teacher = torch.randn(2, BATCH, CLASSES, generator=torch.Generator().manual_seed(3)) * 3
    task = LogitDistillationTask(
        Fixed(student), Fixed(teacher), criterion=nn.CrossEntropyLoss(), temperature=temperature, verbose=False
    )
    theirs = task(torch.zeros(BATCH, 3, 2, 2), torch.from_numpy(labels))["kd_loss"]
    torch.testing.assert_close(soft_loss(student, teacher, temperature), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["soft", "hard"])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_losses_of_both_heads_are_timms(labels, kind, temperature):
    by_class, by_teacher, teacher = torch.randn(3, BATCH, CLASSES, generator=torch.Generator().manual_seed(7)) * 3
    task = TokenDistillationTask(
        Fixed((by_class, by_teacher)),
        Fixed(teacher),
        criterion=nn.CrossEntropyLoss(label_smoothing=0.1),
        distill_type=kind,
        temperature=temperature,
        verbose=False,
    )
    theirs = task(torch.zeros(BATCH, 3, 2, 2), torch.from_numpy(labels))
    mine = DISTILLATION_LOSSES[kind](by_teacher, teacher, temperature)
    torch.testing.assert_close(mine, theirs["distill_loss"], rtol=0, atol=1e-6)
    mine = label_loss(by_class, torch.from_numpy(labels), smoothing=0.1)
    torch.testing.assert_close(mine, theirs["task_loss"], rtol=0, atol=1e-6)
