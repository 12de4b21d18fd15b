"""Inductor: the model compiled ahead of time to native code, in PyTorch's own package."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from vitlet.engines import Session
from vitlet.engines.artifacts import describe, require_variant, with_ending
from vitlet.records import Artifact, Availability, Classifier, Device, Execution, Precision

if TYPE_CHECKING:
    import numpy as np

    from vitlet.data.calibration import Calibration


class InductorEngine:
    """fp32, bf16 and int8 in a ``.pt2`` of AOTInductor, which needs a C++ compiler to be made and none
    to be run.

    For servers and desktops of one kind: the code is compiled for the processor at hand and refused
    elsewhere. **Opening the file runs native code from it**: take it only from where you would take
    a program.

    The code takes one image; a larger batch is run image by image. Code for any batch cannot have fp32
    weights packed ahead for oneDNN.

    Measured with DeiT-S at batch 1, one thread of a Zen 4, PyTorch 2.12.1, against the same model in
    plain PyTorch: fp32 0.83 of the time, bf16 0.50, int8-static 0.32, int8-dynamic 0.35. Linear layers
    add the residual and compute GELU in the same call; what stands between the products is fused.
    """

    name = "inductor"

    def available(self) -> Availability:
        """Whether PyTorch is installed; the compiler and a precision's needs are checked on export."""
        if find_spec("torch") is None:
            return Availability(False, "PyTorch is not installed; install it with: pip install torch")
        return Availability(True)

    def precisions(self) -> tuple[Precision, ...]:
        """fp32, bf16, and int8 by X86InductorQuantizer with learned ranges or each activation's own."""
        return (Precision("fp32"), Precision("bf16"), Precision("int8-static"), Precision("int8-dynamic"))

    def export(
        self,
        classifier: Classifier,
        precision: Precision,
        path: Path,
        *,
        calibration: Calibration | None = None,
        device: Device = "cpu",
    ) -> Artifact:
        """Write ``path``.pt2, which ``torch._inductor.aoti_load_package`` can load, too.

        Raises:
            Unsupported: no compiler, torchao missing, a processor without the instructions that the
                precision is for, int8 on a GPU, int8 without a layer to quantize, or a model that cannot be
                compiled.
            InvalidValue: int8-static without calibration.
            NotWritable: the file cannot be written.
        """
        require_variant(self, precision, calibration, device, devices=("cpu", "cuda"))
        from vitlet.engines.inductor.variants import write_variant

        target = with_ending(path, ".pt2")
        notes = [write_variant(self.name, classifier, precision, target, calibration, device)]
        if precision.is_calibrated and calibration is not None:
            notes.append(calibration.note)
        return describe(self, classifier, precision, target, "; ".join(filter(None, notes)), device=device)

    def open(self, artifact: Artifact, *, threads: int) -> Session:
        """Load the native code of the file. **This runs it.**

        Raises:
            ModelNotFound: there is no such file.
            ModelUnreadable: it is damaged, not vitlet's, or another artifact.
            Unsupported: compiled for another PyTorch, system, processor or kind of GPU, or no GPU.
        """
        from vitlet.engines.inductor.session import open_package

        return open_package(artifact, threads)

    def explain(self, artifact: Artifact, *, threads: int, images: np.ndarray) -> Execution:
        """What PyTorch's profiler saw of a few runs: fused kernels by name, and calls of libraries."""
        from vitlet.engines.torch.profile import explain_session

        return explain_session(self.open(artifact, threads=threads), artifact, images)

    def warm_imports(self) -> None:
        """Import all that ``open`` and ``run`` need."""
        for name in ("encodings.cp437", "vitlet.engines.inductor.session"):  # the former for names in a zip
            import_module(name)
