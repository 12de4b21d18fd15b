"""Running model files of the native library."""

from __future__ import annotations

import os
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from vitlet.engines.artifacts import require_same_artifact
from vitlet.engines.inputs import checked_images, checked_threads
from vitlet.errors import InvalidValue, ModelNotFound, ModelUnreadable, Unsupported
from vitlet.records import Artifact

if TYPE_CHECKING:
    from vitlet.engines.native import _native


def load_library() -> ModuleType:
    """The C++ library's Python module.

    Raises:
        Unsupported: it cannot be loaded.
    """
    try:
        from vitlet.engines.native import _native
    except ImportError as error:
        raise Unsupported(f"vitlet's C++ part cannot be loaded ({error}); install vitlet again") from error
    return _native


class NativeSession:
    """Runs a ``.safetensors`` file with ``threads`` threads of its own, the caller's included.

    Raises:
        InvalidValue: threads out of range, or VITLET_ISA names an instruction set that is not to be had here.
        ModelNotFound: there is no such file.
        ModelUnreadable: it is damaged, not vitlet's, or another artifact.
        Unsupported: the library cannot be loaded, or the system gives no more threads.
    """

    def __init__(self, artifact: Artifact, threads: int) -> None:
        checked_threads(threads)
        library = load_library()
        _check_instruction_set(library.instruction_sets().split())
        if not artifact.path.is_file():
            raise ModelNotFound(f"there is no file {artifact.path}; export the model again")
        try:
            model = library.Model(str(artifact.path))
        except RuntimeError as error:
            raise ModelUnreadable(f"{artifact.path} cannot be loaded ({error}); export it again") from error
        _check_artifact(artifact, model)
        try:
            self._session: _native.Session | None = library.Session(model, threads)
        except RuntimeError as error:
            raise Unsupported(f"{artifact.path} cannot be run with {threads} threads: {error}") from error
        self._artifact = artifact
        self.instruction_set: str = model.instruction_set

    def run(self, images: np.ndarray) -> np.ndarray:
        """images: float32 [batch, 3, height, width] -> logits: float32 [batch, classes], a
        C-contiguous array that shares memory with nothing.

        Raises:
            InvalidValue: wrong shape or dtype, a value that is not finite, or the session was closed.
            ModelUnreadable: there is no memory for so many images.
        """
        session = self._opened()
        ready = checked_images(images, height=self._artifact.height, width=self._artifact.width)
        try:
            logits: np.ndarray = session.run(ready)
        except ValueError as error:
            raise InvalidValue(str(error)) from error
        except MemoryError as error:
            raise ModelUnreadable(
                f"{self._artifact.path} fails on {len(ready)} images (not enough memory); try fewer at a time"
            ) from error
        return logits

    def phases_ms(self, images: np.ndarray, runs: int) -> dict[str, float]:
        """Milliseconds of each phase in one of ``runs`` runs, added up over the threads."""
        session = self._opened()
        session.profile(True)
        for _ in range(runs):
            session.run(images)
        spent: dict[str, float] = session.phases()
        session.profile(False)
        return {name: time / runs for name, time in spent.items()}

    def close(self) -> None:
        """Give the model's memory and threads back; ``run`` refuses from now on."""
        self._session = None

    def _opened(self) -> _native.Session:
        if self._session is None:
            raise InvalidValue(f"the session of {self._artifact.path} was closed; open the artifact again")
        return self._session


def _check_instruction_set(known: list[str]) -> None:
    wanted = os.environ.get("VITLET_ISA", "")
    if wanted and wanted not in known:
        raise InvalidValue(f"VITLET_ISA is {wanted!r}; it must be one that this processor has: {', '.join(known)}")


def _check_artifact(artifact: Artifact, model: _native.Model) -> None:
    expected = {
        "precision": str(artifact.precision),
        "height": artifact.height,
        "width": artifact.width,
        "classes": artifact.classes,
    }
    require_same_artifact(artifact.path, expected, {name: getattr(model, name) for name in expected})
