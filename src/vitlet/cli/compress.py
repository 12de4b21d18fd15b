"""``vitlet compress``: the whole job, from a model's name to a folder to ship."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

from vitlet.cli import options

if TYPE_CHECKING:
    from vitlet.results import Compressed


def compress(
    model: options.ModelArgument,
    out: options.Out,
    data: options.Data = None,
    calibration: options.Calibration = None,
    max_drop: options.Promise = None,
    confidence: options.Confidence = 95.0,
    min_agreement: options.MinAgreement = 98.0,
    random_weights: options.RandomWeights = False,
    engines: options.Engines = None,
    precisions: options.Precisions = None,
    device: options.DeviceName = "cpu",
    threads: options.Threads = None,
    runs: options.Runs = None,
    quick: options.Quick = False,
    batch: options.Batch = 8,
    limit: options.Limit = 500,
    certify_limit: options.CertifyLimit = 5000,
    overwrite: options.Overwrite = False,
    no_check: options.NoCheck = False,
    json: options.Json = None,
) -> None:
    """Find the fastest variant of MODEL for this machine, and write it as a folder to ship.

    Loads the model, checks that preprocessing and logits agree with the library it came from,
    exports every variant that this machine can run, measures each from its file in a fresh
    process, judges the best by images that had no part in choosing it, and writes the bundle: model
    file, manifest.json, report.html.
    """
    from vitlet import pipeline
    from vitlet.cli.document import check_json_path
    from vitlet.cli.live import live_progress
    from vitlet.cli.outcome import end_with

    check_json_path(json)
    with live_progress() as progress:
        done = pipeline.compress(
            model,
            out=out,
            data=data or [],
            calibration=calibration or [],
            random_weights=random_weights,
            settings=options.settings(threads, runs, batch, quick),
            engine_names=options.names(engines),
            precision_names=options.names(precisions),
            device=device,
            limit=limit,
            certify_limit=certify_limit,
            max_drop=None if max_drop is None else max_drop / 100,
            confidence=confidence / 100,
            min_agreement=min_agreement / 100,
            overwrite=overwrite,
            check_source=not no_check,
            command=typed(),
            progress=progress,
        )
    show(done, json, "compress")
    comparison = done.bench.comparison
    # The uncompressed model itself loses nothing, and random weights have nothing to lose.
    is_loss_possible = comparison.best != comparison.baseline and not random_weights
    end_with(done.certificate, asked=max_drop is not None and is_loss_possible)


def typed() -> str:
    """The command line as it was typed, to be repeated."""
    return shlex.join(["vitlet", *sys.argv[1:]])


def show(done: Compressed, json: str | None, command: str) -> None:
    """Print what was measured and written, and write the JSON document; ``demo`` ends so too."""
    from rich.console import Console

    from vitlet.cli.document import write_json
    from vitlet.cli.outcome import print_certificate
    from vitlet.cli.table import print_bench, print_environment, print_parity
    from vitlet.measure.rows import as_rows

    out = done.bundle.path
    console = Console(stderr=json == "-")
    print_environment(console, done.bench.environment)
    print_parity(console, done.bench.parity)
    print_bench(console, done.bench)
    if done.certificate is not None:
        print_certificate(console, done.certificate)
    console.print(
        f"Wrote {out}: {', '.join(sorted(path.name for path in out.iterdir()))}", markup=False, highlight=False
    )
    console.print(f"Look at {out / 'report.html'}, or try: vitlet classify {shlex.quote(str(out))} IMAGE", markup=False)
    bench = done.bench
    write_json(
        json,
        command,
        bench.environment,
        as_rows(bench.measurements, bench.comparison),
        model=bench.reference,
        bundle=str(out),
        sentences=bench.comparison.sentences,
        parity=bench.parity,
        certificate=done.certificate,
    )
