"""TorchScript: the model as a program that ``torch.jit.load`` runs without its Python source."""

from __future__ import annotations

import io
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from vitlet.engines import Session
from vitlet.engines.artifacts import describe, require_variant, with_ending
from vitlet.errors import Unsupported
from vitlet.records import Artifact, Availability, Classifier, Device, Execution, Precision

if TYPE_CHECKING:
    import numpy as np
    import torch

    from vitlet.data.calibration import Calibration


class TorchScriptEngine:
    """fp32, and int8 dynamic quantization of the Linear layers, in a frozen TorchScript ``.pt``.

    For servers and desktops, from Python or C++ (libtorch). The int8 kernels differ in their
    target: ``qnnpack`` is made for Arm phones and boards and on x86 can be several times slower
    than fp32; ``x86`` (FBGEMM and oneDNN, by shape) and ``onednn`` are for x86 servers. What holds
    on the machine at hand is for ``vitlet.measure`` to say.

    Freezing turns weights into constants of the program. Measured with DeiT-S on x86, PyTorch
    2.12.1: same latency, but loading 2 to 3 times and the first inference up to 2 times faster and
    some 20 MB less memory. ``optimize_for_inference`` is left out: its result cannot be saved.
    """

    name = "torchscript"

    def available(self) -> Availability:
        """Whether PyTorch is installed; the kernels of a precision are checked on export."""
        if find_spec("torch") is None:
            return Availability(False, "PyTorch is not installed; install it with: pip install torch")
        return Availability(True)

    def precisions(self) -> tuple[Precision, ...]:
        """fp32 and int8-dynamic with three kinds of kernels."""
        return (
            Precision("fp32"),
            Precision("int8-dynamic", "qnnpack"),
            Precision("int8-dynamic", "x86"),
            Precision("int8-dynamic", "onednn"),
        )

    def export(
        self,
        classifier: Classifier,
        precision: Precision,
        path: Path,
        *,
        calibration: Calibration | None = None,
        device: Device = "cpu",
    ) -> Artifact:
        """Write ``path``.pt, which plain ``torch.jit.load`` can load.

        Raises:
            Unsupported: the precision is unknown or cannot be had here, or the model can neither
                be scripted nor traced.
            NotWritable: the file cannot be written.
        """
        import torch

        from vitlet.engines.torchscript.archive import extra_files
        from vitlet.engines.torchscript.program import one_line, without_deprecations
        from vitlet.whole_file import write_whole

        require_variant(self, precision, calibration, device)
        scripted, note = scripted_classifier(classifier, precision)
        buffer = io.BytesIO()
        with without_deprecations():
            try:
                frozen = torch.jit.freeze(scripted)
            except RuntimeError as error:
                raise Unsupported(f"{classifier.reference} cannot be frozen: {one_line(error)}") from error
            torch.jit.save(frozen, buffer, _extra_files=extra_files(self.name, classifier, precision))
        target = with_ending(path, ".pt")
        write_whole(target, buffer.getbuffer())
        return describe(self, classifier, precision, target, note)

    def open(self, artifact: Artifact, *, threads: int) -> Session:
        """Load the file, its int8 weights packed for the kernels of the artifact's precision.

        Raises:
            ModelNotFound: there is no such file.
            ModelUnreadable: it is damaged, not vitlet's, or another artifact.
            Unsupported: this machine has no such kernels.
        """
        from vitlet.engines.torchscript.session import open_torchscript

        return open_torchscript(artifact, threads)

    def explain(self, artifact: Artifact, *, threads: int, images: np.ndarray) -> Execution:
        """What PyTorch's profiler saw of a few runs."""
        from vitlet.engines.torch.profile import explain_session

        return explain_session(self.open(artifact, threads=threads), artifact, images)

    def warm_imports(self) -> None:
        """Import all that ``open`` and ``run`` need."""
        from vitlet.engines.torchscript.session import warm_torchscript

        warm_torchscript()


def scripted_classifier(classifier: Classifier, precision: Precision) -> tuple[torch.jit.ScriptModule, str]:
    """The classifier as TorchScript in ``precision``, not yet frozen, and a note on how it was made.

    Raises:
        Unsupported: the precision cannot be had here, or the model can neither be scripted nor traced.
    """
    from vitlet.engines.torchscript.dynamic_int8 import quantize_linears, spend_qnnpack_notice, using_kernels
    from vitlet.engines.torchscript.program import evaluation_module, example_images, to_torchscript

    module = evaluation_module(classifier)
    notes = []
    if precision.name == "int8-dynamic":
        spend_qnnpack_notice()
        module, note = quantize_linears(module, example_images(classifier, 1), precision.kernels)
        notes.append(note)
    with using_kernels(precision.kernels):
        scripted, note = to_torchscript(module, classifier)
    notes.append(note)
    return scripted, "; ".join(note for note in notes if note)
