"""What all tests share: the command line as a user runs it, and pictures to run it on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from vitlet.data.samples import bundled_images


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
