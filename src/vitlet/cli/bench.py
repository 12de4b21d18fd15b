"""``vitlet bench``: every variant side by side, nothing written."""

from __future__ import annotations

from vitlet.cli import options


def bench(
    model: options.ModelArgument,
    data: options.Data = None,
    calibration: options.Calibration = None,
    max_drop: options.MaxDrop = 1.0,
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
    explain: options.Explain = False,
    json: options.Json = None,
) -> None:
    """Measure every variant of MODEL that this machine can run, side by side.

    Latency, throughput, memory, size and, with --data, accuracy. Of a bundle, the file in it.
    """
    from rich.console import Console

    from vitlet import pipeline
    from vitlet.cli.document import check_json_path, write_json
    from vitlet.cli.execution import print_executions
    from vitlet.cli.live import live_progress
    from vitlet.cli.table import print_bench, print_environment
    from vitlet.measure.rows import as_rows

    check_json_path(json)
    with live_progress() as progress:
        found = pipeline.bench(
            model,
            data=data or [],
            calibration=calibration or [],
            random_weights=random_weights,
            settings=options.settings(threads, runs, batch, quick, explain),
            engine_names=options.names(engines),
            precision_names=options.names(precisions),
            device=device,
            limit=limit,
            max_drop=max_drop / 100,
            min_agreement=min_agreement / 100,
            progress=progress,
        )
    console = Console(stderr=json == "-")
    print_environment(console, found.environment)
    print_bench(console, found)
    if explain:
        print_executions(console, found.measurements)
    write_json(
        json,
        "bench",
        found.environment,
        as_rows(found.measurements, found.comparison),
        model=found.reference,
        sentences=found.comparison.sentences,
    )
