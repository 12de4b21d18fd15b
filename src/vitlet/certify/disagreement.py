"""How often two models answer differently, with confidence. No labels are needed, and accuracy cannot drop by more."""

from __future__ import annotations

from vitlet.certify.paired import check_confidence
from vitlet.errors import InvalidValue


def upper_bound(changed: int, images: int, confidence: float = 0.95) -> float:
    """The true share of images with another answer is at most this, 0 to 1, with that confidence (one-sided): the
    exact bound of Clopper and Pearson (Biometrika 26, 1934).

    Raises:
        InvalidValue: not 0 <= ``changed`` <= ``images``, no images, or ``confidence`` is not from 0.5 to below 1.
    """
    from scipy.special import betaincinv

    check_confidence(confidence)
    if not 0 <= changed <= images or images < 1:
        raise InvalidValue(f"{changed} changed of {images} images do not go together")
    return 1.0 if changed == images else float(betaincinv(changed + 1, images - changed, confidence))
