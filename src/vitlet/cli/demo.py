"""``vitlet demo``: the main job on the bundled model and images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vitlet.cli import options
from vitlet.cli.compress import show, typed

#: The tutorial's own recipes and today's runtimes that export in a moment; `vitlet bench bundled` has them all.
ENGINES = ("torch", "torchscript", "mobile", "onnxruntime", "openvino")
PRECISIONS = ("fp32", "int8-dynamic-qnnpack", "int8-dynamic-x86", "int8-dynamic", "int8-static")


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="The bundle to write.")] = Path(
        "demo.vitlet"
    ),
    threads: options.Threads = None,
    overwrite: options.Overwrite = False,
    json: options.Json = None,
) -> None:
    """Compress the bundled Fashion-MNIST model on its bundled images: no download, a few minutes."""
    from vitlet import pipeline
    from vitlet.cli.document import check_json_path
    from vitlet.cli.live import live_progress

    check_json_path(json)
    with live_progress() as progress:
        done = pipeline.compress(
            "bundled",
            out=out,
            settings=options.settings(threads),
            engine_names=ENGINES,
            precision_names=PRECISIONS,
            exhaustive=True,
            overwrite=overwrite,
            command=typed(),
            progress=progress,
        )
    show(done, json, "demo")
