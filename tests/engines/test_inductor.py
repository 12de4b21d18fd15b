"""What is particular to compiled packages: native code in a file, made for one machine."""

from __future__ import annotations

import json
import os
import shutil
import sys
import warnings
import weakref
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from vitlet.engines import engine
from vitlet.errors import ModelUnreadable, Unsupported
from vitlet.records import Precision

FP32, BF16 = Precision("fp32"), Precision("bf16")
STATIC, DYNAMIC = Precision("int8-static"), Precision("int8-dynamic")

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no compiler")


def rewritten(artifact, folder, change):
    """The package again, sound as a zip, with each record put through ``change(name, content)``."""
    path = folder / artifact.path.name
    with zipfile.ZipFile(artifact.path) as old, zipfile.ZipFile(path, "w") as new:
        for record in old.infolist():
            new.writestr(record.filename, change(record.filename, old.read(record)))
    return replace(artifact, path=path)


def with_record(artifact, folder, **changes):
    def change(name, content):
        return json.dumps(json.loads(content) | changes).encode() if name.endswith("vitlet.json") else content

    return rewritten(artifact, folder, change)


def record_of(artifact):
    with zipfile.ZipFile(artifact.path) as archive:
        return archive.read("model/extra/vitlet.json").decode()


@pytest.mark.parametrize(("precision", "limit"), [(FP32, 1e-5), (BF16, 0.02), (STATIC, 0.06), (DYNAMIC, 0.06)])
def test_logits(precision, limit, exported, distilled, images_for, logits_of, relative_error):
    session = engine("inductor").open(exported(engine("inductor"), precision), threads=1)
    images = images_for(distilled, 3, seed=5)
    found = session.run(images)
    assert relative_error(found, logits_of(distilled, images)) < limit
    # A batch is run image by image.
    np.testing.assert_array_equal(found[1:2], session.run(images[1:2]))


def test_weights_are_as_small_as_they_say(exported, distilled):
    numbers = sum(parameter.numel() for parameter in distilled.module.parameters())
    sizes = {p: exported(engine("inductor"), p).size_bytes for p in (FP32, BF16, STATIC, DYNAMIC)}
    code = sizes[FP32] - 4 * numbers
    assert 0 < code < 2_000_000
    assert 1.9 < (sizes[BF16] - code) / numbers < 2.1
    assert all(0.9 < (sizes[p] - code) / numbers < 1.4 for p in (STATIC, DYNAMIC))


def test_explains_what_was_fused(exported, distilled, images_for):
    execution = engine("inductor").explain(
        exported(engine("inductor"), FP32), threads=1, images=images_for(distilled, 1)
    )
    counts = {operator.name: (operator.arithmetic, operator.count) for operator in execution.operators}
    # Query, key and value; up; one head. The other head adds the first one's logits.
    assert counts["linear_pointwise"] == ("fp32", 3 + 3 + 1)
    assert counts["linear_pointwise_binary"] == ("fp32", 3 + 3 + 1)
    assert counts["scaled_dot_product_flash_attention_for_cpu"] == ("fp32", 3)
    assert {(f.what, f.done, f.of) for f in execution.fusions} == {
        ("attention", 3, 3),
        ("layer norm", 7, 7),
        ("gelu", 3, 3),
    }
    assert "3 GELUs are computed by the linear layer before them, in the same call." in execution.notes
    assert "7 additions are done by the linear layer before them, in the same call." in execution.notes
    assert all(operator.time_ms is not None for operator in execution.operators)


@pytest.mark.parametrize(("precision", "products"), [(STATIC, 14 + 1), (DYNAMIC, 14)])
def test_int8_is_int8(precision, products, exported, distilled, images_for):
    execution = engine("inductor").explain(
        exported(engine("inductor"), precision), threads=1, images=images_for(distilled, 1)
    )
    assert sum(o.count for o in execution.operators if o.arithmetic == "int8") == products
    assert not [o.name for o in execution.operators if "linear" in o.name and o.arithmetic != "int8"]
    assert execution.notes[0].startswith(f"{products} products run in int8")
    assert ("layer norm", 7, 7) in {(f.what, f.done, f.of) for f in execution.fusions}


def test_plain_pytorch_loads_the_package(exported, distilled, images_for, logits_of, relative_error):
    images = images_for(distilled, 1)
    plain = torch._inductor.aoti_load_package(str(exported(engine("inductor"), FP32).path))
    assert relative_error(plain(torch.from_numpy(images)).detach().numpy(), logits_of(distilled, images)) < 1e-5


