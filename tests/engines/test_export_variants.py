"""Exports in processes of their own: one that crashes, prints or fails costs its own row and nothing else."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path

import pytest

from vitlet.engines import engine
from vitlet.engines.variants import export_one, export_variants
from vitlet.errors import ExportFailed, NotWritable, Unsupported
from vitlet.records import Artifact, Measurement, Precision, Progress

#: An engine whose exporter does what its precision is called after.
FLAKY = """
import os, signal, sys, tempfile
from pathlib import Path
from vitlet.engines.artifacts import describe
from vitlet.errors import InvalidValue, NotWritable, Unsupported
from vitlet.records import Availability, Precision

class FlakyEngine:
    name = "flaky"

    def available(self):
        return Availability(True)

    def precisions(self):
        names = ("fp32", "fp16", "bf16", "int8-static", "int8-dynamic", "int4-weights")
        return tuple(Precision(name) for name in names)

    def export(self, classifier, precision, path, *, calibration=None, device="cpu"):
        print("exporting", flush=True)
        Path(tempfile.gettempdir(), "left-behind").write_text("x")
        if precision.name == "fp16":
            os.kill(os.getpid(), signal.SIGSEGV)
        if precision.name == "bf16":
            raise RuntimeError("\\n  cannot lower\\n  at line 3")
        if precision.name == "int8-dynamic":
            raise Unsupported("no such instructions here")
        if precision.name == "int4-weights":
            raise NotWritable("the disk is full")
        target = path.with_name(path.name + ".flaky")
        target.write_text(f"{classifier.reference} {len(calibration or ())} {device}")
        return describe(self, classifier, precision, target, device=device)
"""


@pytest.fixture
def flaky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "plugin"
    folder.mkdir()
    (folder / "flaky_engine.py").write_text(textwrap.dedent(FLAKY))
    info = folder / "flaky_engine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flaky-engine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vitlet.engines]\nflaky = flaky_engine:FlakyEngine\n")
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.syspath_prepend(folder)
    yield __import__("flaky_engine").FlakyEngine()
    sys.modules.pop("flaky_engine", None)


def test_each_failure_is_its_own_row(flaky, distilled, calibration_for, tmp_path):
    pairs = [(flaky, precision) for precision in flaky.precisions()]
    steps: list[Progress] = []
    work = tmp_path / "work"
    work.mkdir()
    rows = export_variants(distilled, pairs, work, steps.append, calibration=calibration_for(distilled))
    assert [isinstance(row, Artifact) for row in rows] == [True, True, False, False, True, False, False]
    assert (rows[0].engine, str(rows[0].precision)) == ("torch", "fp32")
    assert rows[4].path.read_text() == f"{distilled.reference} 16 cpu"
    failed = [row for row in rows if isinstance(row, Measurement)]
    assert [(row.precision, row.status) for row in failed] == [
        ("fp16", "failed"),
        ("bf16", "failed"),
        ("int8-dynamic", "unsupported"),
        ("int4-weights", "failed"),
    ]
    assert failed[0].reason.startswith("flaky: the exporting process was killed by SIGSEGV (a fault in the runtime")
    assert [row.reason for row in failed[1:]] == [
        "RuntimeError: cannot lower",
        "no such instructions here",
        "the disk is full",
    ]
    assert {step.total for step in steps} == {7}
    assert any(step.detail == "flaky int8-static" for step in steps)
    assert not (Path("/tmp") / "left-behind").exists()


@pytest.mark.parametrize(
    ("precision", "error", "text"),
    [
        ("fp16", ExportFailed, "killed by SIGSEGV"),
        ("bf16", ExportFailed, "RuntimeError: cannot lower"),
        ("int8-dynamic", Unsupported, "no such instructions"),
        ("int4-weights", NotWritable, "the disk is full"),
    ],
)
def test_one_export_raises_what_it_is(flaky, distilled, tmp_path, precision, error, text):
    with pytest.raises(error, match=text):
        export_one(distilled, (flaky, Precision(precision)), tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["plugin"]


def test_one_export_goes_where_it_should(flaky, distilled, tmp_path):
    artifact = export_one(distilled, (flaky, Precision("fp32")), tmp_path / "vit.v2")
    assert artifact.path == tmp_path / "vit.v2.flaky"
    assert artifact.path.read_text() == f"{distilled.reference} 0 cpu"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plugin", "vit.v2.flaky"]


def test_real_exports_are_the_same_as_in_this_process(distilled, images_for, tmp_path):
    import numpy as np

    torchscript = engine("torchscript")
    artifact = export_one(distilled, (torchscript, Precision("fp32")), tmp_path / "model")
    session = torchscript.open(artifact, threads=1)
    here = torchscript.open(torchscript.export(distilled, Precision("fp32"), tmp_path / "here"), threads=1)
    images = images_for(distilled, 2)
    np.testing.assert_array_equal(session.run(images), here.run(images))
