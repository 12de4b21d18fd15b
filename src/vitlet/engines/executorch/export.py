"""The bytes of a classifier's ``.pte`` file in a precision."""

from __future__ import annotations

import torch

from vitlet.data.calibration import Calibration
from vitlet.engines.executorch.file import with_record
from vitlet.engines.executorch.quiet import without_exporter_notices
from vitlet.engines.torchscript.program import example_images, one_line
from vitlet.errors import Unsupported, VitletError
from vitlet.records import Classifier, Precision


def executorch_file(
    engine: str, classifier: Classifier, precision: Precision, calibration: Calibration | None
) -> bytes:
    """Export, quantize and lower ``classifier``, and put vitlet's record behind it.

    Raises:
        Unsupported: the model cannot be exported.
    """
    with without_exporter_notices(), torch.random.fork_rng(devices=[]):
        try:
            content, graph = _lowered_classifier(classifier, precision, calibration)
        except VitletError:
            raise
        except Exception as error:  # the exporter runs foreign source, and asserts
            raise Unsupported(
                f"ExecuTorch cannot export {classifier.reference} in {precision} ({one_line(error)}); "
                "use another engine for it"
            ) from error
    return with_record(content, engine, classifier, precision, graph)


def _lowered_classifier(
    classifier: Classifier, precision: Precision, calibration: Calibration | None
) -> tuple[bytes, dict[str, object]]:
    from vitlet.engines.executorch.lowering import lowered
    from vitlet.engines.executorch.program import exported_program, model_parts, single_image_module
    from vitlet.engines.executorch.quantize import quantize_dynamically, quantize_statically

    module = single_image_module(classifier)
    parts = model_parts(module)
    if precision.name in ("int8-dynamic", "int4-dynamic"):
        module = quantize_dynamically(module, precision)
    program = exported_program(module, example_images(classifier, 1))
    if precision.is_calibrated and calibration is not None:
        program = quantize_statically(program, calibration)
    content, graph = lowered(program)
    return content, {**graph, "parts": parts}
