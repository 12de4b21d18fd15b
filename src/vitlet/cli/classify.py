"""``vitlet classify``: what is on these images."""

from __future__ import annotations

from typing import Annotated

import typer

from vitlet.cli import options


def classify(
    model: options.ModelArgument,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...", help="Files, folders, quoted globs, http(s) addresses, '-' for standard input."
        ),
    ],
    top: Annotated[int, typer.Option("--top", "-k", min=1, help="Answers for each image.")] = 5,
    threads: options.Threads = None,
    json: options.Json = None,
) -> None:
    """Classify images with a bundle or MODEL; a broken image is named and skipped (exit code 1)."""
    from rich.console import Console
    from rich.text import Text

    from vitlet import pipeline
    from vitlet.cli.document import check_json_path, write_json
    from vitlet.measure.environment import default_threads, environment

    check_json_path(json)
    console = Console(stderr=json == "-", soft_wrap=True)
    errors = Console(stderr=True, soft_wrap=True)
    rows = []
    unread = 0
    for prediction in pipeline.classify(model, images, top=top, threads=threads):
        if prediction.reason:
            unread += 1
            errors.print(Text(f"skipped: {prediction.reason}", style="yellow"))
        else:
            answers = ", ".join(f"{answer.label} {100 * answer.probability:.1f} %" for answer in prediction.answers)
            console.print(Text.assemble((prediction.image, "bold"), f": {answers}"))
        rows.append(
            {
                "image": prediction.image,
                "status": "failed" if prediction.reason else "ok",
                "reason": prediction.reason or None,
                "answers": [
                    {"label": answer.label, "index": answer.index, "probability": answer.probability}
                    for answer in prediction.answers
                ],
            }
        )
    write_json(json, "classify", environment(threads or default_threads()), rows, model=model)
    if unread:
        errors.print(Text(f"error: {unread} of {len(rows)} images could not be read"))
        raise typer.Exit(1)
