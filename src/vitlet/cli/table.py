"""Measurements as a table for a terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from vitlet.data.imageset import ImageSet
    from vitlet.records import Environment, Measurement, Parity
    from vitlet.results import Bench

DASH = "–"


#: Below this many characters the table keeps to what one chooses by; the report has the rest.
WIDE = 132


def print_bench(console: Console, bench: Bench) -> None:
    """Print every variant, best and baseline marked, then what it means in words."""
    measurements, comparison = bench.measurements, bench.comparison
    columns = _columns(bench, wide=console.width >= WIDE)
    table = Table(
        title=bench.reference, title_justify="left", header_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for number, heading in enumerate(columns):
        table.add_column(heading, justify="left" if number < 2 else "right", no_wrap=True)
    for index, row in enumerate(measurements):
        if row.status != "ok":
            continue
        cells = [cell(row, index) for cell in columns.values()]
        style = ""
        if index == comparison.best:
            style = "bold green"
            cells[0] = f"{row.engine} ◀{' best' if console.width >= WIDE else ''}"
        elif index in comparison.slower:
            style = "red"
        table.add_row(*(Text(cell) for cell in cells), style=style)
    console.print(table)
    for row in measurements:
        if row.status != "ok":
            console.print(Text.assemble((f"{row.engine} {row.precision}", "yellow"), f": {row.status}: {row.reason}"))
    if bench.images is not None:
        print_image_notes(console, bench.images)
    for sentence in comparison.sentences:
        console.print(Text(sentence))


def _columns(bench: Bench, *, wide: bool) -> dict[str, Callable[[Measurement, int], str]]:
    """Heading -> what stands below it for a row and its index."""
    from vitlet.measure.statistics import latency_summary

    def latency(row: Measurement, name: str) -> str:
        found = latency_summary(row)
        return _number(getattr(found, name) if found else None)

    def speed(row: Measurement, index: int) -> str:
        found = bench.comparison.speedups[index]
        return "1 x" if index == bench.comparison.baseline else _number(found.ratio if found else None, " x")

    columns: dict[str, Callable[[Measurement, int], str]] = {
        "engine": lambda row, _: row.engine,
        "precision": lambda row, _: row.precision,
        "p50 ms": lambda row, _: latency(row, "p50"),
        "p90 ms": lambda row, _: latency(row, "p90"),
        "speed": speed,
        "MB": lambda row, _: _mega(row.size_bytes),
        "mem MB": lambda row, _: _mega(row.peak_memory_bytes),
        "load ms": lambda row, _: _number(row.load_ms),
        "first ms": lambda row, _: _number(row.first_ms),
        "images/s": lambda row, _: _number(row.throughput_images_per_s),
        "logits error": lambda row, _: _percent(row.logits_error),
        "same answer": lambda row, _: _percent(row.agreement, 1),
        "top-1": lambda row, _: _percent(row.top1, 1),
    }
    labelled = any(row.top1 is not None for row in bench.measurements)
    if not labelled:
        del columns["top-1"]
    if not wide:
        for heading in ("p90 ms", "load ms", "first ms", "images/s", "logits error"):
            del columns[heading]
        if labelled:
            del columns["same answer"]
    return columns


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


def _percent(share: float | None, digits: int = 2) -> str:
    return DASH if share is None else f"{100 * share:.{digits}f} %"
