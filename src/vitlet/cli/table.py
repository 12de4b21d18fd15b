"""Measurements as a table for a terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from vitlet.data.imageset import ImageSet, Skipped
    from vitlet.records import Environment, Measurement, Parity
    from vitlet.results import Bench

DASH = "–"


#: Below this many characters the table keeps to what one chooses by; the report has the rest.
WIDE = 150


@dataclass(frozen=True)
class Column:
    """A figure of each row: its ``value``, how it is shown, and whether less or more of it is better."""

    heading: str
    value: Callable[[Measurement], float | None]
    show: Callable[[float | None], str]
    better: Literal["less", "more"]


def print_bench(console: Console, bench: Bench) -> None:
    """Print every variant by engine, the fastest first, the best of each column marked; then what it
    means in words.
    """
    wide = console.width >= WIDE
    rows, columns = bench.measurements, _columns(bench, wide=wide)
    table = Table(
        title=bench.reference, title_justify="left", header_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for number, heading in enumerate(("engine", "precision", *(column.heading for column in columns), "speed")):
        table.add_column(heading, justify="left" if number < 2 else "right", no_wrap=True)
    usable = [i for i, row in enumerate(rows) if row.status == "ok" and i not in bench.comparison.wrong]
    best = [_best(column, [rows[i] for i in usable]) for column in columns]
    for group in grouped(bench):
        for place, index in enumerate(group):
            row = rows[index]
            cells = [Text(row.engine if place == 0 else ""), Text(row.precision + _mark(bench, index))]
            for column, leader in zip(columns, best, strict=True):
                value = column.value(row)
                is_best = index in usable and value is not None and value == leader
                cells.append(Text(column.show(value) + ("*" if is_best else " "), style="cyan" if is_best else ""))
            table.add_row(*cells, Text(_speed(bench, index)), style=_style(bench, index))
        table.add_section()
    console.print(table)
    console.print(Text("* the best of its column   ◀ recommended   ▼ slower than the baseline   ✗ not the same model"))
    for (status, reason), names in _absent(rows).items():
        console.print(Text.assemble((", ".join(names), "yellow"), f": {status}: {reason}"))
    if bench.images is not None:
        print_image_notes(console, bench.images)
    for sentence in bench.comparison.sentences:
        console.print(Text(sentence))


def grouped(bench: Bench) -> list[list[int]]:
    """The places of the measured rows by engine; engines and rows in rising order of latency."""
    from vitlet.measure.statistics import latency_summary

    def latency(index: int) -> float:
        found = latency_summary(bench.measurements[index])
        return found.p50 if found else math.inf

    by_engine: dict[str, list[int]] = {}
    for index, row in enumerate(bench.measurements):
        if row.status == "ok":
            by_engine.setdefault(row.engine, []).append(index)
    return sorted((sorted(group, key=latency) for group in by_engine.values()), key=lambda group: latency(group[0]))


def _mark(bench: Bench, index: int) -> str:
    comparison = bench.comparison
    if index == comparison.recommended:
        return " ◀"
    if index in comparison.wrong:
        return " ✗"
    return " ▼" if index in comparison.slower else ""


def _style(bench: Bench, index: int) -> str:
    comparison = bench.comparison
    if index == comparison.recommended:
        return "bold green"
    return "dim" if index in comparison.wrong else "red" if index in comparison.slower else ""


def _speed(bench: Bench, index: int) -> str:
    found = bench.comparison.speedups[index]
    return "1 x" if index == bench.comparison.baseline else _number(found.ratio if found else None, " x")


def _best(column: Column, rows: Sequence[Measurement]) -> float | None:
    """The best value of a column; none where all are alike."""
    values = {value for row in rows if (value := column.value(row)) is not None}
    if len(values) < 2:
        return None
    return min(values) if column.better == "less" else max(values)


def _absent(rows: Sequence[Measurement]) -> dict[tuple[str, str], list[str]]:
    """Status and reason -> the variants it holds for; one reason is told once. What a search left out would fill the
    screen, and is in the report."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.status not in ("ok", "left out"):
            found.setdefault((row.status, row.reason), []).append(f"{row.engine} {row.precision}")
    return found


