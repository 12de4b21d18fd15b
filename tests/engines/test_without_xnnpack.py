"""PyTorch 2.13 and later have no XNNPACK: the mobile engines say so and how to get on."""

from __future__ import annotations

import re

import pytest
import torch

from vitlet.engines import engine
from vitlet.records import Precision

#: In a process whose torch reports itself as such builds do; the rest of torch is the real one.
ABSENT = """
from pathlib import Path
import torch, torch.backends.xnnpack
torch._C._is_xnnpack_enabled = lambda: False
"""
TRY_ALL = """
from vitlet.engines import engine
from vitlet.errors import Unsupported
from vitlet.models.checkpoint import load_checkpoint
from vitlet.records import Artifact, Precision, from_json
classifier = load_checkpoint(arguments[0])
folder = Path(arguments[1])
said = {}
for name in ("mobile", "lite"):
    found = engine(name)
    said[name] = [found.available().reason]
    found.warm_imports()
    for precision in found.precisions():
        try:
            found.export(classifier, precision, folder / f"{name}-{precision}")
        except Unsupported as unsupported:
            said[name].append(unsupported.reason)
    try:
        found.open(Artifact(name, Precision("fp32"), Path(arguments[0]), 1, 32, 32, 10), threads=1)
    except Unsupported as unsupported:
        said[name].append(unsupported.reason)
script = engine("torchscript")
made = [script.export(classifier, p, folder / f"{p}").path.name for p in script.precisions()[:2]]
print(json.dumps([said, made]))
"""


def test_mobile_engines_are_unsupported(exported, fresh_process, tmp_path):
    checkpoint = exported(engine("torch"), Precision("fp32")).path
    said, made = fresh_process(ABSENT + TRY_ALL, checkpoint, tmp_path).answer
    reason = (
        f"PyTorch {re.escape(torch.__version__)} has no XNNPACK, which optimize_for_mobile needs: PyTorch 2.13 dropped "
        "it; pin torch 2.12.1, or use the executorch engine, the successor of PyTorch Mobile, or the torchscript engine"
    )
    for sentences in said.values():
        assert len(sentences) == 4
        assert all(re.fullmatch(reason, sentence) for sentence in sentences)
    assert made == ["fp32.pt", "int8-dynamic-qnnpack.pt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == made


@pytest.mark.parametrize("missing", ["torch.jit.mobile", "torch.backends.xnnpack", "torch.utils.mobile_optimizer"])
def test_modules_that_are_gone(missing, fresh_process):
    """As announced: the lite interpreter and the optimizer leave PyTorch some day."""
    code = f"""
import torch
sys.modules[{missing!r}] = None
from vitlet.engines import engine
print(json.dumps([engine(name).available().reason for name in ("mobile", "lite")]))
"""
    mobile, lite = fresh_process(code).answer
    assert "pin torch 2.12.1" in lite
    if missing == "torch.jit.mobile":
        assert "no lite interpreter" in lite
    else:
        assert "has no XNNPACK" in mobile
