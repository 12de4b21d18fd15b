"""Rollout against a computation by hand, and which tokens of a model are read."""

from __future__ import annotations

import numpy as np
import pytest

from vitlet.certify.attention import rows_of_head
from vitlet.certify.rollout import read_by_head, rollout
from vitlet.records import VitArchitecture

FIRST = np.array([[0.5, 0.5, 0.0], [0.2, 0.2, 0.6], [1.0, 0.0, 0.0]])
SECOND = np.array([[0.0, 1.0, 0.0], [0.4, 0.3, 0.3], [0.1, 0.1, 0.8]])


def test_two_layers_by_hand() -> None:
    # The class token after layer 2: half itself, half token 1; each of these half itself, half what it attended to.
    itself = 0.5 * np.array([1, 0, 0]) + 0.5 * FIRST[0]
    token_1 = 0.5 * np.array([0, 1, 0]) + 0.5 * FIRST[1]
    np.testing.assert_allclose(rollout([FIRST, SECOND])[0], 0.5 * itself + 0.5 * token_1)


def test_rows_still_sum_to_one() -> None:
    np.testing.assert_allclose(rollout([FIRST, SECOND, FIRST]).sum(axis=1), 1.0)


def test_without_layers_there_is_none() -> None:
    with pytest.raises(ValueError, match="at least one layer"):
        rollout([])


def test_prefix_tokens_are_left_out() -> None:
    matrix = np.array([[0.4, 0.1, 0.2, 0.3]] * 4)
    np.testing.assert_allclose(read_by_head(matrix, (0,), 2, (1, 2)), [[0.4, 0.6]])


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({}, (0,)),
        ({"registers": 2}, (0,)),
        ({"distillation_token": True}, (0, 1)),
        ({"class_token": False, "pool": "mean"}, (0, 1, 2, 3)),
        ({"registers": 1, "pool": "mean"}, (2, 3, 4, 5)),
        ({"pool": "token+mean"}, (1, 2, 3, 4, 0, 0, 0, 0)),
    ],
)
def test_the_tokens_that_the_head_reads(options: dict, rows: tuple[int, ...]) -> None:
    sizes = {"image_height": 8, "image_width": 8, "patch": 4, "width": 8, "depth": 1, "heads": 2, "mlp_width": 8}
    assert rows_of_head(VitArchitecture(**sizes, classes=3, **options)) == rows
