"""What can be said of a compressed model's answers, and how surely, from the same images through both models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitlet.certify import disagreement
from vitlet.certify.paired import Paired, lower_bound, upper_bound
from vitlet.certify.verdict import Outcome, check_limit, images_to_decide, judge
from vitlet.errors import InvalidValue


@dataclass(frozen=True)
class Certificate:
    """Every share is 0 to 1 (a drop -1 to 1), every bound one-sided and true with ``confidence``.

    Of ``images``, ``changed`` are answered otherwise than by the original; their true share is at most
    ``changed_at_most``. Of those that are ``labelled``, ``lost`` were right before and are wrong now, ``won`` the other
    way round; the true drop of top-1 accuracy is at least ``drop_at_least`` and at most ``drop_at_most``. Without
    labels the latter is ``changed_at_most``, for no more can be lost than is changed, and the former ``None``.

    ``outcome`` says whether the drop is within ``limit``, if there is one; ``more_images`` about how many would decide
    that where these do not (``None``: these do, or hardly any number would).
    """

    confidence: float
    images: int
    changed: int
    changed_at_most: float
    labelled: int
    lost: int
    won: int
    drop_at_least: float | None
    drop_at_most: float
    limit: float | None = None
    outcome: Outcome | None = None
    more_images: int | None = None

    def __post_init__(self) -> None:
        counts = self.changed <= self.images and self.labelled <= self.images and self.lost + self.won <= self.labelled
        if min(self.changed, self.lost, self.won) < 0 or self.images < 1 or not counts:
            raise InvalidValue(
                f"{self.changed} changed, {self.lost} lost and {self.won} won of {self.images} images, "
                f"{self.labelled} of them labelled, do not go together"
            )

    @property
    def drop(self) -> float | None:
        """The drop that was seen; ``None`` without labels."""
        return (self.lost - self.won) / self.labelled if self.labelled else None


def certify(
    logits: np.ndarray,
    labels: Sequence[int],
    original: np.ndarray,
    *,
    limit: float | None = None,
    confidence: float = 0.95,
) -> Certificate:
    """Compare the answers; where some images have labels, these alone decide about accuracy.

    ``logits`` and ``original``: float [images, classes], of the compressed and the original model; ``labels`` are class
    indices, -1 where unknown. The images must have had no part in making or choosing the compressed model.

    Raises:
        InvalidValue: the shapes do not fit each other, there are no images, or ``limit`` or ``confidence`` is out of
            its range.
    """
    truth = np.asarray(labels)
    if logits.shape != original.shape or logits.shape[:1] != truth.shape or not len(truth):
        raise InvalidValue(
            f"logits of {list(logits.shape)} and {list(original.shape)} with {len(truth)} labels cannot be compared"
        )
    if limit is not None:
        check_limit(limit)
    before, after = original.argmax(axis=1), logits.argmax(axis=1)
    images, changed = len(truth), int((before != after).sum())
    changed_at_most = disagreement.upper_bound(changed, images, confidence)
    labelled = int((truth >= 0).sum())
    if not labelled:
        outcome, more = _by_changes(changed, images, changed_at_most, limit, confidence)
        return Certificate(
            confidence, images, changed, changed_at_most, 0, 0, 0, None, changed_at_most, limit, outcome, more
        )
    was_right, is_right = before == truth, after == truth
    seen = Paired(labelled, int((was_right & ~is_right).sum()), int((~was_right & is_right).sum()))
    low, high = lower_bound(seen, confidence), upper_bound(seen, confidence)
    outcome = None if limit is None else judge(seen, limit, confidence)
    more = _more_images(seen, limit, confidence) if limit is not None and outcome == "inconclusive" else None
    return Certificate(
        confidence, images, changed, changed_at_most, labelled, seen.lost, seen.won, low, high, limit, outcome, more
    )


def _by_changes(
    changed: int, images: int, changed_at_most: float, limit: float | None, confidence: float
) -> tuple[Outcome | None, int | None]:
    """Without labels a drop can be ruled out, but never shown: what is changed may have been wrong before."""
    if limit is None:
        return None, None
    if changed_at_most <= limit:
        return "pass", None
    if changed / images >= limit:
        return "inconclusive", None
    return "inconclusive", _more_images(Paired(images, changed, 0), limit, confidence)


def _more_images(seen: Paired, limit: float, confidence: float) -> int | None:
    needed = images_to_decide(seen, limit, confidence)
    return None if needed is None else max(needed - seen.images, 1)
