"""A plug-in engine that misbehaves to order, and images whose right answers are known."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vitlet.data.imageset import ImageSet
from vitlet.measure.job import Inputs, Job, Timing
from vitlet.records import Artifact, ImageSpec, Precision

CLASSES = 10
SIZE = 8
#: Bytes 0..255 become 0..1 and nothing else.
SPEC = ImageSpec(SIZE, SIZE, (SIZE, SIZE), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
#: Over in a moment, for tests that are not about time.
BRIEF = Timing(runs=3, enough_runs=3, seconds=0.0, longest_s=5.0, warm_up_runs=1, warm_up_s=0.0, warm_up_longest_s=1.0)


@pytest.fixture(scope="session")
def plugin_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds an installed distribution with an engine called "sham"."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copy(Path(__file__).with_name("sham_engine.py"), folder / "sham_engine.py")
    info = folder / "sham_engine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sham-engine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vitlet.engines]\nsham = sham_engine:ShamEngine\n")
    return folder


@pytest.fixture
def plugin(plugin_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The plug-in, installed for the measuring processes."""
    path = os.pathsep.join(filter(None, [str(plugin_path), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    return plugin_path


@pytest.fixture
def sham(plugin: Path, tmp_path: Path) -> Callable[..., Artifact]:
    """Make an artifact of the plug-in's: ``sham("name", run_ms=5)``. Openings go to ``log.jsonl``."""

    def make(name: str = "model", **behaviour: object) -> Artifact:
        path = tmp_path / f"{name}.sham"
        path.write_text(json.dumps({"log": str(tmp_path / "log.jsonl"), **behaviour}))
        return Artifact("sham", Precision("fp32"), path, path.stat().st_size, SIZE, SIZE, CLASSES)

    return make


@pytest.fixture
def log(tmp_path: Path) -> Callable[..., list[dict[str, object]]]:
    """What the plug-in's processes did, in order."""

    def read(event: str) -> list[dict[str, object]]:
        path = tmp_path / "log.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [entry for entry in map(json.loads, lines) if entry["event"] == event]

    return read


@pytest.fixture
def job() -> Callable[..., Job]:
    """A brief job for an artifact."""

    def make(artifact: Artifact, **more: object) -> Job:
        defaults = {"threads": 1, "cpus": (min(os.sched_getaffinity(0)),), "inputs": Inputs(), "timing": BRIEF}
        return Job(artifact, **{**defaults, **more})

    return make


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    """40 constant images, 4 of each class, in class order; the last of each class has no label."""
    classes = np.repeat(np.arange(CLASSES), 4)
    pixels = np.repeat(classes * 10, SIZE * SIZE * 3).reshape(-1, SIZE, SIZE, 3).astype(np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    labels = tuple(-1 if i % 4 == 3 else int(c) for i, c in enumerate(classes))
    return ImageSet(tmp_path / "pixels.npy", SPEC, tuple(f"{i}.png" for i in range(40)), labels)


@pytest.fixture(scope="session")
def is_alive() -> Callable[[int], bool]:
    """Whether that process still runs (a zombie does not)."""

    def look(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    return look


@pytest.fixture(scope="session")
def wait_until() -> Callable[[Callable[[], object]], bool]:
    """Whether a condition comes true within 20 seconds."""

    def wait(condition: Callable[[], object]) -> bool:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if condition():
                return True
            time.sleep(0.02)
        return bool(condition())

    return wait
