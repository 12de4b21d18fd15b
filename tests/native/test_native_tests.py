"""The C++ tests, in the builds that find what a plain one does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .conftest import NATIVE, QUICK, missing, run, tool

pytestmark = pytest.mark.usefixtures("doctest")

#: Of how many sizes and switches one is taken, where programs run slowly. 23 switches are no multiple of these.
EVERY_SECOND, EVERY_EIGHTH = {"VITLET_TEST_STEP": "2"}, {"VITLET_TEST_STEP": "8"}


def ctest(folder: Path, *options: str, env: dict[str, str]) -> None:
    output = run(
        tool("ctest"), "--test-dir", folder, "--output-on-failure", "--no-tests=error", "-j2", *options, env=env
    )
    assert "100% tests passed" in output


def test_under_address_and_undefined_sanitizers(build):
    folder = build("address", "vitlet_tests", "-DVITLET_TESTS=ON", "-DVITLET_SANITIZE=address", *QUICK)
    ctest(folder, env=EVERY_SECOND)


def test_threads_under_thread_sanitizer(build):
    folder = build("thread", "vitlet_tests", "-DVITLET_TESTS=ON", "-DVITLET_SANITIZE=thread", *QUICK)
    ctest(folder, "-R", "^(session|threads|api)$", env=EVERY_EIGHTH)


def test_on_aarch64(build):
    if not shutil.which("aarch64-linux-gnu-g++"):
        missing("aarch64-linux-gnu-g++")
    if not shutil.which("qemu-aarch64"):
        missing("qemu-aarch64")
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE={NATIVE / 'cmake' / 'aarch64-linux.cmake'}"
    ctest(build("aarch64", "vitlet_tests", "-DVITLET_TESTS=ON", toolchain, *QUICK), env=EVERY_EIGHTH)
