"""ExecuTorch beyond the common rules: what XNNPACK takes, threads, damaged files, and the way over from
PyTorch Mobile."""

from __future__ import annotations

import logging
import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from vitlet.engines import engine
from vitlet.errors import ModelUnreadable, Unsupported
from vitlet.records import Precision, TimmArchitecture, VitArchitecture

pytest.importorskip("executorch")

FP32 = Precision("fp32")
#: Relative L2 error of the logits of the small distilled model.
MOST_ERROR = {"fp32": 1e-5, "int8-dynamic": 0.03, "int8-static": 0.08, "int4-dynamic": 0.3}


@pytest.fixture(scope="module")
def runtime():
    return engine("executorch")


def uses(execution):
    return {(use.name, use.arithmetic): use.count for use in execution.operators}


@pytest.mark.parametrize("name", MOST_ERROR)
def test_whole_model_is_one_xnnpack_graph(runtime, name, exported, distilled, images_for):
    """3 blocks, 7 LayerNorms and 14 Linears: nothing is left to ExecuTorch's own slow kernels."""
    artifact = exported(runtime, Precision(name))
    execution = runtime.explain(artifact, threads=1, images=images_for(distilled, 1))
    assert dict(execution.undelegated) == {}
    assert "one XNNPACK graph, 0 in ExecuTorch's own kernels" in execution.notes[0]
    found = uses(execution)
    assert found["xnnpack.BatchMatrixMultiply", "fp32"] == 6
    assert found["xnnpack.ReciprocalSquareRoot", "fp32"] == 7
    assert found["xnnpack.Gelu", "fp32"] == 3
    kind = "fp32" if name == "fp32" else name[:4]
    # 2 means for each LayerNorm stay fp32 in all of them.
    assert found["xnnpack.FullyConnected", "fp32"] == (28 if name == "fp32" else 14)
    # The two heads keep int8 weights.
    assert found["xnnpack.FullyConnected", kind] == {"fp32": 28, "int4-dynamic": 12}.get(name, 14)
    assert [(f.what, f.done, f.of) for f in execution.fusions] == [
        ("attention", 0, 3),
        ("layer norm", 0, 7),
        ("gelu", 3, 3),
    ]


@pytest.mark.parametrize("name", MOST_ERROR)
def test_logits_keep_their_accuracy(runtime, name, exported, distilled, images_for, logits_of, relative_error):
    images = images_for(distilled, 3)
    session = runtime.open(exported(runtime, Precision(name)), threads=1)
    logits = session.run(images)
    assert relative_error(logits, logits_of(distilled, images)) < MOST_ERROR[name]
    # An image's answer does not depend on its neighbours.
    np.testing.assert_array_equal(session.run(images[1:2])[0], logits[1])


def test_weights_are_as_small_as_they_say(runtime, exported):
    whole = exported(runtime, FP32).size_bytes
    for name, most in (("int8-dynamic", 0.30), ("int8-static", 0.30), ("int4-dynamic", 0.20)):
        assert exported(runtime, Precision(name)).size_bytes < most * whole


def test_tanh_gelu_is_not_taken_for_the_exact_one(
    runtime, make_classifier, images_for, logits_of, relative_error, tmp_path
):
    """As ExecuTorch 1.3.1 does by itself."""
    architecture = VitArchitecture(16, 16, 8, 32, 1, 2, 64, classes=4, activation="gelu_tanh")
    classifier = make_classifier(architecture)
    images = images_for(classifier, 2)
    artifact = runtime.export(classifier, FP32, tmp_path / "tanh")
    found = runtime.open(artifact, threads=1).run(images)
    assert relative_error(found, logits_of(classifier, images)) < 1e-5
    assert ("xnnpack.Gelu", "fp32") not in uses(runtime.explain(artifact, threads=1, images=images[:1]))


def test_export_leaves_logging_and_environment_alone(runtime, make_classifier, tmp_path, capfd):
    architecture = VitArchitecture(16, 16, 8, 32, 1, 2, 64, classes=4)
    before = list(logging.root.handlers), logging.root.level, logging.root.manager.disable, dict(os.environ)
    runtime.open(runtime.export(make_classifier(architecture), FP32, tmp_path / "m"), threads=1).close()
    after = list(logging.root.handlers), logging.root.level, logging.root.manager.disable, dict(os.environ)
    assert after == before
    assert capfd.readouterr() == ("", "")


