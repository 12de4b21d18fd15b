"""What the profiler tells of every engine that runs on PyTorch; compiled ones have their own tests."""

from __future__ import annotations

import os
import threading

import pytest

from vitlet.engines import engine
from vitlet.engines.quiet import without_stderr
from vitlet.engines.torch.operators import arithmetic_of, instance_name, plain_name
from vitlet.records import Precision

FP32, BF16 = Precision("fp32"), Precision("bf16")
X86, QNNPACK = Precision("int8-dynamic", "x86"), Precision("int8-dynamic", "qnnpack")
LINEARS = 14


@pytest.mark.parametrize(
    ("name", "precision", "product", "arithmetic"),
    [
        ("torch", FP32, "aten::addmm", "fp32"),
        ("torch", BF16, "aten::addmm", "bf16"),
        ("torchscript", FP32, "aten::addmm", "fp32"),
        ("torchscript", X86, "quantized::linear_dynamic", "int8"),
        ("mobile", FP32, "prepacked::linear_clamp_run", "fp32"),
        ("mobile", QNNPACK, "quantized::linear_dynamic", "int8"),
        ("lite", QNNPACK, "quantized::linear_dynamic", "int8"),
    ],
)
def test_execution(name, precision, product, arithmetic, exported, distilled, images_for, capfd):
    artifact = exported(engine(name), precision)
    capfd.readouterr()
    execution = engine(name).explain(artifact, threads=1, images=images_for(distilled, 1))
    assert capfd.readouterr() == ("", "")
    found = {operator.name: operator for operator in execution.operators}
    assert (found[product].count, found[product].arithmetic) == (LINEARS, arithmetic)
    attention = found["aten::_scaled_dot_product_flash_attention_for_cpu"]
    assert (attention.count, attention.arithmetic) == (3, "bf16" if precision == BF16 else "fp32")
    assert found["aten::native_layer_norm"].count == 7
    assert {(f.what, f.done, f.of) for f in execution.fusions} == {
        ("attention", 3, 3),
        ("layer norm", 7, 7),
        ("gelu", 3, 3),
    }
    # What only calls others, or only looks at memory, is no operator of its own.
    assert not {"aten::linear", "aten::layer_norm", "aten::conv2d", "forward", "aten::unbind"} & set(found)
    times = [operator.time_ms for operator in execution.operators]
    assert times == sorted(times, reverse=True)
    assert all(found[name].arithmetic == "data" for name in ("aten::cat", "aten::copy_") if name in found)
    assert execution.source.startswith("PyTorch's profile of ")
    said = f"{LINEARS} products run in int8, " in " ".join(execution.notes)
    assert said == (arithmetic == "int8")


def test_times_add_up_to_an_inference(exported, distilled, images_for):
    """An operator's time is not counted again in those that call it."""
    import time

    images = images_for(distilled, 1)
    artifact = exported(engine("torch"), FP32)
    session = engine("torch").open(artifact, threads=1)
    session.run(images)
    samples = []
    for _ in range(20):
        start = time.perf_counter()
        session.run(images)
        samples.append((time.perf_counter() - start) * 1e3)
    told = sum(operator.time_ms for operator in engine("torch").explain(artifact, threads=1, images=images).operators)
    assert 0.2 * min(samples) < told < 3 * max(samples)


def test_unfused_attention_is_told(exported, distilled, images_for):
    """A model that computes its attention in the open."""
    import torch

    from vitlet.engines.torch.profile import explain_session
    from vitlet.engines.torch.session import TorchSession

    artifact = exported(engine("torch"), FP32)

    def forward(images):
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return distilled.module(images)

    execution = explain_session(TorchSession(forward, artifact, 1), artifact, images_for(distilled, 1))
    assert ("attention", 0, 3) in {(f.what, f.done, f.of) for f in execution.fusions}
    assert "3 attentions are not fused: their scores are written to memory, for softmax to read." in execution.notes


def test_operators_that_pytorch_leaves_out(exported, distilled, images_for):
    """PyTorch records some operators by name and then does not count them."""
    import torch

    from vitlet.engines.torch.profile import explain_session
    from vitlet.engines.torch.session import TorchSession

    artifact = exported(engine("torch"), FP32)

    def forward(images):
        with torch.profiler.record_function("aten::is_leaf"):
            return distilled.module(images)

    execution = explain_session(TorchSession(forward, artifact, 1), artifact, images_for(distilled, 1))
    names = {operator.name for operator in execution.operators}
    assert "aten::addmm" in names
    assert "aten::is_leaf" not in names


def test_silence_in_overlapping_threads(capfd):
    """The last one out brings standard error back, once."""
    first_is_in, second_is_in, first_is_out = (threading.Event() for _ in range(3))

    def first():
        with without_stderr():
            first_is_in.set()
            assert second_is_in.wait(10)
        os.write(2, b"still silent ")
        first_is_out.set()

    def second():
        assert first_is_in.wait(10)
        with without_stderr(), without_stderr():
            second_is_in.set()
            assert first_is_out.wait(10)
        os.write(2, b"heard")

    before = os.fstat(2)
    lowest_free = os.dup(2)
    os.close(lowest_free)
    threads = [threading.Thread(target=run) for run in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert capfd.readouterr() == ("", "heard")
    assert (os.fstat(2).st_dev, os.fstat(2).st_ino) == (before.st_dev, before.st_ino)
    left_open = os.dup(2) - lowest_free
    os.close(lowest_free + left_open)
    assert left_open == 0


def test_silence_where_standard_error_is_closed(fresh_process):
    code = """
import os
from vitlet.engines.quiet import without_stderr
os.close(2)
with without_stderr():
    pass
try:
    os.fstat(2)
    print(json.dumps("open"))
except OSError:
    print(json.dumps("closed"))
"""
    assert fresh_process(code).answer == "closed"


def test_names_of_compiled_code():
    kernel = instance_name("graph_0_cpp_fused_add_native_layer_norm_view_12")
    assert kernel == "cpp_fused_add_native_layer_norm_view_12"
    assert plain_name(kernel) == "cpp_fused_add_native_layer_norm_view"
    assert arithmetic_of(kernel, (), BF16) == "fp32"
    assert arithmetic_of("cpp_fused_convolution_0", (), FP32) == "data"
    assert arithmetic_of(instance_name("aoti_torch_cpu__int_mm_out"), (), FP32) == "int8"
    assert arithmetic_of(instance_name("aoti_torch_cpu__linear_pointwise"), (), BF16) == "bf16"
    assert plain_name("aten::add_3") == "aten::add_3"