def _columns(bench: Bench, *, wide: bool) -> list[Column]:
    """What there is room for, without the columns that nothing was measured for."""
    from vitlet.measure.statistics import latency_summary

    def latency(name: str) -> Callable[[Measurement], float | None]:
        def value(row: Measurement) -> float | None:
            found = latency_summary(row)
            return getattr(found, name) if found else None

        return value

    def end_to_end(row: Measurement) -> float | None:
        return median(row.end_to_end_samples_ms) if row.end_to_end_samples_ms else None

    always = [
        Column("p50 ms", latency("p50"), _number, "less"),
        Column("MB", lambda row: row.size_bytes, _mega, "less"),
        Column("mem MB", lambda row: row.peak_memory_bytes, _mega, "less"),
    ]
    speed = [
        Column("p90 ms", latency("p90"), _number, "less"),
        Column("end to end ms", end_to_end, _number, "less"),
        Column("load ms", lambda row: row.load_ms, _number, "less"),
        Column("first ms", lambda row: row.first_ms, _number, "less"),
        Column(f"images/s{_batch(bench)}", lambda row: row.throughput_images_per_s, _number, "more"),
        Column("streams", lambda row: row.streams_images_per_s, _number, "more"),
    ]
    error = Column("logits error", lambda row: row.logits_error, _tiny_percent, "less")
    same = Column("same answer", lambda row: row.agreement, _percent_short, "more")
    top1 = Column("top-1", lambda row: row.top1, _percent_short, "more")
    labelled = any(row.top1 is not None for row in bench.measurements)
    answers = [top1] if labelled else [same]
    columns = [*always, *speed, error, same, *([top1] if labelled else [])] if wide else [*always, *answers]
    measured = [row for row in bench.measurements if row.status == "ok"]
    return [column for column in columns if any(column.value(row) is not None for row in measured)]


def _batch(bench: Bench) -> str:
    batches = {row.throughput_batch for row in bench.measurements if row.throughput_batch}
    return f" ({batches.pop()})" if len(batches) == 1 else ""


def print_image_notes(console: Console, images: ImageSet, most: int = 10) -> None:
    """Say what a person should know of the images: which were left out and why, which have no label."""
    if images.note:
        console.print(Text(images.note, style="yellow"))
    print_skipped(console, images.skipped, len(images.skipped), most)


def print_skipped(console: Console, skipped: Sequence[Skipped], count: int, most: int = 10) -> None:
    """Say which images were left out and why: the first of ``count``."""
    for one in skipped[:most]:
        console.print(Text(f"skipped {one.name}: {one.reason}", style="yellow"))
    if count > most:
        console.print(Text(f"... and {count - most} more files skipped", style="yellow"))


def print_parity(console: Console, parity: Parity | None) -> None:
    """Say in a line whether vitlet's path gives what the source library gives."""
    if parity is None:
        return
    found = (("preprocessing", parity.preprocessing_max_abs), ("logits", parity.logits_max_abs))
    known = [f"{what} differ by at most {value:.1e}" for what, value in found if value is not None]
    if known:
        reason = f" ({parity.reason})" if parity.reason else ""
        console.print(Text(f"Checked against {parity.library}: {' and '.join(known)}{reason}."))
    else:
        console.print(Text(f"Not checked against another library: {parity.reason}."))


def print_environment(console: Console, environment: Environment) -> None:
    """Print the machine in two lines."""
    sets = " ".join(environment.instruction_sets) or "no vector extensions known"
    console.print(
        Text(
            f"{environment.processor} ({environment.architecture}), {environment.cores} cores, "
            f"{environment.memory_bytes / 2**30:.0f} GiB, {environment.system}, Python {environment.python}, "
            f"{environment.threads} threads\n{sets}"
        )
    )


def _number(value: float | None, unit: str = "") -> str:
    """Three significant digits, as people read them: 0.512, 22.1, 559."""
    if value is None:
        return DASH
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{digits}f}{unit}"


def _mega(size: float | None) -> str:
    return DASH if size is None else _number(size / 1e6)


def _tiny_percent(share: float | None) -> str:
    return "<0.01 %" if share is not None and 0 < share < 5e-5 else _percent(share)


def _percent_short(share: float | None) -> str:
    return _percent(share, 1)


def _percent(share: float | None, digits: int = 2) -> str:
    return DASH if share is None else f"{100 * share:.{digits}f} %"
