"""What can be said of a compressed model's answers, and how surely, from the same images through both models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitlet.certify import disagreement
from vitlet.certify.classes import ClassDrop, worst_classes
from vitlet.certify.looks import confidence_of_look
from vitlet.certify.paired import Paired, lower_bound, upper_bound
from vitlet.certify.verdict import Outcome, check_limit, images_to_decide, judge
from vitlet.errors import InvalidValue
from vitlet.measure.accuracy import expected_calibration_error
from vitlet.measure.statistics import LatencyClaim


@dataclass(frozen=True)
class Certificate:
    """Every share is 0 to 1 (a drop -1 to 1), every bound one-sided and true with ``confidence``.

    Of ``images``, ``changed`` are answered otherwise than by the original; their true share is at most
    ``changed_at_most``. Of those that are ``labelled``, ``lost`` were right before and are wrong now, ``won`` the other
    way round; the true drop of top-1 accuracy is at least ``drop_at_least`` and at most ``drop_at_most``. Without
    labels the latter is ``changed_at_most``, for no more can be lost than is changed, and the former ``None``.

    ``outcome`` says whether the drop is within ``limit``, if there is one; ``more_images`` about how many would decide
    that where these do not (``None``: these do, or hardly any number would).

    ``earlier_looks`` counts the other candidates that these images judged before; then every bound is wider, so that
    all of them together are true with ``confidence`` (``vitlet.certify.looks``). ``None``: it is not known.

    ``classes`` are those that seem to have become worse, the worst first. ``calibration_error`` is how far the softmax
    probabilities are from the share of right answers, 0 to 1; ``original_calibration_error`` the same of the original.

    ``latency`` is what can be said of the time for an image on the machine where it was measured, if it was.
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
    earlier_looks: int | None = None
    classes: tuple[ClassDrop, ...] = ()
    calibration_error: float | None = None
    original_calibration_error: float | None = None
    latency: LatencyClaim | None = None

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
    earlier_looks: int | None = None,
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
    sure, next_time = confidence, confidence
    if earlier_looks is not None:  # whoever comes with more images takes another look
        sure, next_time = (confidence_of_look(confidence, earlier_looks + more) for more in (0, 1))
    before, after = original.argmax(axis=1), logits.argmax(axis=1)
    images, changed = len(truth), int((before != after).sum())
    changed_at_most = disagreement.upper_bound(changed, images, sure)
    labelled = int((truth >= 0).sum())
    if not labelled:
        outcome, more = _by_changes(changed, images, changed_at_most, limit, next_time)
        return Certificate(
            confidence,
            images,
            changed,
            changed_at_most,
            labelled=0,
            lost=0,
            won=0,
            drop_at_least=None,
            drop_at_most=changed_at_most,
            limit=limit,
            outcome=outcome,
            more_images=more,
            earlier_looks=earlier_looks,
        )
    was_right, is_right = before == truth, after == truth
    seen = Paired(labelled, int((was_right & ~is_right).sum()), int((~was_right & is_right).sum()))
    outcome = None if limit is None else judge(seen, limit, sure)
    return Certificate(
        confidence,
        images,
        changed,
        changed_at_most,
        labelled,
        seen.lost,
        seen.won,
        drop_at_least=lower_bound(seen, sure),
        drop_at_most=upper_bound(seen, sure),
        limit=limit,
        outcome=outcome,
        more_images=_more_images(seen, limit, next_time) if limit is not None and outcome == "inconclusive" else None,
        earlier_looks=earlier_looks,
        classes=worst_classes(truth, was_right, is_right, sure),
        calibration_error=expected_calibration_error(logits, labels),
        original_calibration_error=expected_calibration_error(original, labels),
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
