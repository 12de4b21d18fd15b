"""ONNX Runtime: what its files hold, what it does with them, and what is refused."""

from __future__ import annotations

import random
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from vitlet.engines import engine
from vitlet.engines.onnxruntime.file import check_file, sealed
from vitlet.engines.onnxruntime.processor import clips_products
from vitlet.errors import InvalidValue, ModelUnreadable, Unsupported
from vitlet.records import Precision

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
memory_session = pytest.importorskip("vitlet.engines.onnxruntime.run").memory_session
least_error_range = pytest.importorskip("vitlet.engines.onnxruntime.ranges").least_error_range

FP32, DYNAMIC, STATIC = Precision("fp32"), Precision("int8-dynamic"), Precision("int8-static")
INT4, INT4_DYNAMIC = Precision("int4-weights"), Precision("int4-dynamic")


@pytest.fixture(scope="module")
def runtime():
    return engine("onnxruntime")


def kinds(artifact):
    return Counter(node.op_type for node in onnx.load(artifact.path).graph.node)


@pytest.mark.parametrize(
    ("precision", "kernel", "arithmetic", "linears"),
    [
        (FP32, "MatMul", "fp32", 12),
        (DYNAMIC, "DynamicQuantizeMatMul", "int8", 15),
        (STATIC, "MatMulIntegerToFloat", "int8", 15),
        (INT4, "MatMulNBits", "fp32", 15),
        (INT4_DYNAMIC, "MatMulNBits", "int8", 15),
    ],
)
def test_every_linear_runs_as_it_should_and_everything_is_fused(
    precision, kernel, arithmetic, linears, runtime, exported, images_for, distilled
):
    """4 linears in each of 3 blocks, the patch embedding and two heads."""
    done = runtime.explain(exported(runtime, precision), threads=1, images=images_for(distilled, 1))
    (used,) = [use for use in done.operators if use.name == kernel]
    assert (used.arithmetic, used.count) == (arithmetic, linears)
    assert {(fusion.what, fusion.done, fusion.of) for fusion in done.fusions} == {
        ("attention", 3, 3),
        ("layer norm", 7, 7),
        ("gelu", 3, 3),
    }
    assert done.source == "ONNX Runtime's profile of 20 runs"
    times = [use.time_ms for use in done.operators]
    assert min(times) > 0
    assert times == sorted(times, reverse=True)
    names = {use.name for use in done.operators}
    # The former is far slower than what it fuses, the others could have been computed beforehand.
    assert not names & {"SkipLayerNormalization", "Cast", "Sqrt", "Pow"}
    assert any("inside attention stay in fp32" in note for note in done.notes) == (arithmetic == "int8")


def test_quick_gelu_is_fused_too(runtime, exported, images_for, classifiers):
    done = runtime.explain(exported(runtime, DYNAMIC, "pooled"), threads=1, images=images_for(classifiers["pooled"], 1))
    assert {(fusion.what, fusion.done, fusion.of) for fusion in done.fusions} >= {("attention", 2, 2), ("gelu", 2, 2)}


def test_convolutions_that_stay_are_told(runtime, exported, images_for, classifiers):
    done = runtime.explain(exported(runtime, DYNAMIC, "opaque"), threads=1, images=images_for(classifiers["opaque"], 1))
    assert any(note.endswith("only linears and patch embeddings are quantized.") for note in done.notes)


@pytest.mark.parametrize(
    ("precision", "least", "most", "error"),
    [
        (DYNAMIC, 0.25, 0.27, 0.08),
        (STATIC, 0.25, 0.27, 0.08),
        (INT4, 0.14, 0.18, 0.35),
        (INT4_DYNAMIC, 0.14, 0.18, 0.4),
    ],
)
def test_size_and_accuracy(
    precision, least, most, error, runtime, exported, images_for, distilled, logits_of, relative_error
):
    artifact = exported(runtime, precision)
    assert least < artifact.size_bytes / exported(runtime, FP32).size_bytes < most
    images = images_for(distilled, 4)
    found = np.concatenate([runtime.open(artifact, threads=1).run(images[i : i + 1]) for i in range(4)])
    assert relative_error(found, logits_of(distilled, images)) < error


