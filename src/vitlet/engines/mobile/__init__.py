"""PyTorch Mobile: the TorchScript model rewritten by ``optimize_for_mobile``."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from vitlet.engines import Session
from vitlet.engines.artifacts import describe, require_variant, with_ending
from vitlet.records import Artifact, Availability, Classifier, Device, Execution, Precision

if TYPE_CHECKING:
    import numpy as np

    from vitlet.data.calibration import Calibration


class MobileEngine:
    """A ``.pt`` whose convolutions and fp32 linears are XNNPACK operators with weights packed ahead,
    and whose int8 linears are qnnpack's.

    For Arm phones and boards, through PyTorch Mobile or libtorch. On x86 the int8 one can be slower
    than fp32, and the fp32 one faster than eager fp32: measure. Needs a PyTorch with XNNPACK, which
    2.12.1 was the last to have.
    """

    name = "mobile"

    def available(self) -> Availability:
        """Whether this PyTorch was built with XNNPACK; else how to get one."""
        from vitlet.engines.mobile.optimizer import optimizer_availability

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
        """Write ``path``.pt, which plain ``torch.jit.load`` can load where PyTorch has XNNPACK.

        Raises:
            Unsupported: no XNNPACK, an unknown precision, or a model that cannot be scripted,
                traced or optimised.
            NotWritable: the file cannot be written.
        """
        require_variant(self, precision, calibration, device)
        import torch

        from vitlet.engines.mobile.optimizer import optimized_classifier
        from vitlet.engines.torchscript.archive import extra_files
        from vitlet.engines.torchscript.program import without_deprecations
        from vitlet.whole_file import write_whole

        optimized, note = optimized_classifier(classifier, precision)
        buffer = io.BytesIO()
        with without_deprecations():
            torch.jit.save(optimized, buffer, _extra_files=extra_files(self.name, classifier, precision))
        target = with_ending(path, ".pt")
        write_whole(target, buffer.getbuffer())
        return describe(self, classifier, precision, target, note)

    def open(self, artifact: Artifact, *, threads: int) -> Session:
        """Load the file with ``torch.jit.load``.

        Raises:
            ModelNotFound: there is no such file.
            ModelUnreadable: it is damaged, not vitlet's, or another artifact.
            Unsupported: this PyTorch has no XNNPACK or this machine no such kernels.
        """
        from vitlet.engines.mobile.optimizer import require_optimizer
        from vitlet.engines.torchscript.session import open_torchscript

        require_optimizer()
        return open_torchscript(artifact, threads)

    def explain(self, artifact: Artifact, *, threads: int, images: np.ndarray) -> Execution:
        """What PyTorch's profiler saw of a few runs."""
        from vitlet.engines.torch.profile import explain_session

        return explain_session(self.open(artifact, threads=threads), artifact, images)

    def warm_imports(self) -> None:
        """Import all that ``open`` and ``run`` need."""
        import vitlet.engines.mobile.optimizer
        from vitlet.engines.torchscript.session import warm_torchscript

        vitlet.engines.mobile.optimizer.optimizer_availability()
        warm_torchscript()
