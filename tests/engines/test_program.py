"""From modules to TorchScript: what cannot be scripted is traced, and a wrong trace is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vitlet.engines import engine
from vitlet.engines.torchscript.program import evaluation_module, one_line, to_torchscript
from vitlet.errors import Unsupported
from vitlet.models.vit import build_vit
from vitlet.records import Precision


class Unscriptable(nn.Module):
    """Images -> [batch, 10], in Python that torch.jit.script refuses; ``how`` says how it traces."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.head = nn.Linear(3, 10)
        self.how = how

    def forward(self, images: Tensor) -> Tensor:
        settings = {"dim": (2, 3)}
        means = images.mean(**settings)
        if self.how == "batch size kept":
            means = means.reshape(int(images.shape[0]), 3)[: int(images.shape[0])]
            return self.head(means + torch.full((int(images.shape[0]), 3), 1.0))
        if self.how == "batch size counted":
            return self.head(means) * len(images.numpy())
        if self.how == "branch" and images.shape[0] == 2:
            return -self.head(means)
        if self.how == "numpy":
            raise TypeError("this model has its own opinion")
        return self.head(means)


@pytest.fixture
def unscriptable(distilled):
    def make(how: str):
        return replace(distilled, module=Unscriptable(how).eval(), reference="test:odd")

    return make


def test_right_trace_is_taken(unscriptable, images_for, logits_of, tmp_path):
    odd = unscriptable("well")
    artifact = engine("torchscript").export(odd, Precision("fp32"), tmp_path / "odd")
    assert artifact.note == "traced: the model cannot be scripted"
    for batch in (1, 5):
        images = images_for(odd, batch)
        found = engine("torchscript").open(artifact, threads=1).run(images)
        np.testing.assert_allclose(found, logits_of(odd, images), atol=1e-6)


@pytest.mark.parametrize("name", ["torchscript", "mobile", "lite"])
@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ("branch", "test:odd cannot be scripted, and its trace answers wrongly at batch size"),
        ("batch size counted", "test:odd cannot be scripted, and its trace answers wrongly at batch size 1"),
        ("batch size kept", r"test:odd can neither be scripted nor traced \(.*; use the torch engine for it"),
        ("numpy", r"can neither be scripted nor traced \(this model has its own opinion\); use the torch engine"),
    ],
)
def test_wrong_trace_is_unsupported(how, complaint, name, unscriptable, tmp_path):
    if not engine(name).available().ok:
        pytest.skip(engine(name).available().reason)
    with pytest.raises(Unsupported, match=complaint) as caught:
        engine(name).export(unscriptable(how), Precision("fp32"), tmp_path / "odd")
    assert "\n" not in caught.value.reason
    assert list(tmp_path.iterdir()) == []


def test_module_in_training_mode_is_exported_as_in_eval_mode(distilled, images_for, logits_of, tmp_path):
    module = build_vit(distilled.architecture, drop_path=0.5)
    images = images_for(distilled, 2)
    wanted = logits_of(replace(distilled, module=module), images)
    training = replace(distilled, module=module.train())
    for name in ("torchscript", "mobile"):
        if engine(name).available().ok:
            artifact = engine(name).export(training, Precision("fp32"), tmp_path / name)
            found = engine(name).open(artifact, threads=1).run(images)
            np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert module.training
    assert evaluation_module(distilled) is distilled.module


def test_canonical_model_is_scripted_not_traced(distilled):
    _, note = to_torchscript(distilled.module, distilled)
    assert note == ""


def test_one_line():
    assert one_line(RuntimeError("\n  first: \nsecond")) == "first"
    assert one_line(RuntimeError("")) == "RuntimeError"
    failed = "The following operation failed in the TorchScript interpreter.\nTraceback:\n  x\nRuntimeError: no memory"
    assert one_line(RuntimeError(failed)) == "no memory"
    assert len(one_line(RuntimeError("x" * 900))) == 200
