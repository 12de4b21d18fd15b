"""``vitlet eval``: accuracy alone."""

from __future__ import annotations

from typing import Annotated

import typer

from vitlet.cli import options


def evaluate(
    model: options.ModelArgument,
    data: options.Data = None,
    engine: Annotated[str, typer.Option("--engine", help="Runtime, for a model that is no bundle.")] = "torch",
    precision: Annotated[str, typer.Option("--precision", help="Precision, for a model that is no bundle.")] = "fp32",
    threads: options.Threads = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Use at most this many images (default: all).")
    ] = None,
    json: options.Json = None,
) -> None:
    """Measure the accuracy of a bundle or MODEL over a folder of images in class sub-folders.

    --data also takes a data set by name: torchvision:FashionMNIST.
    """
    from rich.console import Console

    from vitlet import pipeline
    from vitlet.cli.document import check_json_path, write_json
    from vitlet.cli.live import live_progress
    from vitlet.cli.table import print_image_notes
    from vitlet.measure.rows import as_row

    check_json_path(json)
    with live_progress() as progress:
        found = pipeline.evaluate(
            model,
            data=data or [],
            engine_name=engine,
            precision_name=precision,
            threads=threads,
            limit=limit,
            progress=progress,
        )
    row = found.measurement
    console = Console(stderr=json == "-")
    print_image_notes(console, found.images)
    if row.top1 is not None:
        best = f"top-1 {100 * row.top1:.2f} %"
        second = f", top-5 {100 * row.top5:.2f} %" if row.top5 is not None else ""
        console.print(
            f"{found.reference} ({row.engine} {row.precision}): {best}{second} "
            f"of {row.labelled_images} labelled images",
            markup=False,
            highlight=False,
        )
    write_json(json, "eval", found.environment, [as_row(row)], model=found.reference, skipped=found.images.skipped)
