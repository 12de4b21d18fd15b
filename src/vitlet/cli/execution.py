"""What the runtimes really did, as text for a terminal: one form for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from vitlet.records import Execution, Measurement, OperatorUse

#: Operators that are named one by one; the others are added up.
_NAMED = 8


def print_executions(console: Console, measurements: Sequence[Measurement]) -> None:
    """Print the report of each variant whose runtime told something."""
    for row in measurements:
        if row.execution is not None:
            console.print(Text(f"\n{row.engine} {row.precision}", style="bold"))
            for line in execution_lines(row.execution):
                console.print(Text(f"  {line}"))


def execution_lines(execution: Execution) -> list[str]:
    """Arithmetic, fusions, what was left out, and the operators that take longest."""
    lines = [_by_arithmetic(execution.operators)]
    if execution.fusions:
        lines.append("fused: " + ", ".join(f"{f.what} {f.done} of {f.of}" for f in execution.fusions))
    if execution.undelegated:
        told = ", ".join(f"{count} x {name}" for name, count in execution.undelegated.items())
        lines.append(f"not delegated: {told}")
    lines += [_operator(one) for one in execution.operators[:_NAMED]]
    if len(execution.operators) > _NAMED:
        lines.append(f"and {len(execution.operators) - _NAMED} kinds more")
    lines += execution.notes
    lines.append(f"({execution.source})")
    return lines


def _by_arithmetic(operators: Sequence[OperatorUse]) -> str:
    """ "int8: 48 operators, 12.1 ms; fp32: 25 operators, 3.0 ms", the busiest first."""
    totals: dict[str, tuple[int, float]] = {}
    for one in operators:
        count, time_ms = totals.get(one.arithmetic, (0, 0.0))
        totals[one.arithmetic] = (count + one.count, time_ms + (one.time_ms or 0.0))
    ordered = sorted(totals.items(), key=lambda item: (-item[1][1], -item[1][0]))
    return "; ".join(
        f"{'moves and conversions' if kind == 'data' else kind}: {count} operators"
        + (f", {time_ms:.3g} ms" if time_ms else "")
        for kind, (count, time_ms) in ordered
    )


def _operator(one: OperatorUse) -> str:
    time = "" if one.time_ms is None else f"{one.time_ms:8.3f} ms  "
    return f"{time}{one.count:4d} x {one.name} ({one.arithmetic})"
