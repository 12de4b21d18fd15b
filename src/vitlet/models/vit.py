"""What a Vision Transformer is: the one canonical definition, safe to script, trace and export.

Every source (timm, Hugging Face, DeiT checkpoints) is converted to this module, so that engines
and compression methods meet one set of names. Sources: Dosovitskiy et al., "An Image is Worth
16x16 Words" (arXiv 2010.11929); Touvron et al., "DeiT" (2012.12877: distillation token, two heads)
and "Going deeper with Image Transformers" (2103.17239: LayerScale); Darcet et al., "Vision
Transformers Need Registers" (2309.16588).

Two exact rewrites make the switches fewer than the sources have. The learned class, distillation
and register tokens are stored in ``prefix`` with their position embedding already added, so the
question whether positions cover them does not arise here. Query, key and value are one linear.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitlet.errors import InvalidValue
from vitlet.records import VitArchitecture


class QuickGELU(nn.Module):
    """``x * sigmoid(1.702 x)``, the GELU of the original CLIP."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class LayerScale(nn.Module):
    """Multiply each channel by a learned factor (2103.17239, eq. 2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Attention(nn.Module):
    """Multi-head self-attention; tokens: [batch, tokens, width] -> the same shape."""

    def __init__(self, width: int, heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.head_width = width // heads
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.projection = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        qkv = self.qkv(tokens).reshape(batch, count, 3, self.heads, self.head_width)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each [batch, heads, tokens, head_width]
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.projection(mixed.transpose(1, 2).reshape(batch, count, width))


class Mlp(nn.Module):
    """Two linears with an activation between; tokens: [batch, tokens, width] -> the same shape."""

    def __init__(self, width: int, hidden: int, activation: nn.Module) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.activation = activation
        self.down = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.down(self.activation(self.up(tokens)))


class DropPath(nn.Module):
    """Stochastic depth: in training drop a sample's whole branch with this probability (1603.09382)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.probability == 0.0:
            return branch
        keep = 1.0 - self.probability
        kept = torch.rand(branch.shape[0], 1, 1, device=branch.device) < keep
        return branch * (kept.to(branch.dtype) / keep)


class Block(nn.Module):
    """One pre-norm encoder block; tokens: [batch, tokens, width] -> the same shape."""

    def __init__(self, architecture: VitArchitecture, drop_path: float) -> None:
        super().__init__()
        a = architecture
        self.attention_norm = nn.LayerNorm(a.width, eps=a.norm_eps)
        self.attention = Attention(a.width, a.heads, a.qkv_bias)
        self.attention_scale = LayerScale(a.width) if a.layer_scale else nn.Identity()
        self.mlp_norm = nn.LayerNorm(a.width, eps=a.norm_eps)
        self.mlp = Mlp(a.width, a.mlp_width, _activation(a.activation))
        self.mlp_scale = LayerScale(a.width) if a.layer_scale else nn.Identity()
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.drop_path(self.attention_scale(self.attention(self.attention_norm(tokens))))
        return tokens + self.drop_path(self.mlp_scale(self.mlp(self.mlp_norm(tokens))))


