from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from vitlet.report.placement import GAP, Box, Line, Point, place_labels
from vitlet.report.scale import latency_scale, share_scale

BOUNDS = Box(0, 0, 800, 400)

points = st.lists(
    st.builds(
        Point,
        x=st.floats(10, 790),
        y=st.floats(10, 390),
        radius=st.sampled_from([6.5, 13.0]),
        label_width=st.floats(20, 200),
        label_height=st.just(32.5),
    ),
    max_size=14,
)


@settings(max_examples=60, deadline=None)
@given(points=points)
def test_labels_lie_on_nothing(points: list[Point]) -> None:
    obstacle = Box(300, 100, 340, 140)
    labels = place_labels(points, BOUNDS, [obstacle])
    placed = [label for label in labels if label is not None]
    for label in placed:
        assert BOUNDS.holds(label.box)
        assert not label.box.meets(obstacle, GAP)
        for other in placed:
            assert other is label or other.leader is None or not label.box.crosses(other.leader)
    assert not any(one.box.meets(other.box, GAP - 1e-9) for one, other in combinations(placed, 2))
    for label, point in zip(labels, points, strict=True):
        others = [p for p in points if p is not point]
        assert label is None or not any(label.box.meets(other.box) for other in others)


def test_lone_point_has_its_label_to_the_right() -> None:
    (label,) = place_labels([Point(100, 100, 6, 80, 30)], BOUNDS)
    assert label is not None
    assert (label.box.left, label.box.top) == (110, 85)
    assert label.leader is None


def test_point_at_the_right_edge_has_it_to_the_left() -> None:
    (label,) = place_labels([Point(780, 200, 6, 80, 30)], BOUNDS)
    assert label is not None
    assert label.box.right == 770


def test_points_on_one_spot_all_get_one() -> None:
    """As the same weights in fp32 do, run by several engines."""
    points = [Point(400, 200, 6, 100, 30) for _ in range(6)]
    labels = place_labels(points, BOUNDS)
    assert all(labels)
    assert any(label.leader for label in labels if label)


def test_first_point_gets_the_best_place_and_the_last_may_get_none() -> None:
    small = Box(0, 0, 200, 60)
    first, *others = place_labels([Point(60, 30, 6, 120, 30) for _ in range(5)], small)
    assert first is not None
    assert others[-1] is None


def test_avoided_line_moves_a_label_only_as_long_as_it_stays_near() -> None:
    point = Point(400, 200, 6, 80, 30)
    through = [Line(400, 0, 400, 400), Line(0, 200, 800, 200)]
    (label,) = place_labels([point], BOUNDS, avoided=through)
    assert label is not None
    assert not any(label.box.crosses(line) for line in through)
    hatched = [Line(x, 0, x, 400) for x in range(0, 800, 20)]
    (label,) = place_labels([point], BOUNDS, avoided=hatched)
    assert label is not None
    assert label.leader is None


def test_box_crosses_line() -> None:
    box = Box(10, 10, 20, 20)
    assert box.crosses(Line(0, 0, 30, 30))
    assert box.crosses(Line(12, 12, 13, 13))
    assert box.crosses(Line(15, 0, 15, 40))
    assert not box.crosses(Line(0, 0, 9, 9))
    assert not box.crosses(Line(0, 30, 9, 0))
    assert not box.crosses(Line(25, 0, 25, 40))


# Scales


def test_latency_scale_is_logarithmic_for_a_wide_range_and_begins_at_zero_for_a_narrow_one() -> None:
    wide = latency_scale([22, 79, 559], 0, 1000)
    assert wide.logarithmic
    assert wide.ticks() == [20, 50, 100, 200, 500]
    narrow = latency_scale([3.9, 4.15], 0, 1000)
    assert not narrow.logarithmic
    assert narrow(0) == 0
    assert narrow.ticks(8) == [0, 1, 2, 3, 4]


@settings(deadline=None)
@given(values=st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=20))
def test_every_latency_has_its_place_and_a_few_round_ticks(values: list[float]) -> None:
    scale = latency_scale(values, 50, 1000)
    assert all(50 - 1e-6 <= scale(value) <= 1000 + 1e-6 for value in values)
    ticks = scale.ticks(8)
    assert 2 <= len(ticks) <= 9
    assert ticks == sorted(ticks)
    assert len({f"{tick:,g}" for tick in ticks}) == len(ticks)


@settings(deadline=None)
@given(values=st.lists(st.floats(0, 100), min_size=1, max_size=20))
def test_shares_keep_off_the_edges_and_the_scale_near_0_to_100(values: list[float]) -> None:
    scale = share_scale(values, 400, 0, least=1.0)
    assert all(0 < scale(value) < 400 for value in values)
    assert scale.low >= -12.1
    assert scale.high <= 112.1
    assert 2 <= len(scale.ticks(6)) <= 8
