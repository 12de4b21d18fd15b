"""The gate before accuracy: do an engine's logits still belong to this model?

An exporter that loses a layer, or a runtime with a faulty kernel, is found here and not by a drop in
accuracy that may be taken for quantization. The fp32 gate is about the engine: where it fails,
nothing that the engine answers can be trusted. The others are about one variant.
"""

from __future__ import annotations

from collections.abc import Sequence

from vitlet.records import Measurement

#: Largest relative L2 error of logits for which a variant counts as the same model. fp32: the same sums in
#: another order give 1e-6 to 1e-5 on ViTs. fp16 and bf16 have 11 and 8 bits of mantissa: 1e-3 and 1e-2 are
#: usual. int8: 0.01 to 0.1 is usual and accuracy decides; a ViT quantized throughout had 0.42 and was useless. int4
#: weights: up to 0.3 without calibration.
TOLERANCES = {"fp32": 1e-3, "fp16": 1e-2, "bf16": 5e-2, "int8": 0.3, "int4": 0.6}


def tolerance_of(precision: str) -> float:
    """The tolerance for the logits of a precision such as "int8-dynamic-x86"."""
    return TOLERANCES.get(precision.partition("-")[0], TOLERANCES["int4"])


def failed_gates(measurements: Sequence[Measurement]) -> tuple[str, ...]:
    """For each measurement a clause that says which gate it failed; empty where it passed, or could not
    be tried.
    """
    own = [own_fault(m) for m in measurements]
    engines = {m.engine: fault for m, fault in zip(measurements, own, strict=True) if fault and m.precision == "fp32"}
    return tuple(
        fault or (f"in fp32 {engines[m.engine]}" if m.status == "ok" and m.engine in engines else "")
        for m, fault in zip(measurements, own, strict=True)
    )


def own_fault(m: Measurement) -> str:
    """A clause that says by how much a measurement failed its own gate; empty where it passed."""
    limit = tolerance_of(m.precision)
    if m.status != "ok" or m.logits_error is None or m.logits_error <= limit:
        return ""
    return f"its logits are {_percent(m.logits_error)} off the model's, where {m.precision} may be {_percent(limit)}"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.95 else f"{100 * share:.0f} %"
