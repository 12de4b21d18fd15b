"""Running ExecuTorch files with a number of threads."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import torch

from vitlet.engines.executorch.quiet import without_runtime_log
from vitlet.engines.inputs import checked_images, checked_threads
from vitlet.engines.torch.threads import using_threads
from vitlet.engines.torchscript.program import one_line
from vitlet.engines.trailer import read_record
from vitlet.errors import InvalidValue, ModelUnreadable, Unsupported
from vitlet.records import Artifact


class _Pool:
    """The one thread pool of ExecuTorch in this process.

    A loaded program keeps a pointer to the pool that there was when it was loaded, and making a pool
    of another size frees that one: such a program hangs or crashes when it is run (1.3.1). So each
    pool has a number, by which a session sees that it must load its program again. Only asked for
    inside ``using_threads``, where nobody runs with another number of threads.
    """

    def __init__(self) -> None:
        self._number = 0
        self._lock = threading.Lock()

    def of(self, threads: int) -> int:
        """Make the pool have this many threads, the caller's included; return the pool's number."""
        runtime = load_runtime()
        with self._lock:
            if not self._number or runtime._threadpool_get_thread_count() != threads:
                with without_runtime_log():
                    runtime._unsafe_reset_threadpool(threads)
                self._number += 1
            return self._number


_POOL = _Pool()


def load_runtime() -> Any:
    """ExecuTorch's C++ runtime.

    Taken from where it lies: the documented ``portable_lib`` around it imports the whole exporter, and sets an
    environment variable.

    Raises:
        Unsupported: it is missing or was built for another PyTorch.
    """
    try:
        with without_runtime_log():
            from executorch.extension.pybindings import _portable_lib
    except ImportError as error:
        raise Unsupported(
            f"ExecuTorch cannot be loaded ({one_line(error)}); install it with: pip install 'vitlet[executorch]'"
        ) from error
    return _portable_lib


class ExecuTorchSession:
    """Runs a ``.pte`` file, one image after the other. Not shared between threads; sessions with
    different threads may take turns, but each turn loads the file again.
    """

    def __init__(self, artifact: Artifact, threads: int) -> None:
        self._artifact = artifact
        self._threads = threads
        self._module: Any = None
        self._pool_number = 0
        self._closed = False
        with using_threads(threads):
            self._load()

    def run(self, images: np.ndarray) -> np.ndarray:
        """images: float32 [batch, 3, height, width] -> logits: float32 [batch, classes], a
        C-contiguous array that shares memory with nothing.

        Raises:
            InvalidValue: wrong shape or dtype, or the session was closed.
            ModelUnreadable: the runtime fails on it.
        """
        if self._closed:
            raise InvalidValue(f"the session of {self._artifact.path} was closed; open the artifact again")
        ready = checked_images(images, height=self._artifact.height, width=self._artifact.width)
        logits = np.empty((len(ready), self._artifact.classes), np.float32)
        with using_threads(self._threads), torch.inference_mode():
            self._load()
            for at in range(len(ready)):
                try:
                    answer = self._module.forward((torch.from_numpy(ready[at : at + 1]),))
                    logits[at] = answer[0].numpy()[0]
                except (RuntimeError, ValueError, IndexError) as error:
                    raise ModelUnreadable(
                        f"{self._artifact.path} fails ({one_line(error)}); export it again"
                    ) from error
        return logits

    def close(self) -> None:
        """Give the model's memory back; ``run`` refuses from now on."""
        self._module = None
        self._closed = True

    def _load(self) -> None:
        """Load the program, if the pool it knew is gone; inside ``using_threads`` only."""
        number = _POOL.of(self._threads)
        if number == self._pool_number:
            return
        runtime = load_runtime()
        self._module = None  # the old one's memory goes first
        try:
            with without_runtime_log():
                self._module = runtime._load_for_executorch(
                    str(self._artifact.path), program_verification=runtime.Verification.InternalConsistency
                )
        except (RuntimeError, ValueError) as error:
            raise ModelUnreadable(
                f"ExecuTorch cannot load {self._artifact.path} ({one_line(error)}); export it again"
            ) from error
        self._pool_number = number


def open_executorch(artifact: Artifact, threads: int) -> ExecuTorchSession:
    """Open a ``.pte`` file.

    Raises:
        InvalidValue: threads out of range.
        ModelNotFound: there is no such file.
        ModelUnreadable: it is damaged, not vitlet's, or another artifact.
        Unsupported: the runtime is missing.
    """
    checked_threads(threads)
    read_record(artifact)
    return ExecuTorchSession(artifact, threads)
