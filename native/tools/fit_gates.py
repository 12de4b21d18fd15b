"""Fit the polynomials of ``src/kernels/gate_polynomials.inc``: the normal distribution function for GELU.

(Phi(c) - 1/2) / c on 0..4 as a polynomial in c^2, minimax with weight c (at least 0.3), exact at c = 4, by linear
programming. Prints the coefficients and the largest error of the gate times x in float32.

    python native/tools/fit_gates.py
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.polynomial import chebyshev
from scipy.optimize import linprog
from scipy.special import erf

LIMIT, DEGREE = 4.0, 6
#: The solver's tolerance is 1e-7: the error is scaled to be far above it.
SCALE = 1e5

Function = Callable[[np.ndarray], np.ndarray]


def fitted(centred: Function) -> np.ndarray:
    c = (np.cos(np.linspace(0, np.pi, 6000)) + 1) / 2 * LIMIT
    basis = chebyshev.chebvander(2 * (c / LIMIT) ** 2 - 1, DEGREE) * c[:, None]
    weight = np.maximum(c, 0.3)
    rows = basis * weight[:, None]
    slack = -np.ones((len(c), 1)) / SCALE
    bound = centred(c) * weight
    at_limit = np.append(chebyshev.chebvander(np.array([1.0]), DEGREE)[0] * LIMIT, 0)
    found = linprog(
        np.append(np.zeros(DEGREE + 1), 1),
        A_ub=np.block([[rows, slack], [-rows, slack]]),
        b_ub=np.concatenate([bound, -bound]),
        A_eq=[at_limit],
        b_eq=[0.5],
        bounds=[(None, None)] * (DEGREE + 1) + [(0, None)],
    )
    in_square = np.poly1d([2 / LIMIT**2, -1.0])
    powers = chebyshev.cheb2poly(found.x[:-1])
    return sum((a * in_square**k for k, a in enumerate(powers)), np.poly1d([0.0])).coeffs[::-1]


def largest_error(polynomial: np.ndarray, centred: Function) -> float:
    x = np.linspace(-12, 12, 400_001).astype(np.float32)
    c = np.clip(x, -LIMIT, LIMIT).astype(np.float32)
    square = (c * c).astype(np.float32)
    value = np.zeros_like(square)
    for coefficient in polynomial[::-1]:
        value = (value * square + np.float32(coefficient)).astype(np.float32)
    return float(np.abs(x * (np.float32(0.5) + c * value) - x * (0.5 + centred(x.astype(np.float64)))).max())


def main() -> None:
    functions: dict[str, Function] = {
        "kNormal": lambda x: 0.5 * erf(x / np.sqrt(2)),
        "kNormalByTanh": lambda x: 0.5 * np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)),
    }
    for name, centred in functions.items():
        polynomial = fitted(centred)
        print(
            name, ", ".join(f"{value:.9g}f" for value in polynomial), f"error {largest_error(polynomial, centred):.1e}"
        )


if __name__ == "__main__":
    main()
