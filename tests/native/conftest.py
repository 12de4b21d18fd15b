"""The native library built in every way that it is tested: once, kept in out/, and brought up to date from then on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

REPOSITORY = Path(__file__).parents[2]
NATIVE = REPOSITORY / "native"
#: Optimized a little, as tests take longer than compiling; lines in the sanitizers' reports.
QUICK = ["-DCMAKE_BUILD_TYPE=None", "-DCMAKE_CXX_FLAGS=-O1 -g1 -Werror"]


def missing(what: str) -> NoReturn:
    """A test that cannot run here is left out on a developer's machine, and no excuse in CI."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing, and CI must have it")
    pytest.skip(f"{what} is missing")


def tool(name: str) -> str:
    """A program: of this Python's environment (packages cmake and ninja bring theirs), or of the system."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    return found or missing(name)


def run(*command: str | Path, timeout: float = 900, env: dict[str, str] | None = None) -> str:
    """Run a command that must succeed; returns its output."""
    finished = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=timeout, env={**os.environ, **(env or {})}
    )
    output = finished.stdout + finished.stderr
    assert finished.returncode == 0, f"{command} ended with {finished.returncode}:\n{output[-6000:]}"
    return output


@pytest.fixture(scope="session")
def build() -> Callable[..., Path]:
    """``build(name, target, options...)`` -> the folder that the target is in."""

    def made(name: str, target: str, *options: str) -> Path:
        folder = Path(os.environ.get("VITLET_NATIVE_BUILDS", REPOSITORY / "out" / "native")) / name
        cmake, ninja = tool("cmake"), tool("ninja")
        run(cmake, "-S", NATIVE, "-B", folder, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}", *options)
        run(cmake, "--build", folder, "--target", target)
        return folder

    return made


@pytest.fixture(scope="session")
def doctest() -> None:
    """The header of doctest, from the package doctest-dev."""
    if not any((Path(root) / "doctest/doctest.h").exists() for root in ("/usr/include", "/usr/local/include")):
        missing("doctest/doctest.h")


@pytest.fixture(scope="session")
def library(build: Callable[..., Path]) -> Path:
    """The folder of libvitlet.so as a user builds it."""
    return build("library", "vitlet", "-DCMAKE_CXX_FLAGS=-Werror")
