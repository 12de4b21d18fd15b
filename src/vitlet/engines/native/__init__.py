"""vitlet's own engine (``native/`` in the repository): int8 Vision Transformers in one small C++ library."""

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

_MODULE = "vitlet.engines.native._native"


class NativeEngine:
    """fp32 and int8 in one ``.safetensors`` file, which the C++ library maps and runs without any framework.

    - fp32: the reference, all products in float32;
    - int8-dynamic: int8 weights with a scale for each output channel; each token's activations are quantized by
      their own range while they are in cache, so that no calibration is needed and no image's logits depend on its
      neighbours in a batch. The products of the attention are int8, too; softmax, LayerNorm, GELU and the residual
      stream float32.

    Only canonical ViTs can be exported. The environment variable ``VITLET_ISA`` chooses among the instruction sets
    of the processor; what it is not told, the library finds out.
    """

    name = "native"

    def available(self) -> Availability:
        """Whether the library was built when vitlet was installed."""
        if find_spec(_MODULE) is None:
            return Availability(
                False,
                "vitlet was installed without its C++ part, which needs Linux or macOS and GCC 10, Clang 12 or later; "
                "install one, then vitlet again, from its folder with: "
                "VITLET_REQUIRE_NATIVE=1 pip install --no-cache-dir --force-reinstall --no-deps .",
            )
        return Availability(True)

    def precisions(self) -> tuple[Precision, ...]:
        """fp32 and int8-dynamic."""
        return (Precision("fp32"), Precision("int8-dynamic"))

    def export(
        self,
        classifier: Classifier,
        precision: Precision,
        path: Path,
        *,
        calibration: Calibration | None = None,
        device: Device = "cpu",
    ) -> Artifact:
        """Write ``path``.safetensors, which ``vitlet_load`` of the C interface reads, too.

        Raises:
            Unsupported: the C++ part is missing, the precision is unknown, or the model is no canonical ViT, or a
                larger one than the library takes.
            NotWritable: the file cannot be written.
        """
        require_variant(self, precision, calibration, device)
        self._require()
        from vitlet.engines.native.model_file import model_file
        from vitlet.whole_file import write_whole

        target = with_ending(path, ".safetensors")
        write_whole(target, model_file(classifier, precision))
        return describe(self, classifier, precision, target)

    def open(self, artifact: Artifact, *, threads: int) -> Session:
        """Map the file and lay its weights out for this processor; imports no PyTorch.

        Raises:
            InvalidValue: threads out of range, or VITLET_ISA names an instruction set that is not to be had here.
            ModelNotFound: there is no such file.
            ModelUnreadable: it is damaged, not vitlet's, or another artifact.
            Unsupported: the C++ part is missing.
        """
        self._require()
        from vitlet.engines.native.session import NativeSession

        return NativeSession(artifact, threads)

    def explain(self, artifact: Artifact, *, threads: int, images: np.ndarray) -> Execution:
        """The library's own clock: what the phases of a run take.

        Raises:
            VitletError: as for ``open``.
        """
        self._require()
        from vitlet.engines.native.explain import explain_native

        return explain_native(artifact, threads, images)

    def warm_imports(self) -> None:
        """Import all that ``open`` and ``run`` need."""
        if self.available().ok:
            from vitlet.engines.native.session import load_library

            load_library()

    def _require(self) -> None:
        availability = self.available()
        if not availability.ok:
            raise Unsupported(availability.reason)
