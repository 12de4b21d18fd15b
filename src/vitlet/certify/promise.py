"""How fast a variant may be expected to be, before it is tried: what was measured elsewhere, corrected by what is seen
here.

The model has two factors: the times of one model on one machine, and for each engine and kind of arithmetic by how much
they are off on this one. An engine that was not tried yet gets the mean correction of the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import geometric_mean
from types import MappingProxyType
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["int8", "float", "weights", "qnnpack"]

#: Time for an image over that of torch fp32: DeiT-S, batch 1, 2 threads, AMD EPYC with AVX-512 VNNI
#: (benchmarks/results/deit-small-with-litert.json; native: the table of the README, by way of openvino).
MEASURED: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "native": {"int8-dynamic": 0.14, "fp32": 0.56},
        "openvino": {
            "int8-static-bf16": 0.23,
            "int8-static": 0.26,
            "int8-dynamic": 0.29,
            "int4-dynamic": 0.30,
            "bf16": 0.39,
            "fp32": 0.59,
            "int4-weights": 0.70,
            "int8-weights": 0.72,
        },
        "executorch": {"int8-dynamic": 0.23, "int8-static": 0.24, "int4-dynamic": 0.31, "fp32": 0.69},
        "litert": {"int8-dynamic": 0.24, "int8-static": 0.24, "int8-weights": 0.59, "fp32": 0.64},
        "onnxruntime": {
            "int8-dynamic": 0.26,
            "int8-static": 0.27,
            "int4-dynamic": 0.62,
            "fp32": 0.63,
            "int4-weights": 0.68,
        },
        "inductor": {"int8-static": 0.28, "int8-dynamic": 0.29, "bf16": 0.43, "fp32": 0.73},
        "torchao": {"int8-dynamic": 0.36},
        "torchscript": {
            "int8-dynamic-x86": 0.36,
            "int8-dynamic-onednn": 0.39,
            "fp32": 0.90,
            "int8-dynamic-qnnpack": 1.61,
        },
        "mobile": {"fp32": 0.76, "int8-dynamic-qnnpack": 1.62},
        "lite": {"fp32": 0.94, "int8-dynamic-qnnpack": 1.55},
        "torch": {"bf16": 0.56, "fp32": 1.0},
    }
)

#: How far off a forecast is taken to be at most where the engine was tried in that kind of arithmetic, and where not.
KNOWN, UNKNOWN = 1.5, 2.5


def kind_of(precision: str) -> Kind:
    """What decides how a processor fares with a precision."""
    if precision.endswith("qnnpack"):  # kernels for Arm, several times slower than others elsewhere
        return "qnnpack"
    if precision.endswith("weights"):
        return "weights"
    return "int8" if precision.startswith("int") else "float"


@dataclass
class Forecast:
    """Times relative to torch fp32 on this machine; ``tell`` makes it better."""

    seen: dict[tuple[str, Kind], list[float]] = field(default_factory=dict)

    def tell(self, engine: str, precision: str, ratio: float) -> None:
        """A variant took ``ratio`` times as long as torch fp32."""
        expected = MEASURED.get(engine, {}).get(precision)
        if expected is not None:
            self.seen.setdefault((engine, kind_of(precision)), []).append(ratio / expected)

    def expected(self, engine: str, precision: str) -> float | None:
        """The likeliest ratio; ``None`` where nothing is known of such a variant."""
        there = MEASURED.get(engine, {}).get(precision)
        return None if there is None else there * self._correction(engine, kind_of(precision))

    def at_best(self, engine: str, precision: str) -> float:
        """The lowest ratio that is not implausible; 0 where nothing is known."""
        expected = self.expected(engine, precision)
        if expected is None:
            return 0.0
        return expected / (KNOWN if (engine, kind_of(precision)) in self.seen else UNKNOWN)

    def _correction(self, engine: str, kind: Kind) -> float:
        own = self.seen.get((engine, kind))
        if own:
            return min(own)
        others = [min(ratios) for (_, other), ratios in self.seen.items() if other == kind]
        # With what was measured elsewhere as one voice more: a single engine that is slow here proves little.
        return geometric_mean([1.0, *others])