@pytest.mark.parametrize("ending", [".so", ".cpp", "metadata.json"])
def test_changed_records_are_not_run(ending, exported, tmp_path):
    """Sound as a zip, with sums that fit: only the hashes in vitlet's record tell."""
    changed = rewritten(
        exported(engine("inductor"), FP32), tmp_path, lambda n, c: c[:-1] + b"?" if n.endswith(ending) else c
    )
    with pytest.raises(ModelUnreadable, match="has changed"):
        engine("inductor").open(changed, threads=1)


def test_records_too_many_or_compressed_are_refused(exported, tmp_path):
    artifact = rewritten(exported(engine("inductor"), FP32), tmp_path, lambda n, c: c)
    with zipfile.ZipFile(artifact.path, "a") as archive:
        archive.writestr("model/data/aotinductor/model/more.txt", "more")
    with pytest.raises(ModelUnreadable, match="its records are not those that were written"):
        engine("inductor").open(artifact, threads=1)
    foreign = replace(artifact, path=tmp_path / "foreign.pt2")
    with zipfile.ZipFile(foreign.path, "w") as archive:
        archive.writestr("model/data/aotinductor/model/code.so", "\x7fELF")
    with pytest.raises(ModelUnreadable, match="is no package of compiled code written by vitlet"):
        engine("inductor").open(foreign, threads=1)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"instructions": ["avx2", "avx9000"]}, "compiled for a processor with avx9000, which this one has not"),
        ({"instructions": None}, "compiled for a processor with unknown"),
        ({"torch": "1.0.0"}, r"compiled for PyTorch 1\.0\.0, and this is"),
        ({"platform": "plan9-mips"}, "compiled for plan9-mips, and this is"),
    ],
)
def test_other_machines_are_refused(changes, complaint, exported, tmp_path):
    with pytest.raises(Unsupported, match=complaint):
        engine("inductor").open(with_record(exported(engine("inductor"), FP32), tmp_path, **changes), threads=1)


@pytest.mark.parametrize("changes", [{"classes": 11}, {"engine": "torchao"}, {"vitlet_format": "2"}, {"sha256": []}])
def test_other_artifacts_are_refused(changes, exported, tmp_path):
    with pytest.raises(ModelUnreadable, match=r"is another artifact|its records are not"):
        engine("inductor").open(with_record(exported(engine("inductor"), FP32), tmp_path, **changes), threads=1)


def test_sessions_with_other_threads_side_by_side(exported, distilled, images_for):
    artifact = exported(engine("inductor"), FP32)
    one, two = (engine("inductor").open(artifact, threads=threads) for threads in (1, 2))
    images = images_for(distilled, 2)
    for _ in range(3):
        np.testing.assert_allclose(one.run(images), two.run(images), atol=1e-4)
    one.close()
    assert two.run(images).shape == (2, 10)


def test_export_leaves_nothing_behind(exported, fresh_process, tmp_path):
    """No caches in the home or the temporary folder, no process, no setting."""
    code = """
import os
from pathlib import Path
home, temporary = Path(arguments[1]) / "home", Path(arguments[1]) / "temporary"
for folder in (home, temporary):
    folder.mkdir()
os.environ.update(HOME=str(home), TMPDIR=str(temporary))
import torch
from vitlet.engines import engine
from vitlet.models.checkpoint import load_checkpoint
from vitlet.records import Precision
before = dict(os.environ)
classifier = load_checkpoint(arguments[0])
found = engine("inductor")
artifact = found.export(classifier, Precision("fp32"), Path(arguments[1]) / "model")
children = Path(f"/proc/self/task/{os.getpid()}/children")
left = [str(path) for folder in (home, temporary) for path in folder.rglob("*")]
print(json.dumps([left, dict(os.environ) == before, children.read_text() if children.is_file() else ""]))
"""
    done = fresh_process(code, exported(engine("torch"), FP32, "pooled").path, tmp_path)
    assert done.answer == [[], True, ""]
    assert done.stderr == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "model.pt2", "temporary"]


def test_killed_process_leaves_nothing_behind(exported, fresh_process, tmp_path):
    code = """
import os, signal
os.environ["TMPDIR"] = arguments[1]
from vitlet.engines import engine
from vitlet.records import Artifact, from_json
import numpy as np
artifact = from_json(arguments[0], Artifact)
session = engine("inductor").open(artifact, threads=1)
session.run(np.zeros((1, 3, artifact.height, artifact.width), np.float32))
assert not [name for name in sys.modules if name.startswith("torch._inductor.c")]  # no compiler
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert fresh_process(code, exported(engine("inductor"), STATIC), tmp_path).returncode == -9
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_sessions(exported, fresh_process):
    """200 times open, run, close: a leak of the weights would be 1080 MB, of the library's code 100."""
    code = """
from vitlet.engines import engine
from vitlet.records import Artifact, from_json
import numpy as np
artifact = from_json(arguments[0], Artifact)
images = np.zeros((1, 3, artifact.height, artifact.width), np.float32)

def resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

def cycle(times):
    for _ in range(times):
        session = engine("inductor").open(artifact, threads=1)
        session.run(images)
        session.close()

cycle(10)
before = resident_mib()
cycle(200)
with open("/proc/self/maps") as file:
    print(json.dumps([resident_mib() - before, sum(".so (deleted)" in line for line in file)]))
"""
    grown, mapped = fresh_process(code, exported(engine("inductor"), FP32)).answer
    assert grown < 20
    assert mapped == 0


