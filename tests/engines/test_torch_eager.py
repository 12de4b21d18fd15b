"""bf16 and GPUs in plain PyTorch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vitlet.engines import engine
from vitlet.errors import ModelUnreadable, Unsupported
from vitlet.records import Precision

FP32, BF16 = Precision("fp32"), Precision("bf16")


def test_bf16_is_half_the_size_and_close(exported, distilled, images_for, logits_of, relative_error):
    artifact = exported(engine("torch"), BF16)
    assert 0.49 < artifact.size_bytes / exported(engine("torch"), FP32).size_bytes < 0.52
    images = images_for(distilled, 3)
    error = relative_error(engine("torch").open(artifact, threads=1).run(images), logits_of(distilled, images))
    assert 1e-3 < error < 0.02


def test_the_other_precisions_file_is_refused(exported):
    single, half = exported(engine("torch"), FP32), exported(engine("torch"), BF16)
    with pytest.raises(ModelUnreadable, match="holds weights of type F32, not those of bf16; export it again"):
        engine("torch").open(replace(single, precision=BF16), threads=1)
    with pytest.raises(ModelUnreadable, match="holds weights of type BF16, not those of fp32; export it again"):
        engine("torch").open(replace(half, precision=FP32), threads=1)


@pytest.mark.parametrize("name", ["torch", "inductor"])
def test_processor_without_bf16(name, exported, distilled, tmp_path, monkeypatch):
    artifact = exported(engine("torch"), BF16)
    capabilities = {key: value for key, value in torch.cpu.get_capabilities().items() if "bf16" not in key}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    with pytest.raises(Unsupported, match="no bf16 instructions, so bf16 would be slower than fp32; use fp32"):
        engine(name).export(distilled, BF16, tmp_path / "model")
    with pytest.raises(Unsupported, match="no bf16 instructions"):
        engine("torch").open(artifact, threads=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["inductor", "torchao"])
def test_processor_without_int8_products(name, distilled, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    with pytest.raises(Unsupported, match="need an x86 processor with VNNI"):
        engine(name).export(distilled, Precision("int8-dynamic"), tmp_path / "model")


@pytest.mark.parametrize(
    ("name", "precision"), [("torch", BF16), ("inductor", FP32), ("torchao", Precision("int8-dynamic"))]
)
def test_pytorch_that_does_not_know_the_processor(name, precision, distilled, tmp_path, monkeypatch):
    """As 2.10 and older: no word of what the processor has not."""
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    with pytest.raises(Unsupported, match="does not tell which instructions this processor has; upgrade PyTorch to"):
        engine(name).export(distilled, precision, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("precision", [FP32, BF16])
def test_gpu(precision, exported, distilled, images_for, logits_of, relative_error, tmp_path):
    if not torch.cuda.is_available():
        with pytest.raises(Unsupported, match="finds no CUDA device here; install a CUDA build of PyTorch"):
            engine("torch").export(distilled, precision, tmp_path / "model", device="cuda")
        with pytest.raises(Unsupported, match="finds no CUDA device here"):
            engine("torch").open(replace(exported(engine("torch"), FP32), device="cuda"), threads=1)
        return
    artifact = engine("torch").export(distilled, precision, tmp_path / "model", device="cuda")
    assert artifact.device == "cuda"
    images = images_for(distilled, 3)
    session = engine("torch").open(artifact, threads=1)
    assert relative_error(session.run(images), logits_of(distilled, images)) < 2e-2
