"""Opening TorchScript files, for every engine that writes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from vitlet.engines.inputs import checked_threads
from vitlet.engines.torch.session import TorchSession
from vitlet.engines.torch.threads import using_threads
from vitlet.engines.torchscript.archive import check_archive
from vitlet.engines.torchscript.dynamic_int8 import spend_qnnpack_notice, using_kernels
from vitlet.engines.torchscript.program import one_line, without_deprecations
from vitlet.errors import ModelUnreadable
from vitlet.records import Artifact


def open_torchscript(artifact: Artifact, threads: int) -> TorchSession:
    """Open a ``.pt`` file with ``torch.jit.load``.

    Raises:
        InvalidValue: threads out of range.
        ModelNotFound: there is no such file.
        ModelUnreadable: it is damaged, not vitlet's, or another artifact.
        Unsupported: this machine has no such kernels.
    """
    return open_with(torch.jit.load, artifact, threads)


def open_with(load: Callable[[str], Any], artifact: Artifact, threads: int) -> TorchSession:
    """Open a file as ``open_torchscript`` does, by another loader."""
    checked_threads(threads)
    check_archive(artifact)
    if artifact.precision.kernels == "qnnpack":
        spend_qnnpack_notice()
    # The int8 weights are packed while the file is loaded, for the kernels then chosen.
    with using_threads(threads), using_kernels(artifact.precision.kernels), without_deprecations():
        try:
            forward = load(str(artifact.path))
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise ModelUnreadable(
                f"PyTorch {torch.__version__} cannot load {artifact.path} ({one_line(error)}); export it again"
            ) from error
    return TorchSession(forward, artifact, 1 if _multiplies_in_pool(artifact) else threads)


def _multiplies_in_pool(artifact: Artifact) -> bool:
    """Whether the file's products run in the thread pool of QNNPACK and XNNPACK.

    OpenMP then gets one thread only, as on a phone, whose PyTorch has no OpenMP. With both at work
    the idle threads of each spin on the processors that the other needs: on two processors a small
    ViT took 301 ms so, and 1.5 ms with OpenMP on one thread (PyTorch 2.12.1). Plain PyTorch, as in
    the tutorial, runs into that.
    """
    return artifact.engine in ("mobile", "lite") or artifact.precision.kernels == "qnnpack"


def warm_torchscript() -> None:
    """Bring up TorchScript's runtime: its imports are those of this module, its compiler and
    qnnpack start on first use.
    """
    spend_qnnpack_notice()
