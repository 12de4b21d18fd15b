"""PyTorch Mobile's optimizer: whether this PyTorch has it, and what it makes of a classifier."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch

from vitlet.engines.torchscript import scripted_classifier
from vitlet.engines.torchscript.dynamic_int8 import using_kernels
from vitlet.engines.torchscript.program import one_line, without_deprecations
from vitlet.errors import Unsupported
from vitlet.records import Availability, Classifier, Precision


def optimizer_availability() -> Availability:
    """Whether this PyTorch was built with XNNPACK, which ``optimize_for_mobile`` needs to write its
    files and the mobile runtimes need to run them.
    """
    try:
        from torch.utils.mobile_optimizer import optimize_for_mobile  # noqa: F401

        settings: Any = import_module("torch.backends.xnnpack")
        found = bool(settings.enabled)
    except (ImportError, AttributeError):
        found = False
    if found:
        return Availability(True)
    return Availability(
        False,
        f"PyTorch {torch.__version__} has no XNNPACK, which optimize_for_mobile needs: PyTorch 2.13 dropped it; "
        "pin torch 2.12.1, or use the executorch engine, the successor of PyTorch Mobile, or the torchscript engine",
    )


def require_optimizer() -> None:
    """Refuse where the optimizer is missing.

    Raises:
        Unsupported: with the reason and the ways out.
    """
    availability = optimizer_availability()
    if not availability.ok:
        raise Unsupported(availability.reason)


def optimized_classifier(classifier: Classifier, precision: Precision) -> tuple[torch.jit.ScriptModule, str]:
    """The classifier as TorchScript, optimised for phones, and a note on how it was made.

    Raises:
        Unsupported: no XNNPACK, no such precision here, or a model that cannot be scripted, traced
            or optimised.
    """
    require_optimizer()
    from torch.utils.mobile_optimizer import optimize_for_mobile

    scripted, note = scripted_classifier(classifier, precision)
    with using_kernels(precision.kernels), without_deprecations():
        try:
            return optimize_for_mobile(scripted), note
        except RuntimeError as error:
            raise Unsupported(f"{classifier.reference} cannot be optimised for mobile: {one_line(error)}") from error
