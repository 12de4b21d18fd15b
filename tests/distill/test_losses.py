"""The losses against their formulas, computed by hand in float64."""

import numpy as np
import pytest
import torch

from vitlet.distill.losses import hard_distillation_loss, label_loss


def cross_entropy(logits: np.ndarray, labels: np.ndarray, smoothing: float = 0.0) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_softmax = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    classes = logits.shape[1]
    target = np.full(logits.shape, smoothing / classes)
    target[np.arange(len(labels)), labels] += 1 - smoothing
    return float(-(target * log_softmax).sum(axis=1).mean())


@pytest.fixture
def batch():
    random = np.random.default_rng(3)
    return random.normal(0, 3, (2, 8, 5)), random.integers(0, 5, (2, 8))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_hard_distillation_is_equation_3(batch, smoothing):
    (by_class, by_teacher), (labels, decisions) = batch
    expected = cross_entropy(by_class, labels, smoothing) / 2 + cross_entropy(by_teacher, decisions) / 2
    found = hard_distillation_loss(*map(torch.tensor, (by_class, by_teacher, labels, decisions)), smoothing=smoothing)
    assert found.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_label_loss_is_cross_entropy(batch, smoothing):
    logits, labels = batch[0][0], batch[1][0]
    found = label_loss(torch.tensor(logits), torch.tensor(labels), smoothing=smoothing)
    assert found.item() == pytest.approx(cross_entropy(logits, labels, smoothing), abs=1e-6)


def test_each_head_learns_from_its_own_target_only(batch):
    (by_class, by_teacher), (labels, decisions) = (map(torch.tensor, pair) for pair in batch)
    by_class.requires_grad_()
    by_teacher.requires_grad_()
    hard_distillation_loss(by_class, by_teacher, labels, decisions).backward()
    softmax = torch.softmax(by_class.detach(), 1)
    softmax[torch.arange(8), labels] -= 1
    torch.testing.assert_close(by_class.grad, softmax / 16, rtol=0, atol=1e-6)
    softmax = torch.softmax(by_teacher.detach(), 1)
    softmax[torch.arange(8), decisions] -= 1
    torch.testing.assert_close(by_teacher.grad, softmax / 16, rtol=0, atol=1e-6)


def test_loss_is_float32_for_bfloat16_logits(batch):
    (by_class, by_teacher), (labels, decisions) = (map(torch.tensor, pair) for pair in batch)
    found = hard_distillation_loss(by_class.bfloat16(), by_teacher.bfloat16(), labels, decisions)
    assert found.dtype == torch.float32
