"""OpenVINO: how far its answers are off, what really runs, and what it must not do on the way."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vitlet.data.calibration import Calibration
from vitlet.data.load import load_images
from vitlet.data.preprocess import normalise
from vitlet.data.samples import bundled_images
from vitlet.engines import engine
from vitlet.errors import ModelUnreadable, NotWritable, Unsupported
from vitlet.models.reference import load
from vitlet.models.vit import Attention
from vitlet.records import Precision

pytestmark = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed")

SMALL = ("int8-static", "int8-static-bf16", "int8-dynamic", "int4-dynamic", "int8-weights", "int4-weights")


@pytest.fixture(scope="module")
def bundled():
    return load("bundled")


@pytest.fixture(scope="module")
def photos(bundled, tmp_path_factory):
    """Sample images that the bundled model was trained for, as file of pixels: what int8 costs it on noise says
    little, and changes threefold from one training to the next."""
    folder = tmp_path_factory.mktemp("photos")
    return load_images([str(bundled_images())], bundled.image_spec, bundled.labels, folder, limit=48).pixels_path


@pytest.fixture(scope="module")
def images(bundled, photos):
    """16 of them, which no artifact was calibrated with: float32 [16, 3, 28, 28]."""
    return np.ascontiguousarray(normalise(np.load(photos)[:16], bundled.image_spec))


@pytest.fixture(scope="module")
def made(bundled, photos, tmp_path_factory):
    """The bundled model in a precision, exported once; skips what this processor has not."""
    folder = tmp_path_factory.mktemp("openvino")
    done = {}

    def make(name):
        if name not in done:
            try:
                calibration = Calibration(bundled.image_spec, photos, indices=tuple(range(16, 48)))
                done[name] = engine("openvino").export(bundled, Precision(name), folder / name, calibration=calibration)
            except Unsupported as unsupported:
                pytest.skip(unsupported.reason)
        return done[name]

    return make


def by_kind(execution, word):
    return [use for use in execution.operators if word in use.name]


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("fp32", 0, 1e-5),
        ("bf16", 1e-3, 0.01),
        ("int8-static", 1e-3, 0.03),
        ("int8-static-bf16", 1e-3, 0.03),
        ("int8-dynamic", 1e-3, 0.012),
        ("int8-weights", 1e-3, 0.01),
        ("int4-dynamic", 0.01, 0.1),
        ("int4-weights", 0.01, 0.1),
    ],
)
def test_error_of_a_trained_model(name, least, most, made, bundled, images, logits_of, relative_error):
    found = engine("openvino").open(made(name), threads=2).run(images)
    assert least <= relative_error(found, logits_of(bundled, images)) < most


@pytest.mark.parametrize(("name", "share"), [("bf16", 0.5), *((n, 0.27) for n in SMALL[:3]), ("int4-weights", 0.18)])
def test_weights_are_small(name, share, made):
    sizes = [made(n).path.with_suffix(".bin").stat().st_size for n in (name, "fp32")]
    assert sizes[0] / sizes[1] < share + 0.01


def test_int8_linears_and_attention(made, bundled, images_for):
    images = images_for(bundled, 1)
    execution = engine("openvino").explain(made("int8-static"), threads=1, images=images)
    linears = by_kind(execution, "FullyConnected")
    assert sum(use.count for use in linears) == 4 * 6 + 2
    assert {use.arithmetic for use in linears} == {"int8"}
    (attention,) = by_kind(execution, "Subgraph of attention")
    assert (attention.count, attention.arithmetic) == (6, "int8")
    assert "queries by keys in int8, and probabilities by values in fp32." in execution.notes[0]
    assert {use.arithmetic for use in by_kind(execution, "Transpose")} == {"data"}
    # Queries that come scaled need no multiplication and transpose in int8 of their own.
    assert not [use for use in by_kind(execution, "Transpose") if use.name.endswith("i8")]
    times = [use.time_ms for use in execution.operators]
    assert times == sorted(times, reverse=True)
    assert times[0] > 0


@pytest.mark.parametrize(
    ("name", "arithmetic"), [("fp32", "fp32"), ("bf16", "bf16"), ("int8-dynamic", "int8"), ("int8-weights", "fp32")]
)
def test_explanation(name, arithmetic, made, bundled, images_for):
    execution = engine("openvino").explain(made(name), threads=1, images=images_for(bundled, 1))
    assert {use.arithmetic for use in by_kind(execution, "FullyConnected")} == {arithmetic}
    fusions = {fusion.what: (fusion.done, fusion.of) for fusion in execution.fusions}
    assert fusions["attention"] == (6, 6)
    assert fusions["gelu"] == (6, 6)
    assert fusions["layer norm"][1] == 13
    notes = " ".join(execution.notes)
    assert ("as they come" in notes) == (name == "int8-dynamic")
    assert ("no faster than fp32" in notes) == (name == "int8-weights")
    assert ("layer norms run as an operator of their own" in notes) == (fusions["layer norm"][0] < 13)


@pytest.fixture
def without_vnni(monkeypatch):
    monkeypatch.setattr("vitlet.engines.openvino.processor.is_x86", lambda: True)
    monkeypatch.setattr("vitlet.engines.openvino.processor.clips_products", lambda: True)


@pytest.mark.parametrize("name", ["int8-dynamic", "int4-dynamic"])
def test_dynamic_without_vnni_is_refused(name, made, bundled, images_for, tmp_path, request):
    """There OpenVINO multiplies in fp32, and says nothing of it."""
    artifact, runtime = made(name), engine("openvino")
    request.getfixturevalue("without_vnni")
    attempts = (
        lambda: runtime.export(bundled, Precision(name), tmp_path / "model"),
        lambda: runtime.open(artifact, threads=1),
        lambda: runtime.explain(artifact, threads=1, images=images_for(bundled, 1)),
    )
    for attempt in attempts:
        with pytest.raises(Unsupported, match=f"OpenVINO computes {name} in fp32 on x86 processors without VNNI"):
            attempt()
    assert list(tmp_path.iterdir()) == []


def test_dynamic_was_not_tried_on_arm(bundled, tmp_path, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(Unsupported, match="was tried on x86 only, and this processor is aarch64; use int8-static"):
        engine("openvino").export(bundled, Precision("int8-dynamic"), tmp_path / "model")


def test_full_range_weights_are_refused_without_vnni(
    bundled, calibration_for, images_for, logits_of, relative_error, tmp_path, monkeypatch, request
):
    runtime, precision, calibration = engine("openvino"), Precision("int8-static"), calibration_for(bundled)
    monkeypatch.setattr("vitlet.engines.openvino.processor.clips_products", lambda: False)
    wide = runtime.export(bundled, precision, tmp_path / "wide", calibration=calibration)
    request.getfixturevalue("without_vnni")
    with pytest.raises(Unsupported, match=r"wide\.xml was exported for a processor with VNNI .*; export it again here"):
        runtime.open(wide, threads=1)
    narrow = runtime.export(bundled, precision, tmp_path / "narrow", calibration=calibration)
    assert "7-bit weights" in narrow.note
    assert "7-bit weights" not in wide.note
    images = images_for(bundled, 2)
    assert relative_error(runtime.open(narrow, threads=1).run(images), logits_of(bundled, images)) < 0.05


class Mixed(torch.nn.Module):
    """Most of its constants, or all, are read by no operator that is ever quantized."""

    def __init__(self, linear):
        super().__init__()
        self.offset = torch.nn.Parameter(torch.rand(3, 64, 64))
        self.linear = torch.nn.Linear(3, 10) if linear else torch.nn.Identity()

    def forward(self, images):
        size = images.shape[-2:]
        return self.linear((images * self.offset[:, : size[0], : size[1]]).mean((2, 3)))


@pytest.mark.parametrize("name", ["int8-weights", "int8-static"])
def test_few_or_no_small_weights_are_told(name, bundled, calibration_for, tmp_path):
    runtime, calibration = engine("openvino"), calibration_for(bundled)
    few = replace(bundled, module=Mixed(linear=True).eval())
    artifact = runtime.export(few, Precision(name), tmp_path / "few", calibration=calibration)
    assert "only 0% of the weights are int8: NNCF leaves the others" in artifact.note
    none = replace(bundled, module=Mixed(linear=False).eval())
    with pytest.raises(Unsupported, match="no layer whose weights NNCF could make small; use fp32"):
        runtime.export(none, Precision(name), tmp_path / "none", calibration=calibration)


def test_fusions_that_the_model_has_not_are_left_out(bundled, images_for, tmp_path):
    plain = replace(bundled, module=Mixed(linear=True).eval())
    artifact = engine("openvino").export(plain, Precision("fp32"), tmp_path / "plain")
    assert engine("openvino").explain(artifact, threads=1, images=images_for(bundled, 1)).fusions == ()


def test_attention_in_parts_is_told(classifiers, exported, images_for):
    """timm's Hiera has attentions that OpenVINO does not run as one."""
    traced = exported(engine("openvino"), Precision("fp32"), "traced")
    execution = engine("openvino").explain(traced, threads=1, images=images_for(classifiers["traced"], 1))
    attention = execution.fusions[0]
    assert 0 < attention.done < attention.of
    left = attention.of - attention.done
    assert f"{left} of {attention.of} attentions run as several operators." in execution.notes


