"""What PyTorch's operators make of a ViT's sub-graphs: which run as one, and what stays in floats."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from vitlet.engines.inductor.archive import read_sources
from vitlet.engines.torch.operators import is_fused_kernel
from vitlet.records import Artifact, Fusion, OperatorUse

_COMPILED = ("inductor", "torchao")
_LAYER_NORM = re.compile(r"[.:]r?sqrt\b")
_GELU = re.compile(r"[.:](erf|tanh)\b")


def fusions_and_notes(
    operators: Sequence[OperatorUse], counts: Mapping[str, int], artifact: Artifact
) -> tuple[tuple[Fusion, ...], tuple[str, ...]]:
    """Fusions, and whole sentences, that follow from the operators of one inference.

    ``counts`` are the calls of each operator and compiled kernel by its name in the source.
    """
    attention = _calls(counts, "flash_attention", "efficient_attention")
    loose = sum(n for name, n in counts.items() if name == "aten::_softmax" or _is_compiled_softmax(name))
    norms, gelus = _calls(counts, "native_layer_norm"), _calls(counts, "aten::gelu")
    notes = [*_about_int8(operators, artifact), *_about_attention(operators, attention, loose)]
    if artifact.engine in _COMPILED:
        source = read_sources(artifact.path)
        in_linear = sum('"gelu"' in call for call in source.split(";") if "linear_pointwise" in call)
        gelus += in_linear + _kernels_with(_GELU, source, counts)
        norms += _kernels_with(_LAYER_NORM, source, counts)
        notes += _about_compiled(counts, in_linear, artifact)
    found = (("attention", attention, attention + loose), ("layer norm", norms, norms), ("gelu", gelus, gelus))
    return tuple(Fusion(what, done, of) for what, done, of in found if of), tuple(notes)


def _about_compiled(counts: Mapping[str, int], in_linear: int, artifact: Artifact) -> list[str]:
    notes = []
    if in_linear:
        notes.append(f"{in_linear} GELUs are computed by the linear layer before them, in the same call.")
    if additions := _calls(counts, "linear_pointwise_binary"):
        notes.append(f"{additions} additions are done by the linear layer before them, in the same call.")
    kernels = sum(count for name, count in counts.items() if is_fused_kernel(name))
    notes.append(f"Inductor fused all that stands between the products into {kernels} kernels of its own.")
    if artifact.precision.name == "bf16":
        notes.append("Fused kernels read and write bf16 and compute in fp32.")
    return notes


def _about_int8(operators: Sequence[OperatorUse], artifact: Artifact) -> list[str]:
    if not artifact.precision.name.startswith("int8"):
        return []
    products = [o for o in operators if o.arithmetic == "int8"]
    total = sum(o.time_ms or 0.0 for o in operators)
    share = f", {sum(o.time_ms or 0.0 for o in products) / total:.0%} of the time" if total else ""
    notes = [f"{sum(o.count for o in products)} products run in int8{share}."]
    convolutions = sum(
        o.count for o in operators if "conv" in o.name and o.arithmetic == "fp32" and not is_fused_kernel(o.name)
    )
    if convolutions:
        notes.append(f"Convolutions stay in fp32: {convolutions} of them.")
    return notes


def _about_attention(operators: Sequence[OperatorUse], attention: int, loose: int) -> list[str]:
    kinds = {o.arithmetic for o in operators if "_attention" in o.name and not is_fused_kernel(o.name)}
    notes = []
    if attention:
        notes.append(f"Attention products run in {', '.join(sorted(kinds))}: {attention} fused attentions.")
    if loose:
        notes.append(f"{loose} attentions are not fused: their scores are written to memory, for softmax to read.")
    return notes


def _is_compiled_softmax(name: str) -> bool:
    return is_fused_kernel(name) and "softmax" in name


def _calls(counts: Mapping[str, int], *parts: str) -> int:
    """Calls of operators, compiled kernels aside, whose name has one of ``parts`` in it."""
    return sum(n for name, n in counts.items() if not is_fused_kernel(name) and any(part in name for part in parts))


def _kernels_with(arithmetic: re.Pattern[str], source: str, counts: Mapping[str, int]) -> int:
    """Calls of compiled kernels in whose code ``arithmetic`` stands."""
    # A kernel's name tells what it was made of, but also of what its inputs were made of.
    bodies = re.split(r"\b(?=(?:cpp_fused|triton_)\w*\()", source)
    found = {match.group() for body in bodies if arithmetic.search(body) and (match := re.match(r"\w+", body))}
    return sum(counts.get(name, 0) for name in found)
