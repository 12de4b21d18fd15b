"""PyTorch's operators by name: what they compute in, and which of them only look at memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from vitlet.records import Arithmetic, Precision

#: They allocate, or see the same bytes in another shape; their time is the interpreter's.
VIEWS = frozenset(
    f"aten::{name}"
    for name in (
        *("view", "reshape", "_reshape_alias", "_unsafe_view", "permute", "t", "transpose", "as_strided", "expand"),
        *("expand_as", "select", "slice", "narrow", "unbind", "split", "chunk", "flatten", "unflatten", "squeeze"),
        *("unsqueeze", "detach", "detach_", "alias", "lift_fresh", "numpy_T", "empty", "empty_like", "empty_strided"),
        *("resize_", "resolve_conj", "resolve_neg", "item", "_local_scalar_dense", "is_nonzero", "to", "result_type"),
        *("contiguous", "movedim", "swapaxes", "size", "stride", "set_", "as_strided_", "q_scale", "q_zero_point"),
    )
)
_MOVES = frozenset(
    f"aten::{name}"
    for name in (
        *("copy_", "clone", "_to_copy", "cat", "stack", "pad", "constant_pad_nd", "fill_", "zero_", "zeros", "roll"),
        *("quantize_per_tensor", "quantize_per_channel", "dequantize", "_convert_to_dense", "to_dense", "to_mkldnn"),
        *("index", "index_select", "gather", "repeat", "zeros_like", "ones_like", "full"),
    )
)
_INT8 = re.compile(r"quantized::|onednn::q|qlinear|qconv|int_mm")
_DTYPES: Mapping[str, Arithmetic] = {
    "float": "fp32",
    "double": "fp32",
    "c10::BFloat16": "bf16",
    "c10::Half": "fp16",
    "c10::qint8": "int8",
    "c10::quint8": "int8",
    "signed char": "int8",
    "unsigned char": "int8",
}
#: Inductor names a fused kernel after all that went into it; these are the parts that compute.
_COMPUTES = re.compile(
    r"layer_norm|batch_norm|gelu|relu|sigmoid|tanh|exp|softmax|add|sub|mul|div|pow|sqrt|mean|sum|max|min|addmm|bmm|neg"
)
_COMPILED_PREFIX = re.compile(r"^(graph_\d+_|aoti_torch_(cpu|cuda)_+)")
_FUSED = ("cpp_fused", "triton_")
_KERNEL_NUMBER = re.compile(r"_\d+$")


def instance_name(name: str) -> str:
    """The operator's or kernel's name as the source of compiled code has it."""
    return _COMPILED_PREFIX.sub("", name)


def plain_name(instance: str) -> str:
    """One name for all fused kernels that differ in a number or a constant alone."""
    return _KERNEL_NUMBER.sub("", instance) if is_fused_kernel(instance) else instance


def is_fused_kernel(name: str) -> bool:
    """Whether Inductor wrote this kernel."""
    return name.startswith(_FUSED)


def arithmetic_of(name: str, dtypes: Iterable[str], precision: Precision) -> Arithmetic:
    """What the operator ``name`` computes in, given PyTorch's names of its inputs' types.

    Compiled code does not tell types: there a fused kernel computes in fp32 (Inductor converts bf16 as it
    reads and writes), and a library's operator in what ``precision`` leaves to it.
    """
    if name in VIEWS or name in _MOVES:
        return "data"
    if is_fused_kernel(name):
        return "fp32" if _COMPUTES.search(name) else "data"
    if _INT8.search(name):
        return "int8"
    for dtype in dtypes:
        if dtype in _DTYPES:
            return _DTYPES[dtype]
    return "bf16" if precision.name == "bf16" else "fp32"
