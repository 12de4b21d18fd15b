"""LiteRT, formerly TensorFlow Lite: Google's runtime for phones and boards, on XNNPACK's kernels."""

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

_INSTALL = "install it with: pip install 'vitlet[litert]'"


class LiteRtEngine:
    """fp32 and int8 in a ``.tflite`` file, for LiteRT on Android, iOS, Linux or in a browser.

    - fp32;
    - int8-dynamic: int8 weights with a scale for each output channel, activations quantized as they come;
    - int8-static: linears, convolutions and the products of the attention between int8 values with ranges learned
      from images; the rest in fp32;
    - int8-weights: a small file; XNNPACK turns the weights to fp32 when the file is opened.

    The file takes one image: litert-torch converts no open batch size (its issues 685, 711, 870). A
    session runs a batch image by image.
    """

    name = "litert"

    def available(self) -> Availability:
        """Whether the runtime is installed; the converter is looked for on export."""
        if find_spec("ai_edge_litert") is None:
            return Availability(False, f"LiteRT is not installed; {_INSTALL}")
        return Availability(True)

    def precisions(self) -> tuple[Precision, ...]:
        """fp32 and three with int8 weights."""
        return (Precision("fp32"), Precision("int8-dynamic"), Precision("int8-static"), Precision("int8-weights"))

    def export(
        self,
        classifier: Classifier,
        precision: Precision,
        path: Path,
        *,
        calibration: Calibration | None = None,
        device: Device = "cpu",
    ) -> Artifact:
        """Write ``path``.tflite, which any app with LiteRT or TensorFlow Lite can load.

        Raises:
            Unsupported: LiteRT or its converter is not installed, the precision is unknown, or the model cannot
                be converted or has no layer to quantize.
            InvalidValue: int8-static without calibration.
            NotWritable: the file cannot be written.
        """
        require_variant(self, precision, calibration, device)
        self._require()
        if find_spec("litert_torch") is None:
            raise Unsupported(f"litert-torch, which converts, is not installed; {_INSTALL}")
        from vitlet.engines.litert.convert import litert_file
        from vitlet.whole_file import write_whole

        target = with_ending(path, ".tflite")
        content, note = litert_file(self.name, classifier, precision, calibration)
        write_whole(target, content)
        return describe(self, classifier, precision, target, note)

    def open(self, artifact: Artifact, *, threads: int) -> Session:
        """Load the file; imports no PyTorch.

        Raises:
            InvalidValue: threads out of range.
            ModelNotFound: there is no such file.
            ModelUnreadable: it is damaged, not vitlet's, or another artifact.
            Unsupported: LiteRT is missing.
        """
        self._require()
        from vitlet.engines.litert.session import open_litert

        return open_litert(artifact, threads)

    def explain(self, artifact: Artifact, *, threads: int, images: np.ndarray) -> Execution:
        """The operators of the file, and which of them XNNPACK took.

        Raises:
            VitletError: as for ``open``.
        """
        self._require()
        from vitlet.engines.litert.explain import explain_litert

        return explain_litert(artifact, threads)

    def warm_imports(self) -> None:
        """Import all that ``open`` and ``run`` need."""
        if self.available().ok:
            from vitlet.engines.litert.session import load_runtime

            load_runtime()

    def _require(self) -> None:
        availability = self.available()
        if not availability.ok:
            raise Unsupported(availability.reason)
