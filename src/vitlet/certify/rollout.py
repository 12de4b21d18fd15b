"""Attention rollout: how much each input token counts for each output token, through all layers. It knows no model.

Abnar and Zuidema, "Quantifying Attention Flow in Transformers" (arXiv 2005.00928, section 3): attention of the heads is
averaged, the residual connection is taken to pass half of each token on, and the layers' matrices are multiplied.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


def rollout(layers: Iterable[np.ndarray]) -> np.ndarray:
    """layers: each float [tokens, tokens], the mean over the heads, first layer first, whose rows sum to 1 -> float64
    [tokens, tokens] of the same kind: row i says where output token i comes from."""
    mixed: np.ndarray | None = None
    for layer in layers:
        attention = np.asarray(layer, np.float64)
        passed = (attention + np.eye(len(attention))) / 2
        mixed = passed if mixed is None else passed @ mixed
    if mixed is None:
        raise ValueError("a rollout needs at least one layer")
    return mixed


def read_by_head(matrix: np.ndarray, rows: Sequence[int], prefix: int, grid: tuple[int, int]) -> np.ndarray:
    """matrix: [tokens, tokens] -> float64 [grid rows, grid columns]: how much each patch counts for the mean of these
    ``rows``, as shares that sum to 1. The first ``prefix`` tokens are no patches and are left out."""
    found = np.asarray(matrix, np.float64)[list(rows), prefix:].mean(axis=0)
    shares: np.ndarray = (found / max(float(found.sum()), 1e-12)).reshape(grid)
    return shares
