"""What all tests share: the command line as a user runs it, and pictures to run it on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from vitlet.bundle.manifest import Images, Manifest, ModelFile, Recipe
from vitlet.data.imageset import Skipped
from vitlet.data.samples import bundled_images
from vitlet.records import Artifact, Environment, ImageSpec, Measurement, Parity, Precision, VitArchitecture


@pytest.fixture(scope="session", autouse=True)
def state_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What vitlet remembers of earlier looks at images (``vitlet.certify.looks``) is not that of who tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def state_of_one_test(
    state_of_tests: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor that of another test, whose looks would be charged for in this one."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


@pytest.fixture(scope="session")
def vitlet() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``vitlet ARGUMENTS`` in a process of its own, as a user does; returns the finished process."""

    def run(
        *arguments: str | Path, timeout: float = 240, env: dict[str, str] | None = None, **options: object
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "vitlet", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **(env or {})},
            **options,
        )

    return run


@pytest.fixture(scope="session")
def start_vitlet() -> Callable[..., subprocess.Popen[str]]:
    """Start ``vitlet ARGUMENTS`` in a session of its own, to be signalled while it works."""

    def start(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "vitlet", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )

    return start


@pytest.fixture(scope="session")
def few_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bundled images of each class, in class folders."""
    folder = tmp_path_factory.mktemp("few")
    for class_folder in sorted(path for path in bundled_images().iterdir() if path.is_dir()):
        (folder / class_folder.name).mkdir()
        for image in sorted(class_folder.glob("*.png"))[:2]:
            (folder / class_folder.name / image.name).write_bytes(image.read_bytes())
    return folder


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A small colour JPEG."""
    path = tmp_path / "photo.jpg"
    Image.effect_mandelbrot((64, 48), (-2, -1.5, 1, 1.5), 100).convert("RGB").save(path)
    return path


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    """A model file of 300 kB whose content no compression or chance reproduces."""
    folder = tmp_path / "exported"
    folder.mkdir()
    path = folder / "torchscript-int8-dynamic-x86.pt"
    path.write_bytes(bytes(range(256)) * 1200)
    return Artifact("torchscript", Precision("int8-dynamic", "x86"), path, path.stat().st_size, 224, 224, 3, "scripted")


@pytest.fixture
def manifest(artifact: Artifact) -> Manifest:
    """Of a bundle with that file."""
    return Manifest(
        vitlet_version="0.1.0",
        created="2026-10-01T12:00:00+00:00",
        reference="deit_small_patch16_224",
        library="timm",
        random_weights=False,
        architecture=VitArchitecture(224, 224, 16, 384, 12, 6, 1536, 3, distillation_token=True),
        image_spec=ImageSpec(224, 224, 248),
        labels=("cat", "dog", "Ente 🦆"),
        recipe=Recipe(
            "vitlet compress deit_small_patch16_224 --out x", "torchscript", "int8-dynamic-x86", 2, {"runs": 64}
        ),
        model=ModelFile.of(artifact),
        environment=Environment("CPU", "x86_64", ("avx2",), 2, 8 * 2**30, "Linux", "3.11.2", {"torch": "2.12.1"}, 2),
        measurements=(
            Measurement("torch", "fp32", "ok", latency_samples_ms=((79.1, 79.4), (80.0, 78.9)), size_bytes=88_000_000),
            Measurement("torchscript", "int8-dynamic-x86", "ok", latency_samples_ms=((22.0,), (22.3,)), top1=0.9),
            Measurement("mobile", "fp32", "unsupported", "PyTorch 2.13 has no XNNPACK"),
        ),
        chosen=1,
        baseline=0,
        sentences=("torchscript int8-dynamic-x86 is best here.",),
        images=Images(12, 10, (Skipped("broken.jpg", "truncated"),), 1),
        parity=Parity("timm 1.0.31", 4, 0.0, 1e-5),
    )
