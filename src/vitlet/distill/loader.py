"""Images from the data into batches of tensors, in worker processes, so that the device need not wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vitlet.data.labelled import LabelledImages
from vitlet.data.preprocess import preprocess
from vitlet.distill.failures import told
from vitlet.distill.order import EpochBatches, Order, Place
from vitlet.distill.recipe import Augmentation
from vitlet.distill.variation import kept_generators, seed_all, training_transform
from vitlet.errors import NoImages, UnreadableImage
from vitlet.records import ImageSpec

if TYPE_CHECKING:
    import PIL.Image

#: So many images one after another may be unreadable before the data count as broken.
MOST_UNREADABLE = 50


@dataclass(frozen=True)
class Batch:
    """``images`` float32 [batch, 3, height, width], normalised; ``labels`` int64 [batch]; ``positions`` int64 [batch]
    in the epoch; ``unreadable`` are the indices of images that others stood in for.
    """

    images: Tensor
    labels: Tensor
    positions: Tensor
    unreadable: tuple[int, ...] = ()

    def pin_memory(self) -> Batch:
        """DataLoader's hook: the same in page-locked memory, which a GPU fetches from in the background."""
        return Batch(self.images.pin_memory(), self.labels.pin_memory(), self.positions, self.unreadable)


@dataclass
class Stream:
    """Passes over the training images, one an epoch. ``waited_s`` counts the seconds that the last pass spent
    waiting for images, ``unreadable`` every image that could not be read so far.
    """

    loader: DataLoader[Any]
    batches: EpochBatches
    waited_s: float = 0.0
    unreadable: set[int] = field(default_factory=set)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of that epoch of the order.

        Raises:
            TrainingFailed: a worker process died.
            NoImages: hardly any image can be read.
        """
        self.batches.epoch, self.waited_s = number, 0.0
        begin = time.perf_counter()
        for batch in _told(self.loader):
            self.waited_s += time.perf_counter() - begin
            self.unreadable.update(batch.unreadable)
            yield batch
            begin = time.perf_counter()


def training_stream(
    data: LabelledImages,
    spec: ImageSpec,
    augmentation: Augmentation,
    order: Order,
    *,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    pin: bool = False,
) -> Stream:
    """The training images in this order, varied, read by ``workers`` processes (0: by this one).

    Raises:
        InvalidValue: the batch cannot be shared, or the augmentation cannot be made.
    """
    batches = EpochBatches(order, rank, world)
    dataset = _Varied(data, training_transform(augmentation, spec))
    loader = _loader(dataset, batches, workers, pin=pin, persistent_workers=workers > 0)
    return Stream(loader, batches)


def plain_batches(
    data: LabelledImages,
    spec: ImageSpec,
    *,
    batch: int,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
) -> Iterator[Batch]:
    """The test images as they are, this process's share of them. An unreadable one comes black with label -1, and
    so does what fills up the share: all processes have as many batches, as sharded models need.

    Raises:
        TrainingFailed: a worker process died.
    """
    places = [Place(at, at, 0) for at in range(rank, -(-data.count // world) * world, world)]
    batches = [places[start : start + batch] for start in range(0, len(places), batch)]
    loader = _loader(_Plain(data, spec), batches, workers if len(batches) > 1 else 0)
    yield from _told(loader)


#: Image, label, position, and the images that could not be read.
_Sample = tuple[Tensor, int, int, tuple[int, ...]]


class _Varied(Dataset[_Sample]):
    """Training images; where one cannot be read, the next one that can stands in."""

    def __init__(self, data: LabelledImages, transform: Callable[[PIL.Image.Image], Tensor]) -> None:
        self.data, self.transform = data, transform

    def __getitems__(self, places: list[Place]) -> list[_Sample] | NoImages:
        """DataLoader's way to fetch a whole batch. Of an error that is raised in a worker it makes one whose text is a
        traceback, so this one is handed on to be raised by ``_told``.
        """
        with kept_generators():
            try:
                return [self._sample(place) for place in places]
            except NoImages as error:
                return error

    def _sample(self, place: Place) -> _Sample:
        missed: tuple[int, ...] = ()
        while True:
            index = (place.image + len(missed)) % self.data.count
            try:
                image = self.data.read(index)
                break
            except UnreadableImage as error:
                missed += (index,)
                if len(missed) >= min(MOST_UNREADABLE, self.data.count):
                    raise NoImages(
                        f"{len(missed)} images one after another cannot be read, the last: {error}"
                    ) from error
        seed_all(place.seed)
        return self.transform(image), int(self.data.labels[index]), place.position, missed


class _Plain(Dataset[_Sample]):
    """Test images; one that cannot be read, or that is beyond the last, is black with label -1."""

    def __init__(self, data: LabelledImages, spec: ImageSpec) -> None:
        self.data, self.spec = data, spec

    def __getitem__(self, place: Place) -> _Sample:
        missed: tuple[int, ...] = ()
        if place.image < self.data.count:
            try:
                image = torch.from_numpy(preprocess(self.data.read(place.image), self.spec))
                return image, int(self.data.labels[place.image]), place.position, missed
            except UnreadableImage:
                missed = (place.image,)
        return torch.zeros(3, self.spec.height, self.spec.width), -1, place.position, missed


def _collate(samples: list[_Sample] | NoImages) -> Batch | NoImages:
    if isinstance(samples, NoImages):
        return samples
    images, labels, positions, missed = zip(*samples, strict=True)
    return Batch(torch.stack(images), torch.tensor(labels), torch.tensor(positions), tuple(chain.from_iterable(missed)))


def _loader(dataset: Dataset[Any], batches: Any, workers: int, *, pin: bool = False, **options: Any) -> DataLoader[Any]:
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=pin,
        generator=torch.Generator(),  # it draws a seed, and must not do so from torch's own
        **options,
    )


def _told(loader: DataLoader[Any]) -> Iterator[Batch]:
    """The loader's batches; what ended a worker is told in a sentence."""
    with told():
        for batch in loader:
            if isinstance(batch, NoImages):
                raise batch
            yield batch
