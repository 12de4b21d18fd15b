"""Which image stands where in an epoch, and from which seed it is varied: arithmetic, no images.

Everything follows from (seed, epoch, position), so a run that was stopped, a run of several processes and a
run with a teacher's stored decisions all see the very same images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from vitlet.errors import InvalidValue


class Place(NamedTuple):
    """One image of an epoch: ``image`` is its index in the data, ``position`` that in the epoch, ``seed`` its
    variation's."""

    image: int
    position: int
    seed: int


@dataclass(frozen=True)
class Order:
    """``count`` images in batches of ``batch``, each chosen image ``repeats`` times in one epoch (and as many
    fewer images: 1901.09335). The last batch is filled up from the epoch's first images.
    """

    count: int
    batch: int
    repeats: int = 1
    seed: int = 0

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return -(-self.count // self.batch)

    @property
    def positions(self) -> int:
        """Images of an epoch, those that fill up the last batch included."""
        return self.steps * self.batch

    def indices(self, epoch: int) -> np.ndarray:
        """int64 [steps, batch]: which image stands where."""
        generator = np.random.default_rng((self.seed, epoch))
        chosen = generator.permutation(self.count)[: -(-self.count // self.repeats)]
        return np.resize(np.repeat(chosen, self.repeats), self.positions).reshape(self.steps, self.batch)

    def seeds(self, epoch: int) -> np.ndarray:
        """uint32 [steps, batch]: from which seed each position is varied."""
        generator = np.random.default_rng((self.seed, epoch, 1))
        return generator.integers(0, 2**32, (self.steps, self.batch), dtype=np.uint32)

    def mix_seed(self, epoch: int, step: int) -> int:
        """The seed by which a batch's images are mixed with one another."""
        return int(np.random.default_rng((self.seed, epoch, 2, step)).integers(0, 2**32))


def share(batch: int, rank: int, world: int) -> np.ndarray:
    """int64 [batch / world]: the places of a batch that process ``rank`` of ``world`` computes.

    Mixing pairs place i with place batch - 1 - i. Each process gets whole pairs, in an order in which
    the same rule pairs them, so that a batch is mixed alike however many processes share it.

    Raises:
        InvalidValue: the batch cannot be shared so.
    """
    if world == 1:
        return np.arange(batch)
    if batch % (2 * world):
        raise InvalidValue(
            f"a batch of {batch} cannot be shared by {world} processes; make it a multiple of {2 * world}"
        )
    part = batch // (2 * world)
    first = np.arange(rank * part, (rank + 1) * part)
    return np.concatenate([first, batch - 1 - first[::-1]])


class EpochBatches(Sampler[list[Place]]):
    """The batches of one process for torch's DataLoader; ``epoch`` may be set before each pass."""

    def __init__(self, order: Order, rank: int = 0, world: int = 1) -> None:
        self.order, self.epoch = order, 0
        self._mine = share(order.batch, rank, world)

    def __len__(self) -> int:
        return self.order.steps

    def __iter__(self) -> Iterator[list[Place]]:
        indices, seeds = self.order.indices(self.epoch), self.order.seeds(self.epoch)
        for step in range(self.order.steps):
            yield [
                Place(int(indices[step, at]), step * self.order.batch + int(at), int(seeds[step, at]))
                for at in self._mine
            ]
