"""``vitlet inspect``: what int8 costs each operation, what its activations are like, where the model looks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from vitlet.cli import options


def inspect(
    model: options.OriginArgument,
    data: options.Data = None,
    image: Annotated[
        list[str] | None,
        typer.Option(
            "--image", metavar="FILE", help="Show attention over this (default: some of --data). May be given again."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Also write a page about it, such as page.html.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the page that is there.")] = False,
    precision: Annotated[
        Literal["int8-static", "int8-dynamic"],
        typer.Option("--precision", help="Ranges of activations learned beforehand, or each image's own."),
    ] = "int8-static",
    calibration: options.Calibration = None,
    random_weights: options.RandomWeights = False,
    limit: options.Limit = 64,
    top: Annotated[int, typer.Option("--top", min=1, help="Operations to print, the most sensitive first.")] = 15,
    no_times: Annotated[
        bool, typer.Option("--no-times", help="Do not profile ONNX Runtime for the time that int8 saves.")
    ] = False,
    threads: options.Threads = None,
    json: options.Json = None,
) -> None:
    """Find what quantizing each operation of MODEL alone costs its answers, and what it saves in time.

    Simulates int8 in float arithmetic, one operation at a time, over the images of --data; tells ranges of
    activations and outlier channels; shows attention over images before and after (with --out).
    """
    from rich.console import Console

    from vitlet import pipeline
    from vitlet.cli.compress import typed
    from vitlet.cli.document import check_json_path, write_json
    from vitlet.cli.inspection import attention_rows, input_rows, kind_rows, operation_rows, print_inspection
    from vitlet.cli.live import live_progress
    from vitlet.cli.table import print_image_notes

    check_json_path(json)
    with live_progress() as progress:
        found = pipeline.inspect(
            model,
            data=data or [],
            calibration=calibration or [],
            images=image or [],
            precision=precision,
            random_weights=random_weights,
            limit=limit,
            threads=threads,
            timed=not no_times,
            out=out,
            overwrite=overwrite,
            command=typed(),
            progress=progress,
        )
    console = Console(stderr=json == "-")
    print_image_notes(console, found.images)
    print_inspection(console, found, top)
    write_json(
        json,
        "inspect",
        found.environment,
        operation_rows(found),
        model=found.reference,
        precision=found.inspection.sensitivities.precision,
        skipped=found.images.skipped,
        kinds=kind_rows(found),
        together=found.inspection.sensitivities.together,
        inputs=input_rows(found),
        attention=attention_rows(found),
        times={"source": found.times.source or None, "reason": found.times.reason or None},
        page=None if found.page is None else str(found.page),
    )
