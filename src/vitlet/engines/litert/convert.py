"""The bytes of a classifier's ``.tflite`` file in a precision: litert-torch, then ai-edge-quantizer."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitlet.data.calibration import Calibration
from vitlet.engines.answers import require_same_answers
from vitlet.engines.artifacts import int8_note
from vitlet.engines.litert.session import load_runtime
from vitlet.engines.quiet import without_stderr
from vitlet.engines.torchscript.program import evaluation_module, example_images, one_line
from vitlet.engines.trailer import with_record
from vitlet.errors import Unsupported, VitletError
from vitlet.records import Classifier, Precision

#: With the products of the attention in int8, too, XNNPACK takes only pieces of the graph: DeiT-S took 88 ms instead
#: of 21 (ai-edge-litert 2.3.0, 2 threads).
_STATIC_OPERATORS = ("FULLY_CONNECTED", "CONV_2D")


def litert_file(
    engine: str, classifier: Classifier, precision: Precision, calibration: Calibration | None
) -> tuple[bytes, str]:
    """Convert and quantize ``classifier``, and put vitlet's record behind it; the second is a note.

    Raises:
        Unsupported: the model cannot be converted, or has no layer to quantize.
    """
    with _quietly():
        try:
            content, note = _converted(classifier), ""
            require_same_answers(_answers(content), evaluation_module(classifier), classifier, "LiteRT's form")
            if precision.name != "fp32":
                content = _quantized(content, precision, calibration)
                note = int8_note(_int8_weights(content), classifier.module)
        except VitletError:
            raise
        except Exception as error:  # the converter runs foreign source, and asserts
            raise Unsupported(
                f"LiteRT cannot express {classifier.reference} in {precision} ({one_line(error)}); "
                "use another engine for it"
            ) from error
    if calibration is not None and precision.is_calibrated:
        note = "; ".join(filter(None, (calibration.note, note)))
    return with_record(content, engine, classifier, precision), note


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the converter's progress and warnings, and with PyTorch's random state as it was."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            Path(os.devnull).open("w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
            without_stderr(),
            torch.random.fork_rng(devices=[]),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _converted(classifier: Classifier) -> bytes:
    import litert_torch

    converted = litert_torch.convert(evaluation_module(classifier), (example_images(classifier, 1),))
    # In memory: the converter ends the process where it cannot write a file.
    content: bytes = converted.model_content()
    return content


def _quantized(whole: bytes, precision: Precision, calibration: Calibration | None) -> bytes:
    from ai_edge_quantizer import calibrator, qtyping, quantizer, recipe_manager
    from ai_edge_quantizer.utils.qsv_utils import min_max_update

    recipe = recipe_manager.RecipeManager()
    every = qtyping.TFLOperationName.ALL_SUPPORTED
    if precision.is_calibrated:
        for name in _STATIC_OPERATORS:
            recipe.add_static_config(
                regex=".*",
                operation_name=qtyping.TFLOperationName[name],
                activation_num_bits=8,
                weight_num_bits=8,
            )
    elif precision.name == "int8-weights":
        recipe.add_weight_only_config(regex=".*", operation_name=every, num_bits=8)
    else:
        recipe.add_dynamic_config(regex=".*", operation_name=every, num_bits=8)
    work = quantizer.Quantizer(bytearray(whole), recipe.get_quantization_recipe())
    ranges = None
    if calibration is not None and precision.is_calibrated:
        signature, name = _input_of(whole)
        # The quantizer's own choice is a moving average of the ranges, which the rarer large values leave.
        observer = calibrator.Calibrator(whole, qsv_update_func=min_max_update)
        observer.calibrate({signature: [{name: image} for image in calibration]}, recipe)
        ranges = observer.get_model_qsvs()
    return bytes(work.quantize(ranges).quantized_model)


def _input_of(content: bytes) -> tuple[str, str]:
    """The signature of a converted model, and the name of its input."""
    ((signature, names),) = load_runtime().Interpreter(model_content=content).get_signature_list().items()
    return signature, names["inputs"][0]


def _int8_weights(content: bytes) -> int:
    """How many weights of linears and convolutions are stored as int8."""
    interpreter: Any = load_runtime().Interpreter(model_content=content)
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    stored: dict[int, int] = {}
    for operator in interpreter._get_ops_details():
        # The weights are the second input, and of a weight-only file what is turned to fp32 first.
        at = {"FULLY_CONNECTED": 1, "CONV_2D": 1, "DEQUANTIZE": 0}.get(operator["op_name"])
        tensor = None if at is None else tensors.get(operator["inputs"][at])
        if tensor is not None and tensor["dtype"] is np.int8 and tensor["quantization_parameters"]["scales"].size > 1:
            stored[tensor["index"]] = int(np.prod(tensor["shape"]))
    return sum(stored.values())


def _answers(content: bytes) -> Callable[[Tensor], Tensor]:
    """A converted model as a function of one image."""
    interpreter: Any = load_runtime().Interpreter(model_content=content)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def answer(images: Tensor) -> Tensor:
        interpreter.set_tensor(source, images.numpy())
        interpreter.invoke()
        return torch.from_numpy(interpreter.get_tensor(target))

    return answer
