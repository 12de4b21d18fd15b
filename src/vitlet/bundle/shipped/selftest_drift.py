"""Why a tensor is not the one that the model must get for an image: the same image is prepared in all the ways that
applications are known to, until one gives that tensor.

For each way (resize, filter, turn) the tensor's channels are fitted, by least squares, as ``a * pixel + b`` of each of
the image's channels. The fit gives the order of the channels, and ``a`` and ``b`` the mean and standard deviation
that were used; what is left over says how far that way is from the truth. Differences are told in *levels*: a pixel
has 256 of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Optional, Union

import numpy as np
from PIL import Image

from .selftest_ways import FILTERS, NOT_TURNED, Way, pixels, ways

#: Levels. Below the first only float rounding differs; up to the second, on average, another library resampled or
#: decoded in the same way.
EQUAL, CLOSE = 0.02, 0.5
#: Root mean square levels that an explanation may leave over.
_EXPLAINED = 2.5
#: So many pixels, spread over the image, are fitted at least.
_ENOUGH_PIXELS = 12_000


@dataclass(frozen=True)
class Cause:
    """One thing that was done (``found``) otherwise than it should have been (``wanted``).

    ``what`` is "layout", "turn", "resize", "filter", "channels", "values", "mean" or "std".
    """

    what: str
    found: str
    wanted: str


@dataclass(frozen=True)
class Drift:
    """How far a tensor is from the truth, in levels, and why; no causes if none is known. ``is_close`` says that it
    is near enough to be the work of another library that does the same.
    """

    largest: float
    average: float
    causes: tuple[Cause, ...] = ()
    is_close: bool = False


@dataclass(frozen=True)
class _Values:
    """``order``: which channel of the image each of the tensor's is; and with what each was normalised."""

    order: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class _Fit:
    """``left``: root mean square levels; ``values``: all that fit as well, which for a gray image are several."""

    way: Way
    left: float
    values: tuple[_Values, ...] = ()


def levels_apart(tensor: np.ndarray, truth: np.ndarray, std: Sequence[float]) -> np.ndarray:
    """How far each value of two float32 [3, height, width] is apart, in levels."""
    return np.abs(tensor.astype(np.float64) - truth) * 255 * np.asarray(std)[:, np.newaxis, np.newaxis]


def find_drift(
    tensor: np.ndarray, truth: np.ndarray, spec: Any, upright: Image.Image, stored: Image.Image
) -> Optional[Drift]:
    """Compare two float32 [3, height, width]; ``None`` if they are equal but for rounding.

    The causes tell ``tensor`` apart from what ``spec`` makes of the image ``upright``; ``stored`` is the image as it
    lies in the file, before its EXIF orientation is heeded.
    """
    apart = levels_apart(tensor, truth, spec["std"])
    largest, average = float(apart.max()), float(apart.mean())
    if largest <= EQUAL:
        return None
    causes = explain(tensor, spec, upright, stored)
    return Drift(largest, average, causes or (), is_close=causes == () and average <= CLOSE)


def explain(tensor: np.ndarray, spec: Any, upright: Image.Image, stored: Image.Image) -> Optional[tuple[Cause, ...]]:
    """What was done to the image otherwise than ``spec`` says, so that ``tensor`` came out; nothing if it was
    followed, ``None`` if no known way gives that tensor.
    """
    found = _best(tensor, spec, upright, stored)
    if found.left <= _EXPLAINED:
        return _causes(found, spec)
    height, width = tensor.shape[1:]
    interleaved = np.ascontiguousarray(tensor).reshape(height, width, 3).transpose(2, 0, 1)
    again = _best(interleaved, spec, upright, stored)
    if again.left > _EXPLAINED:
        return None
    return (
        Cause("layout", "reshaped from [height, width, 3] to [3, height, width]", "transposed"),
        *_causes(again, spec),
    )


def _causes(fit: _Fit, spec: Any) -> tuple[Cause, ...]:
    of_values = [(*_channel_causes(v), *_value_causes(v, fit.left, spec)) for v in fit.values]
    return (*_way_causes(fit.way, spec), *min(of_values, key=len))


def _best(tensor: np.ndarray, spec: Any, upright: Image.Image, stored: Image.Image) -> _Fit:
    """The way with the fewest changes among those that come closest."""
    fits: list[_Fit] = []

    def tried(candidates: Iterator[Way]) -> bool:
        for way in candidates:
            fits.append(_fit(tensor, way, *pixels(way, spec, upright, stored)))
            if fits[-1].left <= EQUAL:
                return True
        return False

    is_turned = stored.size != upright.size or stored.tobytes() != upright.tobytes()
    if not (tried(iter([Way()])) or tried(ways(spec, upright.size, is_turned))):
        ordered = sorted(fits, key=lambda fit: fit.left)
        resized = [fit.way for fit in ordered if fit.way.resize][:6]
        turned = [fit.way for fit in ordered if fit.way.turn][:2]
        both = [Way(way.resize, name, way.turn) for way in resized + turned for name in FILTERS]
        lying = (w for w in ways(spec, stored.size, False) if is_turned and not w.turn)
        tried(iter([*both, *(Way(w.resize, w.filter, NOT_TURNED) for w in lying)]))
    least = min(fit.left for fit in fits)
    near = [fit for fit in fits if fit.left <= max(0.05, 1.25 * least)]
    return min(near or fits[:1], key=lambda fit: (fit.way.changes, fit.left))


