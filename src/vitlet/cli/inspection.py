"""What ``inspect`` found as text for a terminal, and as rows of the JSON document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vitlet.cli.table import DASH, WIDE

if TYPE_CHECKING:
    from vitlet.certify.inspection import Cost, Sensitivity
    from vitlet.results import Inspected

#: Inputs with outlier channels that are named on a terminal; page and JSON document have them all.
_NAMED = 5


def print_inspection(console: Console, found: Inspected, top: int) -> None:
    """Print the ``top`` most sensitive operations, what all of a kind cost, and what stands out of the activations."""
    from vitlet.certify.inspection import ranked

    sensitivities = found.inspection.sensitivities
    wide = console.width >= WIDE
    how = f"each operation alone in simulated {sensitivities.precision}"
    title = f"{found.reference}: {how}, {found.images.count} images"
    table = _table(title, ("operation", *_COSTS, "SQNR", *(("MACs M", "weights MB") if wide else ()), "saved ms"))
    rows = ranked(sensitivities)
    for one in rows[:top]:
        table.add_row(Text(one.operation.name), *_cost(one.cost), *_rest(one, found, wide))
    table.add_section()
    saved = [_figures(found.times.saved_ms if found.times.times else None)]
    cells = (*_cost(sensitivities.together), *[""] * (3 if wide else 1), *saved)
    table.add_row(f"all {len(rows)} together", *cells, style="bold")
    console.print(table)
    kinds = _table("All of a kind together", ("operations", *_COSTS))
    for kind in sensitivities.kinds:
        kinds.add_row(kind.kind, *_cost(kind.cost))
    console.print(kinds)
    _print_outliers(console, found)
    if found.times.reason:
        console.print(Text(f"No times: {found.times.reason}.", style="yellow"))
    if found.page is not None:
        console.print(f"Wrote {found.page}", markup=False, highlight=False)
    elif found.inspection.attention:
        console.print(Text("With --out PAGE.html: the whole table, ranges of activations, and where the model looks."))


def operation_rows(found: Inspected) -> list[dict[str, Any]]:
    """Every operation, the most sensitive first."""
    from vitlet.certify.inspection import ranked

    rows = []
    for one in ranked(found.inspection.sensitivities):
        took = found.times.times.get(one.operation.name)
        rows.append(
            {
                "operation": one.operation.name,
                "kind": one.operation.kind,
                "block": one.operation.block,
                **_cost_row(one.cost),
                "sqnr_db": one.sqnr_db,
                "macs": one.operation.macs,
                "weight_bytes": one.operation.weight_bytes,
                "saved_ms": None if took is None else took.saved_ms,
                "fp32_samples_ms": [] if took is None else took.fp32_samples_ms,
                "int8_samples_ms": [] if took is None else took.int8_samples_ms,
            }
        )
    return rows


def kind_rows(found: Inspected) -> list[dict[str, Any]]:
    """What quantizing all operations of a kind costs."""
    return [{"kind": one.kind, **_cost_row(one.cost)} for one in found.inspection.sensitivities.kinds]


def input_rows(found: Inspected) -> list[dict[str, Any]]:
    """What came to each input of each operation."""
    return [
        {
            "operation": one.operation,
            "input": one.name,
            "minimum": one.minimum,
            "maximum": one.maximum,
            "magnitude_999": one.magnitude_999,
            "median_channel": one.median_channel if one.channel_maxima else None,
            "channel_maxima": one.channel_maxima,
            "outlier_channels": one.outlier_channels,
        }
        for one in found.inspection.sensitivities.inputs
    ]


def attention_rows(found: Inspected) -> list[dict[str, Any]]:
    """Each image whose attention was looked at: the answers, the maps, and how much of them moved."""
    return [
        {
            "image": one.image,
            "answer": one.original.answer,
            "answer_int8": one.int8.answer,
            "rollout_moved": one.rollout_moved,
            "last_moved": one.last_moved,
            "rollout": one.original.rollout,
            "rollout_int8": one.int8.rollout,
            "last": one.original.last,
            "last_int8": one.int8.last,
        }
        for one in found.inspection.attention
    ]


#: The divergence is in millionths of a nat.
_COSTS = ("KL 10⁻⁶", "logits", "changed")


def _table(title: str, headings: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number == 0 else "right", no_wrap=True)
    return table


def _cost(cost: Cost) -> tuple[str, str, str]:
    error = DASH if cost.logits_error is None else f"{100 * cost.logits_error:.2f} %"
    return _figures(1e6 * cost.kl_divergence), error, str(cost.changed)


def _rest(one: Sensitivity, found: Inspected, wide: bool) -> list[str]:
    took = found.times.times.get(one.operation.name)
    size = _figures(one.operation.weight_bytes / 1e6) if one.operation.weight_bytes else DASH
    more = [_figures(one.operation.macs / 1e6), size] if wide else []
    sqnr = DASH if one.sqnr_db is None else f"{one.sqnr_db:.1f}"
    return [sqnr, *more, _figures(None if took is None else took.saved_ms)]


def _figures(value: float | None) -> str:
    """About three significant digits; fewer of what is small."""
    if value is None:
        return DASH
    size = abs(value)
    if 0 < size < 0.001:
        return f"{value:.0e}"
    return f"{value:.{0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 4}f}"


def _cost_row(cost: Cost) -> dict[str, Any]:
    return {
        "kl_divergence": cost.kl_divergence,
        "logits_error": cost.logits_error,
        "changed": cost.changed,
        "images": cost.images,
    }


def _print_outliers(console: Console, found: Inspected) -> None:
    inputs = found.inspection.sensitivities.inputs
    outliers = [one for one in inputs if one.outlier_channels]
    outliers.sort(key=lambda one: -max(one.channel_maxima) / one.median_channel)
    if not outliers:
        console.print(Text(f"No outlier channels in the {len(inputs)} inputs."))
        return
    console.print(Text(f"{len(outliers)} of {len(inputs)} inputs have outlier channels:"))
    for one in outliers[:_NAMED]:
        times = max(one.channel_maxima) / one.median_channel
        count = len(one.outlier_channels)
        console.print(
            Text(
                f"  {one.name} of {one.operation}: {count} channel{'' if count == 1 else 's'}, the largest "
                f"(number {one.outlier_channels[0]}) {times:.0f} times the median channel"
            )
        )
