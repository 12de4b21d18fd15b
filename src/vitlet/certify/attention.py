"""Attention maps of a canonical ViT over images: as it is, and with all its operations in simulated int8."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from torch import Tensor

from vitlet.certify.inspection import AttentionMaps, View
from vitlet.certify.rollout import read_by_head, rollout
from vitlet.certify.simulation import Simulation
from vitlet.data.imageset import ImageSet
from vitlet.data.preprocess import normalise
from vitlet.records import Classifier, VitArchitecture

NO_ATTENTION = "this model's attention is not vitlet's own, or it has none, so there are no maps of it"


def attention_maps(
    simulation: Simulation, classifier: Classifier, images: ImageSet, places: Sequence[int]
) -> tuple[AttentionMaps, ...]:
    """The maps of the images at these ``places``; none for a model that is no canonical ViT."""
    architecture = classifier.architecture
    if not isinstance(architecture, VitArchitecture):
        return ()
    pixels = np.load(images.pixels_path, mmap_mode="r", allow_pickle=False)
    everything = {one.name for one in simulation.operations}
    found = []
    for place in places:
        image = np.ascontiguousarray(normalise(np.asarray(pixels[place : place + 1]), images.spec))
        views = (_view(simulation, architecture, classifier.labels, image, int8) for int8 in ((), everything))
        height, width, _ = pixels[place].shape
        found.append(AttentionMaps(images.names[place], height, width, pixels[place].tobytes(), *views))
    return tuple(found)


def rows_of_head(architecture: VitArchitecture) -> tuple[int, ...]:
    """The output tokens that the head reads: class token, it and distillation token, mean of the patches, or both."""
    a = architecture
    patches = tuple(range(a.prefix_tokens, a.prefix_tokens + a.grid[0] * a.grid[1]))
    if a.distillation_token:
        return 0, 1
    # Both halves of "token+mean" go to the head, so the class token counts as much as all patches together.
    return {"token": (0,), "mean": patches, "token+mean": (*patches, *(0,) * len(patches))}[a.pool]


def _view(
    simulation: Simulation,
    architecture: VitArchitecture,
    labels: Sequence[str],
    image: np.ndarray,
    int8: Collection[str],
) -> View:
    layers: list[np.ndarray] = []

    def watch(name: str, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if name.endswith(".weighted_sum"):
            layers.append(inputs[0][0].mean(dim=0).numpy())  # probabilities [1, heads, tokens, tokens]

    answer = int(simulation.run(image, int8, watch=watch)[0].argmax())
    rows, prefix, grid = rows_of_head(architecture), architecture.prefix_tokens, architecture.grid
    maps = [read_by_head(matrix, rows, prefix, grid).tolist() for matrix in (rollout(layers), layers[-1])]
    return View(labels[answer], *(tuple(map(tuple, shares)) for shares in maps))
