"""LiteRT beyond the common rules: what XNNPACK takes, damaged files, plain LiteRT, and what cannot be had."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitlet.engines import engine
from vitlet.errors import ModelUnreadable, Unsupported
from vitlet.records import Precision

pytest.importorskip("ai_edge_litert")
pytest.importorskip("litert_torch")

FP32 = Precision("fp32")
#: Relative L2 error of the logits of the small distilled model. Its weights alone rounded to int8 make 0.026.
MOST_ERROR = {"fp32": 1e-5, "int8-dynamic": 0.045, "int8-static": 0.08, "int8-weights": 0.03}


@pytest.fixture(scope="module")
def runtime():
    return engine("litert")


def uses(execution):
    return {(use.name, use.arithmetic): use.count for use in execution.operators}


@pytest.mark.parametrize("name", MOST_ERROR)
def test_whole_model_is_one_xnnpack_graph(runtime, name, exported, distilled, images_for):
    """3 blocks, 7 LayerNorms, 12 linears in the blocks, 2 heads and the patch embedding."""
    execution = runtime.explain(exported(runtime, Precision(name)), threads=1, images=images_for(distilled, 1))
    assert "in one piece" in execution.notes[0]
    found = uses(execution)
    kind = "int8" if name in ("int8-dynamic", "int8-static") else "fp32"
    assert found["FULLY_CONNECTED", kind] == 14
    assert found["CONV_2D", kind] == 1
    assert found["BATCH_MATMUL", "fp32"] == 6
    assert found["GELU", "fp32"] == 3
    assert (("DEQUANTIZE", "data") in found) == (name in ("int8-weights", "int8-static"))
    assert [(f.what, f.done, f.of) for f in execution.fusions] == [
        ("attention", 0, 3),
        ("layer norm", 0, 7),
        ("gelu", 3, 3),
    ]


@pytest.mark.parametrize("name", MOST_ERROR)
def test_logits_keep_their_accuracy(runtime, name, exported, distilled, images_for, logits_of, relative_error):
    images = images_for(distilled, 3)
    session = runtime.open(exported(runtime, Precision(name)), threads=1)
    assert relative_error(session.run(images), logits_of(distilled, images)) < MOST_ERROR[name]


@pytest.mark.parametrize("name", ["int8-dynamic", "int8-static", "int8-weights"])
def test_weights_are_a_quarter(runtime, name, exported):
    assert 0.24 < exported(runtime, Precision(name)).size_bytes / exported(runtime, FP32).size_bytes < 0.32


def test_plain_litert_loads_the_file(runtime, exported, distilled, images_for, fresh_process):
    code = """
import numpy as np
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(arguments[0])
((signature, names),) = interpreter.get_signature_list().items()
images = np.array(arguments[1], np.float32)
answers = interpreter.get_signature_runner(signature)(**{names["inputs"][0]: images})
assert not [name for name in sys.modules if name.startswith("vitlet")]
print(json.dumps(answers[names["outputs"][0]].tolist()))
"""
    artifact, images = exported(runtime, FP32), images_for(distilled, 1)
    found = fresh_process(code, artifact.path, images.tolist()).answer
    np.testing.assert_allclose(found, runtime.open(artifact, threads=1).run(images), atol=1e-5)


def test_opening_imports_neither_the_converter_nor_pytorch(runtime, exported, distilled, images_for, fresh_process):
    code = """
import numpy as np
from vitlet.engines import engine
from vitlet.records import Artifact, from_json
artifact = from_json(arguments[0], Artifact)
engine("litert").open(artifact, threads=1).run(np.zeros((1, 3, 32, 32), np.float32))
print(json.dumps(sorted({"torch", "litert_torch", "jax", "ai_edge_quantizer"} & set(sys.modules))))
"""
    assert fresh_process(code, exported(runtime, Precision("int8-dynamic"))).answer == []


def test_damaged_and_foreign_files_never_reach_the_runtime(runtime, exported, tmp_path):
    artifact = exported(runtime, FP32)
    whole = artifact.path.read_bytes()
    copied = replace(artifact, path=tmp_path / "copy.tflite")
    for at in (5, 100, 20_000, len(whole) // 2, len(whole) - 100, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[at] ^= 4
        copied.path.write_bytes(damaged)
        with pytest.raises(ModelUnreadable, match=r"is damaged or no \.tflite file written by vitlet"):
            runtime.open(copied, threads=1)
    with pytest.raises(ModelUnreadable, match=r"another artifact \(classes 10 instead of 11\)"):
        runtime.open(replace(artifact, classes=11), threads=1)


@pytest.mark.parametrize("package", ["ai_edge_litert", "litert_torch"])
def test_missing_package_is_a_sentence(runtime, distilled, monkeypatch, tmp_path, package):
    monkeypatch.setattr("vitlet.engines.litert.find_spec", lambda name: None if name == package else object())
    with pytest.raises(Unsupported, match=r"pip install 'vitlet\[litert\]"):
        runtime.export(distilled, FP32, tmp_path / "model")


def test_wrong_conversion_is_refused(runtime, distilled, monkeypatch, tmp_path):
    monkeypatch.setattr("vitlet.engines.answers.MOST_ERROR", 0.0)
    with pytest.raises(Unsupported, match="answers wrongly; use the torch engine"):
        runtime.export(distilled, FP32, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_export_is_silent(runtime, distilled, tmp_path, capfd):
    runtime.export(distilled, Precision("int8-dynamic"), tmp_path / "model")
    assert capfd.readouterr() == ("", "")
