"""A model to look into: every product is a module of its own, and a run can start in the middle.

The canonical ViT hands attention to one fused function and its blocks to one ``nn.Sequential``, as exporters like it.
Here is a copy that computes the same with attention's two products apart, and whose blocks can go on from the tokens
that an earlier run had there. Other models are copied as they are.
"""

from __future__ import annotations

from copy import deepcopy

from torch import Tensor, nn

from vitlet.models.vit import Attention, VisionTransformer


class Scores(nn.Module):
    """query, key: [batch, heads, tokens, head_width] -> their products [batch, heads, tokens, tokens], unscaled."""

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        return query @ key.transpose(-2, -1)


class WeightedSum(nn.Module):
    """probabilities: [batch, heads, tokens, tokens], value: [batch, heads, tokens, head_width] -> as ``value``."""

    def forward(self, probabilities: Tensor, value: Tensor) -> Tensor:
        return probabilities @ value


class SpelledOutAttention(nn.Module):
    """``Attention`` in the steps of its definition (arXiv 1706.03762, eq. 1); takes over the layers of the other."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.heads, self.head_width = attention.heads, attention.head_width
        # In the order in which they run.
        self.qkv = attention.qkv
        self.scores = Scores()
        self.weighted_sum = WeightedSum()
        self.projection = attention.projection

    def forward(self, tokens: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        qkv = self.qkv(tokens).reshape(batch, count, 3, self.heads, self.head_width)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        probabilities = (self.scores(query, key) * self.head_width**-0.5).softmax(dim=-1)
        mixed = self.weighted_sum(probabilities, value)
        return self.projection(mixed.transpose(1, 2).reshape(batch, count, width))


class ResumableBlocks(nn.Sequential):
    """Blocks that run from number ``start`` on, with the tokens that came to it in the last ``recorded`` run."""

    def __init__(self, blocks: nn.Sequential) -> None:
        super().__init__(*blocks)
        self.start, self.recorded = 0, True
        self.seen: list[Tensor] = []

    def forward(self, tokens: Tensor) -> Tensor:
        if self.start:
            tokens = self.seen[self.start]
        seen = [tokens]
        for number in range(self.start, len(self)):
            tokens = self[number](tokens)
            seen.append(tokens)
        if self.recorded:
            self.seen = seen
        return tokens


def spelled_out(module: nn.Module) -> nn.Module:
    """A copy of ``module`` to look into: images float32 [batch, 3, height, width] -> logits [batch, classes], the same
    but for rounding. It shares the weights, which are only read."""
    shared = [*module.parameters(), *module.buffers()]
    copy = deepcopy(module, {id(tensor): tensor for tensor in shared}).eval()
    if isinstance(copy, VisionTransformer):
        for block in copy.blocks:
            if isinstance(block.attention, Attention):
                block.attention = SpelledOutAttention(block.attention)
        copy.blocks = ResumableBlocks(copy.blocks)
    return copy
