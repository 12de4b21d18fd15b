"""ExecuTorch: PyTorch's runtime for phones and boards, on XNNPACK's kernels."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from vitlet.engines import Session
from vitlet.engines.artifacts import describe, require_variant, with_ending
from vitlet.errors import Unsupported
from vitlet.records import Artifact, Availability, Classifier, Device, Execution, Precision

if TYPE_CHECKING:
    import numpy as np

    from vitlet.data.calibration import Calibration

_INSTALL = "install it with: pip install 'vitlet[executorch]'"


class ExecuTorchEngine:
    """fp32, int8 and int4 in a ``.pte`` file, for ExecuTorch's runtime in Python, C++, Android or iOS;
    the successor of PyTorch Mobile.

    The file takes one image; a session runs a batch image by image. With a batch size left open
    XNNPACK takes no reshape, and most of the model would run on slow kernels.
    """

    name = "executorch"

    def available(self) -> Availability:
        """Whether ExecuTorch is installed."""
        if find_spec("executorch") is None:
            return Availability(False, f"ExecuTorch is not installed; {_INSTALL}")
        return Availability(True)

    def precisions(self) -> tuple[Precision, ...]:
        """fp32, int8 by two ways of finding the activations' ranges, and int4 weights."""
        return (Precision("fp32"), Precision("int8-dynamic"), Precision("int8-static"), Precision("int4-dynamic"))

    def export(
        self,
        classifier: Classifier,
        precision: Precision,
        path: Path,
        *,
        calibration: Calibration | None = None,
        device: Device = "cpu",
    ) -> Artifact:
        """Write ``path``.pte, which any app with ExecuTorch's XNNPACK backend can load.

        Raises:
            Unsupported: ExecuTorch is not installed, the precision is unknown, or the model cannot
                be exported or has no Linear layer to quantize.
            InvalidValue: int8-static without calibration.
            NotWritable: the file cannot be written.
        """
        require_variant(self, precision, calibration, device)
        self._require()
        from vitlet.engines.executorch.export import executorch_file
        from vitlet.whole_file import write_whole

        target = with_ending(path, ".pte")
        content, note = executorch_file(self.name, classifier, precision, calibration)
        write_whole(target, content)
        if calibration is not None and precision.is_calibrated:
            note = calibration.note
        return describe(self, classifier, precision, target, note)

    def open(self, artifact: Artifact, *, threads: int) -> Session:
        """Load the file.

        Raises:
            InvalidValue: threads out of range.
            ModelNotFound: there is no such file.
            ModelUnreadable: it is damaged, not vitlet's, or another artifact.
            Unsupported: the runtime is missing.
        """
        self._require()
        from vitlet.engines.executorch.session import open_executorch

        return open_executorch(artifact, threads)

    def explain(self, artifact: Artifact, *, threads: int, images: np.ndarray) -> Execution:
        """What XNNPACK was given and what was left to ExecuTorch's own kernels, as written on export."""
        self._require()
        from vitlet.engines.executorch.explain import explain_executorch

        return explain_executorch(artifact)

    def warm_imports(self) -> None:
        """Import all that ``open`` and ``run`` need."""
        if self.available().ok:
            from vitlet.engines.executorch.session import load_runtime

            load_runtime()

    def _require(self) -> None:
        availability = self.available()
        if not availability.ok:
            raise Unsupported(availability.reason)
