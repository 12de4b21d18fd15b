"""What the comparison recommends, and every sentence it can say, word for word."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vitlet.errors import InvalidValue, MeasurementFailed
from vitlet.measure.budget import Budget
from vitlet.measure.comparison import compare
from vitlet.records import Environment, Measurement

X86 = Environment("EPYC", "x86_64", ("avx2", "avx512_vnni"), 2, 1 << 34, "Linux", "3.11.0", {}, 2)
ARM = replace(X86, architecture="aarch64", instruction_sets=("asimd", "asimddp"))
OLD = replace(X86, instruction_sets=("avx2",))


def variant(engine: str, precision: str, ms: float, **more: object) -> Measurement:
    """Two visits that differ by 2 %, so that the noise is a few per cent."""
    known = {"images": 500, "labelled_images": 500, "top1": 0.942, "agreement": 1.0, "environment": X86, **more}
    return Measurement(engine, precision, "ok", latency_samples_ms=((ms * 0.99,) * 40, (ms * 1.01,) * 40), **known)


BASE = variant("torch", "fp32", 79)
QNNPACK = variant("torchscript", "int8-dynamic-qnnpack", 559)
FAST = variant("torchscript", "int8-dynamic-x86", 22, top1=0.94)
WRONG = variant("torchscript", "int8-dynamic-onednn", 20, top1=0.90, agreement=0.95)
SAME = variant("mobile", "fp32", 78.5)
DEAD = Measurement("lite", "fp32", "failed", "lite fp32: the measuring process was killed by SIGILL")
ABSENT = Measurement("mobile", "int8-dynamic", "unsupported", "torch 2.13 has no mobile optimizer")

TRAP = (
    "torchscript int8-dynamic-qnnpack is 7.1 times slower than doing nothing (torch fp32) on this processor: "
    "QNNPACK's kernels are written for Arm; use the x86 kernels here."
)


def test_the_whole_story():
    found = compare([BASE, QNNPACK, FAST, WRONG, SAME, DEAD, ABSENT])
    assert (found.baseline, found.best, found.slower, found.unreliable) == (0, 2, (1,), (3,))
    assert found.verdicts == ("baseline", "slower", "faster", "unreliable", "no faster", "failed", "unsupported")
    assert [speed is not None for speed in found.speedups] == [False, True, True, True, True, False, False]
    assert found.speedups[2].ratio == pytest.approx(79 / 22)
    assert found.speedups[2].low < 79 / 22 < found.speedups[2].high
    # 5 pairs of visits that differ by log(1.01 / 0.99), and Student's t of 5 degrees of freedom: 2.571.
    assert found.noise == pytest.approx(0.037, abs=0.0005)
    assert found.sentences == (
        "torchscript int8-dynamic-x86 is best here: 3.6 times as fast as torch fp32 (95 % interval 3.5 to 3.7), "
        "22.0 ms against 79.0 ms for an image, with 94 % of 500 images right against 94.2 %.",
        TRAP,
        "torchscript int8-dynamic-onednn is 4.0 times as fast as torch fp32, but its answers are not good enough: "
        "90 % of 500 images right against 94.2 %, a drop of 4.2 points where at most 1 point is allowed.",
        "mobile fp32 is no faster than torch fp32: the difference is inside the noise "
        "(two measurements of one file differ by up to 3.7 % here).",
        "lite fp32 could not be measured: the measuring process was killed by SIGILL.",
        "mobile int8-dynamic is not supported here.",
    )


def test_many_of_a_kind_are_told_in_one_sentence():
    other = replace(QNNPACK, engine="mobile")
    third = variant("lite", "int8-dynamic-qnnpack", 100)
    said = compare([BASE, QNNPACK, other, third, SAME, replace(SAME, engine="lite")]).sentences
    assert said[1] == (
        "torchscript int8-dynamic-qnnpack (7.1 times), mobile int8-dynamic-qnnpack (7.1 times) and "
        "lite int8-dynamic-qnnpack (27 %) are slower than doing nothing (torch fp32) on this processor: "
        "QNNPACK's kernels are written for Arm; use the x86 kernels here."
    )
    assert said[2].startswith(
        "mobile fp32 and lite fp32 are no faster than torch fp32: the differences are inside the noise"
    )
    absent = compare([BASE, ABSENT, replace(ABSENT, engine="lite")]).sentences
    assert absent[-1] == "mobile int8-dynamic and lite int8-dynamic are not supported here."


@pytest.mark.parametrize(
    ("slow", "end"),
    [
        (QNNPACK, ": QNNPACK's kernels are written for Arm; use the x86 kernels here."),
        (replace(QNNPACK, environment=ARM), " on this processor."),
        (replace(QNNPACK, environment=replace(X86, architecture="riscv64")), "kernels are written for Arm."),
        (replace(QNNPACK, precision="int8-dynamic-x86"), " on this processor."),
        (
            replace(QNNPACK, precision="int8-dynamic-x86", environment=OLD),
            ": it has no instructions that multiply int8 faster than float.",
        ),
        (replace(QNNPACK, precision="int8-dynamic", environment=replace(X86, instruction_sets=())), "this processor."),
        (replace(QNNPACK, precision="fp32", environment=OLD), "this processor."),
        (replace(QNNPACK, environment=None), "this processor."),
    ],
)
def test_the_reason_why_it_is_slow(slow, end):
    assert compare([replace(BASE, environment=slow.environment), slow]).sentences[1].endswith(end)


def test_slightly_slower_is_told_in_per_cent():
    said = compare([BASE, variant("lite", "fp32", 100)]).sentences
    assert said[1] == "lite fp32 is 27 % slower than doing nothing (torch fp32) on this processor."


def test_nothing_is_better_than_the_baseline():
    found = compare([BASE, SAME, WRONG])
    assert (found.best, found.unreliable) == (0, (2,))
    assert found.sentences[0] == (
        "torch fp32 is the best choice here (79.0 ms for an image): no variant is measurably faster with "
        "answers as good."
    )
    without = [replace(m, images=0, random_inputs=16, top1=None) for m in (BASE, SAME)]
    assert compare(without).sentences[0].endswith("no variant is measurably faster.")


def test_the_only_one():
    assert compare([FAST]).sentences == ("torchscript int8-dynamic-x86 takes 22.0 ms for an image here.",)
    assert compare([BASE, ABSENT]).sentences[0] == (
        "torch fp32 is the only variant that could be measured here (79.0 ms for an image)."
    )


def test_variants_that_cannot_be_told_apart():
    found = compare([BASE, FAST, variant("mobile", "int8-dynamic-x86", 22.3)])
    assert found.best == 1
    assert found.sentences[1] == "mobile int8-dynamic-x86 cannot be told from it by speed."


def test_without_labels_agreement_decides():
    rows = [replace(m, top1=None, labelled_images=0) for m in (BASE, FAST, WRONG)]
    found = compare(rows)
    assert found.best == 1
    assert found.sentences[0].endswith(", with the same answer on 100 % of 500 images.")
    assert found.sentences[1].endswith("the same answer on only 95 % of 500 images, where 98 % is asked for.")
    assert compare(rows, minimum_agreement=0.95).best == 2


def test_without_images_speed_decides_and_says_so():
    rows = [replace(m, images=0, labelled_images=0, top1=None, random_inputs=16) for m in (BASE, FAST, WRONG)]
    found = compare(rows)
    assert found.best == 2
    assert found.sentences[-1] == "Only speed counted: there were no images to judge the answers by."


def test_with_random_weights_speed_decides_and_says_so():
    found = compare([BASE, FAST, WRONG], answers_matter=False)
    assert found.best == 2
    assert found.sentences[-1] == "Only speed counted: the weights are random, so the answers mean nothing."


def test_the_limit_is_inclusive_and_can_be_moved():
    edge = variant("lite", "int8-dynamic", 30, top1=0.942 - 0.01)
    assert compare([BASE, edge]).best == 1
    assert compare([BASE, edge], maximum_drop=0.009).best == 0
    found = compare([BASE, replace(edge, top1=0.921)], maximum_drop=0.02)
    assert "a drop of 2.1 points where at most 2 points are allowed" in found.sentences[1]
    better = compare([BASE, replace(edge, top1=0.95)], maximum_drop=0.0)
    assert better.best == 1


def test_quick_measurements_say_so():
    quick = [replace(m, quick=True, latency_samples_ms=m.latency_samples_ms[:1]) for m in (BASE, FAST, SAME)]
    found = compare(quick)
    assert found.noise is None
    assert "(each was visited once, so up to 10 % is taken for noise)" in found.sentences[1]
    assert found.sentences[-1] == "This was measured quickly: measure in full before relying on it."


def test_the_baseline_failed():
    found = compare([replace(DEAD, engine="torch", reason="torch fp32: it hung."), FAST, SAME])
    assert (found.best, found.verdicts) == (1, ("failed", "uncompared", "uncompared"))
    assert found.speedups == (None, None, None)
    assert found.sentences == (
        "torchscript int8-dynamic-x86 is the fastest here (22.0 ms for an image), "
        "but torch fp32 was not measured to compare it with.",
        "torch fp32 could not be measured: it hung.",
    )


def test_another_baseline():
    found = compare([FAST, BASE], baseline=1)
    assert (found.baseline, found.best, found.verdicts) == (1, 0, ("faster", "baseline"))


def test_nothing_was_measured():
    with pytest.raises(MeasurementFailed, match=r"no variant could be measured; lite fp32: .* was killed by SIGILL"):
        compare([ABSENT, DEAD])
    with pytest.raises(MeasurementFailed, match="no variant could be measured; torch fp32: it was not timed"):
        compare([replace(BASE, latency_samples_ms=())])


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (replace(FAST, environment=ARM), "torch fp32 and torchscript int8-dynamic-x86 were measured in different env"),
        (replace(FAST, quick=True), "only one of torch fp32 and torchscript int8-dynamic-x86 was measured quickly"),
        (replace(FAST, images=499), "were measured on different images; measure both again, together"),
    ],
)
def test_what_must_not_be_compared_is_refused(other, text):
    with pytest.raises(InvalidValue, match=text):
        compare([BASE, other])


def test_limits_out_of_range():
    with pytest.raises(InvalidValue, match="maximum_drop is 5; it is a share, 0 to 1"):
        compare([BASE], maximum_drop=5)
    with pytest.raises(InvalidValue, match=r"minimum_agreement is -0\.1; it is a share, 0 to 1"):
        compare([BASE], minimum_agreement=-0.1)
    with pytest.raises(InvalidValue, match="baseline is 1; there are 1 measurements, counted from 0"):
        compare([BASE], baseline=1)


def test_what_a_search_left_out_is_counted():
    out = [Measurement("lite", p, "left out", "slow in a first look") for p in ("fp32", "int8-dynamic")]
    found = compare([BASE, FAST, *out])
    assert found.verdicts[2:] == ("left out", "left out")
    assert found.sentences[-1] == (
        "The search left out 2 variants, for reasons that the report and the JSON document tell."
    )


def test_where_all_else_was_left_out():
    found = compare([BASE, Measurement("lite", "fp32", "left out", "slow in a first look")])
    assert found.sentences[0] == (
        "torch fp32 is the best choice here (79.0 ms for an image): nothing that was tried promised more."
    )


SMALL = variant("native", "int8-dynamic", 60, size_bytes=6_000_000, peak_memory_bytes=9_000_000)
SLOW_SMALL = variant("torchao", "int8-weights", 90, size_bytes=5_000_000, peak_memory_bytes=None)
LARGE_BASE = variant("torch", "fp32", 79, size_bytes=22_000_000, peak_memory_bytes=40_000_000)
LARGE_FAST = variant("openvino", "fp32", 30, size_bytes=23_000_000, peak_memory_bytes=50_000_000)


def test_what_is_over_budget_is_not_chosen():
    found = compare([LARGE_BASE, LARGE_FAST, SMALL, SLOW_SMALL], budget=Budget(size_bytes=10_000_000))
    assert found.best == 2
    assert found.verdicts == ("baseline", "over budget", "faster", "slower")
    assert "openvino fp32 is over budget: its file has 23 MB where 10 are allowed." in found.sentences
    assert "torch fp32 is over budget: its file has 22 MB where 10 are allowed." in found.sentences
    assert found.excess == ""


def test_a_slower_one_is_chosen_if_the_baseline_is_over_budget():
    found = compare([LARGE_BASE, SLOW_SMALL], budget=Budget(size_bytes=10_000_000))
    assert found.best == 1
    assert found.sentences[0].startswith(
        "torchao int8-weights is best here: the fastest within the limits, though 14 % slower than torch fp32 (95 % "
    )
    assert not any("slower than doing nothing" in told for told in found.sentences)
    assert compare([LARGE_BASE, SLOW_SMALL], budget=Budget(size_bytes=30_000_000)).best == 0


def test_bad_answers_are_not_bought_with_the_budget():
    bad = replace(SMALL, top1=0.5)
    found = compare([LARGE_BASE, bad, SLOW_SMALL], budget=Budget(size_bytes=10_000_000))
    assert (found.best, found.verdicts[1]) == (2, "unreliable")


@pytest.mark.parametrize(
    ("budget", "told"),
    [
        (Budget(latency_ms=20), "may take 31.2 ms for an image where 20 ms are allowed"),
        (Budget(speedup=3), "may be only 2.5"),
        (Budget(size_bytes=3_000_000), "its file has 5 MB where 3 are allowed"),
        (Budget(memory_bytes=3_000_000), "it takes 9 MB of memory where 3 are allowed"),
        (Budget(latency_ms=20, size_bytes=22_500_000), "where 20 ms are allowed and its file has 23 MB where 22.5 are"),
    ],
)
def test_nothing_keeps_within_the_limits(budget, told):
    found = compare([LARGE_BASE, LARGE_FAST, SMALL, SLOW_SMALL], budget=budget)
    assert told in found.excess
    assert found.sentences[0].startswith("Nothing keeps within the limits here; ")
    assert found.excess in found.sentences[0]


def test_the_noise_counts_against_a_latency():
    """30 ms measured with a noise of 3.7 % may be 31.1 the next time."""
    variants = [LARGE_BASE, LARGE_FAST]
    assert compare(variants, budget=Budget(latency_ms=31.2)).best == 1
    assert compare(variants, budget=Budget(latency_ms=30.9)).excess != ""
    quick = [replace(one, latency_samples_ms=one.latency_samples_ms[:1]) for one in variants]
    assert compare(quick, budget=Budget(latency_ms=32)).excess != ""
    assert compare(quick, budget=Budget(latency_ms=34)).best == 1


def test_memory_that_is_not_known_is_no_excuse():
    found = compare([SLOW_SMALL], budget=Budget(memory_bytes=1))
    assert found.excess == "it takes an unknown number of MB of memory where 1e-06 are allowed"


@pytest.mark.parametrize(
    ("name", "limit"), [("latency_ms", 0), ("speedup", -1), ("size_bytes", 0), ("memory_bytes", float("nan"))]
)
def test_budgets_out_of_range(name, limit):
    with pytest.raises(InvalidValue, match=rf"the limit {name} is .*; it must be above 0"):
        Budget(**{name: limit})
