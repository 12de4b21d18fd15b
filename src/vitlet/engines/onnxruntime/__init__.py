"""ONNX Runtime on the CPU: the model as an ``.onnx`` file, for servers, desktops, phones and browsers."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from vitlet.engines import Session
from vitlet.engines.artifacts import describe, require_operations, require_variant, with_ending
from vitlet.errors import Unsupported
from vitlet.records import Artifact, Availability, Classifier, Device, Execution, Precision

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from vitlet.data.calibration import Calibration

_INSTALL = "install it with: pip install 'vitlet[onnxruntime]'"
#: Inputs that share a scale. For int8 products larger blocks are faster (DeiT-S: 128 in 0.82 of the time of 32).
_INT4_BLOCK = {"int4-weights": 32, "int4-dynamic": 128}


class OnnxRuntimeEngine:
    """fp32, int8 and int4 in an ``.onnx`` with ONNX Runtime's own operators for what a ViT is made of.

    Latency of DeiT-S at batch 1, two threads of an AMD EPYC (Zen 5), one run
    (``benchmarks/results/deit-small.json``), fp32 = 1: int8-static 0.41, int8-dynamic 0.42, int4-dynamic
    0.73, int4-weights 1.04.

    Left out, since they gained nothing on x86 with one thread: fp16, whose products are cast to fp32 and
    back (1.07), bf16, for which the CPU has no MatMul, and int8 weights with fp32 products (1.35). Dynamic
    ranges are per tensor, and so per batch: at batch sizes above 1 the logits of an image depend a
    little on its neighbours.

    Without VNNI, x86 kernels clip sums of int8 products: there weights get 7 bits, and a file with
    8 is refused (``processor``).
    """

    name = "onnxruntime"
    mixes = ("int8-dynamic", "int8-static")

    def available(self) -> Availability:
        """Whether ONNX Runtime is installed; export needs the ``onnx`` package besides."""
        if find_spec("onnxruntime") is None:
            return Availability(False, f"ONNX Runtime is not installed; {_INSTALL}")
        return Availability(True)

    def precisions(self) -> tuple[Precision, ...]:
        """fp32, and four with small weights."""
        return (
            Precision("fp32"),
            Precision("int8-dynamic"),
            Precision("int8-static"),
            Precision("int4-weights"),
            Precision("int4-dynamic"),
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
        """Write ``path``.onnx: input "images", output "logits", any batch.

        Raises:
            Unsupported: the precision is unknown, a package is missing, or the model cannot be
                exported, is above 2 GB or has no linear to quantize.
            InvalidValue: int8-static without calibration, or no such operation to leave in float.
            NotWritable: the file cannot be written.
        """
        require_variant(self, precision, calibration, device)
        for package, name in (("onnxruntime", "ONNX Runtime"), ("onnx", "the package onnx")):
            if find_spec(package) is None:
                raise Unsupported(f"{name} is not installed; {_INSTALL}")
        require_operations(precision, classifier)
        from vitlet.engines.onnxruntime.file import sealed
        from vitlet.engines.onnxruntime.graph import to_onnx
        from vitlet.whole_file import write_whole

        model = to_onnx(classifier, _rewritten if precision.name == "fp32" else _rewritten_for_integers)
        bits, note = (0, "") if precision.name == "fp32" else _quantize(model, precision, calibration)
        architecture = classifier.architecture
        size = (architecture.image_height, architecture.image_width, architecture.classes)
        target = with_ending(path, ".onnx")
        content = sealed(model.SerializeToString(), self.name, precision, *size, weight_bits=bits)
        write_whole(target, content)
        notes = [calibration.note if precision.is_calibrated and calibration is not None else "", note]
        if bits == 7:
            notes.append("7-bit weights: without VNNI this processor would clip 8-bit products")
        return describe(self, classifier, precision, target, "; ".join(filter(None, notes)))

    def open(self, artifact: Artifact, *, threads: int) -> Session:
        """Check the file's hash and load it.

        Raises:
            InvalidValue: threads out of range.
            ModelNotFound: there is no such file.
            ModelUnreadable: it is damaged, not vitlet's, or another artifact.
            Unsupported: ONNX Runtime is missing, or the processor would answer wrongly.
        """
        self._require()
        from vitlet.engines.onnxruntime.session import open_onnx

        return open_onnx(artifact, threads)

    def explain(self, artifact: Artifact, *, threads: int, images: np.ndarray) -> Execution:
        """What ONNX Runtime's profiler saw of 20 runs."""
        self._require()
        from vitlet.engines.onnxruntime.explain import explain_onnx

        return explain_onnx(artifact, threads, images)

    def warm_imports(self) -> None:
        """Import all that ``open`` and ``run`` need; nothing where ONNX Runtime is missing."""
        if self.available().ok:
            import onnxruntime  # noqa: F401

            import vitlet.engines.onnxruntime.session  # noqa: F401

    def _require(self) -> None:
        found = self.available()
        if not found.ok:
            raise Unsupported(found.reason)


def _rewritten(model: onnx.ModelProto) -> None:
    from vitlet.engines.onnxruntime.fusion import fuse_attention

    fuse_attention(model)


def _rewritten_for_integers(model: onnx.ModelProto) -> None:
    from vitlet.engines.onnxruntime.fusion import fuse_attention, patches_as_linear

    fuse_attention(model)
    patches_as_linear(model)


def _quantize(model: onnx.ModelProto, precision: Precision, calibration: Calibration | None) -> tuple[int, str]:
    """Quantize ``model`` in place; return the bits of the weights in int8 products by ONNX Runtime (0 if
    there are none), and a note on what stayed fp32.
    """
    from vitlet.engines.artifacts import without_attention_products
    from vitlet.engines.onnxruntime.int4 import int4_weights
    from vitlet.engines.onnxruntime.int8 import dynamic_int8, static_int8
    from vitlet.engines.onnxruntime.linear import share_in_linears
    from vitlet.engines.onnxruntime.processor import clips_products
    from vitlet.engines.onnxruntime.ranges import learn_ranges

    bits = 7 if clips_products() else 8
    # The products between activations are in float as it is.
    in_float = without_attention_products(precision.in_float)
    note = _note(share_in_linears(model), precision)
    if precision.name in _INT4_BLOCK:
        int4_weights(model, block=_INT4_BLOCK[precision.name], int8_products=precision.name == "int4-dynamic")
        return 0, note
    if precision.name == "int8-static":
        assert calibration is not None  # require_variant saw to it
        static_int8(model, bits, learn_ranges(model, calibration), in_float)
    else:
        dynamic_int8(model, bits, in_float)
    return bits, note


def _note(share: float, precision: Precision) -> str:
    if share >= 0.5:
        return ""
    return f"only {share:.0%} of the weights are {precision.name[:4]}: the others are not in linear layers"
