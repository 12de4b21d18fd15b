"""The bytes of a classifier's ``.pte`` file in a precision."""

from __future__ import annotations

import torch
from torch import Tensor

from vitlet.data.calibration import Calibration
from vitlet.engines.answers import require_same_answers
from vitlet.engines.executorch.quiet import without_exporter_notices
from vitlet.engines.torchscript.program import evaluation_module, example_images, one_line
from vitlet.engines.trailer import with_record
from vitlet.errors import Unsupported, VitletError
from vitlet.records import Classifier, Precision


def executorch_file(
    engine: str, classifier: Classifier, precision: Precision, calibration: Calibration | None
) -> tuple[bytes, str]:
    """Export, quantize and lower ``classifier``, and put vitlet's record behind it; the second is a note on
    weights that stay fp32.

    Raises:
        Unsupported: the model cannot be exported, or has no Linear layer to quantize.
    """
    with without_exporter_notices(), torch.random.fork_rng(devices=[]):
        try:
            content, graph, note = _lowered_classifier(classifier, precision, calibration)
        except VitletError:
            raise
        except Exception as error:  # the exporter runs foreign source, and asserts
            raise Unsupported(
                f"ExecuTorch cannot export {classifier.reference} in {precision} ({one_line(error)}); "
                "use another engine for it"
            ) from error
    return with_record(content, engine, classifier, precision, graph), note


def _lowered_classifier(
    classifier: Classifier, precision: Precision, calibration: Calibration | None
) -> tuple[bytes, dict[str, object], str]:
    from vitlet.engines.executorch.lowering import lowered
    from vitlet.engines.executorch.program import XnnpackOperators, exported_program, model_parts, single_image_module
    from vitlet.engines.executorch.quantize import quantize_dynamically, quantize_statically

    def in_xnnpack_operators(images: Tensor) -> Tensor:
        with XnnpackOperators(module):
            answer: Tensor = module(images)
        return answer

    module, note = single_image_module(classifier), ""
    parts = model_parts(module)
    require_same_answers(in_xnnpack_operators, evaluation_module(classifier), classifier, "ExecuTorch's rewritten form")
    if precision.name in ("int8-dynamic", "int4-dynamic"):
        module, note = quantize_dynamically(module, precision)
    program = exported_program(module, example_images(classifier, 1))
    require_same_answers(program.module(), in_xnnpack_operators, classifier, "ExecuTorch's exported program")
    if precision.is_calibrated and calibration is not None:
        program = quantize_statically(program, calibration)
    content, graph = lowered(program)
    return content, {**graph, "parts": parts}, note
