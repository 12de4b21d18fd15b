"""OpenVINO: Intel's runtime for x86 and Arm processors, with NNCF to make the model small."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitlet.engines import Session
from vitlet.engines.artifacts import describe, require_operations, require_variant, with_ending
from vitlet.records import Artifact, Availability, Classifier, Device, Execution, Precision

if TYPE_CHECKING:
    import numpy as np

    from vitlet.data.calibration import Calibration
    from vitlet.engines.openvino.file import Int8Products


class OpenVinoEngine:
    """A graph ``.xml`` with its weights in ``.bin`` beside it, which plain OpenVINO can read, too.

    - fp32, bf16: the weights of bf16 are stored in fp16, half the bytes.
    - int8-static: int8 weights and activations, also of query by key in the attention; the rest fp32.
      int8-static-bf16: the same file but for its record, and the rest in bf16.
    - int8-dynamic, int4-dynamic: small weights, activations quantized as they come. Needs no images,
      but an x86 with VNNI: without, OpenVINO computes in fp32, and the precision is refused.
    - int8-weights, int4-weights: small weights turned to fp32 before each product: a small file
      and fp32's activations, but no faster than fp32.

    Latency of DeiT-S at batch 1, two threads of an AMD EPYC (Zen 5), one run
    (``benchmarks/results/deit-small.json``), relative to fp32: bf16 0.68, int8-static 0.43,
    int8-static-bf16 0.42, int8-dynamic 0.52, int4-dynamic 0.61, int8-weights 1.29, int4-weights 1.31.

    Conversion through ``convert_model`` keeps the attention whole; OpenVINO runs it as one generated
    kernel, whether it is written as one operator or as five.
    """

    name = "openvino"
    mixes = ("int8-static", "int8-static-bf16")

    def available(self) -> Availability:
        """Whether OpenVINO is installed; NNCF, which the small precisions need, is looked for on export."""
        from vitlet.engines.openvino.quiet import installed

        return installed("openvino")

    def precisions(self) -> tuple[Precision, ...]:
        """fp32, bf16, and six with small weights."""
        return (
            Precision("fp32"),
            Precision("bf16"),
            Precision("int8-static"),
            Precision("int8-static-bf16"),
            Precision("int8-dynamic"),
            Precision("int4-dynamic"),
            Precision("int8-weights"),
            Precision("int4-weights"),
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
        """Write ``path``.xml and ``path``.bin.

        Raises:
            Unsupported: the precision is unknown or cannot be had here, OpenVINO or NNCF is missing,
                or the model cannot be converted.
            InvalidValue: int8-static without calibration images, or no such operation to leave in float.
            NotWritable: the files cannot be written.
        """
        require_variant(self, precision, calibration, device)
        _require_installed(precision)
        require_operations(precision, classifier)
        from vitlet.engines.openvino.file import WEIGHTS, write_model
        from vitlet.engines.openvino.graph import to_openvino
        from vitlet.engines.openvino.session import require_precision

        require_precision(precision)
        model, products = _in_precision(to_openvino(classifier), precision, calibration)
        note = _note(model, precision, calibration, products)
        target = with_ending(path, ".xml")
        write_model(model, self.name, classifier, precision, target, products)
        return describe(self, classifier, precision, target, note, companions=(WEIGHTS,))

    def open(self, artifact: Artifact, *, threads: int) -> Session:
        """Read and compile the files; imports no PyTorch.

        Raises:
            InvalidValue: threads out of range.
            ModelNotFound: one of the files is missing.
            ModelUnreadable: they are damaged, not vitlet's, or another artifact.
            Unsupported: OpenVINO is missing, or this processor lacks bf16 or what the int8 products need.
        """
        from vitlet.engines.openvino.session import open_session

        return open_session(artifact, threads)

    def explain(self, artifact: Artifact, *, threads: int, images: np.ndarray) -> Execution:
        """What OpenVINO's own counters say of 20 runs, and which operators it made of the model's.

        Raises:
            VitletError: as for ``open``.
        """
        from vitlet.engines.openvino.explain import explain_model

        return explain_model(artifact, threads, images)

    def warm_imports(self) -> None:
        """Import OpenVINO and load its CPU plug-in; nothing where it is missing."""
        from vitlet.engines.openvino.session import warm_openvino

        if self.available().ok:
            warm_openvino()


def _require_installed(precision: Precision) -> None:
    from vitlet.engines.openvino.quiet import installed
    from vitlet.errors import Unsupported

    small = precision.name not in ("fp32", "bf16")
    found = installed("openvino", "nncf") if small else installed("openvino")
    if not found.ok:
        raise Unsupported(found.reason)


def _in_precision(model: Any, precision: Precision, calibration: Calibration | None) -> tuple[Any, Int8Products]:
    """The graph in its precision, and what its int8 products need."""
    from vitlet.engines.openvino.file import Int8Products
    from vitlet.engines.openvino.processor import weight_bits
    from vitlet.engines.openvino.quantize import group_size, quantized, with_half_weights, with_small_weights

    if precision.name == "fp32":
        return model, Int8Products()
    if precision.name == "bf16":
        return with_half_weights(model), Int8Products()
    if calibration is not None and precision.is_calibrated:
        bits = weight_bits()
        return quantized(model, calibration, bits, precision.in_float), Int8Products(weight_bits=bits)
    dynamic_group = group_size(model, precision) if precision.name.endswith("dynamic") else 0
    return with_small_weights(model, precision), Int8Products(dynamic_group)


def _note(model: Any, precision: Precision, calibration: Calibration | None, products: Int8Products) -> str:
    """What the artifact says of how it was made.

    Raises:
        Unsupported: the precision is a small one, and no weight became small.
    """
    from vitlet.engines.openvino.quantize import small_share

    notes = [calibration.note if calibration is not None and precision.is_calibrated else ""]
    share = 1.0 if precision.name in ("fp32", "bf16") else small_share(model)
    if share < 0.5:
        notes.append(f"only {share:.0%} of the weights are {precision.name[:4]}: NNCF leaves the others as they were")
    if products.weight_bits == 7:
        notes.append("7-bit weights: without VNNI this processor would clip 8-bit products")
    return "; ".join(filter(None, notes))