def _fit(tensor: np.ndarray, way: Way, image: np.ndarray, inside: np.ndarray) -> _Fit:
    """``image``: levels [height, width, 3]; only the pixels ``inside`` count."""
    places = np.flatnonzero(inside)
    places = places[:: max(1, len(places) // _ENOUGH_PIXELS)]
    x = image.reshape(-1, 3)[places].astype(np.float64).T
    y = tensor.reshape(3, -1)[:, places].astype(np.float64)
    x0, y0 = x.mean(axis=1), y.mean(axis=1)
    x, y = x - x0[:, np.newaxis], y - y0[:, np.newaxis]
    variance, covariance = (x * x).mean(axis=1), y @ x.T / x.shape[1]
    if variance.min() < 1e-3 or (y * y).mean(axis=1).min() < 1e-20:
        return _Fit(way, math.inf)
    slope = covariance / variance
    rest = np.maximum((y * y).mean(axis=1)[:, np.newaxis] - covariance * slope, 0)
    left = np.sqrt(rest) / np.maximum(np.abs(slope), 1e-30)
    orders = sorted(permutations(range(3)), key=lambda o: (o != (0, 1, 2), o != (2, 1, 0)))
    worst = {order: float(max(left[i, j] for i, j in enumerate(order))) for order in orders}
    least = min(worst.values())
    return _Fit(
        way, least, tuple(_values(order, slope, x0, y0) for order in orders if worst[order] <= 1.1 * least + 0.02)
    )


def _values(order: tuple[int, ...], slope: np.ndarray, x0: np.ndarray, y0: np.ndarray) -> _Values:
    a = [float(slope[i, j]) or 1e-30 for i, j in enumerate(order)]
    b = [float(y0[i]) - a[i] * float(x0[j]) for i, j in enumerate(order)]
    return _Values(order, tuple(-b[i] / (255 * a[i]) for i in range(3)), tuple(1 / (255 * a[i]) for i in range(3)))


def _way_causes(way: Way, spec: Any) -> Iterator[Cause]:
    if way.turn:
        yield Cause("turn", way.turn, "turned as its EXIF orientation says")
    if way.resize:
        yield Cause("resize", way.resize.told, told_resize(spec))
    if way.filter:
        yield Cause("filter", way.filter, spec["interpolation"])


def told_resize(spec: Any) -> str:
    """The spec's resize and crop in words."""
    height, width, resize = spec["height"], spec["width"], spec["resize"]
    if isinstance(resize, int):
        return f"shorter edge resized to {resize}, then the centre {width} x {height} cut out"
    if list(resize) == [height, width]:
        return f"stretched to {width} x {height}"
    return f"stretched to {resize[1]} x {resize[0]}, then the centre {width} x {height} cut out"


def _channel_causes(values: _Values) -> Iterator[Cause]:
    if values.order != (0, 1, 2):
        yield Cause("channels", "".join("RGB"[i] for i in values.order), "RGB")


def _value_causes(values: _Values, left: float, spec: Any) -> Iterator[Cause]:
    mean, std = np.asarray(values.mean), np.asarray(values.std)
    shift, ratio = (0.02 + 0.2 * left) / 255, 0.0005 + 0.004 * left

    def alike(m: Any, s: Any) -> bool:
        return _near_mean(mean, m, shift) and _near_std(std, s, ratio)

    wanted_mean, wanted_std = np.asarray(spec["mean"], float), np.asarray(spec["std"], float)
    order = list(values.order)  # normalised before the channels were swapped, or after
    if alike(wanted_mean, wanted_std) or alike(wanted_mean[order], wanted_std[order]):
        return
    known = {
        "0..255, neither divided nor normalised": (np.zeros(3), np.full(3, 1 / 255)),
        "0..1, not normalised by mean and std": (np.zeros(3), np.ones(3)),
        "-1..1 (mean 0.5, std 0.5)": (np.full(3, 0.5), np.full(3, 0.5)),
        "normalised without division by 255": (wanted_mean / 255, wanted_std / 255),
        "divided by 255 twice": (wanted_mean * 255, wanted_std * 255),
        "normalised twice": (wanted_mean + wanted_std * wanted_mean, wanted_std * wanted_std),
    }
    told = f"divided by 255, then normalised with mean {numbers(wanted_mean)} and std {numbers(wanted_std)}"
    for name, (m, s) in known.items():
        if alike(m, s):
            yield Cause("values", name, told)
            return
    if not _near_mean(mean, wanted_mean, shift):
        yield Cause("mean", numbers(mean), numbers(wanted_mean))
    if not _near_std(std, wanted_std, ratio):
        yield Cause("std", numbers(std), numbers(wanted_std))


def _near_mean(mean: np.ndarray, wanted: np.ndarray, shift: float) -> bool:
    return bool((np.abs(mean - wanted) <= shift + 1e-4 * np.abs(wanted)).all())


def _near_std(std: np.ndarray, wanted: np.ndarray, ratio: float) -> bool:
    return bool((np.abs(std / wanted - 1) <= ratio).all())


def numbers(values: Union[Sequence[float], np.ndarray]) -> str:
    """(0.4850003, 0.456, 0.406) -> "(0.485, 0.456, 0.406)"."""
    return "(" + ", ".join(f"{round(float(value), 4):g}" for value in values) + ")"
