"""Which library multiplies int8: chosen when a file is opened, kept by its session, put back after."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from vitlet.engines import engine
from vitlet.engines.torchscript.dynamic_int8 import quantize_linears, using_kernels
from vitlet.errors import Unsupported
from vitlet.records import Precision, TimmArchitecture

KERNELS = [name for name in ("qnnpack", "x86", "onednn") if name in torch.backends.quantized.supported_engines]


@pytest.fixture
def setting():
    """The process-wide setting, put back whatever the test does to it."""
    before = torch.backends.quantized.engine
    yield torch.backends.quantized
    torch.backends.quantized.engine = before


def test_alternating_sessions_answer_as_alone(exported, distilled, images_for, fresh_process, setting, tmp_path):
    """Three kernels in one process, interleaved from the first run on while the global setting says
    something else, give bit for bit what each gives in a process of its own."""
    script = engine("torchscript")
    images = [images_for(distilled, 2, seed=seed) for seed in range(3)]
    np.save(tmp_path / "images.npy", np.stack(images))
    code = """
from vitlet.engines import engine
from vitlet.records import Artifact, from_json
import numpy as np
session = engine("torchscript").open(from_json(arguments[0], Artifact), threads=1)
print(json.dumps([session.run(images).tolist() for images in np.load(arguments[1])]))
"""
    artifacts = {kernels: exported(script, Precision("int8-dynamic", kernels)) for kernels in KERNELS}
    alone = {
        kernels: np.array(fresh_process(code, artifact, tmp_path / "images.npy").answer, np.float32)
        for kernels, artifact in artifacts.items()
    }
    setting.engine = KERNELS[-1]
    sessions = {kernels: script.open(artifact, threads=1) for kernels, artifact in artifacts.items()}
    assert setting.engine == KERNELS[-1]
    for number, batch in enumerate(images):
        for kernels, session in sessions.items():
            setting.engine = KERNELS[number % len(KERNELS)]
            np.testing.assert_array_equal(session.run(batch), alone[kernels][number])
            assert setting.engine == KERNELS[number % len(KERNELS)]
    if {"qnnpack", "x86"} <= set(KERNELS):
        # qnnpack quantizes activations to 8 bits and x86 to 7, so that equal answers would be the same kernels.
        assert not np.array_equal(alone["qnnpack"], alone["x86"])


@pytest.mark.parametrize("kernels", KERNELS)
def test_plain_torch_gets_these_kernels_by_the_setting_at_load(kernels, exported, distilled, images_for, setting):
    """The file does not depend on the kernels it was exported for; what holds is the setting at load."""
    images = images_for(distilled, 2)
    artifact = exported(engine("torchscript"), Precision("int8-dynamic", kernels))
    wanted = engine("torchscript").open(artifact, threads=1).run(images)
    for written_for in KERNELS:
        path = exported(engine("torchscript"), Precision("int8-dynamic", written_for)).path
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            setting.engine = kernels
            loaded = torch.jit.load(path)
            setting.engine = KERNELS[0] if kernels != KERNELS[0] else KERNELS[-1]
            np.testing.assert_allclose(loaded(torch.from_numpy(images)).numpy(), wanted, rtol=0, atol=1e-5)


def test_setting_is_put_back_after_a_failure(setting):
    setting.engine = KERNELS[0]
    seen = []
    with pytest.raises(ZeroDivisionError), using_kernels(KERNELS[-1]):
        seen.append(setting.engine) or 1 / 0
    assert seen == [KERNELS[-1]]
    assert setting.engine == KERNELS[0]
    with using_kernels(""):
        assert setting.engine == KERNELS[0]


def test_missing_kernels_are_named():
    listed = ", ".join(torch.backends.quantized.supported_engines)
    with (
        pytest.raises(Unsupported, match=f"has no nosuch kernels on this machine; it has: {listed}"),
        using_kernels("nosuch"),
    ):
        pass


def test_missing_kernels_are_refused_before_anything_is_written(fresh_process, exported, tmp_path):
    """On a machine whose PyTorch lists other kernels, such as Arm's, which has no x86."""
    code = """
from pathlib import Path
import torch
torch._C._supported_qengines = lambda: [0, 2]
from vitlet.engines import engine
from vitlet.errors import Unsupported
from vitlet.models.checkpoint import load_checkpoint
from vitlet.records import Artifact, Precision, from_json
script, said = engine("torchscript"), []
try:
    script.export(load_checkpoint(arguments[0]), Precision("int8-dynamic", "x86"), Path(arguments[1]) / "model")
except Unsupported as unsupported:
    said.append(unsupported.reason)
try:
    script.open(from_json(arguments[2], Artifact), threads=1)
except Unsupported as unsupported:
    said.append(unsupported.reason)
print(json.dumps(said))
"""
    if "x86" not in KERNELS:
        pytest.skip("x86 kernels are missing for real")
    checkpoint = exported(engine("torch"), Precision("fp32")).path
    artifact = exported(engine("torchscript"), Precision("int8-dynamic", "x86"))
    reason = f"PyTorch {torch.__version__} has no x86 kernels on this machine; it has: qnnpack"
    assert fresh_process(code, checkpoint, tmp_path, artifact).answer == [reason, reason]
    assert list(tmp_path.iterdir()) == []


