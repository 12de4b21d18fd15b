"""A classifier as one exported program of operators that XNNPACK has, for one image at a time."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from vitlet.engines.torchscript.program import evaluation_module
from vitlet.models.vit import Attention
from vitlet.records import Classifier

_AVERAGE = "vitlet_average_"


class SingleImageAttention(nn.Module):
    """``Attention`` for a batch of one; tokens: [1, tokens, width] -> the same shape.

    The same sums, written so that XNNPACK takes all of them: three-dimensional products, the
    softmax's scale in the weights of the queries, the keys transposed on their way out.
    """

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.heads, self.head_width = attention.heads, attention.head_width
        width = self.heads * self.head_width
        self.qkv = copy.deepcopy(attention.qkv)
        self.projection = attention.projection
        with torch.no_grad():
            for values in self.qkv.parameters():
                values[:width] /= math.sqrt(self.head_width)

    def forward(self, tokens: Tensor) -> Tensor:
        count, width = tokens.shape[1:]
        # Slices, since ExecuTorch keeps a split from XNNPACK.
        qkv = self.qkv(tokens)
        parts = (qkv[:, :, at * width : (at + 1) * width] for at in range(3))
        query, key, value = (part.reshape(count, self.heads, self.head_width) for part in parts)
        weights = torch.bmm(query.permute(1, 0, 2), key.permute(1, 2, 0)).softmax(dim=-1)
        mixed = torch.bmm(weights, value.permute(1, 0, 2))  # [heads, tokens, head_width]
        return self.projection(mixed.permute(1, 0, 2).reshape(1, count, width))


def single_image_module(classifier: Classifier) -> nn.Module:
    """The classifier's module with its attention in the form above, and 1/width of each LayerNorm as a
    buffer; it shares its other weights with the caller's, which is not changed.
    """
    module = evaluation_module(classifier)
    shared: dict[int, Any] = {id(values): values for values in [*module.parameters(), *module.buffers()]}
    rewritten = copy.deepcopy(module, shared)
    for part in list(rewritten.modules()):
        for name, child in part.named_children():
            if type(child) is Attention:
                setattr(part, name, SingleImageAttention(child).eval())
        if isinstance(part, nn.LayerNorm) and len(part.normalized_shape) == 1:
            width = part.normalized_shape[0]
            rewritten.register_buffer(f"{_AVERAGE}{width}", torch.full((1, width), 1 / width))
    return rewritten


def exported_program(module: nn.Module, images: Tensor) -> torch.export.ExportedProgram:
    """``module`` as it answers ``images`` float32 [1, 3, height, width], in XNNPACK's operators."""
    with torch.no_grad(), XnnpackOperators(module):
        return torch.export.export(module, (images,))


class XnnpackOperators(TorchFunctionMode):
    """Inside the ``with`` block, what XNNPACK has no operator for is computed by ones that it has.

    All are exact but for the order of additions. A ViT then is one single XNNPACK graph, where
    ExecuTorch 1.3.1 by itself makes 62 out of DeiT-T, with copies and slow kernels in between.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._module = module
        self._rewrites: dict[Any, Callable[..., Any]] = {
            F.scaled_dot_product_attention: _attention,
            F.gelu: _gelu,
            F.layer_norm: self._layer_norm,
            torch.layer_norm: self._layer_norm,
            Tensor.unbind: _unbind,
            torch.unbind: _unbind,
            Tensor.expand: _expand,
            Tensor.__getitem__: _item,
            Tensor.div: _divide,  # what ``x / 2`` calls
        }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        rewrite = self._rewrites.get(func)
        found = NotImplemented
        if rewrite is not None and _takes(rewrite, args, kwargs):
            found = rewrite(*args, **kwargs)
        return func(*args, **kwargs) if found is NotImplemented else found

    def _layer_norm(
        self,
        x: Tensor,
        shape: Any,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
        cudnn_enable: bool = True,
    ) -> Any:
        """XNNPACK has no mean over the last dimension of three; a product with 1/width is one."""
        average = getattr(self._module, f"{_AVERAGE}{shape[0]}", None) if len(shape) == 1 else None
        if average is None:
            return NotImplemented
        centred = x - F.linear(x, average)
        normal = centred * torch.rsqrt(F.linear(centred * centred, average) + eps)
        normal = normal if weight is None else normal * weight
        return normal if bias is None else normal + bias


def is_average(node: torch.fx.Node) -> bool:
    """Whether this linear is the mean of a rewritten LayerNorm (or has one output), which quantizing would spoil."""
    weight = node.args[1] if len(node.args) > 1 else None
    return isinstance(weight, torch.fx.Node) and "val" in weight.meta and weight.meta["val"].shape[:1] == (1,)


def _takes(rewrite: Callable[..., Any], args: Any, kwargs: Any) -> bool:
    """Whether the call fits the rewrite's parameters, which bear PyTorch's names; else PyTorch's own runs."""
    try:
        inspect.signature(rewrite).bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    if dropout_p or is_causal or enable_gqa or query.ndim != 4 or key.shape[:2] != query.shape[:2]:
        return NotImplemented
    if attn_mask is not None and attn_mask.dtype != query.dtype:
        return NotImplemented  # a boolean one, whose rows may be all False
    images, heads, tokens, width = query.shape
    query = query * (1 / math.sqrt(width) if scale is None else scale)
    query, key, value = (part.reshape(images * heads, *part.shape[2:]) for part in (query, key, value))
    products = torch.bmm(query, key.transpose(1, 2))
    if attn_mask is not None:
        products = products.reshape(images, heads, tokens, -1) + attn_mask
        products = products.reshape(images * heads, tokens, -1)
    return torch.bmm(products.softmax(dim=-1), value).reshape(images, heads, tokens, -1)


def _gelu(x: Tensor, approximate: str = "none") -> Any:
    """ExecuTorch 1.3.1 gives XNNPACK the tanh form as the exact one; so it is spelt out."""
    if approximate != "tanh":
        return NotImplemented
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def _unbind(x: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    shape = [size for at, size in enumerate(x.shape) if at != dim % x.ndim]
    return tuple(x.narrow(dim, at, 1).reshape(shape) for at in range(x.shape[dim]))


def _expand(x: Tensor, *sizes: Any) -> Any:
    wanted = sizes[0] if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes
    same = len(wanted) == x.ndim and all(size in (-1, have) for size, have in zip(wanted, x.shape, strict=True))
    return x if same else NotImplemented


def _divide(x: Tensor, other: Any) -> Any:
    """An int divisor would become an int64 constant that is converted on every run, outside XNNPACK."""
    return x / float(other) if type(other) is int else NotImplemented


def _item(x: Tensor, key: Any) -> Any:
    """``x[:, at]``, as ViTs pick their class token."""
    if not (isinstance(key, tuple) and len(key) == 2 and key[0] == slice(None) and type(key[1]) is int):
        return NotImplemented
    return x.narrow(1, key[1] % x.shape[1], 1).reshape(x.shape[0], *x.shape[2:])


def model_parts(module: nn.Module) -> dict[str, int]:
    """How many attentions, LayerNorms and GELUs the module has, by the names that ``Fusion`` uses."""
    kinds = {"attention": SingleImageAttention, "layer norm": nn.LayerNorm, "gelu": nn.GELU}
    return {what: sum(isinstance(part, kind) for part in module.modules()) for what, kind in kinds.items()}
