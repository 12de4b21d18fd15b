"""Bounds on the drop: against the definition computed outright, known values, and simulated data sets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multinomial, norm

from vitlet.certify.paired import Paired, lower_bound, p_value, score, upper_bound
from vitlet.errors import InvalidValue


def outright(seen: Paired, drop: float) -> float:
    """The p-value by its definition: over every outcome, and 1,000 shares of changed images."""
    n = seen.images
    lost, won = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
    scores = score(n, lost, won, drop)
    low = (lost + won <= n) & (scores <= scores[seen.lost, seen.won] + 1e-12)
    outcomes = np.stack([lost[low], won[low], n - lost[low] - won[low]], axis=-1)
    highest = 0.0
    for changed in np.linspace(abs(drop), 1, 1000):
        p_lost, p_won = (changed + drop) / 2, (changed - drop) / 2
        highest = max(highest, np.nansum(multinomial.pmf(outcomes, n, [p_lost, p_won, max(0.0, 1 - p_lost - p_won)])))
    return highest


@pytest.mark.parametrize(
    ("images", "lost", "won", "drop"),
    [(20, 1, 2, 0.1), (20, 0, 0, 0.1), (30, 3, 1, 0.2), (25, 0, 3, -0.02), (30, 5, 2, 0.3), (12, 12, 0, 0.9)],
)
def test_p_value_is_that_of_its_definition(images, lost, won, drop):
    seen = Paired(images, lost, won)
    assert p_value(seen, drop) == pytest.approx(outright(seen, drop), abs=1e-4)


@pytest.mark.parametrize("images", [50, 300, 1000])
def test_nothing_changed(images):
    """Then (1 - drop) ** images is the chance of it, if all that changes is lost."""
    assert upper_bound(Paired(images, 0, 0)) == pytest.approx(1 - 0.05 ** (1 / images), rel=0.02)


@pytest.mark.parametrize(("lost", "won"), [(150, 140), (300, 340), (20, 19)])
def test_many_images_come_to_the_normal_interval(lost, won):
    seen = Paired(10_000, lost, won)
    deviation = np.sqrt((lost + won) / 10_000 - seen.drop**2) / 100
    assert upper_bound(seen, 0.95) == pytest.approx(seen.drop + norm.ppf(0.95) * deviation, abs=0.15 * deviation)


def test_score_is_the_usual_one_for_no_drop():
    """McNemar's statistic: the difference over the root of the sum."""
    found = score(100, np.array([9, 3]), np.array([4, 3]), 0.0)
    np.testing.assert_allclose(found, [5 / np.sqrt(13), 0.0], atol=1e-12)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 60), st.data())
def test_bounds_hold_the_seen_drop_between_them(images, data):
    lost = data.draw(st.integers(0, images))
    won = data.draw(st.integers(0, images - lost))
    seen = Paired(images, lost, won)
    low, high = lower_bound(seen), upper_bound(seen)
    assert -1 <= low <= seen.drop <= high <= 1
    assert low == -upper_bound(seen.swapped)
    assert upper_bound(seen, 0.99) >= high


@pytest.mark.parametrize(("images", "drop", "changed"), [(50, 0.02, 0.02), (200, 0.005, 0.05), (1000, 0.01, 0.03)])
def test_coverage(images, drop, changed):
    """Of 2,000 data sets at least 94.5 % have a bound above the true drop; benchmarks/coverage.py tries more."""
    drawn = np.random.default_rng(0).multinomial(
        images, [(changed + drop) / 2, (changed - drop) / 2, 1 - changed], size=2000
    )
    outcomes, counts = np.unique(drawn[:, :2], axis=0, return_counts=True)
    # The bound is above the true drop exactly where the test does not refuse it.
    holds = [p_value(Paired(images, int(lost), int(won)), drop) > 0.05 for lost, won in outcomes]
    assert counts[np.array(holds)].sum() >= 0.945 * 2000


@pytest.mark.parametrize(("images", "lost", "won"), [(0, 0, 0), (10, 6, 5), (10, -1, 0), (10, 0, -1)])
def test_counts_that_do_not_go_together(images, lost, won):
    with pytest.raises(InvalidValue, match=f"{lost} lost and {won} won of {images} images do not go together"):
        Paired(images, lost, won)


@pytest.mark.parametrize("confidence", [0.0, 0.49, 1.0, float("nan")])
def test_confidence_out_of_range(confidence):
    with pytest.raises(InvalidValue, match=r"it must be at least 0\.5 and below 1"):
        upper_bound(Paired(10, 0, 0), confidence)