def test_qnnpack_says_nothing_to_the_user(exported, fresh_process):
    """PyTorch would print its notice about reduce_range on standard error, once per process."""
    code = """
from vitlet.engines import engine
from vitlet.records import Artifact, from_json
import numpy as np
session = engine("lite").open(from_json(arguments[0], Artifact), threads=1)
session.run(np.zeros((1, 3, 32, 32), np.float32))
print(json.dumps("done"))
"""
    done = fresh_process(code, exported(engine("lite"), Precision("int8-dynamic", "qnnpack")))
    assert (done.answer, done.stderr) == ("done", "")


def test_layers_whose_weights_are_read_past_them_stay_fp32(make_classifier, images_for, logits_of, tmp_path):
    """BEiT computes its query, key and value from the layer's weight itself, and MLPs by the layer."""
    options = {"embed_dim": 64, "depth": 2, "num_heads": 2}
    beit = make_classifier(TimmArchitecture("beit_base_patch16_224", 5, 224, 224, options))
    artifact = engine("torchscript").export(beit, Precision("int8-dynamic", KERNELS[0]), tmp_path / "beit")
    assert artifact.note.startswith("2 of 9 Linear layers stay fp32: the model reads their weights itself")
    images = images_for(beit, 1)
    found, wanted = engine("torchscript").open(artifact, threads=1).run(images), logits_of(beit, images)
    assert 1e-4 < np.linalg.norm(found - wanted) / np.linalg.norm(wanted) < 0.1


def test_convolutional_model_says_how_little_is_int8(make_classifier):
    resnet = make_classifier(TimmArchitecture("test_resnet", 5, 64, 64))
    _, note = quantize_linears(resnet.module, torch.zeros(1, 3, 64, 64), KERNELS[0])
    assert note == "only 0% of the weights are int8: the others are not in Linear layers"


def test_model_without_linears_is_unsupported():
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 8), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()
    with pytest.raises(Unsupported, match="no Linear layer that could be quantized; use fp32"):
        quantize_linears(module, torch.zeros(1, 3, 8, 8), KERNELS[0])


def test_pytorch_without_eager_quantization(exported, distilled, fresh_process, tmp_path):
    """As PyTorch announces it for some later version: int8 is then unsupported, fp32 is not."""
    code = """
from pathlib import Path
import torch
sys.modules["torch.ao.quantization"] = None
from vitlet.engines import engine
from vitlet.errors import Unsupported
from vitlet.models.checkpoint import load_checkpoint
from vitlet.records import Precision
classifier = load_checkpoint(arguments[0])
script = engine("torchscript")
assert script.export(classifier, Precision("fp32"), Path(arguments[1]) / "fp32").size_bytes
try:
    script.export(classifier, Precision("int8-dynamic", arguments[2]), Path(arguments[1]) / "int8")
except Unsupported as unsupported:
    print(json.dumps(unsupported.reason))
"""
    checkpoint = exported(engine("torch"), Precision("fp32")).path
    reason = fresh_process(code, checkpoint, tmp_path, KERNELS[0]).answer
    assert reason == (
        f"PyTorch {torch.__version__} no longer has torch.ao.quantization.quantize_dynamic; "
        "pin torch 2.12.1, or use fp32"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["fp32.pt"]
