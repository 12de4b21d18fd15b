"""The bytes of a classifier's ``.pte`` file in a precision."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vitlet.data.calibration import Calibration
from vitlet.engines.executorch.quiet import without_exporter_notices
from vitlet.engines.torchscript.program import evaluation_module, example_images, one_line
from vitlet.engines.trailer import with_record
from vitlet.errors import Unsupported, VitletError
from vitlet.records import Classifier, Precision

#: Relative L2 error of the logits that another order of additions may bring.
_MOST_ERROR = 1e-4


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
    _check_answers(in_xnnpack_operators, evaluation_module(classifier), classifier, "rewritten form")
    if precision.name in ("int8-dynamic", "int4-dynamic"):
        module, note = quantize_dynamically(module, precision)
    program = exported_program(module, example_images(classifier, 1))
    _check_answers(program.module(), in_xnnpack_operators, classifier, "exported program")
    if precision.is_calibrated and calibration is not None:
        program = quantize_statically(program, calibration)
    content, graph = lowered(program)
    return content, {**graph, "parts": parts}, note


def _check_answers(
    found: Callable[[Tensor], Tensor], wanted: Callable[[Tensor], Tensor], classifier: Classifier, what: str
) -> None:
    """A trace holds only the path that one example took: other images tell."""
    with torch.no_grad():
        for seed in (1, 2):
            images = example_images(classifier, 1, seed=seed)
            right, answer = wanted(images), found(images)
            if answer.shape == right.shape and (answer - right).norm() <= _MOST_ERROR * right.norm():
                continue
            raise Unsupported(
                f"ExecuTorch's {what} of {classifier.reference} answers wrongly; use the torch engine for it"
            )
