"""What is expected of variants that were not tried."""

from __future__ import annotations

import pytest

from vitlet.certify.promise import KNOWN, MEASURED, UNKNOWN, Forecast, kind_of
from vitlet.engines import engines


def test_every_variant_of_the_built_in_engines_is_of_a_kind_and_nearly_all_are_known():
    ours = [(name, str(p)) for name, runtime in engines().items() for p in runtime.precisions()]
    unknown = {pair for pair in ours if pair[1] not in MEASURED.get(pair[0], {})}
    assert unknown <= {("torch", "fp16"), ("inductor", "fp16"), ("torchao", "int4-weights")} | {
        pair for pair in unknown if pair[0] not in MEASURED
    }
    stale = {(e, p) for e, precisions in MEASURED.items() for p in precisions} - set(ours)
    assert not stale


@pytest.mark.parametrize(
    ("precision", "kind"),
    [
        ("int8-dynamic", "int8"), ("int4-dynamic", "int8"), ("int8-static-bf16", "int8"), ("int8-dynamic-x86", "int8"),
        ("bf16", "float"), ("fp32", "float"), ("int4-weights", "weights"), ("int8-dynamic-qnnpack", "qnnpack"),
    ],
)  # fmt: skip
def test_kinds(precision, kind):
    assert kind_of(precision) == kind


def test_at_first_it_is_what_was_measured_elsewhere():
    forecast = Forecast()
    assert forecast.expected("openvino", "bf16") == MEASURED["openvino"]["bf16"]
    assert forecast.at_best("openvino", "bf16") == MEASURED["openvino"]["bf16"] / UNKNOWN
    assert forecast.expected("plug-in", "fp32") is None
    assert forecast.at_best("plug-in", "fp32") == 0


def test_what_is_seen_of_an_engine_holds_for_its_kind():
    forecast = Forecast()
    forecast.tell("openvino", "int8-static", 3 * MEASURED["openvino"]["int8-static"])
    dynamic = MEASURED["openvino"]["int8-dynamic"]
    assert forecast.expected("openvino", "int8-dynamic") == pytest.approx(3 * dynamic)
    assert forecast.at_best("openvino", "int8-dynamic") == pytest.approx(3 * dynamic / KNOWN)
    assert forecast.expected("openvino", "fp32") == MEASURED["openvino"]["fp32"]
    forecast.tell("openvino", "int4-dynamic", 2 * MEASURED["openvino"]["int4-dynamic"])
    assert forecast.expected("openvino", "int8-dynamic") == pytest.approx(2 * dynamic)


def test_engines_that_were_not_tried_fare_as_the_others_of_their_kind():
    """As on a processor without int8 instructions; what was measured elsewhere has one voice among them."""
    forecast = Forecast()
    for engine, factor in (("openvino", 2), ("executorch", 8), ("litert", 4)):
        forecast.tell(engine, "int8-dynamic", factor * MEASURED[engine]["int8-dynamic"])
    factor = (2 * 8 * 4 * 1) ** (1 / 4)
    assert forecast.expected("torchao", "int8-dynamic") == pytest.approx(factor * MEASURED["torchao"]["int8-dynamic"])
    assert forecast.at_best("torchao", "int8-dynamic") == pytest.approx(
        factor / UNKNOWN * MEASURED["torchao"]["int8-dynamic"]
    )
    assert forecast.expected("torchao", "fp32") is None
    assert forecast.expected("onnxruntime", "fp32") == MEASURED["onnxruntime"]["fp32"]


def test_nothing_can_be_learnt_from_what_nothing_is_known_of():
    forecast = Forecast()
    forecast.tell("plug-in", "int8-dynamic", 0.1)
    assert forecast == Forecast()
