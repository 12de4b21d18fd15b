"""The recipe refuses nonsense, and its learning rate rises and falls as it says."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from vitlet.distill.recipe import STUDENT, Recipe
from vitlet.errors import InvalidValue
from vitlet.records import from_json, to_json


def test_learning_rate_rises_then_falls_by_a_cosine():
    recipe = Recipe(epochs=10, learning_rate=1.0, warmup_epochs=2, final_learning_rate=0.1)
    rates = [recipe.learning_rate_at(step, 5) for step in range(50)]
    assert rates[:10] == pytest.approx([0.1 * (n + 1) for n in range(10)])
    assert rates[10] == 1.0
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[49] == pytest.approx(0.1)
    assert rates[10 + 13] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * 13 / 39)) / 2)


def test_learning_rate_without_warmup_and_with_nothing_else():
    assert Recipe(epochs=1, warmup_epochs=0).learning_rate_at(0, 1) == STUDENT.learning_rate
    assert Recipe(epochs=1, warmup_epochs=1).learning_rate_at(3, 4) == STUDENT.learning_rate


def test_goes_to_json_and_back():
    assert from_json(to_json(STUDENT), Recipe) == STUDENT


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch", 0),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("warmup_epochs", 1e9),
        ("final_learning_rate", 1.0),
        ("weight_decay", -0.1),
        ("label_smoothing", 1.0),
        ("drop_path", 1.0),
        ("flip", 1.1),
        ("shift", -1),
        ("erase", -0.1),
        ("clip_norm", 0.0),
        ("seed", -1),
    ],
)
def test_out_of_range_is_refused_with_value_and_range(field, value):
    with pytest.raises(InvalidValue, match=rf"Recipe\.{field} is {value}; it must be "):
        replace(STUDENT, **{field: value})
