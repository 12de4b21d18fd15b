"""A model whose operations can be put into simulated int8, any of them, for the length of a run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from copy import deepcopy
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from vitlet.certify.activations import RunningStatistics, by_channel, heads_by_channel
from vitlet.certify.fake_int8 import rounded_activation, rounded_activation_by_image, rounded_weight
from vitlet.certify.inspection import Operation
from vitlet.certify.spelled_out import ResumableBlocks, Scores, WeightedSum, spelled_out
from vitlet.errors import Unsupported

#: Hears of every operation in a run: its name, its inputs and its result, before any rounding.
Watch: TypeAlias = Callable[[str, tuple[Tensor, ...], Tensor], None]

_PRODUCTS = (nn.Linear, nn.Conv2d, Scores, WeightedSum)
#: What each product's inputs are called.
_INPUTS = {Scores: ("query", "key"), WeightedSum: ("probabilities", "value")}
#: The canonical ViT's, by their names, in a block without its number.
_KINDS = {
    "embed": "patch embedding",
    "attention.qkv": "qkv",
    "attention.scores": "scores",
    "attention.weighted_sum": "weighted sum",
    "attention.projection": "projection",
    "mlp.up": "mlp up",
    "mlp.down": "mlp down",
    "head": "head",
    "distillation_head": "distillation head",
}


class Simulation:
    """``module`` in float32, and any of its ``operations`` in int8; ``module`` itself stays as it is.

    Weights are rounded by channel. Activations are rounded by the range that ``images`` (each float32
    [1, 3, height, width]) showed or, with ``dynamic``, by that of each image. ``inputs`` is what the images showed.
    Operations are nn.Linear and nn.Conv2d modules and, in a canonical ViT, attention's two products.

    Raises:
        Unsupported: there is no such operation in it.
    """

    def __init__(self, module: nn.Module, images: Iterable[np.ndarray], *, dynamic: bool = False) -> None:
        self._model = spelled_out(module)
        products = {name: m for name, m in self._model.named_modules() if isinstance(m, _PRODUCTS)}
        self._int8: frozenset[str] = frozenset()
        self._watch: Watch | None = None
        self._batch = 1
        self._ranges: dict[tuple[str, int], tuple[float, float]] | None = None
        self.energies: dict[str, tuple[float, float]] = {}
        self._rounded = {name: _with_rounded_weight(product) for name, product in products.items()}
        for name, product in products.items():
            product.register_forward_hook(partial(self._after, name))
        learned, macs = self._learn(images)
        if not macs:
            raise Unsupported("this model has no linear and no convolution, so there is nothing to quantize")
        # What never ran (the heads of another task) costs nothing.
        self.operations = tuple(_operation(name, products[name], macs[name]) for name in products if name in macs)
        self.inputs = tuple(
            learned[name, at].finish(name, text)
            for name in macs
            for at, text in enumerate(_INPUTS.get(type(products[name]), ("input",)))
        )
        if not dynamic:
            self._ranges = {key: (seen.minimum, seen.maximum) for key, seen in learned.items()}

    def run(
        self, images: np.ndarray, int8: Collection[str] = (), *, resume: bool = False, watch: Watch | None = None
    ) -> np.ndarray:
        """images: float32 [batch, 3, height, width] -> logits: float32 [batch, classes], with the operations named in
        ``int8`` rounded. Afterwards ``energies`` has for each of these the sums of squares of its exact result and of
        what rounding changed in it.

        With ``resume`` the last run without ``int8`` was on the same images: what comes before the first rounded block
        is not computed again.
        """
        blocks = getattr(self._model, "blocks", None)
        self.energies = {}
        self._int8, self._watch, self._batch = frozenset(int8), watch, len(images)
        try:
            if isinstance(blocks, ResumableBlocks):
                blocks.start = self._first_block(int8, len(blocks)) if resume else 0
                blocks.recorded = not int8
            with torch.inference_mode():
                return self._model(torch.from_numpy(images)).numpy()
        finally:
            self._int8, self._watch = frozenset(), None

    def _first_block(self, int8: Collection[str], depth: int) -> int:
        """The block to start from: that of the earliest rounded operation; ``depth`` if all come after the last."""
        if "embed" in int8:
            return 0
        return min((one.block for one in self.operations if one.block is not None and one.name in int8), default=depth)

    def _after(self, name: str, product: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if self._watch is not None:
            self._watch(name, inputs, output)
        if name not in self._int8:
            return None
        rounded: Tensor = self._rounded[name](*(self._round(name, at, values) for at, values in enumerate(inputs)))
        signal, noise = self.energies.get(name, (0.0, 0.0))
        self.energies[name] = (signal + _energy(output), noise + _energy(rounded - output))
        return rounded

    def _round(self, name: str, at: int, values: Tensor) -> Tensor:
        if self._ranges is not None:
            return rounded_activation(values, *self._ranges[name, at])
        if values.numel() % self._batch:
            return rounded_activation_by_image(values[None])[0]
        # Windows and heads may have been folded into the batch: an image's values are still next to each other.
        return rounded_activation_by_image(values.reshape(self._batch, -1)).reshape(values.shape)

    def _learn(
        self, images: Iterable[np.ndarray]
    ) -> tuple[Mapping[tuple[str, int], RunningStatistics], dict[str, int]]:
        """The statistics of each input, and the multiplications of each operation for one image, in the order in which
        they first ran."""
        seen: dict[tuple[str, int], RunningStatistics] = {}
        macs: dict[str, int] = {}
        count = 0

        def watch(name: str, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            product = self._model.get_submodule(name)
            if count == 0:
                macs[name] = macs.get(name, 0) + _macs(product, inputs, output)
            for at, values in enumerate(inputs):
                statistics = seen.setdefault((name, at), RunningStatistics())
                statistics.add(values, _channels(product, at, values))

        for image in images:
            self.run(image, watch=watch)
            count += 1
        return seen, macs


def _with_rounded_weight(product: nn.Module) -> nn.Module:
    copy = deepcopy(product)
    if isinstance(copy, nn.Linear | nn.Conv2d):
        with torch.no_grad():
            copy.weight.copy_(rounded_weight(copy.weight))
    return copy


def _operation(name: str, product: nn.Module, macs: int) -> Operation:
    parts = name.split(".")
    is_block = parts[0] == "blocks" and len(parts) > 2 and parts[1].isdigit()
    path = ".".join(parts[2:]) if is_block else name
    layer = "convolution" if isinstance(product, nn.Conv2d) else "linear"
    # In the numbered blocks of another model, what has one name in all of them is of one kind.
    kind = _KINDS.get(path, path if is_block else layer)
    weight = product.weight.numel() if isinstance(product, nn.Linear | nn.Conv2d) else 0
    return Operation(name, kind, int(parts[1]) if is_block else None, 4 * weight, macs)


def _macs(product: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> int:
    """How many multiplications the result took."""
    if isinstance(product, nn.Linear | nn.Conv2d):
        return output.numel() * product.weight[0].numel()
    # Both products of attention sum over the last dimension of their first factor.
    return output.numel() * inputs[0].shape[-1]


def _channels(product: nn.Module, at: int, values: Tensor) -> Tensor | None:
    """[values of a channel, channels]; ``None`` for attention's probabilities, which have none."""
    if isinstance(product, nn.Conv2d):
        return by_channel(values, 1)
    if isinstance(product, nn.Linear):
        return by_channel(values, -1)
    return None if isinstance(product, WeightedSum) and at == 0 else heads_by_channel(values)


def _energy(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values, dtype=torch.float64)) ** 2
