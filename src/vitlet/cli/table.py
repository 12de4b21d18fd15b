"""Measurements as a table for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from vitlet.data.imageset import ImageSet
    from vitlet.records import Environment, Parity
    from vitlet.results import Bench

DASH = "–"


def print_bench(console: Console, bench: Bench) -> None:
    """Print every variant, best and baseline marked, then what it means in words."""
    from vitlet.measure.statistics import latency_summary

    measurements, comparison = bench.measurements, bench.comparison
    labelled = any(row.top1 is not None for row in measurements)
    table = Table(title=bench.reference, title_justify="left", header_style="bold", expand=False, show_lines=False)
    table.add_column("engine", no_wrap=True)
    table.add_column("precision", no_wrap=True)
    for heading in (
        "p50 ms",
        "p90 ms",
        "speed",
        "MB",
        "memory MB",
        "load ms",
        "first ms",
        "logits error",
        "same answer",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    if labelled:
        table.add_column("top-1", justify="right", no_wrap=True)
    baseline = measurements[comparison.baseline]
    base = latency_summary(baseline)
    for index, row in enumerate(measurements):
        if row.status != "ok":
            continue
        latency = latency_summary(row)
        speed = base.p50 / latency.p50 if base and latency else None
        cells = [
            row.engine,
            row.precision,
            _number(latency.p50 if latency else None),
            _number(latency.p90 if latency else None),
            "1 x" if index == comparison.baseline else _number(speed, " x"),
            _mega(row.size_bytes),
            _mega(row.peak_memory_bytes),
            _number(row.load_ms),
            _number(row.first_ms),
            _percent(row.logits_error),
            _percent(row.agreement),
        ]
        if labelled:
            cells.append(_percent(row.top1))
        style = ""
        if index == comparison.best:
            style = "bold green"
            cells[0] = f"{row.engine} ◀ best"
        elif index in comparison.slower:
            style = "red"
        table.add_row(*(Text(str(cell)) for cell in cells), style=style)
    console.print(table)
    for row in measurements:
        if row.status != "ok":
            console.print(Text.assemble((f"{row.engine} {row.precision}", "yellow"), f": {row.status}: {row.reason}"))
    if bench.images is not None:
        print_image_notes(console, bench.images)
    for sentence in comparison.sentences:
        console.print(Text(sentence))


def print_image_notes(console: Console, images: ImageSet, most: int = 10) -> None:
    """Say what a person should know of the images: which were left out and why, which have no label."""
    if images.note:
        console.print(Text(images.note, style="yellow"))
    for skipped in images.skipped[:most]:
        console.print(Text(f"skipped {skipped.name}: {skipped.reason}", style="yellow"))
    if len(images.skipped) > most:
        console.print(Text(f"... and {len(images.skipped) - most} more files skipped", style="yellow"))


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


def _mega(size: int | None) -> str:
    return DASH if size is None else _number(size / 1e6)


def _percent(share: float | None) -> str:
    return DASH if share is None else f"{100 * share:.2f} %"