def test_sessions_with_different_threads_take_turns(runtime, exported, fresh_process):
    """Changing ExecuTorch's pool under a loaded program would hang it for ever. And opening needs no exporter."""
    code = """
import numpy as np, time
from vitlet.engines import engine
from vitlet.records import Artifact, from_json
artifact = from_json(arguments[0], Artifact)
sessions = [engine("executorch").open(artifact, threads=threads) for threads in (1, 2, 3, 1)]
images = np.random.default_rng(0).standard_normal((1, 3, 32, 32), dtype=np.float32)
logits = [session.run(images) for session in sessions * 3]
heavy = {"executorch.exir", "torchao", "executorch.extension.pybindings.portable_lib", "timm"}
print(json.dumps([max(float(abs(found - logits[0]).max()) for found in logits), sorted(heavy & set(sys.modules))]))
"""
    done = fresh_process(code, exported(runtime, FP32))
    difference, heavy = done.answer
    assert difference < 1e-5
    assert heavy == []
    assert done.stderr == ""


def test_attention_masks_are_kept(runtime, make_classifier, images_for, logits_of, relative_error, tmp_path):
    """BEiT gives each attention its relative positions as ``attn_mask=``."""
    options = {"img_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 2}
    classifier = make_classifier(
        TimmArchitecture("beit_base_patch16_224", classes=5, image_height=32, image_width=32, options=options)
    )
    generator = torch.Generator().manual_seed(5)
    for name, values in classifier.module.named_parameters():
        if "relative_position_bias_table" in name or "gamma" in name:  # untrained they do nothing
            torch.nn.init.normal_(values, generator=generator)
    images = images_for(classifier, 2)
    found = runtime.open(runtime.export(classifier, FP32, tmp_path / "beit"), threads=1).run(images)
    assert relative_error(found, logits_of(classifier, images)) < 1e-5


@pytest.mark.parametrize(
    "more",
    [
        {"attn_mask": torch.randn(1, 4, 5, 5)},
        {"attn_mask": torch.randn(5, 5)},
        {"attn_mask": torch.ones(5, 5, dtype=torch.bool).tril()},
        {"is_causal": True},
        {"scale": 0.1},
        {"dropout_p": 0.0, "enable_gqa": True},
    ],
    ids=str,
)
def test_rewritten_attention_is_pytorchs(more):
    from vitlet.engines.executorch.program import XnnpackOperators

    attend = torch.nn.functional.scaled_dot_product_attention
    heads = 2 if "enable_gqa" in more else 4
    query, key = torch.randn(2, 4, 5, 8), torch.randn(2, heads, 5, 8)
    with XnnpackOperators(torch.nn.Identity()):
        found = attend(query, key, key, **more)
    torch.testing.assert_close(found, attend(query, key, key, **more))


def test_wrong_rewrite_is_noticed(runtime, distilled, monkeypatch, tmp_path):
    monkeypatch.setattr("vitlet.engines.executorch.program._gelu", lambda x, approximate="none": x)
    with pytest.raises(Unsupported, match=r"rewritten form of test:vit answers wrongly; use the torch engine"):
        runtime.export(distilled, FP32, tmp_path / "model")


def test_int4_scales_beat_those_of_the_range():
    from vitlet.engines.executorch.quantize import GROUP, _int4_scales

    weight = torch.randn(16, 4 * GROUP, generator=torch.Generator().manual_seed(0))
    weight[0, :GROUP] = 0
    groups = weight.reshape(16, 4, GROUP)

    def error(scales):
        steps = scales.unsqueeze(-1)
        return ((groups / steps).round().clamp(-8, 7) * steps - groups).norm()

    scales = _int4_scales(weight)
    torch.testing.assert_close(scales, scales.bfloat16().float(), rtol=0, atol=0)
    assert (scales > 0).all()
    assert error(scales) < 0.95 * error((groups.abs().amax(-1) / 7.5).clamp_min(1e-8))


def test_model_without_linears_is_refused_and_few_are_noted():
    from vitlet.engines.executorch.quantize import quantize_dynamically

    convolution = torch.nn.Conv2d(3, 30, 4)  # 1,470 weights
    for name in ("int8-dynamic", "int4-dynamic"):
        with pytest.raises(Unsupported, match="no Linear layer that could be quantized; use fp32"):
            quantize_dynamically(torch.nn.Sequential(convolution), Precision(name))
    few = torch.nn.Sequential(convolution, torch.nn.Linear(32, 10))
    _, note = quantize_dynamically(few, Precision("int8-dynamic"))
    assert note == "only 18% of the weights are int8: the others are not in Linear layers"
    assert quantize_dynamically(few[1:], Precision("int8-dynamic"))[1] == ""


def test_sessions_of_other_threads_never_lose_their_pool(runtime, exported, fresh_process):
    """Python threads that open and run with different numbers of threads at the same time."""
    code = """
import threading
import numpy as np
from vitlet.engines import engine
from vitlet.records import Artifact, from_json
artifact = from_json(arguments[0], Artifact)
images = np.random.default_rng(0).standard_normal((4, 3, 32, 32), dtype=np.float32)
found = []

def work(threads):
    for _ in range(20):
        session = engine("executorch").open(artifact, threads=threads)
        found.extend(session.run(images) for _ in range(3))
        session.close()

workers = [threading.Thread(target=work, args=(threads,), daemon=True) for threads in (1, 2, 2, 3)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join(60)
print(json.dumps([len(found), max(float(abs(logits - found[0]).max()) for logits in found)]))
"""
    count, difference = fresh_process(code, exported(runtime, FP32)).answer
    assert count == 4 * 20 * 3
    assert difference < 1e-5


def test_warm_imports_import_all(runtime, exported, fresh_process):
    code = """
import numpy as np
from vitlet.engines import engine
from vitlet.records import Artifact, from_json
artifact = from_json(arguments[0], Artifact)
engine("executorch").warm_imports()
warm = set(sys.modules)
engine("executorch").open(artifact, threads=1).run(np.zeros((1, 3, 32, 32), np.float32))
print(json.dumps(sorted(set(sys.modules) - warm)))
"""
    assert fresh_process(code, exported(runtime, Precision("int8-dynamic"))).answer == []


def test_memory_does_not_grow_with_sessions(runtime, exported, fresh_process):
    code = """
import numpy as np
from vitlet.engines import engine
from vitlet.records import Artifact, from_json
artifact = from_json(arguments[0], Artifact)

def resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

def cycle(times):
    for _ in range(times):
        session = engine("executorch").open(artifact, threads=1)
        session.run(np.zeros((1, 3, 32, 32), np.float32))
        session.close()

cycle(10)
before = resident_mib()
cycle(200)
print(json.dumps(resident_mib() - before))
"""
    # A leak of the weights would be 1,000 MiB.
    assert fresh_process(code, exported(runtime, FP32)).answer < 20


def test_plain_executorch_loads_the_file(runtime, exported, distilled, images_for, fresh_process):
    code = """
import warnings
warnings.simplefilter("ignore")
import logging
logging.disable()
from pathlib import Path
import torch
from executorch.runtime import Runtime
images = torch.tensor(arguments[1])
logits = Runtime.get().load_program(Path(arguments[0])).load_method("forward").execute([images])[0]
assert not [name for name in sys.modules if name.startswith("vitlet")]
print(json.dumps(logits.tolist()))
"""
    artifact, images = exported(runtime, FP32), images_for(distilled, 1)
    found = fresh_process(code, artifact.path, images.tolist()).answer
    np.testing.assert_allclose(found, runtime.open(artifact, threads=1).run(images), atol=1e-5)


def test_damaged_and_foreign_files_never_reach_the_runtime(runtime, exported, tmp_path):
    artifact = exported(runtime, FP32)
    whole = artifact.path.read_bytes()
    copied = replace(artifact, path=tmp_path / "copy.pte")
    for at in (5, 100, 20_000, len(whole) // 2, len(whole) - 100, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[at] ^= 4
        copied.path.write_bytes(damaged)
        with pytest.raises(ModelUnreadable, match=r"is damaged or no \.pte file written by vitlet"):
            runtime.open(copied, threads=1)
    with pytest.raises(ModelUnreadable, match=r"another artifact \(classes 10 instead of 11\)"):
        runtime.open(replace(artifact, classes=11), threads=1)


def test_missing_package_is_a_sentence(runtime, distilled, monkeypatch, tmp_path):
    monkeypatch.setattr("vitlet.engines.executorch.find_spec", lambda name: None)
    assert "pip install 'vitlet[executorch]'" in runtime.available().reason
    with pytest.raises(Unsupported, match=r"pip install 'vitlet\[executorch\]"):
        runtime.export(distilled, FP32, tmp_path / "model")


def test_way_over_from_pytorch_mobile(runtime, tmp_path, relative_error):
    """The figures of docs/from-pytorch-mobile.md: the bundled model on its own images, .ptl against .pte."""
    from vitlet.data.preprocess import preprocess
    from vitlet.data.read import read_image
    from vitlet.data.samples import bundled_images
    from vitlet.models.reference import load

    classifier = load("bundled")
    files = sorted(bundled_images().glob("*/*.png"))[::5]
    images = np.concatenate([preprocess(read_image(file, file.name), classifier.image_spec)[None] for file in files])
    for old, new, most in (
        (FP32, FP32, 1e-5),
        (Precision("int8-dynamic", "qnnpack"), Precision("int8-dynamic"), 0.1),
    ):
        lite = engine("lite").export(classifier, old, tmp_path / str(old))
        before = engine("lite").open(lite, threads=1).run(images)
        after = runtime.open(runtime.export(classifier, new, tmp_path / str(new)), threads=1).run(images)
        assert relative_error(after, before) < most
        assert (after.argmax(1) == before.argmax(1)).mean() >= 0.95
