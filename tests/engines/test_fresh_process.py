"""Artifacts reopened by a process that never saw the model."""

from __future__ import annotations

import numpy as np
import pytest

from vitlet.engines import engine
from vitlet.records import Precision

#: A trace takes long to make; these show the ways that it goes.
TRACED = [("torchscript", Precision("fp32")), ("lite", Precision("int8-dynamic", "qnnpack"))]

#: Ten seconds for each file: the other precisions of these are exported from one model only.
SLOW_TO_EXPORT = ("executorch", "litert")
FROM_EVERY_MODEL = ("fp32", "int8-dynamic")

#: Relative L2 error of the logits that int8 may bring to these small models; fp32 gets 1e-5.
INT8_ERROR = 0.1
#: Sixteen steps for a weight, in a model whose random weights have no redundancy.
INT4_ERROR = 0.4

OPEN_ALL = """
import numpy as np
from pathlib import Path
from vitlet.engines import engine
from vitlet.records import Artifact, from_json

artifacts, images_path, logits_path = arguments
images = np.load(images_path)
logits = {}
for key, artifact in artifacts.items():
    artifact = from_json(artifact, Artifact)
    session = engine(artifact.engine).open(artifact, threads=1)
    for batch in (1, 3):
        logits[f"{key}/{batch}"] = session.run(images[key.split("/")[0]][:batch])
    session.close()
np.savez(logits_path, **logits)
"""


@pytest.fixture(scope="module")
def reopened(classifiers, images_for, exported, fresh_process, tmp_path_factory):
    """Every variant of an engine, of every classifier, run in one fresh process for each engine:
    {name/engine/precision/batch: logits}."""
    folder = tmp_path_factory.mktemp("reopened")
    np.savez(folder / "images.npz", **{name: images_for(c, 3) for name, c in classifiers.items()})
    done = {}

    def reopen(found):
        if found.name not in done:
            artifacts = {}
            for name in classifiers:
                for precision in found.precisions():
                    if name == "traced" and (found.name, precision) not in TRACED:
                        continue
                    slow = found.name in SLOW_TO_EXPORT and precision.name not in FROM_EVERY_MODEL
                    if slow and name != "distilled":
                        continue
                    try:
                        artifacts[f"{name}/{found.name}/{precision}"] = exported(found, precision, name)
                    except pytest.skip.Exception:
                        continue
            logits = folder / f"{found.name}.npz"
            assert fresh_process(OPEN_ALL, artifacts, folder / "images.npz", logits).returncode == 0
            done[found.name] = dict(np.load(logits))
        return done[found.name]

    return reopen


@pytest.fixture(scope="module")
def own_logits(classifiers, images_for, logits_of):
    return {(n, batch): logits_of(c, images_for(c, 3)[:batch]) for n, c in classifiers.items() for batch in (1, 3)}


def check(name, engine, precision, own_logits, reopened, relative_error):
    logits = reopened(engine)
    if f"{name}/{engine.name}/{precision}/1" not in logits:
        pytest.skip(f"{engine.name} {precision} is unsupported here, or not exported from {name}")
    for batch in (1, 3):
        wanted = own_logits[name, batch]
        found = logits[f"{name}/{engine.name}/{precision}/{batch}"]
        assert found.shape == wanted.shape == (batch, wanted.shape[1])
        assert np.abs(wanted).max() > 0.3  # else the tolerance would be no tolerance
        if precision.name == "fp32":
            assert np.abs(found - wanted).max() < 1e-4
            assert relative_error(found, wanted) < 1e-5
        else:
            limit = INT4_ERROR if precision.name.startswith("int4") else INT8_ERROR
            assert 1e-4 < relative_error(found, wanted) < limit


@pytest.mark.parametrize("name", ["distilled", "pooled", "opaque"])
def test_logits_are_the_models_own(engine, precision, name, own_logits, reopened, relative_error):
    check(name, engine, precision, own_logits, reopened, relative_error)