def test_nothing_is_computed_that_was_known(runtime, exported):
    """Of the shapes only the class token's copies for a batch are left."""
    found = kinds(exported(runtime, FP32))
    assert found["Shape"] <= 2
    assert found["Constant"] == found["Identity"] == found["Sqrt"] == 0
    assert found["Reshape"] <= 2
    assert found["MultiHeadAttention"] == 3


def test_ranges_clip_what_is_rare():
    counts = np.zeros(1024, np.int64)
    counts[412:612] = 10_000  # values within 0.2 of 0
    counts[1023] = 1  # and one at 1
    low, high = least_error_range(counts, -1.0, 1.0)
    assert -0.45 < low < -0.15
    assert 0.15 < high < 0.45
    counts[1023] = 10_000_000
    assert least_error_range(counts, -1.0, 1.0)[1] > 0.95


def test_ranges_are_those_of_the_calibration_images(runtime, distilled, calibration_for, exported, tmp_path):
    """Other images, other ranges; of pixels that are standard normal, some 8 / 255."""
    other = replace(calibration_for(distilled), seed=5)
    again = runtime.export(distilled, STATIC, tmp_path / "again", calibration=other)
    scales = [
        onnx.numpy_helper.to_array(t)
        for path in (again.path, exported(runtime, STATIC).path)
        for t in onnx.load(path).graph.initializer
        if t.name.startswith("linear_0/input_scale")
    ]
    assert len(scales) == 2
    assert scales[0] != scales[1]
    assert 0.01 < scales[0] < 0.05


def test_without_vnni(runtime, distilled, images_for, logits_of, relative_error, tmp_path, monkeypatch):
    """7-bit weights where products of 8 would be clipped; and a file with 8 is refused."""
    monkeypatch.setattr("vitlet.engines.onnxruntime.processor.clips_products", lambda: False)
    wide = runtime.export(distilled, DYNAMIC, tmp_path / "wide")
    monkeypatch.setattr("vitlet.engines.onnxruntime.processor.clips_products", lambda: True)
    monkeypatch.setattr("vitlet.engines.onnxruntime.session.clips_products", lambda: True)
    narrow = runtime.export(distilled, DYNAMIC, tmp_path / "narrow")
    assert narrow.note.startswith("7-bit weights")
    for artifact, most in ((wide, 127), (narrow, 63)):
        weights = [
            np.abs(onnx.numpy_helper.to_array(t).astype(int)).max()
            for t in onnx.load(artifact.path).graph.initializer
            if "weight_int8" in t.name
        ]
        assert max(weights) == most
    with pytest.raises(Unsupported, match=r"wide\.onnx was exported for a processor with VNNI.*export it on this"):
        runtime.open(wide, threads=1)
    images = images_for(distilled, 1)
    assert relative_error(runtime.open(narrow, threads=1).run(images), logits_of(distilled, images)) < 0.1


class OverChannels(torch.nn.Module):
    """A layer norm over the first axis, which ONNX Runtime does not fuse; few or none of its weights are linear."""

    def __init__(self, linear):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.rand(3, 32, 32))
        self.linear = torch.nn.Linear(3, 10) if linear else torch.nn.Identity()

    def forward(self, images):
        apart = images - images.mean(1, keepdim=True)
        normal = apart / torch.sqrt((apart * apart).mean(1, keepdim=True) + 1e-6)
        return self.linear((normal * self.scale).mean((2, 3)))


@pytest.mark.parametrize("precision", [DYNAMIC, STATIC, INT4, INT4_DYNAMIC])
def test_few_or_no_linears_are_told(precision, runtime, distilled, calibration_for, tmp_path):
    few = replace(distilled, module=OverChannels(linear=True).eval())
    calibration = calibration_for(distilled)
    artifact = runtime.export(few, precision, tmp_path / "few", calibration=calibration)
    assert f"only 1% of the weights are {precision.name[:4]}: the others are not in linear layers" in artifact.note
    none = replace(distilled, module=OverChannels(linear=False).eval())
    with pytest.raises(Unsupported, match="the model has no linear layer that could be quantized; use fp32"):
        runtime.export(none, precision, tmp_path / "none", calibration=calibration)
    assert not (tmp_path / "none.onnx").exists()