class VisionTransformer(nn.Module):
    """The canonical ViT classifier: images float32 [batch, 3, height, width] -> logits [batch, classes].

    With a distillation token the result is the mean of the class head's and the distillation
    head's logits (2012.12877, section 4, "Classification with joint classifiers"); ``both_heads``
    gives them apart, for training.
    """

    def __init__(self, architecture: VitArchitecture, *, drop_path: float = 0.0) -> None:
        super().__init__()
        a = architecture
        self.pool = a.pool
        self.prefix_tokens = a.prefix_tokens
        self.distilled = a.distillation_token
        self.embed = nn.Conv2d(3, a.width, kernel_size=a.patch, stride=a.patch, bias=a.patch_bias)
        self.prefix = nn.Parameter(torch.zeros(1, a.prefix_tokens, a.width))
        rows, columns = a.grid
        learned = a.position == "learned"
        start = torch.zeros(1, rows * columns, a.width) if learned else sine_cosine_positions(rows, columns, a.width)
        self.position = nn.Parameter(start, requires_grad=learned)
        self.pre_norm = nn.LayerNorm(a.width, eps=a.norm_eps) if a.pre_norm else nn.Identity()
        rates = [drop_path * i / max(1, a.depth - 1) for i in range(a.depth)]
        self.blocks = nn.Sequential(*(Block(a, rate) for rate in rates))
        self.final_norm = nn.LayerNorm(a.width, eps=a.norm_eps) if a.final_norm else nn.Identity()
        pooled = 2 * a.width if a.pool == "token+mean" else a.width
        self.pool_norm = nn.LayerNorm(pooled, eps=a.norm_eps) if a.pool_norm else nn.Identity()
        if a.pre_logits:
            self.pre_logits: nn.Module = nn.Sequential(nn.Linear(pooled, a.pre_logits), nn.Tanh())
        else:
            self.pre_logits = nn.Identity()
        features = a.pre_logits or pooled
        self.head = nn.Linear(features, a.classes)
        self.distillation_head = nn.Linear(features, a.classes) if a.distillation_token else nn.Identity()

    def tokens(self, images: Tensor) -> Tensor:
        """Images [batch, 3, height, width] -> tokens after the last norm [batch, prefix + patches, width]."""
        patches = self.embed(images).flatten(2).transpose(1, 2) + self.position
        tokens = torch.cat([self.prefix.expand(images.shape[0], -1, -1), patches], dim=1)
        return self.final_norm(self.blocks(self.pre_norm(tokens)))

    def both_heads(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images -> (class head's logits, distillation head's logits), each [batch, classes].

        Only for a model with a distillation token.
        """
        tokens = self.tokens(images)
        return (
            self.head(self.pre_logits(self.pool_norm(tokens[:, 0]))),
            self.distillation_head(self.pre_logits(self.pool_norm(tokens[:, 1]))),
        )

    def forward(self, images: Tensor) -> Tensor:
        if self.distilled:
            by_class, by_teacher = self.both_heads(images)
            return (by_class + by_teacher) / 2
        tokens = self.tokens(images)
        if self.pool == "token":
            pooled = tokens[:, 0]
        else:
            pooled = tokens[:, self.prefix_tokens :].mean(dim=1)
            if self.pool == "token+mean":
                pooled = torch.cat([tokens[:, 0], pooled], dim=1)
        return self.head(self.pre_logits(self.pool_norm(pooled)))


def build_vit(architecture: VitArchitecture, *, seed: int = 0, drop_path: float = 0.0) -> VisionTransformer:
    """Make a ViT in eval mode with seeded random weights: truncated normal (std 0.02) for linears,
    tokens and learned positions, zero biases, LayerScale 1 (the initialisation of DeiT).

    The caller's random state is left as it was.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        model = VisionTransformer(architecture, drop_path=drop_path)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            # The patch embedding is a linear over patch pixels; LeCun normal as in the ViT paper.
            std = 0.02 if isinstance(module, nn.Linear) else 1 / math.sqrt(module.weight[0].numel())
            nn.init.trunc_normal_(module.weight, std=std, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.trunc_normal_(model.prefix, std=0.02, generator=generator)
    if model.position.requires_grad:
        nn.init.trunc_normal_(model.position, std=0.02, generator=generator)
    return model.eval()


def sine_cosine_positions(rows: int, columns: int, width: int) -> Tensor:
    """Fixed 2-D sine-cosine position embedding [1, rows * columns, width] in the order of MAE
    (2111.06377): a quarter of the channels each for sin and cos of the column, then of the row, at
    frequencies 10000^(-i / (width / 4)). MoCo v3 (2104.02057) has the row first.

    Raises:
        InvalidValue: width is no multiple of 4.
    """
    if width % 4:
        raise InvalidValue(f"sine-cosine positions need a width that is a multiple of 4, not {width}")
    quarter = width // 4
    frequencies = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    across = x.flatten()[:, None] * frequencies
    down = y.flatten()[:, None] * frequencies
    return torch.cat([across.sin(), across.cos(), down.sin(), down.cos()], dim=1)[None].float()


def interpolate_positions(
    position: Tensor, old_grid: tuple[int, int], new_grid: tuple[int, int], *, antialias: bool = True
) -> Tensor:
    """Resample a learned position embedding [1, rows * columns, width] to another grid of patches,
    bicubic, for another image resolution (2012.12877, section 5.1: DeiT-B at 384).

    timm antialiases, DeiT's own code and Hugging Face's do not; it matters where the grid shrinks.
    """
    if old_grid == new_grid:
        return position
    rows, columns = old_grid
    image = position.reshape(1, rows, columns, -1).permute(0, 3, 1, 2).float()
    resampled = F.interpolate(image, size=new_grid, mode="bicubic", antialias=antialias, align_corners=False)
    return resampled.permute(0, 2, 3, 1).reshape(1, new_grid[0] * new_grid[1], -1).to(position.dtype)


def _activation(name: str) -> nn.Module:
    kinds: dict[str, Callable[[], nn.Module]] = {
        "gelu": nn.GELU,
        "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
        "quick_gelu": QuickGELU,
    }
    return kinds[name]()
