"""How much accuracy was lost, with confidence: bounds for two models that answered the same images.

Of all images some were ``lost`` (right before, wrong now) and some ``won`` (wrong before, right now); the rest say
nothing about the difference. The true drop is the probability of the first less that of the second.

The bounds invert an exact unconditional test (Hsueh, Liu and Chen, Biometrics 57, 2001): outcomes are ordered by the
score statistic of Tango (Statistics in Medicine 17, 1998), and what was seen is judged under the share of changed
images that makes it most probable. So a bound holds at least as often as it says, also with few images and few
changes, where the usual normal interval does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitlet.errors import InvalidValue

#: Shares of changed images at which the probability is computed before it is refined around the highest.
_SHARES = 48
_TOLERANCE = 1e-6
#: Scores this near to one another are the same, but for rounding.
_SAME_SCORE = 1e-12


@dataclass(frozen=True)
class Paired:
    """What became of the answers; ``images`` counts all of them."""

    images: int
    lost: int
    won: int

    def __post_init__(self) -> None:
        if min(self.lost, self.won) < 0 or self.images < max(1, self.lost + self.won):
            raise InvalidValue(f"{self.lost} lost and {self.won} won of {self.images} images do not go together")

    @property
    def drop(self) -> float:
        """The drop that was seen, -1 to 1."""
        return (self.lost - self.won) / self.images

    @property
    def swapped(self) -> Paired:
        """The same from the other model's side."""
        return Paired(self.images, self.won, self.lost)


def upper_bound(seen: Paired, confidence: float = 0.95) -> float:
    """The true drop is at most this, -1 to 1, with that confidence (one-sided).

    Raises:
        InvalidValue: ``confidence`` is not from 0.5 to below 1.
    """
    check_confidence(confidence)
    low, high = seen.drop, 1.0
    while high - low > _TOLERANCE:
        middle = (low + high) / 2
        low, high = (low, middle) if p_value(seen, middle) <= 1 - confidence else (middle, high)
    return high


def lower_bound(seen: Paired, confidence: float = 0.95) -> float:
    """The true drop is at least this, with that confidence (one-sided). Errors as ``upper_bound``."""
    return -upper_bound(seen.swapped, confidence)


def check_confidence(confidence: float) -> None:
    """Hold ``confidence`` to what a one-sided bound can have.

    Raises:
        InvalidValue: it is not from 0.5 to below 1.
    """
    if not 0.5 <= confidence < 1:
        raise InvalidValue(f"confidence is {confidence}; it must be at least 0.5 and below 1")


def p_value(seen: Paired, drop: float) -> float:
    """The highest probability, 0 to 1, of a score as low as that of ``seen`` or lower if ``drop`` is the true drop."""
    images = seen.images
    highest = float(score(images, np.array(seen.lost), np.array(seen.won), drop)) + _SAME_SCORE
    least_won = _least_won(images, drop, highest)
    # Evenly spaced in the angle whose sine's square is the share: its standard error is the same everywhere.
    low, high = np.arcsin(np.sqrt(abs(drop))), np.pi / 2
    angles, step = np.linspace(low, high, _SHARES, retstep=True)
    found = 0.0
    for _ in range(4):  # each time around the best so far, in steps a quarter as long
        probabilities = _probabilities(images, least_won, drop, np.sin(angles) ** 2)
        found = max(found, float(probabilities.max()))
        best = angles[int(np.argmax(probabilities))]
        angles, step = np.clip(np.linspace(best - step, best + step, 9), low, high), step / 4
    return min(found, 1.0)


def score(images: int, lost: np.ndarray, won: np.ndarray, drop: float) -> np.ndarray:
    """Tango's statistic of each outcome if ``drop`` is the true drop: about standard normal for many images, and the
    lower the less was lost; ``lost``, ``won`` and the result are of one shape."""
    linear = (2 * images - lost + won) * drop - lost - won
    # The likeliest probability of "won" under that drop: the larger root of a quadratic.
    root = np.sqrt(np.maximum(linear * linear + 8 * images * won * drop * (1 - drop), 0))
    likeliest = (root - linear) / (4 * images)
    deviation = np.sqrt(np.maximum(images * (2 * likeliest + drop * (1 - drop)), 0))
    distance = np.asarray(lost - won - images * drop, float)
    # No deviation and no distance: nothing was changed, and nothing should have been.
    return np.divide(distance, deviation, out=np.zeros_like(distance), where=np.abs(distance) > _SAME_SCORE)


def _least_won(images: int, drop: float, highest: float) -> np.ndarray:
    """int64 [images + 1]: by how many are lost, how many must be won at least for the score to be at most ``highest``;
    more than there can be where none will do."""
    lost = np.arange(images + 1)
    low, high = np.full(images + 1, -1), images - lost + 1
    while (high - low > 1).any():
        middle = (low + high) // 2
        enough = score(images, lost, np.maximum(middle, 0), drop) <= highest
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return high


def _probabilities(images: int, least_won: np.ndarray, drop: float, changed: np.ndarray) -> np.ndarray:
    """Of all outcomes with at least ``least_won[lost]`` won, for each of the true shares of ``changed`` images,
    float64 [shares]; so is the result.
    """
    from scipy.special import bdtrc, gammaln, xlog1py, xlogy

    p_lost, p_won = (np.clip((changed + part) / 2, 0.0, 1.0)[:, None] for part in (drop, -drop))
    # Beyond ten standard deviations and a few images lies less than what is lost to rounding.
    spread = 10 * np.sqrt(images * p_lost * (1 - p_lost)) + 20
    first = np.maximum(images * p_lost - spread, 0).astype(int)
    last = np.minimum(images * p_lost + spread, images).astype(int)
    lost = first + np.arange((last - first).max() + 1)
    is_counted, lost = lost <= last, np.minimum(lost, images)
    ways = gammaln(images + 1) - gammaln(lost + 1) - gammaln(images - lost + 1)
    of_lost = np.exp(ways + xlogy(lost, p_lost) + xlog1py(images - lost, -p_lost))
    left, needed = images - lost, least_won[lost]
    p_of_left = np.minimum(p_won / np.maximum(1 - p_lost, 1e-300), 1.0)
    of_won = bdtrc(np.clip(needed - 1, 0, left), left, p_of_left)
    of_won = np.where(needed <= 0, 1.0, np.where(needed > left, 0.0, of_won))
    found: np.ndarray = (of_lost * of_won * is_counted).sum(axis=1)
    return found
