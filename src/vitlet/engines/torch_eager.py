"""PyTorch in fp32 as it stands, without compilation: the baseline that all others are held against."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from vitlet.engines import Session
from vitlet.engines.artifacts import describe, require_variant, with_ending
from vitlet.errors import ModelUnreadable
from vitlet.records import Artifact, Availability, Classifier, Device, Execution, Precision

if TYPE_CHECKING:
    import numpy as np

    from vitlet.data.calibration import Calibration


class TorchEngine:
    """fp32 in a ``.safetensors`` file with the architecture in its metadata (``models.checkpoint``).

    For servers and desktops, wherever Python and PyTorch are. An opaque timm model is rebuilt by
    timm, which must then be installed where the artifact is opened.
    """

    name = "torch"

    def available(self) -> Availability:
        """Whether PyTorch is installed."""
        if find_spec("torch") is None:
            return Availability(False, "PyTorch is not installed; install it with: pip install torch")
        return Availability(True)

    def precisions(self) -> tuple[Precision, ...]:
        """fp32."""
        return (Precision("fp32"),)

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
            Unsupported: another precision than fp32.
            InvalidValue: a weight is not finite.
            NotWritable: the file cannot be written.
        """
        from vitlet.models.checkpoint import save_checkpoint

        require_variant(self, precision, calibration, device)
        target = save_checkpoint(classifier, with_ending(path, ".safetensors"))
        return describe(self, classifier, precision, target)

    def open(self, artifact: Artifact, *, threads: int) -> Session:
        """Build the module from the file's metadata and fill it with the file's weights.

        Raises:
            ModelNotFound: there is no such file, or the installed timm has no such model.
            ModelUnreadable: the file is damaged, not vitlet's, or not the one that was exported.
        """
        from vitlet.engines.threads import checked_threads, using_threads
        from vitlet.engines.torch_session import TorchSession
        from vitlet.models.checkpoint import load_checkpoint

        with using_threads(checked_threads(threads)):
            loaded = load_checkpoint(artifact.path)
        found = loaded.architecture
        if (found.image_height, found.image_width, found.classes) != (
            artifact.height,
            artifact.width,
            artifact.classes,
        ):
            raise ModelUnreadable(
                f"{artifact.path} holds a model for {found.image_height}x{found.image_width} pixels and "
                f"{found.classes} classes, not {artifact.height}x{artifact.width} and {artifact.classes}; "
                "export it again"
            )
        return TorchSession(loaded.module, artifact, threads)

    def explain(self, artifact: Artifact, *, threads: int, images: np.ndarray) -> Execution:
        """What PyTorch's profiler saw of a few runs."""
        from vitlet.engines.torch_profile import explain_session

        return explain_session(self.open(artifact, threads=threads), artifact, images)

    def warm_imports(self) -> None:
        """Import all that ``open`` and ``run`` need for a canonical ViT."""
        for name in (
            "safetensors.torch",
            "torch.utils._device",  # what ``with torch.device(...)``, in ``models.build``, imports late
            "vitlet.engines.threads",
            "vitlet.engines.torch_session",
            "vitlet.models.checkpoint",
            "vitlet.models.vit",
        ):
            import_module(name)
