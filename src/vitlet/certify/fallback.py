"""Which operations to leave in float where int8 costs too many answers: the most sensitive ones, as few as help."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import takewhile

from vitlet.certify.inspect import some_of
from vitlet.certify.inspection import ranked
from vitlet.data.calibration import Calibration
from vitlet.data.imageset import ImageSet
from vitlet.engines.artifacts import without_attention_products
from vitlet.errors import Unsupported
from vitlet.records import Classifier, ProgressCallback, no_progress

#: By these factors the divergence of the answers is to fall, the smaller one for the faster file.
FALLS = (16.0, 256.0)
#: Beyond this share of the operations it is no fallback any more, but another precision.
MOST = 1 / 3


def fallbacks(
    classifier: Classifier,
    images: ImageSet,
    calibration: Calibration | None,
    *,
    threads: int = 1,
    progress: ProgressCallback = no_progress,
) -> tuple[tuple[str, ...], ...]:
    """Sets of operations, each the beginning of the next, in whose absence int8 costs a sixteenth of what it did,
    and a 256th.

    The operations are ranked by what each costs alone (as HAWQ and ZeroQ do, arXiv 2001.00281), in simulated int8, on
    ``images``; without ``calibration`` with each image's own ranges. Then 1, 2, 4, ... of them are left out, until the
    divergence of the answers has fallen far enough. Where it never does, a third of them is the one set.

    Empty for a model with nothing to quantize, or where int8 costs nothing in the simulation.
    """
    from vitlet.certify.sensitivity import cost_of, sensitivities
    from vitlet.certify.simulation import Simulation
    from vitlet.engines.torch.threads import using_threads

    with using_threads(threads):
        learned = images.batches(1) if calibration is None else some_of(calibration)
        try:
            simulation = Simulation(classifier.module, learned, dynamic=calibration is None)
        except Unsupported:
            return ()
        found = sensitivities(simulation, images, progress)
        # Runtimes multiply activations by each other in float as it is, or cannot leave one of the products alone.
        names = without_attention_products([one.operation.name for one in ranked(found)])
        everything = {one.operation.name for one in found.operations}
        whole = found.together.kl_divergence
        if not whole or not names:
            return ()

        def fall(in_float: Collection[str]) -> float:
            rest = cost_of(simulation, images, everything - set(in_float)).kl_divergence
            return whole / rest if rest else float("inf")

        falls: list[tuple[tuple[str, ...], float]] = []
        for count in _counts(len(names)):
            falls.append((names[:count], fall(names[:count])))
            if falls[-1][1] >= max(FALLS):
                break
    chosen = [next((names for names, fall in falls if fall >= wanted), None) for wanted in FALLS]
    sets = list(dict.fromkeys(names for names in chosen if names is not None))
    return tuple(sets) or (falls[-1][0],)


def _counts(operations: int) -> Sequence[int]:
    """1, 2, 4, ... and the most there may be."""
    most = max(1, int(MOST * operations))
    doubled = takewhile(lambda count: count < most, (2**power for power in range(operations.bit_length())))
    return [*doubled, most]
