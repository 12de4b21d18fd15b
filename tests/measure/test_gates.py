"""An engine or variant whose logits are not the model's is found before its accuracy is told."""

from __future__ import annotations

from vitlet.measure.comparison import compare
from vitlet.measure.gates import failed_gates, tolerance_of
from vitlet.records import Measurement


def row(engine: str, precision: str, error: float | None, ms: float = 10.0, **more: object) -> Measurement:
    samples = tuple(tuple([ms] * 32) for _ in range(2))
    return Measurement(engine, precision, "ok", latency_samples_ms=samples, logits_error=error, **more)


def test_each_arithmetic_has_its_tolerance():
    names = ("fp32", "fp16", "bf16", "int8-dynamic-x86", "int4-weights")
    limits = [tolerance_of(name) for name in names]
    assert limits == sorted(limits)
    for name, limit in zip(names, limits, strict=True):
        passed, failed = row("a", name, limit), row("b", name, limit * 1.01)
        assert [bool(fault) for fault in failed_gates([passed, failed])] == [False, True]


def test_an_fp32_gate_takes_the_whole_engine_with_it():
    rows = [row("torch", "fp32", 0.0), row("bad", "fp32", 0.02), row("bad", "int8-static", 0.03), row("ok", "fp32", 0)]
    faults = failed_gates(rows)
    assert faults[0] == faults[3] == ""
    assert faults[1] == "its logits are 2 % off the model's, where fp32 may be 0.1 %"
    assert faults[2] == "in fp32 its logits are 2 % off the model's, where fp32 may be 0.1 %"


def test_a_bad_int8_says_nothing_of_its_neighbours():
    rows = [row("torch", "fp32", 0.0), row("a", "int8-static", 0.42), row("a", "int8-dynamic", 0.04)]
    assert [bool(fault) for fault in failed_gates(rows)] == [False, True, False]


def test_what_was_not_compared_or_not_measured_passes():
    rows = [row("torch", "fp32", None), Measurement("bad", "fp32", "failed", "crashed"), row("bad", "bf16", 0.01)]
    assert failed_gates(rows) == ("", "", "")


def test_a_wrong_model_is_never_recommended_and_is_told_first():
    rows = [row("torch", "fp32", 0.0), row("broken", "fp32", 1.3, ms=1.0), row("slowish", "int8-static", 0.01, ms=8.0)]
    found = compare(rows)
    assert found.verdicts == ("baseline", "wrong", "faster")
    assert (found.best, found.wrong) == (2, (1,))
    assert found.sentences[1] == (
        "broken fp32 is not the same model any more and is left out of the choice: "
        "its logits are 130 % off the model's, where fp32 may be 0.1 %."
    )
