"""Which classes became worse. A model may keep its accuracy and lose one class of a thousand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitlet.certify.paired import Paired, lower_bound, upper_bound

#: Classes that a certificate names.
NAMED = 10


@dataclass(frozen=True)
class ClassDrop:
    """What became of the ``images`` labelled with class ``index``. Its true drop is at least ``drop_at_least`` and at
    most ``drop_at_most`` (-1 to 1); either is true of all classes at once with the confidence of the certificate.
    """

    index: int
    images: int
    lost: int
    won: int
    drop_at_least: float
    drop_at_most: float

    @property
    def drop(self) -> float:
        """The drop that was seen."""
        return (self.lost - self.won) / self.images


def worst_classes(
    labels: np.ndarray, was_right: np.ndarray, is_right: np.ndarray, confidence: float
) -> tuple[ClassDrop, ...]:
    """Of the classes that lost more than they won the ``NAMED`` that speak most clearly, by McNemar's statistic.

    ``labels``: int [images], -1 where unknown; ``was_right`` and ``is_right``: bool [images]. Each bound is held to
    Bonferroni's share of the error, one part for each class that has images.

    Raises:
        InvalidValue: ``confidence`` is not from 0.5 to below 1.
    """
    has_label = labels >= 0
    images = np.bincount(labels[has_label])
    lost = np.bincount(labels[has_label & was_right & ~is_right], minlength=len(images))
    won = np.bincount(labels[has_label & ~was_right & is_right], minlength=len(images))
    sure = 1 - (1 - confidence) / max(1, int(np.count_nonzero(images)))
    clear = (lost - won) / np.sqrt(np.maximum(lost + won, 1))
    found = []
    for index in np.argsort(-clear, kind="stable")[:NAMED].tolist():
        if clear[index] > 0:
            seen = Paired(int(images[index]), int(lost[index]), int(won[index]))
            bounds = lower_bound(seen, sure), upper_bound(seen, sure)
            found.append(ClassDrop(index, seen.images, seen.lost, seen.won, *bounds))
    return tuple(found)
