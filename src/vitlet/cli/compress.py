"""``vitlet compress``: the whole job, from a model's name to a folder to ship."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

import typer

from vitlet.cli import options

if TYPE_CHECKING:
    from rich.console import Console

    from vitlet.results import Bench, Compressed


def compress(
    model: options.OriginArgument,
    out: options.Out,
    data: options.Data = None,
    calibration: options.Calibration = None,
    max_drop: options.Promise = None,
    confidence: options.Confidence = 95.0,
    min_agreement: options.MinAgreement = 98.0,
    max_latency_ms: options.MaxLatency = None,
    min_speedup: options.MinSpeedup = None,
    max_size_mb: options.MaxSize = None,
    max_memory_mb: options.MaxMemory = None,
    time_limit: options.TimeLimit = None,
    exhaustive: options.Exhaustive = False,
    random_weights: options.RandomWeights = False,
    engines: options.Engines = None,
    precisions: options.Precisions = None,
    device: options.DeviceName = "cpu",
    threads: options.Threads = None,
    runs: options.Runs = None,
    quick: options.Quick = False,
    batch: options.Batch = 8,
    limit: options.Limit = 500,
    certify_data: options.CertifyData = None,
    certify_limit: options.CertifyLimit = 5000,
    golden_images: options.GoldenImages = 3,
    overwrite: options.Overwrite = False,
    no_check: options.NoCheck = False,
    json: options.Json = None,
) -> None:
    """Find the fastest variant of MODEL for this machine, and write it as a folder to ship.

    Loads the model, checks that preprocessing and logits agree with the library it came from,
    tries the variants that promise most on this machine, measures the fastest from their files in
    fresh processes, judges the best by images that had no part in choosing it, and writes the bundle:
    model file, manifest.json, report.html.
    """
    from rich.console import Console

    from vitlet import pipeline
    from vitlet.certify.journal import state_folder
    from vitlet.certify.looks import user_folder
    from vitlet.cli.document import check_json_path
    from vitlet.cli.live import live_progress
    from vitlet.cli.outcome import FAILED, end_with
    from vitlet.errors import OverBudget

    check_json_path(json)
    try:
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
                certify_data=certify_data or [],
                certify_limit=certify_limit,
                max_drop=None if max_drop is None else max_drop / 100,
                confidence=confidence,
                looks=user_folder(),
                min_agreement=min_agreement / 100,
                budget=options.budget(max_latency_ms, min_speedup, max_size_mb, max_memory_mb),
                time_limit_s=None if time_limit is None else 60 * time_limit,
                exhaustive=exhaustive,
                golden_images=golden_images,
                overwrite=overwrite,
                check_source=not no_check,
                command=typed(),
                progress=progress,
            )
    except KeyboardInterrupt:
        kept = state_folder(out)
        if not kept.is_dir():
            raise
        raise KeyboardInterrupt(
            f"interrupted; what the search found is in {kept}: run the same again to go on"
        ) from None
    except OverBudget as error:
        print_measured(Console(stderr=json == "-"), error.bench)
        write_bench(error.bench, json, "compress", bundle=None, certificate=None, twins=())
        typer.echo(f"FAIL: {error}.", err=True)
        if state_folder(out).is_dir():
            typer.echo(f"Another run with other limits goes on from {state_folder(out)}.", err=True)
        raise typer.Exit(FAILED) from None
    show(done, json, "compress")
    comparison = done.bench.comparison
    # The uncompressed model itself loses nothing.
    end_with(done.certificate, asked=max_drop is not None and comparison.best != comparison.baseline)


def typed() -> str:
    """The command line as it was typed, to be repeated."""
    return shlex.join(["vitlet", *sys.argv[1:]])


def show(done: Compressed, json: str | None, command: str) -> None:
    """Print what was measured and written, and write the JSON document; ``demo`` ends so too."""
    from rich.console import Console

    manifest = done.bundle.manifest
    print_compressed(Console(stderr=json == "-"), done)
    found = {"sentences": manifest.sentences, "certificate": done.certificate, "twins": manifest.twins}
    write_bench(done.bench, json, command, bundle=str(done.bundle.path), **found)


def print_compressed(console: Console, done: Compressed) -> None:
    """Print what was measured, what is certain of it, and what was written."""
    from vitlet.bundle.golden import CARD, TURNED_CARD
    from vitlet.cli.outcome import print_certificate
    from vitlet.cli.table import print_skipped

    out, manifest, certificate = done.bundle.path, done.bundle.manifest, done.certificate
    print_measured(console, done.bench)
    if certificate is not None:
        print_certificate(console, certificate)
        print_skipped(console, manifest.certified_on.skipped, manifest.certified_on.skipped_count)
        for remark in manifest.sentences[len(done.bench.comparison.sentences) :]:
            console.print(remark, style="yellow", markup=False, highlight=False)
    console.print(
        f"Wrote {out}: {', '.join(sorted(path.name for path in out.iterdir()))}", markup=False, highlight=False
    )
    golden = () if manifest.golden is None else manifest.golden.images
    own = sum(one.file not in (CARD, TURNED_CARD) for one in golden)
    if own:
        shown = ", and its report shows some whose answer changed" if certificate and certificate.changed else ""
        told = f"{own} of the measured images went into it, to test it with{shown} (--golden-images 0 keeps all out)."
        console.print(told, highlight=False)
    console.print(f"Look at {out / 'report.html'}, or try: vitlet classify {shlex.quote(str(out))} IMAGE", markup=False)


def print_measured(console: Console, bench: Bench) -> None:
    """Print the machine and the table of variants."""
    from vitlet.cli.table import print_bench, print_environment, print_parity

    print_environment(console, bench.environment)
    print_parity(console, bench.parity)
    print_bench(console, bench)


def write_bench(bench: Bench, json: str | None, command: str, **more: Any) -> None:
    """Write the JSON document of what was measured, with ``more`` in it."""
    from vitlet.cli.document import write_json
    from vitlet.measure.rows import as_rows

    rows = as_rows(bench.measurements, bench.comparison)
    known = {"model": bench.reference, "sentences": bench.comparison.sentences, "parity": bench.parity}
    write_json(json, command, bench.environment, rows, **known | more)
