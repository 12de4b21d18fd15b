"""torchao: int8 linears by ``quantize_``, compiled ahead of time like those of ``inductor``."""

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


class TorchAoEngine:
    """int8 weights with a scale for each output channel, and activations quantized as they come, each
    token by its own range: no image's logits depend on its neighbours in a batch.

    torchao's own way is ``torch.compile`` where the model is deployed, which takes a compiler and a
    minute there. Here it is compiled once, on export, into a ``.pt2`` of AOTInductor; a file of
    torchao's tensors could only be read by unpickling. What holds for the files of ``inductor`` holds
    for these: one kind of processor, image by image, and **opening one runs native code from it**.
    """

    name = "torchao"

    def available(self) -> Availability:
        """Whether PyTorch and torchao are installed; the compiler is looked for on export."""
        if find_spec("torch") is None:
            return Availability(False, "PyTorch is not installed; install it with: pip install torch")
        if find_spec("torchao") is None:
            return Availability(False, "torchao is not installed; install it with: pip install 'vitlet[torchao]'")
        return Availability(True)

    def precisions(self) -> tuple[Precision, ...]:
        """int8-dynamic."""
        return (Precision("int8-dynamic"),)

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
            Unsupported: no compiler, torchao missing, no GPU, a processor without VNNI, or a model that
                has no linear layers or cannot be compiled.
            NotWritable: the file cannot be written.
        """
        require_variant(self, precision, calibration, device, devices=("cpu", "cuda"))
        from vitlet.engines.torchao.linears import write_int8_linears

        target = with_ending(path, ".pt2")
        note = write_int8_linears(self.name, classifier, precision, target, device)
        return describe(self, classifier, precision, target, note, device=device)

    def open(self, artifact: Artifact, *, threads: int) -> Session:
        """Load the native code of the file. **This runs it.** torchao is not needed.

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
