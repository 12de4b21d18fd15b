"""Opening packages of compiled code, for every engine that writes them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitlet.engines.inductor.archive import check_package, copy_record
from vitlet.engines.inputs import checked_threads
from vitlet.engines.torch.session import TorchSession
from vitlet.engines.torch.threads import using_threads
from vitlet.engines.torchscript.program import one_line
from vitlet.errors import ModelUnreadable, Unsupported
from vitlet.records import Artifact


def open_package(artifact: Artifact, threads: int) -> TorchSession:
    """Load a ``.pt2`` that ``inductor.compile`` wrote. **This runs the native code in the file.**

    For the CPU the library is copied to a temporary folder to be loaded, and the folder removed at
    once: the loaded library stays, and nothing is left behind even by a process that is killed. For a
    GPU PyTorch unpacks the file, and removes that when the session is closed; a process that is killed
    leaves it behind.

    Raises:
        InvalidValue: threads out of range.
        ModelNotFound: there is no such file.
        ModelUnreadable: it is damaged, not vitlet's, or another artifact.
        Unsupported: compiled for another PyTorch, system, processor or kind of GPU, or no GPU.
    """
    checked_threads(threads)
    library = check_package(artifact)
    _require_runtime()
    with using_threads(threads):
        try:
            runner = _on_gpu(artifact) if artifact.device == "cuda" else _on_cpu(artifact, library)
        except RuntimeError as error:
            raise ModelUnreadable(
                f"PyTorch {torch.__version__} cannot load {artifact.path} ({one_line(error)}); export it again, or "
                "set TMPDIR to a folder from which programs may run"
            ) from error
    return TorchSession(_whole_batch(runner) if artifact.device == "cuda" else _one_by_one(runner), artifact, threads)


def _on_cpu(artifact: Artifact, library: str) -> Any:
    aoti: Any = torch._C._aoti
    folder = Path(tempfile.mkdtemp(prefix="vitlet-"))
    try:
        copy = folder / Path(library).name
        copy_record(artifact.path, library, copy)
        return aoti.AOTIModelContainerRunnerCpu(str(copy), 1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _on_gpu(artifact: Artifact) -> Any:
    aoti: Any = torch._C._aoti
    # A GPU's kernels are files of their own; this loader unpacks them and removes them at its end.
    return aoti.AOTIModelPackageLoader(str(artifact.path), "model", False, 1, -1)


def _one_by_one(runner: Any) -> Callable[[Tensor], Tensor]:
    """The compiled code takes one image."""

    def forward(images: Tensor) -> Tensor:
        if len(images) == 1:
            return runner.run([images])[0]
        return torch.cat([runner.run([image])[0] for image in torch.split(images, 1)])

    return forward


def _whole_batch(runner: Any) -> Callable[[Tensor], Tensor]:
    return lambda images: runner.run([images])[0]


def _require_runtime() -> None:
    if not hasattr(torch._C, "_aoti"):
        raise Unsupported(f"PyTorch {torch.__version__} cannot load packages of compiled code; install a newer one")
