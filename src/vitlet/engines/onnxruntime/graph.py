"""From a classifier to an ONNX graph of standard operators that has been seen to answer as the module does."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from vitlet.engines.onnxruntime.fold import fold_known
from vitlet.engines.onnxruntime.run import run_once
from vitlet.engines.torchscript.program import evaluation_module, example_images, one_line
from vitlet.errors import Unsupported
from vitlet.records import Classifier

INPUT = "images"
OUTPUT = "logits"

#: LayerNormalization is one operator since 17; the tracing exporter knows none above 20.
_OPSET = 17
_DYNAMO_OPSET = 18
_MOST_BYTES = 2**31 - 2**24  # of a protobuf message, less some for the program
_LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")


def to_onnx(classifier: Classifier, rewrite: Callable[[onnx.ModelProto], None] | None = None) -> onnx.ModelProto:
    """The classifier as ONNX: images float32 [batch, 3, height, width] -> logits [batch, classes], any batch.

    ``rewrite`` may change the model before it is compared with the module, at batch sizes 1 and 3.
    All shapes but the batch are constants of the graph. PyTorch's tracing exporter goes first, since it takes
    a fifth of the time (DeiT-S, PyTorch 2.12.1: 1 s against 5 s); what it cannot trace, or gets
    wrong, goes to the one built on ``torch.export``.

    Raises:
        Unsupported: the model is too large for one file, or no exporter can express it.
    """
    module = evaluation_module(classifier)
    size = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    if size > _MOST_BYTES:
        raise Unsupported(f"{classifier.reference} has {size / 1e9:.1f} GB of weights; one ONNX file holds 2 GB")
    reasons = []
    for export in (_trace, _export):
        try:
            with _quietly(), torch.no_grad():
                model = export(module, classifier)
                fold_known(model)
                if rewrite is not None:
                    rewrite(model)
                _check_answers(model, module, classifier)
            return model
        except Exception as error:  # foreign source can make the exporters raise anything
            reasons.append(one_line(error, 120))
    raise Unsupported(
        f"{classifier.reference} cannot be exported to ONNX ({'; then '.join(reasons)}); use the torch engine for it"
    )


def _trace(module: nn.Module, classifier: Classifier) -> onnx.ModelProto:
    buffer = io.BytesIO()
    torch.onnx.export(
        module,
        (example_images(classifier, 2),),
        buffer,  # type: ignore[arg-type]  # the tracing exporter takes a file, its stub does not
        dynamo=False,
        opset_version=_OPSET,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
    )
    return onnx.load_from_string(buffer.getvalue())


def _export(module: nn.Module, classifier: Classifier) -> onnx.ModelProto:
    batch = torch.export.Dim("batch", min=1, max=4096)
    program: Any = torch.onnx.export(
        module,
        (example_images(classifier, 2),),
        dynamo=True,
        opset_version=_DYNAMO_OPSET,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: batch},),
        verbose=False,
    )
    model: onnx.ModelProto = program.model_proto
    return model


def _check_answers(model: onnx.ModelProto, module: nn.Module, classifier: Classifier) -> None:
    """A trace holds only the path that one example took: other images and batch sizes tell."""
    for batch in (1, 3):
        images = example_images(classifier, batch, seed=batch)
        wanted = module(images).numpy()
        found = run_once(model, {INPUT: images.numpy()}, [OUTPUT])[0]
        if found.shape != wanted.shape or not np.allclose(found, wanted, rtol=1e-3, atol=1e-4):
            raise ValueError(f"its graph answers wrongly at batch size {batch}")


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep back the exporters' warnings and log lines on the model's own source."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [logger.disabled for logger in loggers]
    try:
        for logger in loggers:
            logger.disabled = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled
