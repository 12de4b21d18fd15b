"""``vitlet demo``: the main job on the bundled model and images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vitlet.cli import options
from vitlet.cli.compress import run


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="The bundle to write.")] = Path(
        "demo.vitlet"
    ),
    threads: options.Threads = None,
    overwrite: options.Overwrite = False,
    json: options.Json = None,
) -> None:
    """Compress the bundled Fashion-MNIST model on its bundled images: no download, a minute or two."""
    run(
        "bundled",
        out,
        [],
        max_drop=1.0,
        min_agreement=98.0,
        random_weights=False,
        engines=None,
        precisions=None,
        threads=threads,
        runs=None,
        quick=False,
        batch=8,
        limit=500,
        overwrite=overwrite,
        check=True,
        json=json,
        command="demo",
    )
