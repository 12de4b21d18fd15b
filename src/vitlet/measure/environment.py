"""The machine and software that a measurement was taken on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vitlet import __version__
from vitlet.measure.cgroup import memory_limit
from vitlet.measure.cores import available_cores, default_threads
from vitlet.measure.processor import instruction_sets, processor_name
from vitlet.records import Environment

__all__ = ["default_threads", "environment"]

#: Packages whose version can change a number, told when they are installed.
PACKAGES = (
    *("torch", "torchvision", "timm", "transformers", "numpy", "pillow"),
    *("onnxruntime", "onnx", "openvino", "nncf", "executorch", "torchao", "ai-edge-litert", "litert-torch"),
)


def environment(threads: int) -> Environment:
    """Describe this machine, its software and the number of threads in use. Imports no runtime."""
    return Environment(
        processor=processor_name(),
        architecture=platform.machine(),
        instruction_sets=instruction_sets(),
        cores=available_cores(),
        memory_bytes=_memory_bytes(),
        system=_system(),
        python=platform.python_version(),
        packages={"vitlet": __version__, **_versions()},
        threads=threads,
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _memory_bytes(root: Path = Path("/")) -> int:
    """Physical memory, or less if the container may hold less; 0 where the system does not say."""
    try:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0
    return min(physical, memory_limit(root) or physical)


def _system() -> str:
    """Such as "Debian GNU/Linux 12 (bookworm), Linux 6.1.0"."""
    kernel = f"{platform.system()} {platform.release()}"
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {kernel}"
    except (OSError, KeyError):
        release = platform.mac_ver()[0]
        return f"macOS {release}, {kernel}" if release else kernel
