"""``vitlet doctor``: what this machine can run."""

from __future__ import annotations

from vitlet.cli import options


def doctor(json: options.Json = None) -> None:
    """Say what this machine is and which engines and precisions it can run; if not, why and what to do."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from vitlet import pipeline
    from vitlet.cli.document import check_json_path, write_json
    from vitlet.cli.table import print_environment
    from vitlet.measure.rows import as_row

    check_json_path(json)
    environment, rows = pipeline.doctor()
    console = Console(stderr=json == "-")
    print_environment(console, environment)
    table = Table(header_style="bold")
    for heading in ("engine", "precision", "here", "why not, and what to do"):
        table.add_column(heading)
    for row in rows:
        good = row.status == "ok"
        table.add_row(
            row.engine, row.precision, Text("yes", "green") if good else Text("no", "yellow"), Text(row.reason)
        )
    console.print(table)
    versions = ", ".join(f"{name} {version}" for name, version in environment.packages.items())
    console.print(Text(versions))
    write_json(json, "doctor", environment, [as_row(row) for row in rows])
