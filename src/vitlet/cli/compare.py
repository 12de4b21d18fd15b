"""``vitlet compare``: is the new bundle worse than the old one?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitlet.cli import options

if TYPE_CHECKING:
    from rich.console import Console

    from vitlet.results import Regression


def compare(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The bundle that is in use.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The bundle that may replace it.")],
    data: options.Data = None,
    max_drop: options.Promise = None,
    max_slower: Annotated[
        float | None,
        typer.Option(
            "--max-slower",
            min=0,
            metavar="PERCENT",
            help="How much longer an image may take; there is a verdict on it (exit code 3: longer, 4: too noisy).",
        ),
    ] = None,
    confidence: options.Confidence = 95.0,
    threads: options.Threads = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Use at most this many images (default: all).")
    ] = None,
    json: options.Json = None,
) -> None:
    """Hold the bundle NEW against the bundle OLD: speed, memory and size here, side by side, and what else changed.

    With --data also accuracy: which images changed their answer, and how much may have been lost. Exit codes:
    3 it is worse than --max-drop or --max-slower allow, 4 the images or the timings cannot tell.
    """
    from rich.console import Console

    from vitlet import pipeline
    from vitlet.certify.looks import user_folder
    from vitlet.cli.document import check_json_path, write_json
    from vitlet.cli.evaluation import changed_rows, class_rows, print_evaluation
    from vitlet.cli.live import live_progress
    from vitlet.cli.outcome import end_with_outcome
    from vitlet.cli.table import print_environment
    from vitlet.measure.environment import default_threads
    from vitlet.measure.rows import as_row
    from vitlet.measure.settings import MeasureSettings

    check_json_path(json)
    # Twice the visits of other commands and more: the interval of one ratio rests on nothing else here.
    settings = MeasureSettings(threads or default_threads(), visits=8, throughput_batch=0, streams=0, explain=False)
    with live_progress() as progress:
        found = pipeline.compare(
            old,
            new,
            data=data or [],
            max_drop=None if max_drop is None else max_drop / 100,
            max_slower=None if max_slower is None else max_slower / 100,
            confidence=confidence,
            looks=user_folder(),
            settings=settings,
            limit=limit,
            progress=progress,
        )
    console = Console(stderr=json == "-")
    print_environment(console, found.environment)
    _print(console, found, (str(old), str(new)), max_slower)
    if found.evaluation is not None:
        print_evaluation(console, found.evaluation)
    evaluation = found.evaluation
    write_json(
        json,
        "compare",
        found.environment,
        [as_row(found.measurements[0]), as_row(found.measurements[1], found.speedup)],
        old=str(old),
        new=str(new),
        outcome=found.outcome,
        speed=found.speed,
        max_slower=None if max_slower is None else max_slower / 100,
        accuracy=None if evaluation is None else as_row(evaluation.measurement),
        classes=[] if evaluation is None else class_rows(evaluation),
        changed=[] if evaluation is None else changed_rows(evaluation),
        certificate=None if evaluation is None else evaluation.certificate,
        differences=found.differences,
    )
    end_with_outcome(found.outcome)


def _print(console: Console, found: Regression, names: tuple[str, str], max_slower: float | None) -> None:
    """Print both side by side, the verdict on speed, and what else is another."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from vitlet.measure.statistics import latency_summary

    table = Table(box=SIMPLE_HEAD, header_style="bold")
    for number, heading in enumerate(("bundle", "runs on", "ms", "MB file", "MB memory")):
        table.add_column(heading, justify="left" if number < 2 else "right")
    for name, row in zip(names, found.measurements, strict=True):
        latency = latency_summary(row)
        figures = (latency.p50 if latency else None, _megabytes(row.size_bytes), _megabytes(row.peak_memory_bytes))
        table.add_row(Text(name), f"{row.engine} {row.precision}", *("–" if x is None else f"{x:.3g}" for x in figures))
    console.print(table)
    longer = [100 * (1 / share - 1) for share in (found.speedup.ratio, found.speedup.high, found.speedup.low)]
    told = f"An image takes {longer[0]:+.1f} % time (95 % interval {longer[1]:+.1f} to {longer[2]:+.1f} %)"
    if found.speed is not None:
        told = f"{found.speed.upper()}: {told[0].lower()}{told[1:]}; limit {max_slower:+g} %"
    style = {"fail": "red", "pass": "green", "inconclusive": "yellow"}.get(found.speed or "", "")
    console.print(Text(f"{told}.", style=style))
    for sentence in found.differences:
        console.print(Text(sentence))


def _megabytes(size_bytes: int | None) -> float | None:
    return None if size_bytes is None else size_bytes / 1e6
