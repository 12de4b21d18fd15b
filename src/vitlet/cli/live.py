"""How a long job shows how far it is: a live line on a terminal, a line per stage elsewhere.

Both go to standard error, so that standard output holds results only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from vitlet.records import Progress, ProgressCallback

#: What each stage of the pipeline is called to a person.
STAGES = {
    "load": "Loading the model",
    "images": "Reading images",
    "check": "Checking",
    "export": "Exporting",
    "measure": "Measuring",
    "evaluate": "Evaluating",
    "write": "Writing",
    "download": "Downloading",
    "train": "Training",
}


@contextmanager
def live_progress() -> Iterator[ProgressCallback]:
    """Yield a callback to hand to the public API as ``progress``."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        task = bars.add_task("Starting", total=None)
        stage = ""

        def show(step: Progress) -> None:
            nonlocal stage
            if step.stage != stage:
                stage = step.stage
                bars.reset(task)
            title = STAGES.get(step.stage, step.stage.capitalize())
            bars.update(
                task, description=f"{title} {step.detail}".strip(), completed=step.done, total=step.total or None
            )

        yield show


def _lines(console: Console) -> ProgressCallback:
    last = ""

    def show(step: Progress) -> None:
        nonlocal last
        if step.stage != last:  # one line a stage keeps a log short
            last = step.stage
            title = STAGES.get(step.stage, step.stage.capitalize())
            console.print(f"{title} {step.detail}".strip() + " ...", markup=False, highlight=False)

    return show
