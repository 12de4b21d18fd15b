"""What quantizing costs the answers, operation by operation: each alone in int8, all else in float32."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from vitlet.certify.fake_int8 import sqnr_db
from vitlet.certify.inspection import Cost, KindCost, Sensitivities, Sensitivity
from vitlet.certify.simulation import Simulation
from vitlet.data.imageset import ImageSet
from vitlet.errors import InvalidValue, NoImages
from vitlet.measure.accuracy import kl_divergence, logits_error
from vitlet.records import Progress, ProgressCallback, no_progress

#: Images that go through the model together: what a processor's cache holds of a small ViT's activations.
_BATCH = 8


def sensitivities(
    simulation: Simulation, images: ImageSet, progress: ProgressCallback = no_progress, *, precision: str = ""
) -> Sensitivities:
    """Quantize each operation alone, then all of a kind, then all, and compare the answers with the float model's.

    Raises:
        NoImages: the set is empty.
    """
    operations = simulation.operations
    by_kind: dict[str, set[str]] = {}
    for one in operations:
        by_kind.setdefault(one.kind, set()).add(one.name)
    everything = {one.name for one in operations}
    trials = [*({one.name} for one in operations), *by_kind.values(), everything]
    costs, energies = _try_all(simulation, images, trials, progress)
    alone, of_kinds, together = costs[: len(operations)], costs[len(operations) : -1], costs[-1]
    return Sensitivities(
        precision,
        tuple(
            Sensitivity(one, cost, sqnr_db(*energies[one.name])) for one, cost in zip(operations, alone, strict=True)
        ),
        tuple(KindCost(kind, cost) for kind, cost in zip(by_kind, of_kinds, strict=True)),
        together,
        simulation.inputs,
    )


def cost_of(
    simulation: Simulation, images: ImageSet, int8: Collection[str], progress: ProgressCallback = no_progress
) -> Cost:
    """What quantizing these operations together costs; the others stay in float32.

    Raises:
        InvalidValue: one of them is no operation of the model.
        NoImages: the set is empty.
    """
    unknown = sorted(set(int8) - {one.name for one in simulation.operations})
    if unknown:
        raise InvalidValue(f"{unknown[0]!r} is no operation of this model; there are: {_names(simulation)}")
    ((cost,), _) = _try_all(simulation, images, [set(int8)], progress)
    return cost


def _try_all(
    simulation: Simulation, images: ImageSet, trials: Sequence[Collection[str]], progress: ProgressCallback
) -> tuple[list[Cost], Mapping[str, tuple[float, float]]]:
    """The cost of each trial, and of each operation that is tried alone the energies of its result and its noise."""
    if not images.count:
        raise NoImages("the image set is empty; give at least one image")
    exact: list[np.ndarray] = []
    found: list[list[np.ndarray]] = [[] for _ in trials]
    energies: dict[str, tuple[float, float]] = {}
    total = -(-images.count // _BATCH) * len(trials)
    for batch in images.batches(_BATCH):
        exact.append(simulation.run(batch))
        for answers, names in zip(found, trials, strict=True):
            done = sum(map(len, found))
            progress(Progress("inspect", next(iter(names)) if len(names) == 1 else "", done, total))
            answers.append(simulation.run(batch, names, resume=True))
            if len(names) == 1:
                for name, (signal, noise) in simulation.energies.items():
                    before = energies.get(name, (0.0, 0.0))
                    energies[name] = (before[0] + signal, before[1] + noise)
    reference = np.concatenate(exact)
    return [_cost(np.concatenate(answers), reference) for answers in found], energies


def _cost(logits: np.ndarray, reference: np.ndarray) -> Cost:
    changed = int((logits.argmax(axis=1) != reference.argmax(axis=1)).sum())
    return Cost(logits_error(logits, reference), kl_divergence(logits, reference), changed, len(reference))


def _names(simulation: Simulation) -> str:
    return ", ".join(one.name for one in simulation.operations)
