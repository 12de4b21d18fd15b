"""The time that ONNX Runtime spends on each operation of a model, from its profile: node by node, run by run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from vitlet.engines.inputs import checked_threads
from vitlet.engines.onnxruntime.operations import owner, prefixes_of
from vitlet.engines.onnxruntime.session import OnnxSession, load, session_options
from vitlet.errors import Unsupported
from vitlet.records import Artifact

_WARM_UP = 10
_ENDING = "_kernel_time"
#: Nodes that belong to the product after them, and after which they stand.
_BEFORE, _AFTER = {"QuantizeLinear"}, {"ReorderOutput"}


def profile_in_turns(
    artifacts: Sequence[Artifact], operations: Sequence[str], threads: int, images: Sequence[np.ndarray], runs: int
) -> list[Mapping[str, tuple[float, ...]]]:
    """For each artifact, operation -> its time in each run, in ms; an operation without a node of its own is left out.

    ``operations`` are module paths ("blocks.0.mlp.up"); ``images`` are each float32 [1, 3, height, width]. The
    artifacts run in turns, forwards and backwards (A B, B A).

    Raises:
        Unsupported: ONNX Runtime cannot write its profile.
        VitletError: as for opening and running.
    """
    with tempfile.TemporaryDirectory(prefix="vitlet-") as folder:
        opened = [_open(artifact, threads, Path(folder) / str(i)) for i, artifact in enumerate(artifacts)]
        for number, image in enumerate(islice(cycle(images), _WARM_UP + runs)):
            for _, session in opened if number % 2 == 0 else reversed(opened):
                session.run(image)
        events = [_events(inference) for inference, _ in opened]
    prefixes = prefixes_of(operations)
    return [_by_operation(found, _WARM_UP + runs, prefixes) for found in events]


def _open(artifact: Artifact, threads: int, prefix: Path) -> tuple[Any, OnnxSession]:
    options = session_options(checked_threads(threads))
    options.enable_profiling = True
    options.profile_file_prefix = str(prefix)
    inference = load(artifact, options)
    return inference, OnnxSession(inference, artifact)


def _events(inference: Any) -> list[dict[str, Any]]:
    """The kernel events of all runs, in order."""
    try:
        events = json.loads(Path(inference.end_profiling()).read_bytes())
    except (OSError, ValueError) as error:
        raise Unsupported(f"ONNX Runtime's profile cannot be read ({error}); free some space for it") from error
    return [event for event in events if event.get("cat") == "Node" and event["name"].endswith(_ENDING)]


def _by_operation(
    events: Sequence[Mapping[str, Any]], runs: int, prefixes: Mapping[str, str]
) -> Mapping[str, tuple[float, ...]]:
    """Operation -> ms in each run after the warm-up."""
    each = len(events) // runs
    owners = _owners(events[:each], prefixes)
    found: dict[str, tuple[float, ...]] = {}
    for name in dict.fromkeys(filter(None, owners)):
        places = [place for place, owner in enumerate(owners) if owner == name]
        found[name] = tuple(
            sum(events[run * each + place]["dur"] for place in places) / 1000 for run in range(_WARM_UP, runs)
        )
    return found


def _owners(events: Sequence[Mapping[str, Any]], prefixes: Mapping[str, str]) -> list[str]:
    """For each event of a run the operation that it belongs to, or ""."""
    owners = [owner(event["name"], prefixes) for event in events]
    kinds = [event["args"]["op_name"] for event in events]
    for place in range(len(events) - 1, -1, -1):
        if kinds[place] in _BEFORE and not owners[place]:
            owners[place] = next(filter(None, owners[place + 1 :]), "")
        elif kinds[place] in _AFTER and place and not owners[place]:
            owners[place] = owners[place - 1]
    return owners
