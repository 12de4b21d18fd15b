"""PyTorch as it stands, without compilation: in fp32 the baseline that all others are held against."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vitlet.engines import Session
from vitlet.engines.artifacts import describe, require_variant, with_ending
from vitlet.records import Artifact, Availability, Classifier, Device, Execution, Precision

if TYPE_CHECKING:
    import numpy as np

    from vitlet.data.calibration import Calibration


class TorchEngine:
    """fp32 or bf16 in a ``.safetensors`` file with the architecture in its metadata (``models.checkpoint``).

    For servers and desktops, wherever Python and PyTorch are. An opaque timm model is rebuilt by
    timm, which must then be installed where the artifact is opened.

    In bf16 the weights are bf16 in the file and in memory, and so is all arithmetic but the sums
    inside of it. Measured with DeiT-S at batch 1 on a Zen 4, PyTorch 2.12.1: 0.56 of fp32's time;
    ``torch.autocast``, which converts at each step, 0.63.
    """

    name = "torch"

    def available(self) -> Availability:
        """Whether PyTorch is installed."""
        if find_spec("torch") is None:
            return Availability(False, "PyTorch is not installed; install it with: pip install torch")
        return Availability(True)

    def precisions(self) -> tuple[Precision, ...]:
        """fp32 and bf16."""
        return (Precision("fp32"), Precision("bf16"))

    def export(
        self,
        classifier: Classifier,
        precision: Precision,
        path: Path,
        *,
        calibration: Calibration | None = None,
        device: Device = "cpu",
    ) -> Artifact:
        """Write ``path``.safetensors.

        Raises:
            Unsupported: another precision, bf16 where the processor has no instructions for it, or no GPU.
            InvalidValue: a weight is not finite.
            NotWritable: the file cannot be written.
        """
        require_variant(self, precision, calibration, device, devices=("cpu", "cuda"))
        from vitlet.engines.torch.processor import require_bf16, require_device
        from vitlet.models.checkpoint import save_checkpoint

        require_device(device)
        if precision.name == "bf16":
            require_bf16(device)
        dtype: Literal["float32", "bfloat16"] = "bfloat16" if precision.name == "bf16" else "float32"
        target = save_checkpoint(classifier, with_ending(path, ".safetensors"), dtype=dtype)
        return describe(self, classifier, precision, target, device=device)

    def open(self, artifact: Artifact, *, threads: int) -> Session:
        """Build the module from the file's metadata and fill it with the file's weights.

        Raises:
            ModelNotFound: there is no such file, or the installed timm has no such model.
            ModelUnreadable: the file is damaged, not vitlet's, or not the one that was exported.
            Unsupported: bf16 without instructions for it, or no GPU.
        """
        from vitlet.engines.torch.checkpoint import open_checkpoint

        return open_checkpoint(artifact, threads)

    def explain(self, artifact: Artifact, *, threads: int, images: np.ndarray) -> Execution:
        """What PyTorch's profiler saw of a few runs."""
        from vitlet.engines.torch.profile import explain_session

        return explain_session(self.open(artifact, threads=threads), artifact, images)

    def warm_imports(self) -> None:
        """Import all that ``open`` and ``run`` need for a canonical ViT."""
        for name in (
            "safetensors.torch",
            "torch.utils._device",  # what ``with torch.device(...)``, in ``models.build``, imports late
            "vitlet.engines.torch.checkpoint",
            "vitlet.models.vit",
        ):
            import_module(name)
