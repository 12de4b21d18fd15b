"""``vitlet verify``: whether a bundle is whole, fed right and answers right on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vitlet.cli import options


def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The folder that `vitlet compress` wrote.")],
    preprocess: Annotated[
        str,
        typer.Option(
            "--preprocess", metavar="FILE.py:FUNCTION", help="Your application's preprocessing, to be tested."
        ),
    ] = "",
    tensor: Annotated[
        Path | None,
        typer.Option(
            "--tensor", metavar="FILE", help="What your application made of a golden image: .npy, or bare float32."
        ),
    ] = None,
    image: Annotated[str, typer.Option("--image", help="Which golden image --tensor is of (default: the card).")] = "",
    max_latency_ms: Annotated[
        str | None,
        typer.Option(
            "--max-latency-ms",
            metavar="MS",
            help="Fail if one image takes longer (exit code 13); 'certified': if it is slower than certified.",
        ),
    ] = None,
    no_speed: Annotated[bool, typer.Option("--no-speed", help="Do not measure speed.")] = False,
    threads: Annotated[
        int | None,
        typer.Option("--threads", "-t", min=1, help="Threads for inference (default: as certified)."),
    ] = None,
    json: options.Json = None,
) -> None:
    """Test BUNDLE on this machine: files, preprocessing, answers and speed, against its golden files.

    `python BUNDLE/selftest.py` does the same without vitlet. Exit codes: 10 a file is damaged, 11 preprocessing is
    wrong, 12 the answers are wrong, 13 slower than allowed, 14 the model cannot be run here.
    """
    from rich.console import Console
    from rich.text import Text

    from vitlet import pipeline
    from vitlet.bundle.shipped.selftest import document, lines
    from vitlet.bundle.shipped.selftest_sentences import printable
    from vitlet.cli.document import check_json_path, write_json
    from vitlet.cli.outcome import print_certificate

    check_json_path(json)
    found = pipeline.verify(
        bundle,
        preprocess_with=preprocess,
        tensor=tensor,
        tensor_of=image,
        threads=threads,
        timed=not no_speed,
        max_latency_ms=_latency(max_latency_ms),
    )
    console = Console(stderr=json == "-", soft_wrap=True)
    for line in lines(found.report, printable):
        console.print(Text(line, style="" if line.startswith(" ") or line.endswith("ok") else "bold"))
    if found.certificate is not None:
        print_certificate(console, found.certificate, "certified where it was made: ")
    told = document(found.report)
    write_json(
        json,
        "verify",
        found.environment,
        told["checks"],
        bundle=str(bundle),
        outcome=told["outcome"],
        certificate=found.certificate,
    )
    if found.report.exit_code:
        raise typer.Exit(found.report.exit_code)


def _latency(text: str | None) -> float | None:
    """Milliseconds; 0 for "certified"."""
    if text is None:
        return None
    try:
        value = 0.0 if text == "certified" else float(text)
    except ValueError:
        value = -1.0
    if not (0 < value < 1e9 or text == "certified"):
        raise typer.BadParameter(f"{text!r} is neither a number of milliseconds nor 'certified'")
    return value
