"""Running ``.tflite`` files with a number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np

from vitlet.engines.inputs import checked_images, checked_threads
from vitlet.engines.quiet import without_stderr
from vitlet.engines.trailer import read_record
from vitlet.errors import InvalidValue, ModelUnreadable, Unsupported
from vitlet.processes.child import one_line
from vitlet.records import Artifact


def load_runtime() -> Any:
    """LiteRT's interpreter module.

    Raises:
        Unsupported: it cannot be loaded.
    """
    try:
        from ai_edge_litert import interpreter
    except ImportError as error:
        raise Unsupported(
            f"LiteRT cannot be loaded ({one_line(error)}); install it with: pip install 'vitlet[litert]'"
        ) from error
    return interpreter


class LiteRtSession:
    """Runs a ``.tflite`` file, one image after the other. Not shared between threads."""

    def __init__(self, artifact: Artifact, interpreter: Any) -> None:
        self._artifact = artifact
        self._interpreter = interpreter
        self._input = interpreter.get_input_details()[0]["index"]
        self._output = interpreter.get_output_details()[0]["index"]

    def run(self, images: np.ndarray) -> np.ndarray:
        """images: float32 [batch, 3, height, width] -> logits: float32 [batch, classes], a
        C-contiguous array that shares memory with nothing.

        Raises:
            InvalidValue: wrong shape or dtype, or the session was closed.
            ModelUnreadable: the runtime fails on it.
        """
        if self._interpreter is None:
            raise InvalidValue(f"the session of {self._artifact.path} was closed; open the artifact again")
        ready = checked_images(images, height=self._artifact.height, width=self._artifact.width)
        logits = np.empty((len(ready), self._artifact.classes), np.float32)
        for at in range(len(ready)):
            try:
                self._interpreter.set_tensor(self._input, ready[at : at + 1])
                self._interpreter.invoke()
                logits[at] = self._interpreter.get_tensor(self._output)[0]
            except (RuntimeError, ValueError) as error:
                raise ModelUnreadable(f"{self._artifact.path} fails ({one_line(error)}); export it again") from error
        return logits

    def close(self) -> None:
        """Give the model's memory back; ``run`` refuses from now on."""
        self._interpreter = None


def open_interpreter(artifact: Artifact, threads: int) -> Any:
    """Check the file and make LiteRT's interpreter of it, with XNNPACK.

    Raises:
        ModelNotFound: there is no such file.
        ModelUnreadable: damaged, foreign, or another artifact.
        Unsupported: LiteRT cannot be loaded.
    """
    read_record(artifact)
    runtime = load_runtime()
    try:
        with without_stderr():
            interpreter = runtime.Interpreter(str(artifact.path), num_threads=threads)
            interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise ModelUnreadable(f"LiteRT cannot load {artifact.path} ({one_line(error)}); export it again") from error
    return interpreter


def open_litert(artifact: Artifact, threads: int) -> LiteRtSession:
    """Open a ``.tflite`` file.

    Raises:
        InvalidValue: threads out of range.
        VitletError: as for ``open_interpreter``.
    """
    checked_threads(threads)
    return LiteRtSession(artifact, open_interpreter(artifact, threads))