@pytest.mark.parametrize(("engine_name", "traced_precision"), TRACED)
def test_logits_of_a_traced_model(engine_name, traced_precision, own_logits, reopened, relative_error):
    check("traced", engine(engine_name), traced_precision, own_logits, reopened, relative_error)


def test_traced_model_says_so(exported):
    for name, precision in TRACED:
        assert exported(engine(name), precision, "traced").note == "traced: the model cannot be scripted"


WARM = """
from vitlet.engines import engine
from vitlet.records import Artifact, from_json
import numpy as np

artifact = from_json(arguments[0], Artifact)
assert "torch" not in sys.modules
found = engine(artifact.engine)
assert "torch" not in sys.modules
found.warm_imports()
warm = set(sys.modules)
session = found.open(artifact, threads=1)
session.run(np.zeros((1, 3, artifact.height, artifact.width), np.float32))
print(json.dumps([sorted(set(sys.modules) - warm), "timm" in sys.modules]))
"""


@pytest.mark.parametrize("name", ["torch", "torchscript", "mobile", "lite", "inductor", "openvino"])
def test_warm_imports_import_all(name, exported, fresh_process):
    """Nothing is left to import, and to be paid for, when the artifact is opened; and no timm."""
    found = engine(name)
    artifact = exported(found, found.precisions()[-1])
    done = fresh_process(WARM, artifact)
    assert done.answer == [[], False]
    assert done.stderr == ""


def test_lists_of_engines_import_no_runtime(fresh_process):
    code = """
from vitlet.engines import engines
for found in engines().values():
    found.precisions()
print(json.dumps(sorted({"torch", "timm", "numpy.linalg", "transformers"} & set(sys.modules))))
"""
    assert "torch" not in fresh_process(code).answer
    assert "timm" not in fresh_process(code).answer


def test_opaque_model_needs_timm_only_for_the_torch_engine(exported, fresh_process):
    """A TorchScript file carries its own program; a checkpoint is rebuilt by timm."""
    code = """
from vitlet.engines import engine
from vitlet.records import Artifact, from_json
import numpy as np
seen = []
for artifact in (from_json(a, Artifact) for a in arguments):
    session = engine(artifact.engine).open(artifact, threads=1)
    session.run(np.zeros((1, 3, artifact.height, artifact.width), np.float32))
    seen.append("timm" in sys.modules)
print(json.dumps(seen))
"""
    artifacts = [exported(engine(name), Precision("fp32"), "opaque") for name in ("torchscript", "torch")]
    assert fresh_process(code, *artifacts).answer == [False, True]


def test_plain_torch_loads_the_files(
    exported, fresh_process, distilled, images_for, logits_of, relative_error, tmp_path
):
    """Whoever deploys needs torch.jit.load or the lite interpreter, and no vitlet."""
    code = """
import warnings
warnings.simplefilter("ignore")
import numpy as np, torch, torch.jit.mobile
images, logits = arguments[:2]
images = torch.from_numpy(np.load(images))
found = {}
for path in arguments[2:]:
    load = torch.jit.mobile._load_for_lite_interpreter if path.endswith(".ptl") else torch.jit.load
    with torch.inference_mode():
        found[path] = load(path)(images).numpy()
assert not [name for name in sys.modules if name.startswith("vitlet")]
np.savez(logits, **{str(i): found[path] for i, path in enumerate(arguments[2:])})
print(json.dumps(True))
"""
    paths = []
    for name in ("torchscript", "mobile", "lite"):
        for precision in engine(name).precisions():
            try:
                paths.append(exported(engine(name), precision).path)
            except pytest.skip.Exception:
                continue
    images = images_for(distilled, 2)
    np.save(tmp_path / "images.npy", images)
    assert fresh_process(code, tmp_path / "images.npy", tmp_path / "logits.npz", *paths).answer
    logits = np.load(tmp_path / "logits.npz")
    for number, path in enumerate(paths):
        limit = 1e-5 if "fp32" in path.name else INT8_ERROR
        assert relative_error(logits[str(number)], logits_of(distilled, images)) < limit, path
    assert len(paths) >= 2
