"""torchao's int8 linears, compiled."""

from __future__ import annotations

import shutil
import sys
import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

from vitlet.engines import engine
from vitlet.errors import ModelUnreadable, Unsupported
from vitlet.records import Precision

DYNAMIC = Precision("int8-dynamic")


@pytest.fixture
def artifact(exported):
    if shutil.which("g++") is None:
        pytest.skip("no compiler")
    return exported(engine("torchao"), DYNAMIC)


def test_logits(artifact, distilled, images_for, logits_of, relative_error):
    images = images_for(distilled, 3, seed=5)
    found = engine("torchao").open(artifact, threads=1).run(images)
    assert relative_error(found, logits_of(distilled, images)) < 0.06


def test_int8_is_int8(artifact, distilled, images_for):
    """All 14 linears; attention and the patch embedding stay as they are."""
    numbers = sum(parameter.numel() for parameter in distilled.module.parameters())
    assert artifact.size_bytes < 2 * numbers
    execution = engine("torchao").explain(artifact, threads=1, images=images_for(distilled, 1))
    assert sum(operator.count for operator in execution.operators if operator.arithmetic == "int8") == 14
    assert {(f.what, f.done, f.of) for f in execution.fusions} == {
        ("attention", 3, 3),
        ("layer norm", 7, 7),
        ("gelu", 3, 3),
    }
    assert "Attention products run in fp32: 3 fused attentions." in execution.notes


def test_torchao_is_not_needed_to_run(artifact, fresh_process):
    code = """
sys.modules["torchao"] = None
from vitlet.engines import engine
from vitlet.records import Artifact, from_json
import numpy as np
artifact = from_json(arguments[0], Artifact)
logits = engine("torchao").open(artifact, threads=1).run(np.zeros((2, 3, 32, 32), np.float32))
print(json.dumps(list(logits.shape)))
"""
    assert fresh_process(code, artifact).answer == [2, 10]


def test_models_with_few_linears_or_none():
    from vitlet.engines.torchao.linears import _quantized

    convolution = nn.Conv2d(3, 8, 16, 16)
    # torchao leaves this kind of linear as it is.
    left_out = nn.modules.linear.NonDynamicallyQuantizableLinear(8, 8)
    mixed = nn.Sequential(convolution, nn.Flatten(), left_out, nn.Linear(8, 4)).eval()
    share = 8 * 4 / sum(parameter.numel() for parameter in mixed.parameters())
    images = torch.zeros(1, 3, 16, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module, note = _quantized(mixed, images)
        assert module(images).shape == (1, 4)
        assert note == f"only {share:.0%} of the weights are int8: the others are in layers that stay as they are"
        with pytest.raises(Unsupported, match="no Linear layer that could be quantized; use fp32"):
            _quantized(nn.Sequential(convolution, nn.Flatten(), left_out).eval(), images)


def test_package_of_another_engine(artifact):
    with pytest.raises(ModelUnreadable, match="engine 'torchao' instead of 'inductor'"):
        engine("inductor").open(replace(artifact, engine="inductor"), threads=1)


def test_without_torchao(distilled, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao", None)
    found = engine("torchao").available()
    assert not found.ok
    assert found.reason == "torchao is not installed; install it with: pip install 'vitlet[torchao]'"
    with pytest.raises(Unsupported, match="is not installed"):
        engine("torchao").export(distilled, DYNAMIC, tmp_path / "model")
