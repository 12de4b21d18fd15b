"""Runtimes: one file each, all behind the ``Engine`` protocol.

To add one, write a module here with a class that satisfies ``Engine`` and name it in
``BUILT_IN``; third parties register theirs under the entry point group ``vitlet.engines``. The
contract tests pick both up. Importing this package imports no runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from vitlet.errors import InvalidValue
from vitlet.records import Artifact, Availability, Classifier, Device, Execution, Precision

if TYPE_CHECKING:
    import numpy as np

    from vitlet.data.calibration import Calibration

#: "module:class" of each engine that comes with vitlet, in the order that tables show them.
BUILT_IN = (
    "vitlet.engines.torch:TorchEngine",
    "vitlet.engines.torchscript:TorchScriptEngine",
    "vitlet.engines.mobile:MobileEngine",
    "vitlet.engines.lite:LiteEngine",
    "vitlet.engines.onnxruntime:OnnxRuntimeEngine",
    "vitlet.engines.openvino:OpenVinoEngine",
    "vitlet.engines.inductor:InductorEngine",
    "vitlet.engines.torchao:TorchAoEngine",
    "vitlet.engines.executorch:ExecuTorchEngine",
    "vitlet.engines.litert:LiteRtEngine",
    "vitlet.engines.native:NativeEngine",
)


class Session(Protocol):
    """An opened artifact. Not shared between threads."""

    def run(self, images: np.ndarray) -> np.ndarray:
        """images: float32 [batch, 3, height, width] -> logits: float32 [batch, classes].

        Raises:
            InvalidValue: wrong shape or dtype.
            ModelUnreadable: the runtime fails on it.
        """
        ...

    def close(self) -> None:
        """Give back what the session holds; it must not be run afterwards."""
        ...


@runtime_checkable
class Engine(Protocol):
    """A runtime.

    One that can leave single operations of a precision in float (``Precision.in_float``) names such precisions in an
    attribute ``mixes``, a tuple of ``PrecisionName``s; it need not have one.
    """

    name: str

    def available(self) -> Availability:
        """Whether the runtime is installed and can run here; else the reason and what to do."""
        ...

    def precisions(self) -> tuple[Precision, ...]:
        """Every precision the engine knows, also those that this machine cannot run."""
        ...

    def export(
        self,
        classifier: Classifier,
        precision: Precision,
        path: Path,
        *,
        calibration: Calibration | None = None,
        device: Device = "cpu",
    ) -> Artifact:
        """Write the artifact to ``path`` (no suffix; the engine adds its own) and return it.

        ``calibration`` is what a calibrated precision (``Precision.is_calibrated``) learns its ranges
        from; others do not read it. ``device`` is where the artifact will run. The caller's model
        is not changed.

        Raises:
            Unsupported: this precision, model or device cannot be had here; says why.
            InvalidValue: a calibrated precision without calibration.
            NotWritable: the file cannot be written.
        """
        ...

    def open(self, artifact: Artifact, *, threads: int) -> Session:
        """Load the artifact, ready to run with this many threads.

        Raises:
            InvalidValue: threads out of range.
            ModelNotFound: there is no such file.
            ModelUnreadable: the file is damaged or not this engine's.
            Unsupported: the runtime cannot run this artifact here; says why.
        """
        ...

    def explain(self, artifact: Artifact, *, threads: int, images: np.ndarray) -> Execution:
        """What the runtime really does with ``artifact``, for ``images`` float32 [1, 3, height, width].

        May run the artifact a few times under the runtime's profiler.

        Raises:
            Unsupported: the runtime does not tell.
            VitletError: as for ``open``.
        """
        ...

    def warm_imports(self) -> None:
        """Import the runtime, so that its memory and time are not counted as the artifact's."""
        ...


@cache
def engines() -> Mapping[str, Engine]:
    """Every engine by name: the built-in ones in order, then installed plug-ins."""
    found: dict[str, Engine] = {}
    for target in BUILT_IN:
        module, _, name = target.partition(":")
        engine: Engine = getattr(import_module(module), name)()
        found[engine.name] = engine
    for entry in entry_points(group="vitlet.engines"):
        engine = entry.load()()
        found.setdefault(engine.name, engine)
    return MappingProxyType(found)


def engine(name: str) -> Engine:
    """The engine of that name.

    Raises:
        InvalidValue: there is none; the message lists those there are.
    """
    known = engines()
    if name not in known:
        raise InvalidValue(f"no engine is called {name!r}; there are: {', '.join(known)}")
    return known[name]


def mixes(runtime: Engine, precision: Precision) -> bool:
    """Whether the engine can leave single operations of this precision in float."""
    return precision.name in getattr(runtime, "mixes", ())
