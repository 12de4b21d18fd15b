"""vitlet: Vision Transformers made small and fast for the machine at hand, with the evidence.

The public Python API, loaded on first use so that ``import vitlet`` imports no runtime::

    import vitlet

    model = vitlet.load("timm:deit_small_patch16_224")
    done = vitlet.compress(model, data=["photos/"], out="deit_small.vitlet")
    for prediction in vitlet.classify("deit_small.vitlet", ["cat.jpg"]):
        print(prediction.image, prediction.answers[0].label)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vitlet.bundle.read import Bundle, read_bundle
    from vitlet.errors import VitletError
    from vitlet.measure.run import MeasureSettings
    from vitlet.measure.statistics import latency_summary
    from vitlet.pipeline import (
        bench,
        classify,
        compare,
        compress,
        distill,
        doctor,
        evaluate,
        export,
        inspect,
        load,
        verify,
    )
    from vitlet.records import Artifact, Classifier, Environment, ImageSpec, Measurement, Parity, Precision, Progress
    from vitlet.results import Answer, Bench, Compressed, Evaluation, Inspected, Prediction, Regression, Verification

# `vitlet.distill` is a function (the verb) and a room (the package). Importing a package binds it here,
# once; do that now and drop the binding, so that the name always gives the function.
import_module("vitlet.distill")
globals().pop("distill", None)

_WHERE = {
    **dict.fromkeys(("Bundle", "read_bundle"), "vitlet.bundle.read"),
    "VitletError": "vitlet.errors",
    "MeasureSettings": "vitlet.measure.run",
    "latency_summary": "vitlet.measure.statistics",
    **dict.fromkeys(
        (
            "bench",
            "classify",
            "compare",
            "compress",
            "distill",
            "doctor",
            "evaluate",
            "export",
            "inspect",
            "load",
            "verify",
        ),
        "vitlet.pipeline",
    ),
    **dict.fromkeys(
        ("Answer", "Bench", "Compressed", "Evaluation", "Inspected", "Prediction", "Regression", "Verification"),
        "vitlet.results",
    ),
    **dict.fromkeys(
        ("Artifact", "Classifier", "Environment", "ImageSpec", "Measurement", "Parity", "Precision", "Progress"),
        "vitlet.records",
    ),
}

__all__ = [
    "Answer",
    "Artifact",
    "Bench",
    "Bundle",
    "Classifier",
    "Compressed",
    "Environment",
    "Evaluation",
    "ImageSpec",
    "Inspected",
    "MeasureSettings",
    "Measurement",
    "Parity",
    "Precision",
    "Prediction",
    "Progress",
    "Regression",
    "Verification",
    "VitletError",
    "bench",
    "classify",
    "compare",
    "compress",
    "distill",
    "doctor",
    "evaluate",
    "export",
    "inspect",
    "latency_summary",
    "load",
    "read_bundle",
    "verify",
]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'vitlet' has no attribute {name!r}")
    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
