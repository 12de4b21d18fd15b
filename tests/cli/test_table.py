"""The table of a bench: readable with 25 rows, the best marked, nothing hidden that went wrong."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from vitlet.cli.execution import execution_lines
from vitlet.cli.table import grouped, print_bench
from vitlet.measure.comparison import compare
from vitlet.records import Environment, Execution, Fusion, Measurement, OperatorUse
from vitlet.results import Bench

HERE = Environment("some processor", "x86_64", (), 2, 2**34, "Linux", "3.11", {}, 2)


def row(engine: str, precision: str, ms: float, size: float, error: float = 0.0, **more: object) -> Measurement:
    samples = tuple(tuple(ms * (1 + 0.001 * i) for i in range(64)) for _ in range(2))
    known = {"load_ms": 2.0, "first_ms": 3.0, "random_inputs": 16, "agreement": 1.0, "environment": HERE}
    return Measurement(
        engine, precision, "ok", latency_samples_ms=samples, size_bytes=round(size * 1e6), logits_error=error,
        peak_memory_bytes=round(2e6 * size), throughput_images_per_s=1000 / ms, throughput_batch=8, **(known | more)
    )  # fmt: skip


ROWS = (
    row("torch", "fp32", 50.0, 88.0),
    row("slow", "int8-dynamic", 90.0, 22.5, 0.03),
    row("slow", "fp32", 45.0, 88.0, 1e-6),
    row("fast", "fp32", 40.0, 88.0, 2e-6),
    row("fast", "int8-static", 20.0, 22.0, 0.02),
    row("broken", "fp32", 10.0, 88.0, 1.4),
    Measurement("gone", "fp32", "unsupported", "it is not installed; install it with: pip install gone"),
    Measurement("gone", "bf16", "unsupported", "it is not installed; install it with: pip install gone"),
    Measurement("crashing", "fp32", "failed", "killed by SIGSEGV"),
)


@pytest.fixture
def bench() -> Bench:
    return Bench("deit", HERE, ROWS, compare(ROWS))


def printed(bench: Bench, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    print_bench(console, bench)
    return console.file.getvalue().splitlines()


def lines_with(lines: list[str], text: str) -> list[str]:
    return [line for line in lines if text in line]


def test_rows_stand_by_engine_the_fastest_first(bench):
    assert grouped(bench) == [[5], [4, 3], [2, 1], [0]]


@pytest.mark.parametrize("width", [80, 100, 160])
def test_every_row_fits_its_line_and_is_marked(bench, width):
    lines = printed(bench, width)
    table = lines[: lines.index(lines_with(lines, "* the best of its column")[0])]
    assert max(map(len, table)) <= width
    assert len([line for line in table if " x" in line]) == 6
    (best,) = lines_with(table, "◀")
    assert "fast" in best
    assert "int8-static ◀" in best
    assert "20.6*" in best
    assert "22.0*" in best
    (slower,) = lines_with(table, "▼")
    assert "int8-dynamic ▼" in slower
    (wrong,) = lines_with(table, "✗")
    assert "broken" in wrong
    assert "*" not in wrong  # the fastest of all, but not this model


def test_what_was_not_measured_is_told_once_for_each_reason(bench):
    lines = printed(bench, 160)
    assert "gone fp32, gone bf16: unsupported: it is not installed; install it with: pip install gone" in lines
    assert "crashing fp32: failed: killed by SIGSEGV" in lines
    assert lines_with(lines, "broken fp32 is not the same model any more")


def test_a_wide_terminal_has_every_figure_and_a_narrow_one_what_one_chooses_by(bench):
    wide, narrow = "\n".join(printed(bench, 160)), "\n".join(printed(bench, 80))
    for heading in ("p90 ms", "load ms", "first ms", "images/s (8)", "logits error"):
        assert heading in wide
        assert heading not in narrow
    for heading in ("p50 ms", "MB", "mem MB", "same answer", "speed"):
        assert heading in narrow
    assert "end to end ms" not in wide  # nothing was measured for it
    assert "<0.01 %" in wide


def test_what_a_runtime_did_is_said_in_lines():
    execution = Execution(
        operators=(
            OperatorUse("MatMulInteger", "int8", 48, 12.0),
            OperatorUse("Softmax", "fp32", 12, 3.0),
            *(OperatorUse(f"Move{i}", "data", 1, 0.1) for i in range(9)),
        ),
        source="a profile of 20 runs",
        fusions=(Fusion("attention", 11, 12),),
        undelegated={"aten.native_layer_norm": 25},
        notes=("One attention is not fused: it has a mask.",),
    )
    lines = execution_lines(execution)
    assert lines[:3] == [
        "int8: 48 operators, 12 ms; fp32: 12 operators, 3 ms; moves and conversions: 9 operators, 0.9 ms",
        "fused: attention 11 of 12",
        "not delegated: 25 x aten.native_layer_norm",
    ]
    assert lines[3] == "  12.000 ms    48 x MatMulInteger (int8)"
    assert lines[-3:] == ["and 3 kinds more", "One attention is not fused: it has a mask.", "(a profile of 20 runs)"]