def test_layer_norms_in_parts_are_told(runtime, distilled, images_for, tmp_path):
    plain = replace(distilled, module=OverChannels(linear=True).eval())
    done = runtime.explain(runtime.export(plain, FP32, tmp_path / "m"), threads=1, images=images_for(distilled, 1))
    assert [(fusion.what, fusion.done, fusion.of) for fusion in done.fusions] == [("layer norm", 0, 1)]
    assert "1 of 1 layer norms run as several operators." in done.notes


def test_calibration_takes_all_processors_where_none_is_forbidden(runtime, exported, monkeypatch):
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    session = memory_session(onnx.load(exported(runtime, FP32).path))
    assert session.get_session_options().intra_op_num_threads == 3


@pytest.mark.parametrize(
    ("machine", "flags", "clips"),
    [
        ("x86_64", "fma avx2", True),
        ("x86_64", "avx2 avx_vnni", False),
        ("AMD64", "avx512f avx512_vnni", False),
        ("x86_64", None, True),
        ("aarch64", None, False),
    ],
)
def test_processors_that_clip(machine, flags, clips, tmp_path, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: machine)
    if flags is not None:
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc/cpuinfo").write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\n")
    assert clips_products(tmp_path) is clips


def test_any_flipped_bit_is_found(runtime, exported, tmp_path):
    artifact = exported(runtime, DYNAMIC)
    whole = artifact.path.read_bytes()
    path = tmp_path / "damaged.onnx"
    chance = random.Random(3)
    for place in [*range(40), *(chance.randrange(len(whole)) for _ in range(40)), len(whole) - 300]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        if whole[place : place + 1] == b" ":
            continue  # the record's padding says nothing
        with pytest.raises(ModelUnreadable, match=r"damaged\.onnx is (damaged|another)"):
            runtime.open(replace(artifact, path=path), threads=1)


def test_foreign_and_other_files(runtime, exported, tmp_path):
    artifact = exported(runtime, FP32)
    model = onnx.load(artifact.path)
    assert [entry.key for entry in model.metadata_props] == ["vitlet"]  # any reader of ONNX sees it
    assert check_file(artifact)["precision"] == "fp32"
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(ModelUnreadable, match="no ONNX file written by vitlet"):
        runtime.open(replace(artifact, path=tmp_path / "foreign.onnx"), threads=1)
    with pytest.raises(ModelUnreadable, match=r"another artifact \(precision 'fp32' instead of 'int8-dynamic'"):
        runtime.open(replace(artifact, precision=DYNAMIC), threads=1)


def test_sealed_file_that_the_runtime_cannot_load(runtime, exported, tmp_path):
    path = tmp_path / "nonsense.onnx"
    path.write_bytes(sealed(b"\x08\x08", "onnxruntime", FP32, 32, 32, 10, weight_bits=0))
    with pytest.raises(ModelUnreadable, match=r"ONNX Runtime \S+ cannot load .*nonsense\.onnx \(.*export it again"):
        runtime.open(replace(exported(runtime, FP32), path=path), threads=1)


def test_opening_imports_neither_torch_nor_onnx_nor_anything_late(runtime, exported, fresh_process):
    code = """
from vitlet.engines import engine
from vitlet.records import Artifact, from_json
import numpy as np
artifact = from_json(arguments[0], Artifact)
found = engine(artifact.engine)
found.warm_imports()
warm = set(sys.modules)
session = found.open(artifact, threads=1)
session.run(np.zeros((2, 3, artifact.height, artifact.width), np.float32))
print(json.dumps([sorted(set(sys.modules) - warm), sorted({"torch", "onnx", "timm"} & set(sys.modules))]))
"""
    done = fresh_process(code, exported(runtime, STATIC))
    assert done.answer == [[], []]
    assert done.stderr == ""


