"""The verdict, and whether as many images as it asks for decide."""

import numpy as np
import pytest

from vitlet.certify.paired import Paired
from vitlet.certify.verdict import images_to_decide, judge, judge_speed
from vitlet.errors import InvalidValue
from vitlet.measure.statistics import Speedup


@pytest.mark.parametrize(
    ("seen", "limit", "outcome"),
    [
        (Paired(10_000, 20, 19), 0.005, "pass"),
        (Paired(10_000, 20, 19), 0.001, "inconclusive"),
        (Paired(10_000, 300, 20), 0.005, "fail"),
        (Paired(600, 0, 0), 0.005, "pass"),
        (Paired(590, 0, 0), 0.005, "inconclusive"),
        (Paired(50, 0, 0), 0.005, "inconclusive"),
        (Paired(50, 20, 0), 0.005, "fail"),
        (Paired(2000, 0, 40), 0.0, "pass"),
    ],
)
def test_outcome(seen, limit, outcome):
    assert judge(seen, limit) == outcome


@pytest.mark.parametrize(("drop", "changed"), [(0.0, 0.003), (0.0, 0.02), (0.03, 0.06)])
def test_as_many_images_as_it_asks_for_decide(drop, changed):
    """Of 30 times that 200 images did not, in 24 or more."""
    generator = np.random.default_rng(3)
    shares = [(changed + drop) / 2, (changed - drop) / 2, 1 - changed]

    def more(images: int, seen: Paired) -> Paired:
        lost, won, _ = generator.multinomial(images, shares)
        return Paired(seen.images + images, seen.lost + int(lost), seen.won + int(won))

    decided = tried = 0
    while tried < 30:
        begun = more(199, Paired(1, 0, 0))
        needed = images_to_decide(begun, 0.005)
        if judge(begun, 0.005) != "inconclusive" or needed is None:
            continue
        tried += 1
        decided += judge(more(needed - begun.images, begun), 0.005) != "inconclusive"
    assert decided >= 24


@pytest.mark.parametrize(("seen", "limit"), [(Paired(200, 3, 1), 0.01), (Paired(200, 1, 1), 0.0)])
def test_the_longer_the_drop_stays_at_the_limit_the_more_images_are_asked_for(seen, limit):
    few = images_to_decide(seen, limit)
    many = images_to_decide(Paired(seen.images * 50, seen.lost * 50, seen.won * 50), limit)
    assert 200 < few < many / 20


def test_a_number_that_nobody_could_mean_is_not_told():
    assert images_to_decide(Paired(10_000_000, 150_000, 50_000), 0.01) is None


@pytest.mark.parametrize("limit", [-0.01, 1.0, float("nan")])
def test_limit_out_of_range(limit):
    with pytest.raises(InvalidValue, match="it must be at least 0 and below 1"):
        judge(Paired(10, 0, 0), limit)


@pytest.mark.parametrize(
    ("low", "high", "limit", "outcome"),
    [
        (0.95, 1.05, 0.1, "pass"),
        (0.95, 1.05, 0.01, "inconclusive"),
        (0.80, 0.85, 0.1, "fail"),
        (0.80, 1.00, 0.1, "inconclusive"),
        (1.0, 1.2, 0.0, "pass"),
        (0.5, 0.6, 1.0, "pass"),
    ],
)
def test_speed(low, high, limit, outcome):
    """The ratio is the old time over the new one: 0.8 is 25 % longer."""
    assert judge_speed(Speedup((low * high) ** 0.5, low, high), limit) == outcome


@pytest.mark.parametrize("limit", [-0.1, float("nan")])
def test_limits_of_a_slowdown_out_of_range(limit):
    with pytest.raises(InvalidValue, match="the limit of the slowdown is"):
        judge_speed(Speedup(1, 1, 1), limit)
