"""Where the damage lies: accuracy by class, and the images whose answer changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitlet.data.imageset import ImageSet
from vitlet.measure.accuracy import probabilities


@dataclass(frozen=True)
class ClassResult:
    """Of ``images`` with the label ``index``, how many were answered right; ``standard_right`` by the model
    compared with, if there was one.
    """

    index: int
    images: int
    right: int
    standard_right: int | None = None

    @property
    def lost(self) -> int:
        """Right answers fewer than the standard's (negative: more); 0 without a standard."""
        return 0 if self.standard_right is None else self.standard_right - self.right


@dataclass(frozen=True)
class ChangedImage:
    """Image number ``image`` (counted from 0), with ``label`` (-1 if unknown): its class before and after."""

    image: int
    label: int
    before: int
    after: int


@dataclass(frozen=True)
class ChangedPicture:
    """An image whose answer changed, to be shown: ``pixels`` uint8 [height, width, 3] as the model sees it, the class
    names of its label (empty if unknown) and of the answers ``before`` and ``after``, with the softmax probability
    that each model gave its own.
    """

    name: str
    truth: str
    before: str
    before_share: float
    after: str
    after_share: float
    height: int
    width: int
    pixels: bytes


def class_results(
    logits: np.ndarray, labels: Sequence[int], standard: np.ndarray | None = None
) -> tuple[ClassResult, ...]:
    """Accuracy of each class that has labelled images, in the order of the classes.

    ``logits`` and ``standard``: float32 [images, classes]; images with label -1 do not count.
    """
    known = np.asarray(labels)
    classes = logits.shape[1]
    has_label = known >= 0
    images = np.bincount(known[has_label], minlength=classes)
    right = np.bincount(known[has_label & (logits.argmax(axis=1) == known)], minlength=classes)
    before = None
    if standard is not None:
        before = np.bincount(known[has_label & (standard.argmax(axis=1) == known)], minlength=classes)
    return tuple(
        ClassResult(int(index), int(images[index]), int(right[index]), None if before is None else int(before[index]))
        for index in np.flatnonzero(images)
    )


def changed_images(logits: np.ndarray, labels: Sequence[int], standard: np.ndarray) -> tuple[ChangedImage, ...]:
    """The images whose top answer is another than the standard's; both float32 [images, classes]."""
    after, before = logits.argmax(axis=1), standard.argmax(axis=1)
    return tuple(
        ChangedImage(image, labels[image], int(before[image]), int(after[image]))
        for image in np.flatnonzero(after != before).tolist()
    )


def changed_pictures(
    images: ImageSet, logits: np.ndarray, standard: np.ndarray, labels: Sequence[str], most: int
) -> tuple[ChangedPicture, ...]:
    """At most ``most`` of the images whose top answer is another than the standard's: first what was right before,
    then what was wrong, the surer ones first. Both float32 [images, classes]; ``labels`` are the classes' names.
    """
    shares, standard_shares = probabilities(logits), probabilities(standard)

    def order(one: ChangedImage) -> tuple[bool, float]:
        return one.before != one.label, -float(shares[one.image, one.after])

    found = sorted(changed_images(logits, images.labels, standard), key=order)[:most]
    pixels = np.load(images.pixels_path, mmap_mode="r", allow_pickle=False)
    return tuple(
        ChangedPicture(
            images.names[one.image],
            labels[one.label] if one.label >= 0 else "",
            labels[one.before],
            float(standard_shares[one.image, one.before]),
            labels[one.after],
            float(shares[one.image, one.after]),
            images.spec.height,
            images.spec.width,
            np.asarray(pixels[one.image]).tobytes(),
        )
        for one in found
    )