def test_plain_onnxruntime_runs_the_file(runtime, exported, fresh_process, distilled, images_for, logits_of, tmp_path):
    code = """
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(arguments[0], providers=["CPUExecutionProvider"])
print(json.dumps(session.run(None, {"images": np.load(arguments[1])})[0].tolist()))
"""
    images = images_for(distilled, 3)
    np.save(tmp_path / "images.npy", images)
    done = fresh_process(code, exported(runtime, FP32).path, tmp_path / "images.npy")
    np.testing.assert_allclose(np.array(done.answer), logits_of(distilled, images), atol=1e-4)


def test_model_that_cannot_be_scripted(runtime, exported, classifiers, images_for, logits_of, relative_error):
    images = images_for(classifiers["traced"], 3)
    found = runtime.open(exported(runtime, FP32, "traced"), threads=1).run(images)
    assert relative_error(found, logits_of(classifiers["traced"], images)) < 1e-5
    assert kinds(exported(runtime, FP32, "traced"))["MultiHeadAttention"] > 0


def test_sessions_side_by_side(runtime, exported, distilled, images_for):
    images = images_for(distilled, 2)
    sessions = [runtime.open(exported(runtime, FP32), threads=threads) for threads in (1, 2, 3)]
    logits = [session.run(images) for _ in range(3) for session in sessions]
    for other in logits:
        np.testing.assert_allclose(other, logits[0], atol=1e-5)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_sessions(runtime, exported, fresh_process):
    """200 times open, run, close; a leak of the weights would be 280 MB (int8) or 1.1 GB (fp32)."""
    code = """
from vitlet.engines import engine
from vitlet.records import Artifact, from_json
import numpy as np

def resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

images = np.zeros((1, 3, 32, 32), np.float32)
grown = []
for artifact in (from_json(a, Artifact) for a in arguments):
    for number in range(220):
        session = engine(artifact.engine).open(artifact, threads=1)
        session.run(images)
        session.close()
        if number == 20:
            before = resident_mib()
    grown.append(resident_mib() - before)
print(json.dumps(grown))
"""
    grown = fresh_process(code, *(exported(runtime, precision) for precision in (FP32, DYNAMIC))).answer
    assert max(grown) < 20, grown


def test_what_cannot_be_had(runtime, distilled, exported, tmp_path, monkeypatch):
    with pytest.raises(InvalidValue, match="learns its ranges from images; give calibration images"):
        runtime.export(distilled, STATIC, tmp_path / "model")
    huge = replace(distilled, module=torch.nn.Linear(30_000, 30_000, device="meta").eval())
    with pytest.raises(Unsupported, match=r"has 3\.6 GB of weights; one ONNX file holds 2 GB"):
        runtime.export(huge, FP32, tmp_path / "model")
    foreign = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(7, 10)).eval()
    with pytest.raises(Unsupported, match=r"test:vit cannot be exported to ONNX \(.*; use the torch engine") as caught:
        runtime.export(replace(distilled, module=foreign), FP32, tmp_path / "model")
    assert "\n" not in str(caught.value)
    artifact = exported(runtime, FP32)
    monkeypatch.setattr("vitlet.engines.onnxruntime.find_spec", lambda name: None)
    assert "pip install 'vitlet[onnxruntime]'" in runtime.available().reason
    for attempt in (
        lambda: runtime.export(distilled, FP32, tmp_path / "model"),
        lambda: runtime.open(artifact, threads=1),
    ):
        with pytest.raises(Unsupported, match=r"ONNX Runtime is not installed; install it with: pip install 'vitlet\["):
            attempt()
    runtime.warm_imports()
    assert list(tmp_path.iterdir()) == []


def test_missing_package(fresh_process, exported, runtime):
    """What measures an artifact warms the imports first; the reason must still come from ``open``."""
    code = """
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "onnxruntime" else real(name, *rest)
sys.modules["onnxruntime"] = None
from vitlet.engines import engine
from vitlet.errors import Unsupported
from vitlet.records import Artifact, from_json
found = engine("onnxruntime")
found.warm_imports()
try:
    found.open(from_json(arguments[0], Artifact), threads=1)
except Unsupported as error:
    print(json.dumps(str(error)))
"""
    answer = fresh_process(code, exported(runtime, FP32)).answer
    assert answer == "ONNX Runtime is not installed; install it with: pip install 'vitlet[onnxruntime]'"
