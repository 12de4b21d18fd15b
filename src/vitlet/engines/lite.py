"""PyTorch's lite interpreter: the mobile model as bytecode, run by the runtime that phones have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vitlet.engines import Session
from vitlet.engines.artifacts import describe, require_variant, with_ending
from vitlet.errors import Unsupported
from vitlet.records import Artifact, Availability, Classifier, Device, Execution, Precision

if TYPE_CHECKING:
    import numpy as np

    from vitlet.data.calibration import Calibration


class LiteEngine:
    """The model of ``MobileEngine`` in a ``.ptl`` for the lite interpreter: no compiler, no
    profiling of the first runs, a small runtime.

    For Arm phones, in apps that embed PyTorch Lite. What is measured here is that interpreter on
    this machine, not the phone. Needs a PyTorch with XNNPACK, which 2.12.1 was the last to have.
    """

    name = "lite"

    def available(self) -> Availability:
        """Whether this PyTorch has the lite interpreter and XNNPACK; else how to get one."""
        from vitlet.engines.mobile.optimizer import optimizer_availability

        try:
            import torch.jit.mobile  # noqa: F401
        except ImportError as error:
            return Availability(
                False,
                f"this PyTorch has no lite interpreter ({error}); pin torch 2.12.1, or use the executorch engine, "
                "the successor of PyTorch Mobile, or the torchscript engine",
            )
        return optimizer_availability()

    def precisions(self) -> tuple[Precision, ...]:
        """fp32 and int8-dynamic with qnnpack, the library for Arm."""
        return (Precision("fp32"), Precision("int8-dynamic", "qnnpack"))

    def export(
        self,
        classifier: Classifier,
        precision: Precision,
        path: Path,
        *,
        calibration: Calibration | None = None,
        device: Device = "cpu",
    ) -> Artifact:
        """Write ``path``.ptl, for ``torch.jit.mobile._load_for_lite_interpreter`` and PyTorch Lite.

        Raises:
            Unsupported: no XNNPACK or lite interpreter, an unknown precision, or a model that
                cannot be scripted, traced or optimised.
            NotWritable: the file cannot be written.
        """
        from vitlet.engines.mobile.optimizer import optimized_classifier
        from vitlet.engines.torchscript.archive import extra_files
        from vitlet.engines.torchscript.program import without_deprecations
        from vitlet.whole_file import write_whole

        require_variant(self, precision, calibration, device)
        self._require()
        optimized, note = optimized_classifier(classifier, precision)
        with without_deprecations():
            content = optimized._save_to_buffer_for_lite_interpreter(
                _extra_files=extra_files(self.name, classifier, precision)
            )
        target = with_ending(path, ".ptl")
        write_whole(target, content)
        return describe(self, classifier, precision, target, note)

    def open(self, artifact: Artifact, *, threads: int) -> Session:
        """Load the file into the lite interpreter.

        Raises:
            ModelNotFound: there is no such file.
            ModelUnreadable: it is damaged, not vitlet's, or another artifact.
            Unsupported: this PyTorch has no XNNPACK or lite interpreter, or no qnnpack here.
        """
        self._require()
        from torch.jit.mobile import _load_for_lite_interpreter

        from vitlet.engines.torchscript.session import open_with

        return open_with(_load_for_lite_interpreter, artifact, threads)

    def explain(self, artifact: Artifact, *, threads: int, images: np.ndarray) -> Execution:
        """What PyTorch's profiler saw of a few runs."""
        from vitlet.engines.torch.profile import explain_session

        return explain_session(self.open(artifact, threads=threads), artifact, images)

    def warm_imports(self) -> None:
        """Import all that ``open`` and ``run`` need."""
        from vitlet.engines.torchscript.session import warm_torchscript

        self.available()
        warm_torchscript()

    def _require(self) -> None:
        availability = self.available()
        if not availability.ok:
            raise Unsupported(availability.reason)
