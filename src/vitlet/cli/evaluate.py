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
    calibration: options.Calibration = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="MODEL",
            help="Compare each answer with this model's or bundle's (default: the model's own in fp32 torch).",
        ),
    ] = None,
    max_drop: options.Promise = None,
    confidence: options.Confidence = 95.0,
    threads: options.Threads = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Use at most this many images (default: all).")
    ] = None,
    json: options.Json = None,
) -> None:
    """Measure the accuracy of a bundle or MODEL over a folder of images in class sub-folders.

    Through the exported file and its own runtime: top-1, top-5, calibration error, what each class lost
    against the original, which images changed their answer, and how much accuracy can have been lost.
    --data also takes a data set by name: torchvision:FashionMNIST.
    """
    from rich.console import Console

    from vitlet import pipeline
    from vitlet.certify.looks import user_folder
    from vitlet.cli.document import check_json_path, write_json
    from vitlet.cli.evaluation import changed_rows, class_rows, print_evaluation
    from vitlet.cli.live import live_progress
    from vitlet.cli.outcome import end_with
    from vitlet.cli.table import print_image_notes
    from vitlet.measure.rows import as_row

    check_json_path(json)
    with live_progress() as progress:
        found = pipeline.evaluate(
            model,
            data=data or [],
            calibration=calibration or [],
            engine_name=engine,
            precision_name=precision,
            against=against,
            max_drop=None if max_drop is None else max_drop / 100,
            confidence=confidence,
            looks=user_folder(),
            threads=threads,
            limit=limit,
            progress=progress,
        )
    console = Console(stderr=json == "-")
    print_image_notes(console, found.images)
    print_evaluation(console, found)
    write_json(
        json,
        "eval",
        found.environment,
        [as_row(found.measurement)],
        model=found.reference,
        skipped=found.images.skipped,
        standard=found.standard or None,
        fault=found.fault or None,
        classes=class_rows(found),
        changed=changed_rows(found),
        certificate=found.certificate,
    )
    end_with(found.certificate)
