"""From a live PyTorch module to OpenVINO's graph, with the batch left open."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitlet.engines.openvino.file import INPUT, OUTPUT
from vitlet.engines.openvino.quiet import last_line, openvino, silenced
from vitlet.engines.openvino.session import answer, in_fp32
from vitlet.engines.torchscript.program import evaluation_module, example_images
from vitlet.errors import Unsupported
from vitlet.models.vit import Attention, VisionTransformer
from vitlet.records import Classifier


class _ScaledAttention(nn.Module):
    """``Attention`` whose queries come out of their linear already divided by sqrt(head width).

    The same numbers, but OpenVINO then multiplies int8 queries by int8 keys without a multiplication
    and a transpose between: 3 % of an int8 DeiT-S.
    """

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.heads = attention.heads
        self.head_width = attention.head_width
        self.projection = attention.projection
        plain = attention.qkv
        scale = torch.ones(plain.out_features, 1)
        scale[: plain.out_features // 3] = self.head_width**-0.5
        self.qkv = nn.Linear(plain.in_features, plain.out_features, bias=plain.bias is not None, device="meta")
        self.qkv.weight = nn.Parameter(plain.weight.detach() * scale)
        if plain.bias is not None:
            self.qkv.bias = nn.Parameter(plain.bias.detach() * scale[:, 0])

    def forward(self, tokens: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        qkv = self.qkv(tokens).reshape(batch, count, 3, self.heads, self.head_width)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each [batch, heads, tokens, head_width]
        mixed = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return self.projection(mixed.transpose(1, 2).reshape(batch, count, width))


def to_openvino(classifier: Classifier) -> Any:
    """Return ``openvino.Model``: images float32 [batch, 3, height, width] -> logits float32 [batch, classes].

    The module is traced, which for a ViT loses nothing. A module that is not vitlet's own is compared
    with its graph at two other batch sizes before the graph is believed.

    Raises:
        Unsupported: it cannot be traced or converted, or the graph answers wrongly.
    """
    if _is_canonical(classifier.module):
        return _converted(_with_scaled_queries(classifier.module).eval(), classifier)
    module = evaluation_module(classifier)
    model = _converted(module, classifier)
    _check(model, module, classifier)
    return model


def _is_canonical(module: nn.Module) -> bool:
    """Whether it is vitlet's own ViT, and no part of it was put in by others."""
    parts = {type(part).__module__ for part in module.modules()}
    return isinstance(module, VisionTransformer) and all(
        name.startswith(("torch.nn.", "vitlet.models.vit")) for name in parts
    )


def _with_scaled_queries(module: nn.Module) -> nn.Module:
    """A copy that shares every tensor but the weights of the queries."""
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    copied = copy.deepcopy(module, shared)
    for block in copied.modules():
        attention = getattr(block, "attention", None)
        if isinstance(attention, Attention):
            block.attention = _ScaledAttention(attention)
    return copied


def _converted(module: nn.Module, classifier: Classifier) -> Any:
    runtime = openvino()
    example = example_images(classifier, 2)
    shape = runtime.PartialShape([-1, *example.shape[1:]])
    with silenced(), torch.no_grad():
        try:
            # Traced here, since OpenVINO's own call traces twice to check.
            traced = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
            model = runtime.convert_model(traced, example_input=example, input=[shape])
        except Exception as error:  # foreign source can make both raise anything
            raise Unsupported(
                f"{classifier.reference} cannot be converted to OpenVINO ({last_line(error)}); "
                "use the torch engine for it"
            ) from error
    model.input(0).get_tensor().set_names({INPUT})
    model.output(0).get_tensor().set_names({OUTPUT})
    return model


def _check(model: Any, module: nn.Module, classifier: Classifier) -> None:
    request = in_fp32(model)
    for batch in (1, 3):
        images = example_images(classifier, batch, seed=batch)
        with torch.no_grad():
            wanted = module(images).numpy()
        try:
            found = answer(request, images.numpy())
        except RuntimeError:
            found = np.empty(0)
        if found.shape != wanted.shape or not np.allclose(found, wanted, rtol=1e-3, atol=1e-4):
            raise Unsupported(
                f"OpenVINO's graph of {classifier.reference} answers wrongly at batch size {batch}; "
                "use the torch engine for it"
            )
