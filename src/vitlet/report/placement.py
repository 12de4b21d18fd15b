"""Where the labels of a plot's points go, so that none lies on another label, point or line.

Greedy, in the order given: each label tries places around its point, near ones first, and takes the
first that is free. This is the point-feature labelling of cartography (Christensen, Marks and
Shieber, "An Empirical Study of Algorithms for Point-Feature Label Placement", 1995), whose simplest
algorithm does for a few dozen points.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

#: Pixels between a label's box and whatever is next to it.
GAP = 3.0
#: Pixels between a point's edge and its label, near to far; from the first far one on a line leads there.
_DISTANCES = (4.0, 9.0, 15.0, 22.0, 30.0, 40.0, 52.0, 66.0, 82.0, 100.0, 122.0, 148.0, 178.0)
_FIRST_FAR = 15.0
#: Pixels further that a label goes rather than lie on a line that is only to be avoided.
_AVOIDING = 24.0
#: Degrees: right, left, above, below, then in between. In a crowd the corners come first: four labels
#: then stand around a point and leave the ways out between them to the lines of four more.
_STRAIGHT, _DIAGONAL = (0, 180, 270, 90), (315, 45, 225, 135)
_ANGLES = (*_STRAIGHT, *_DIAGONAL, *(a for a in range(15, 360, 15) if a % 45))
#: Two points nearer than this crowd each other, and how much further corners may be then.
_CROWDED = 60.0
_CORNERS_FIRST = 12.0


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box, gap: float = 0.0) -> bool:
        """Whether the two overlap, or come nearer than ``gap``."""
        return (
            self.left < other.right + gap
            and other.left < self.right + gap
            and self.top < other.bottom + gap
            and other.top < self.bottom + gap
        )

    def holds(self, other: Box) -> bool:
        """Whether the other lies within."""
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.top <= other.top
            and other.bottom <= self.bottom
        )

    def crosses(self, line: Line) -> bool:
        """Whether a straight line touches the box (Liang and Barsky, 1984)."""
        start, end = 0.0, 1.0
        dx, dy = line.x2 - line.x1, line.y2 - line.y1
        for step, room in (
            (-dx, line.x1 - self.left),
            (dx, self.right - line.x1),
            (-dy, line.y1 - self.top),
            (dy, self.bottom - line.y1),
        ):
            if step == 0:
                if room < 0:
                    return False
            elif step < 0:
                start = max(start, room / step)
            else:
                end = min(end, room / step)
        return start <= end


@dataclass(frozen=True)
class Line:
    """A straight line in pixels."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True)
class Point:
    """What is to be labelled: a disc, and the size of its label's box."""

    x: float
    y: float
    radius: float
    label_width: float
    label_height: float

    @property
    def box(self) -> Box:
        return Box(self.x - self.radius, self.y - self.radius, self.x + self.radius, self.y + self.radius)


@dataclass(frozen=True)
class Label:
    """Where a label's box goes, and the line that leads to it from its point where it is far."""

    box: Box
    leader: Line | None


def place_labels(
    points: Sequence[Point], bounds: Box, obstacles: Sequence[Box] = (), avoided: Sequence[Line] = ()
) -> list[Label | None]:
    """Find a place within ``bounds`` for each label, the first points first; ``None`` if all are taken.

    A label never lies on an obstacle, and on an avoided line only if that keeps it near its point.
    """
    discs = [point.box for point in points]
    boxes, leaders = list(obstacles), list[Line]()
    labels: list[Label | None] = []
    for index, point in enumerate(points):
        others = discs[:index] + discs[index + 1 :]
        best: tuple[float, Label] | None = None
        is_crowded = any(math.hypot(p.x - point.x, p.y - point.y) < _CROWDED for p in points if p is not point)
        for near, label in _candidates(point, is_crowded):
            cost = near + _AVOIDING * any(label.box.crosses(line) for line in avoided)
            if (best is None or cost < best[0]) and _is_free(label, bounds, others, boxes, leaders):
                best = cost, label
        labels.append(best[1] if best else None)
        if best:
            boxes.append(best[1].box)
            leaders += [best[1].leader] if best[1].leader else []
    return labels


def _candidates(point: Point, is_crowded: bool) -> Iterator[tuple[float, Label]]:
    """Labels around a point, each with what it costs to have it there."""
    half_width, half_height = point.label_width / 2, point.label_height / 2
    for distance in _DISTANCES:
        for degrees in _ANGLES:
            x, y = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
            reach = point.radius + distance
            # The centre of a box whose nearest edge is ``reach`` away in this direction.
            centre_x = point.x + x * reach + _sign(x) * half_width * min(1.0, abs(x) * math.sqrt(2))
            centre_y = point.y + y * reach + _sign(y) * half_height * min(1.0, abs(y) * math.sqrt(2))
            box = Box(centre_x - half_width, centre_y - half_height, centre_x + half_width, centre_y + half_height)
            cost = distance + _CORNERS_FIRST * (is_crowded and degrees in _STRAIGHT)
            yield cost, Label(box, _leader(point, box) if distance >= _FIRST_FAR else None)


def _leader(point: Point, box: Box) -> Line:
    """From the point's edge to the nearest place on the box's."""
    near_x = min(max(point.x, box.left), box.right)
    near_y = min(max(point.y, box.top), box.bottom)
    length = math.hypot(near_x - point.x, near_y - point.y) or 1.0
    share = point.radius / length
    return Line(point.x + share * (near_x - point.x), point.y + share * (near_y - point.y), near_x, near_y)


def _is_free(label: Label, bounds: Box, discs: Sequence[Box], boxes: Sequence[Box], leaders: Sequence[Line]) -> bool:
    if not bounds.holds(label.box) or any(label.box.meets(disc, GAP) for disc in discs):
        return False
    if any(label.box.meets(box, GAP) for box in boxes) or any(label.box.crosses(line) for line in leaders):
        return False
    own = label.leader
    return own is None or not (any(box.crosses(own) for box in boxes) or any(_cross(own, line) for line in leaders))


def _cross(one: Line, other: Line) -> bool:
    """Whether two lines cross (by the sides on which each has the other's ends)."""

    def side(line: Line, x: float, y: float) -> float:
        return (line.x2 - line.x1) * (y - line.y1) - (line.y2 - line.y1) * (x - line.x1)

    return (
        side(one, other.x1, other.y1) * side(one, other.x2, other.y2) < 0
        and side(other, one.x1, one.y1) * side(other, one.x2, one.y2) < 0
    )


def _sign(value: float) -> float:
    return 0.0 if abs(value) < 1e-9 else math.copysign(1.0, value)
