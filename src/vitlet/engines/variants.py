"""A variant is an engine with one of its precisions: which there are, and all of them exported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from vitlet.engines import Engine, engine, engines
from vitlet.errors import InvalidValue, Unsupported, VitletError
from vitlet.records import (
    Artifact,
    Classifier,
    Measurement,
    Precision,
    Progress,
    ProgressCallback,
    Status,
    no_progress,
)

Variant: TypeAlias = tuple[Engine, Precision]

#: What all others are compared with: the model as it came, in PyTorch.
BASELINE = ("torch", Precision("fp32"))


def variants(engine_names: Sequence[str] = (), precision_names: Sequence[str] = ()) -> tuple[Variant, ...]:
    """The engines and precisions of those names; all when none are named.

    Raises:
        InvalidValue: no engine or precision has that name, or none of these engines has it.
    """
    chosen = [engine(name) for name in engine_names] or list(engines().values())
    pairs = [(runtime, precision) for runtime in chosen for precision in runtime.precisions()]
    known = sorted({str(precision) for _, precision in pairs})
    for name in precision_names:
        if name not in known:
            raise InvalidValue(f"no precision is called {name!r} here; there are: {', '.join(known)}")
    return tuple(pair for pair in pairs if not precision_names or str(pair[1]) in precision_names)


def export_variants(
    classifier: Classifier, pairs: Sequence[Variant], directory: Path, progress: ProgressCallback = no_progress
) -> list[Artifact | Measurement]:
    """Export the baseline and then each other variant into ``directory``; one that cannot be had is
    its row of the table already, with the reason.

    Raises:
        VitletError: the baseline cannot be exported, so that there is nothing to compare with.
    """
    baseline = (engine(BASELINE[0]), BASELINE[1])
    ordered = [baseline, *((runtime, p) for runtime, p in pairs if (runtime.name, p) != BASELINE)]
    done: list[Artifact | Measurement] = []
    for number, (runtime, precision) in enumerate(ordered):
        progress(Progress("export", f"{runtime.name} {precision}", number, len(ordered)))
        try:
            done.append(_export(classifier, runtime, precision, directory))
        except VitletError as error:
            if number == 0:
                raise
            status: Status = "unsupported" if isinstance(error, Unsupported) else "failed"
            done.append(Measurement(runtime.name, str(precision), status, str(error)))
    return done


def _export(classifier: Classifier, runtime: Engine, precision: Precision, directory: Path) -> Artifact:
    found = runtime.available()
    if not found.ok:
        raise Unsupported(found.reason)
    return runtime.export(classifier, precision, directory / f"{runtime.name}-{precision}")
