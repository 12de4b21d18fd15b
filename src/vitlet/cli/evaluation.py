"""An evaluation as text for a terminal, and as rows of the JSON document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vitlet.cli.outcome import print_certificate

if TYPE_CHECKING:
    from vitlet.measure.damage import ClassResult
    from vitlet.results import Evaluation

#: Classes and changed images that are named on a terminal; the JSON document has them all.
_NAMED = 10


def print_evaluation(console: Console, found: Evaluation) -> None:
    """Print accuracy, and against the standard: what each class lost and which answers changed."""
    row = found.measurement
    if found.fault:
        console.print(Text(f"{row.engine} {row.precision} is not the same model any more: {found.fault}.", style="red"))
    if row.top1 is not None:
        second = f", top-5 {100 * row.top5:.2f} %" if row.top5 is not None else ""
        error = f", calibration error {100 * row.calibration_error:.2f} %" if row.calibration_error is not None else ""
        console.print(
            f"{found.reference} ({row.engine} {row.precision}): top-1 {100 * row.top1:.2f} %{second}{error} "
            f"of {row.labelled_images} labelled images",
            markup=False,
            highlight=False,
        )
    if not found.standard:
        return
    if found.certificate is not None:
        print_certificate(console, found.certificate, f"Against {found.standard}: ")
    _print_classes(console, found)
    same = f"{row.images - len(found.changed)} of {row.images} images"
    console.print(Text(f"The same answer as {found.standard} on {same}."))
    for one in found.changed[:_NAMED]:
        label = f" (label {found.labels[one.label]})" if one.label >= 0 else ""
        console.print(
            Text(f"  {found.images.names[one.image]}{label}: {found.labels[one.before]} -> {found.labels[one.after]}")
        )
    if len(found.changed) > _NAMED:
        console.print(Text(f"  and {len(found.changed) - _NAMED} images more; --json lists them all"))


def class_rows(found: Evaluation) -> list[dict[str, Any]]:
    """Each class that has labelled images."""
    return [
        {
            "class": one.index,
            "label": found.labels[one.index],
            "images": one.images,
            "right": one.right,
            "standard_right": one.standard_right,
        }
        for one in found.classes
    ]


def changed_rows(found: Evaluation) -> list[dict[str, Any]]:
    """Each image whose answer is another than the standard's."""
    return [
        {
            "image": found.images.names[one.image],
            "label": one.label if one.label >= 0 else None,
            "before": one.before,
            "after": one.after,
        }
        for one in found.changed
    ]


def _print_classes(console: Console, found: Evaluation) -> None:
    worst = sorted((one for one in found.classes if one.lost), key=_share_lost, reverse=True)[:_NAMED]
    if not worst:
        console.print(Text("No class has another number of right answers."))
        return
    table = Table(title="By class, the most damaged first", title_justify="left", box=SIMPLE_HEAD, header_style="bold")
    for number, heading in enumerate(("class", "images", found.standard, "now", "points")):
        table.add_column(heading, justify="left" if number == 0 else "right")
    for one in worst:
        now, before = 100 * one.right / one.images, 100 * (one.standard_right or 0) / one.images
        cells = (f"{before:.1f} %", f"{now:.1f} %", f"{now - before:+.1f}")
        table.add_row(Text(found.labels[one.index]), str(one.images), *cells)
    console.print(table)


def _share_lost(one: ClassResult) -> float:
    return one.lost / one.images
