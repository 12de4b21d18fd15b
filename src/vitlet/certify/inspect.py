"""Looking into a classifier: the sensitivity of its operations, what their inputs are like, where it looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vitlet.certify.inspection import Inspection
from vitlet.data.calibration import Calibration
from vitlet.data.imageset import ImageSet
from vitlet.engines import engine
from vitlet.engines.variants import export_one
from vitlet.errors import ExportFailed, InvalidValue, MeasurementFailed, Unsupported
from vitlet.measure.job import Inputs
from vitlet.measure.operation_times import OperationTimes, operation_times
from vitlet.records import Classifier, Precision, Progress, ProgressCallback, no_progress

STATIC = Precision("int8-static")
#: What is simulated.
SIMULATED = (STATIC, Precision("int8-dynamic"))
#: Images that ranges are learned from: as many as PTQ4ViT (arXiv 2111.12293) and RepQ-ViT (2212.08254) take.
_LEARNED_FROM = 32
#: Images whose attention is shown where none are named.
SHOWN = 4


def simulated_precision(name: str) -> Precision:
    """The precision of this name.

    Raises:
        InvalidValue: it is none of those that are simulated.
    """
    for precision in SIMULATED:
        if str(precision) == name:
            return precision
    raise InvalidValue(f"{name!r} cannot be simulated; choose {' or '.join(map(str, SIMULATED))}")


def inspect_classifier(
    classifier: Classifier,
    images: ImageSet,
    calibration: Calibration,
    shown: ImageSet | None = None,
    *,
    precision: Precision = STATIC,
    threads: int = 1,
    progress: ProgressCallback = no_progress,
) -> Inspection:
    """Simulate int8 on ``images`` with the ranges of ``calibration``; show attention over ``shown``, or over some of
    ``images``.

    ``precision`` is int8-static or int8-dynamic (each image's own ranges; ``calibration`` is then only described).

    Raises:
        Unsupported: the model has nothing to quantize.
        NoImages: there are none.
    """
    from vitlet.certify.attention import NO_ATTENTION, attention_maps
    from vitlet.certify.sensitivity import sensitivities
    from vitlet.certify.simulation import Simulation
    from vitlet.engines.torch.threads import using_threads

    progress(Progress("inspect", "ranges of activations"))
    with using_threads(threads):
        simulation = Simulation(classifier.module, some_of(calibration), dynamic=precision != STATIC)
        found = sensitivities(simulation, images, progress, precision=str(precision))
        places = range(shown.count) if shown else _spread(images.count, SHOWN)
        maps = attention_maps(simulation, classifier, shown or images, places)
    return Inspection(found, maps, "" if maps else NO_ATTENTION)


def times_in_float(
    classifier: Classifier,
    inspection: Inspection,
    images: ImageSet,
    calibration: Calibration,
    scratch: Path,
    *,
    precision: Precision = STATIC,
    threads: int = 1,
) -> OperationTimes:
    """What each operation takes in ONNX Runtime in fp32 and in int8; none, and why, where it cannot tell.

    Raises:
        NotWritable: ``scratch`` is full.
    """
    runtime = engine("onnxruntime")
    found = runtime.available()
    if not found.ok:
        return OperationTimes({}, reason=found.reason)
    try:
        fp32, int8 = (
            export_one(classifier, (runtime, one), scratch / f"times-{one}", calibration=calibration)
            for one in (Precision("fp32"), precision)
        )
        names = tuple(one.operation.name for one in inspection.sensitivities.operations)
        return operation_times(fp32, int8, names, Inputs(images.pixels_path, images.spec), threads)
    except (Unsupported, ExportFailed, MeasurementFailed) as error:
        return OperationTimes({}, reason=str(error))


def some_of(calibration: Calibration) -> Calibration:
    """At most as many images as ranges are learned from here, spread evenly."""
    if calibration.random_count:
        return replace(calibration, random_count=min(calibration.random_count, _LEARNED_FROM))
    places = _spread(len(calibration), _LEARNED_FROM)
    return replace(calibration, indices=tuple(calibration.indices[place] for place in places), names=())


def _spread(count: int, most: int) -> Sequence[int]:
    """At most ``most`` places among ``count``, spread evenly."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(int)).tolist()
