"""Position embeddings of any source, brought into the canonical form: one part that is already
added to the prefix tokens, one for the patches, on the grid of the wanted resolution.
"""

from __future__ import annotations

import math
from dataclasses import replace

from vitlet.errors import InvalidValue, ModelUnreadable
from vitlet.records import Classifier, ImageSpec, VitArchitecture


def split_positions(
    count: int, *, prefix_tokens: int, grid: tuple[int, int] | None, origin: str
) -> tuple[int, tuple[int, int]]:
    """How many of ``count`` position embeddings belong to the prefix tokens, and the grid (rows,
    columns) of patches that the others belong to.

    Sources differ: all prefix tokens have a position, or the class token alone (DINOv2 with
    registers), or none. ``grid`` is the expected one; where the count does not fit it, the grid is
    taken as square.

    Raises:
        ModelUnreadable: the count fits neither.
    """
    choices = tuple(dict.fromkeys((prefix_tokens, min(1, prefix_tokens), 0)))
    for extra in choices:
        if grid is not None and count - extra == grid[0] * grid[1]:
            return extra, grid
    for extra in choices:
        side = math.isqrt(max(0, count - extra))
        if side > 0 and side * side == count - extra:
            return extra, (side, side)
    raise ModelUnreadable(
        f"{origin}: {count} position embeddings fit no square grid of patches and {prefix_tokens} prefix tokens"
    )


def resized_spec(spec: ImageSpec, size: int) -> ImageSpec:
    """The same preprocessing for images of ``size`` x ``size`` pixels; the crop keeps its share."""
    if isinstance(spec.resize, int):
        resize: int | tuple[int, int] = max(size, round(spec.resize * size / min(spec.height, spec.width)))
    else:
        resize = (round(spec.resize[0] * size / spec.height), round(spec.resize[1] * size / spec.width))
    return replace(spec, height=size, width=size, resize=resize)


def resize_classifier(classifier: Classifier, size: int) -> Classifier:
    """The same classifier for images of ``size`` x ``size`` pixels, its positions interpolated.

    Raises:
        InvalidValue: the model is no canonical ViT, or the size holds no patch.
    """
    from vitlet.models.vit import VisionTransformer, interpolate_positions, sine_cosine_positions

    old = classifier.architecture
    if (old.image_height, old.image_width) == (size, size):
        return classifier
    if not isinstance(old, VitArchitecture) or not isinstance(classifier.module, VisionTransformer):
        raise InvalidValue(
            f"{classifier.reference} is made for {old.image_height}x{old.image_width} pixels; only a ViT can be resized"
        )
    new = replace(old, image_height=size, image_width=size)
    state = dict(classifier.module.state_dict())
    if old.position == "sincos":
        state["position"] = sine_cosine_positions(*new.grid, new.width)
    else:
        state["position"] = interpolate_positions(state["position"], old.grid, new.grid)
    module = VisionTransformer(new).eval()
    module.load_state_dict(state)
    return replace(classifier, module=module, architecture=new, image_spec=resized_spec(classifier.image_spec, size))