def test_foreign_attention_inside_our_model_is_kept(bundled, images_for, logits_of, tmp_path):
    """Only vitlet's own attention is rewritten, and a module with another in it is checked."""
    changed = load("bundled")

    class Doubled(Attention):
        def forward(self, tokens):
            return 2 * super().forward(tokens)

    changed.module.blocks[0].attention.__class__ = Doubled
    images = images_for(bundled, 2)
    artifact = engine("openvino").export(changed, Precision("fp32"), tmp_path / "model")
    found = engine("openvino").open(artifact, threads=1).run(images)
    np.testing.assert_allclose(found, logits_of(changed, images), atol=1e-4)
    assert np.abs(found - logits_of(bundled, images)).max() > 0.01


def test_graph_that_holds_for_one_batch_size_only_is_refused(bundled, tmp_path):
    class Fixed(torch.nn.Module):
        def forward(self, images):
            return images.flatten(1)[:, :10] * len(images)

    with pytest.raises(Unsupported, match="answers wrongly at batch size 1; use the torch engine"):
        engine("openvino").export(replace(bundled, module=Fixed().eval()), Precision("fp32"), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_record_answers_for_both_files(made):
    artifact = made("fp32")
    graph, weights = artifact.path.read_bytes(), artifact.path.with_suffix(".bin").read_bytes()
    assert hashlib.sha256(weights).hexdigest().encode() in graph
    with pytest.raises(ModelUnreadable, match=r"another artifact \(precision 'fp32' instead of 'bf16'\)"):
        engine("openvino").open(replace(artifact, precision=Precision("bf16")), threads=1)


def test_one_changed_number_in_the_graph_is_refused(made, tmp_path):
    artifact = made("fp32")
    graph = artifact.path.read_bytes()
    moved = replace(artifact, path=tmp_path / "model.xml")
    moved.path.with_suffix(".bin").write_bytes(artifact.path.with_suffix(".bin").read_bytes())
    moved.path.write_bytes(graph.replace(b"96", b"97", 1))
    with pytest.raises(ModelUnreadable, match="is damaged: it is not as it was written"):
        engine("openvino").open(moved, threads=1)


def test_places_that_take_no_file_get_neither(bundled, tmp_path):
    with pytest.raises(NotWritable, match=r"missing/model\.xml cannot be written: No such file or directory; choose"):
        engine("openvino").export(bundled, Precision("fp32"), tmp_path / "missing" / "model")
    for suffix in (".xml", ".bin"):
        (tmp_path / f"model{suffix}").mkdir()
        with pytest.raises(NotWritable, match="Is a directory"):
            engine("openvino").export(bundled, Precision("fp32"), tmp_path / "model")
        (folder,) = tmp_path.iterdir()
        folder.rmdir()


def test_nothing_is_sent_printed_or_left_at_home(made, fresh_process, tmp_path, monkeypatch):
    """Importing OpenVINO starts its telemetry, and NNCF draws progress bars and replaces torch's parts."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CI", "TF_BUILD", "JENKINS_URL"):
        monkeypatch.delenv(name, raising=False)
    code = """
import logging
from pathlib import Path
from vitlet.data.calibration import Calibration
from vitlet.engines import engine
from vitlet.models.reference import load
from vitlet.records import Precision
bundled = load("bundled")
kind = logging.getLoggerClass()
calibration = Calibration(bundled.image_spec, random_count=2)
for name in ("int8-weights", "int8-static", "fp32"):
    artifact = engine("openvino").export(bundled, Precision(name), Path(arguments[0]), calibration=calibration)
    engine("openvino").open(artifact, threads=1)
print(json.dumps([logging.getLoggerClass() is kind, "nncf.torch" in sys.modules, "openvino_telemetry" in sys.modules]))
"""
    done = fresh_process(code, tmp_path / "model")
    assert done.answer == [True, False, False]
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.bin", "model.xml"]


def test_telemetry_that_a_user_has_loaded_is_held_back(fresh_process):
    code = """
import types
sent = []
class Telemetry:
    def send_event(self, *arguments): sent.append(arguments)
sys.modules["openvino_telemetry"] = module = types.ModuleType("openvino_telemetry")
module.Telemetry = Telemetry
from vitlet.engines.openvino.quiet import without_telemetry
with without_telemetry():
    Telemetry().send_event("inside")
Telemetry().send_event("outside")
print(json.dumps([sent, sys.modules["openvino_telemetry"] is module]))
"""
    assert fresh_process(code).answer == [[["outside"]], True]


def test_opening_needs_neither_torch_nor_nncf(made, fresh_process):
    code = """
from vitlet.engines import engine
from vitlet.records import Artifact, from_json
import numpy as np
artifact = from_json(arguments[0], Artifact)
engine("openvino").warm_imports()
session = engine("openvino").open(artifact, threads=1)
session.run(np.zeros((1, 3, artifact.height, artifact.width), np.float32))
engine("openvino").explain(artifact, threads=1, images=np.zeros((1, 3, artifact.height, artifact.width), np.float32))
print(json.dumps(sorted({"torch", "nncf", "onnx", "timm"} & set(sys.modules))))
"""
    assert fresh_process(code, made("int8-dynamic")).answer == []


def test_missing_packages(fresh_process, made, tmp_path):
    code = """
from pathlib import Path
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in missing else real(name, *rest)
from vitlet.engines import engine
from vitlet.errors import Unsupported
from vitlet.records import Artifact, Precision, from_json
found = engine("openvino")
said = []
missing = {"nncf"}
said.append(found.available().ok)
try:
    found.export(None, Precision("int8-weights"), Path(arguments[1]))
except Unsupported as error:
    said.append(str(error))
missing = {"openvino", "nncf"}
said.append(found.available().reason)
try:
    found.open(from_json(arguments[0], Artifact), threads=1)
except Unsupported as error:
    said.append(str(error))
found.warm_imports()
print(json.dumps(said))
"""
    install = "install with: pip install 'vitlet[openvino]'"
    assert fresh_process(code, made("fp32"), tmp_path / "model").answer == [
        True,
        f"NNCF is not installed; {install}",
        f"OpenVINO is not installed; {install}",
        f"OpenVINO is not installed; {install}",
    ]


def test_plain_openvino_reads_the_files(made, bundled, images, logits_of, fresh_process, tmp_path, relative_error):
    code = """
sys.modules["openvino_telemetry"] = None
import numpy as np, openvino
compiled = openvino.Core().compile_model(arguments[0], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
np.save(arguments[2], compiled({"images": np.load(arguments[1])})["logits"])
print(json.dumps("vitlet" in sys.modules))
"""
    np.save(tmp_path / "images.npy", images)
    artifact = made("int8-static")
    assert fresh_process(code, artifact.path, tmp_path / "images.npy", tmp_path / "logits.npy").answer is False
    assert relative_error(np.load(tmp_path / "logits.npy"), logits_of(bundled, images)) < 0.03


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
@pytest.mark.parametrize("precision", ["fp32", "int8-static"])
def test_memory_does_not_grow_with_sessions(made, fresh_process, precision):
    code = """
from vitlet.engines import engine
from vitlet.records import Artifact, from_json
import numpy as np
artifact = from_json(arguments[0], Artifact)
images = np.zeros((1, 3, artifact.height, artifact.width), np.float32)
def cycle(times):
    for _ in range(times):
        session = engine("openvino").open(artifact, threads=1)
        session.run(images)
        session.close()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20
before = cycle(8)
print(json.dumps(cycle(25) - before))
"""
    # 25 times the weights, 2.9 or 1.1 MB, would be 72 or 26 MB.
    assert fresh_process(code, made(precision)).answer < 20