class Calibrating:
    """Images that may not be kept."""

    def __init__(self, count):
        self.count = count
        self.most_alive = 0

    def __iter__(self):
        alive = []
        for seed in range(self.count):
            alive = [image for image in alive if image() is not None]
            self.most_alive = max(self.most_alive, len(alive))
            image = np.random.default_rng(seed).standard_normal((1, 3, 16, 16), dtype=np.float32)
            alive.append(weakref.ref(image))
            yield image


def test_calibration_images_are_read_one_at_a_time():
    images = Calibrating(8)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 4)).eval()
    _, note = quantized(module, images)
    assert note == ""
    assert 0 < images.most_alive <= 2


def test_models_with_few_linears_or_none():
    convolution = torch.nn.Conv2d(3, 8, 16, 16)
    mixed = torch.nn.Sequential(convolution, torch.nn.Flatten(), torch.nn.Linear(8, 4)).eval()
    share = 8 * 4 / sum(parameter.numel() for parameter in mixed.parameters())
    wanted = f"only {share:.0%} of the weights are int8: the others are in layers that stay as they are"
    assert quantized(mixed, None)[1] == wanted
    assert quantized(mixed, Calibrating(2))[1] == ""  # there the convolution is quantized, too
    with pytest.raises(Unsupported, match="no Linear layer that could be quantized; use fp32"):
        quantized(torch.nn.Sequential(convolution, torch.nn.Flatten()).eval(), None)


def quantized(module, calibration):
    from vitlet.engines.inductor.pt2e import quantized_program

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return quantized_program(module, torch.zeros(1, 3, 16, 16), calibration)


def test_without_compiler(distilled, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(Unsupported, match=r"needs a C\+\+ compiler to export, and there is no .*; install"):
        engine("inductor").export(distilled, FP32, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_without_torchao(distilled, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao", None)
    with pytest.raises(
        Unsupported, match=r"torchao, which quantizes, is not installed; .* pip install 'vitlet\[torchao\]"
    ):
        engine("inductor").export(distilled, DYNAMIC, tmp_path / "model")


def test_packages_for_another_gpu_are_refused(exported, tmp_path, monkeypatch):
    artifact = exported(engine("inductor"), FP32)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    assert '"compute_capability":null' in record_of(artifact)
    for told in ("8.6", None):
        other = with_record(artifact, tmp_path, device="cuda", compute_capability=told)
        with pytest.raises(Unsupported, match=f"for a GPU of compute capability {told}, and this one has 9.0; export"):
            engine("inductor").open(replace(other, device="cuda"), threads=1)


@pytest.mark.parametrize("ending", [".so", "metadata.json"])
def test_changed_records_are_not_run_on_a_gpu(ending, exported, tmp_path):
    """There PyTorch unpacks the library itself, so all is verified before."""
    recorded = with_record(exported(engine("inductor"), FP32), tmp_path, device="cuda")
    (tmp_path / "changed").mkdir()
    changed = rewritten(recorded, tmp_path / "changed", lambda n, c: c[:-1] + b"?" if n.endswith(ending) else c)
    with pytest.raises(ModelUnreadable, match="has changed"):
        engine("inductor").open(replace(changed, device="cuda"), threads=1)


def test_gpu(distilled, images_for, logits_of, relative_error, tmp_path):
    if not torch.cuda.is_available():
        with pytest.raises(Unsupported, match="finds no CUDA device here; install a CUDA build of PyTorch"):
            engine("inductor").export(distilled, FP32, tmp_path / "model", device="cuda")
        return
    artifact = engine("inductor").export(distilled, FP32, tmp_path / "model", device="cuda")
    assert artifact.device == "cuda"
    images = images_for(distilled, 3)
    session = engine("inductor").open(artifact, threads=1)
    assert relative_error(session.run(images), logits_of(distilled, images)) < 1e-2


def test_names_with_dots_and_spaces(exported, tmp_path, distilled, images_for):
    artifact = exported(engine("inductor"), FP32)
    moved = replace(artifact, path=tmp_path / "my model.v2.pt2")
    os.link(artifact.path, moved.path)
    assert engine("inductor").open(moved, threads=1).run(images_for(distilled, 1)).shape == (1, 10)
