"""How a long job shows how far it is: a live line on a terminal, a line per stage elsewhere.

Both go to standard error, so that standard output holds results only.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from vitlet.records import Progress, ProgressCallback

#: A stage of at most so many steps gets a line for each of them in a log.
MOST_LINES = 40
#: In a log, a stage of more steps gets a line at least so often.
SECONDS_BETWEEN_LINES = 60.0
#: What each stage of the pipeline is called to a person.
STAGES = {
    "load": "Loading the model",
    "images": "Reading images",
    "check": "Checking",
    "export": "Exporting",
    "search": "Searching",
    "measure": "Measuring",
    "inspect": "Inspecting",
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
            if step.milestone:
                bars.console.print(f"{title} {step.detail}".strip(), markup=False, highlight=False)
            bars.update(
                task, description=f"{title} {step.detail}".strip(), completed=step.done, total=step.total or None
            )

        yield show


def _lines(console: Console) -> ProgressCallback:
    said: tuple[str, int, int] | None = None
    silent_since = 0.0

    def show(step: Progress) -> None:
        nonlocal said, silent_since
        # A log wants a line for each variant that is measured, not one for each of a thousand images.
        few = step.total <= MOST_LINES
        here = (step.stage, step.done if few else 0, step.total if few else 0)
        long_silent = not few and time.monotonic() - silent_since >= SECONDS_BETWEEN_LINES
        if here != said or step.milestone or long_silent:
            said, silent_since = here, time.monotonic()
            count = f" ({step.done + 1} of {step.total})" if few and 0 <= step.done < step.total else ""
            title = STAGES.get(step.stage, step.stage.capitalize())
            console.print(f"{title} {step.detail}".strip() + count, markup=False, highlight=False)

    return show
