"""The student at the start of its training: which ViT, and with what weights."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from vitlet.distill.recipe import Recipe
from vitlet.distill.teacher import same_classes
from vitlet.errors import InvalidValue
from vitlet.models.positions import resize_classifier, resized_spec
from vitlet.models.reference import load
from vitlet.models.vit import VisionTransformer, build_vit, sine_cosine_positions
from vitlet.records import Classifier, ImageSpec, ProgressCallback, VitArchitecture, no_progress

#: A ViT by sizes may not cut an image into more: attention would take days (and 1024 are 32 x 32).
MOST_PATCHES = 1024


def make_student(
    recipe: Recipe, labels: tuple[str, ...], own_spec: ImageSpec, *, progress: ProgressCallback = no_progress
) -> Classifier:
    """Build the recipe's student for these classes; ``own_spec`` is the data's own preprocessing, which a ViT by
    sizes takes. The module has no stochastic depth: ``trainable`` adds it.

    Raises:
        InvalidValue: it is no ViT that can be trained, or two settings contradict each other.
        ModelNotFound, ModelUnreadable, HubUnreachable: a model that it names cannot be had.
    """
    wanted, seed = recipe.student, recipe.training.seed
    start = None if wanted.start == "random" else load(wanted.start, progress=progress)
    if wanted.model:
        named = start if wanted.model == wanted.start else _architecture_of(wanted.model, seed, progress)
    else:
        named = start
    classifier = named if named is not None else _by_sizes(recipe, labels, own_spec)
    if wanted.image_size:
        classifier = _resized(classifier, wanted.image_size)
    old = _vit_architecture(classifier)
    if recipe.objective.has_token and old.pool != "token":
        raise InvalidValue(
            f"{classifier.reference} pools by {old.pool!r}, so it takes no distillation token; "
            "set objective.through to class"
        )
    new = replace(old, classes=len(labels), distillation_token=recipe.objective.has_token)
    module = new_weights(new, seed=seed, initialisation=wanted.initialisation)
    if start is not None:
        taken = _resized(start, new.image_height) if start.architecture.image_height != new.image_height else start
        take_weights(module, taken, labels)
    return Classifier(
        module,
        new,
        classifier.image_spec,
        labels,
        reference=wanted.model or wanted.start if named is not None else _name(new),
        library="checkpoint",
        random_weights=start is None,
        seed=seed,
    )


def trainable(classifier: Classifier, drop_path: float) -> VisionTransformer:
    """A copy of a ViT's module with stochastic depth, to be trained."""
    module = VisionTransformer(_vit_architecture(classifier), drop_path=drop_path)
    module.load_state_dict(classifier.module.state_dict())
    return module


def new_weights(architecture: VitArchitecture, *, seed: int, initialisation: str) -> VisionTransformer:
    """Build the ViT with seeded weights, in eval mode; the caller's random state is left as it was.

    "deit" is ``build_vit``'s: truncated normal of width 0.02, right for 192 channels and more. At 96 it
    starts so faint that the first epochs are lost, so with "xavier" blocks begin as in the original ViT,
    Xavier uniform (2010.11929), and learned positions as the fixed sine-cosine ones (2104.02057): the
    model knows from the first step where a patch lies.
    """
    model = build_vit(architecture, seed=seed)
    if initialisation == "xavier":
        generator = torch.Generator().manual_seed(seed)
        for module in model.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
        if architecture.width % 4 == 0:
            with torch.no_grad():
                model.position.copy_(sine_cosine_positions(*architecture.grid, architecture.width))
    return model


def take_weights(module: VisionTransformer, start: Classifier, labels: tuple[str, ...]) -> None:
    """Give ``module`` the weights of ``start``. Of its heads the rows of the same classes are taken, by name, and
    those of other classes stay as they were drawn. A distillation token that ``start`` lacks begins as its class
    token, and the distillation head as its head.

    Raises:
        InvalidValue: the two differ in more than classes and distillation token.
    """
    state, mine = dict(start.module.state_dict()), module.state_dict()
    if module.distilled and not getattr(start.module, "distilled", False) and "prefix" in state:
        state["prefix"] = torch.cat([state["prefix"][:, :1], state["prefix"]], dim=1)
        state |= {f"distillation_head.{part}": state[f"head.{part}"] for part in ("weight", "bias")}
    elif not module.distilled and getattr(start.module, "distilled", False):
        state["prefix"] = torch.cat([state["prefix"][:, :1], state["prefix"][:, 2:]], dim=1)
        state = {name: value for name, value in state.items() if not name.startswith("distillation_head.")}
    for name in mine:
        if name.startswith(("head.", "distillation_head.")) and name in state:
            state[name] = _rows(state[name], start.labels, mine[name], labels)
    different = [
        n for n in sorted({*state, *mine}) if n not in state or n not in mine or state[n].shape != mine[n].shape
    ]
    if different:
        raise InvalidValue(
            f"the weights of {start.reference} do not fit the student ({different[0]} differs); start from a model of "
            "the same architecture"
        )
    module.load_state_dict(state)


def _rows(theirs: Tensor, their_labels: tuple[str, ...], mine: Tensor, labels: tuple[str, ...]) -> Tensor:
    """``mine`` [classes, ...] with the rows of ``theirs`` whose class has the same name."""
    found, rows = same_classes(labels, their_labels), mine.clone()
    for row, their_row in enumerate(found):
        if their_row >= 0 and theirs.shape[1:] == mine.shape[1:]:
            rows[row] = theirs[their_row]
    return rows


def _architecture_of(reference: str, seed: int, progress: ProgressCallback) -> Classifier:
    """A model without its weights: names can be had without a download, files are what they hold."""
    try:
        return load(reference, random_weights=True, seed=seed, progress=progress)
    except InvalidValue:
        return load(reference, progress=progress)


def _by_sizes(recipe: Recipe, labels: tuple[str, ...], spec: ImageSpec) -> Classifier:
    wanted = recipe.student
    spec = resized_spec(spec, wanted.image_size) if wanted.image_size else spec
    patches = (spec.height // wanted.patch) * (spec.width // wanted.patch)
    if patches > MOST_PATCHES:
        raise InvalidValue(
            f"images of {spec.height}x{spec.width} pixels are {patches} patches of {wanted.patch}, too many to train "
            "on; set student.patch=16, or a smaller student.image_size"
        )
    architecture = VitArchitecture(
        image_height=spec.height,
        image_width=spec.width,
        patch=wanted.patch,
        width=wanted.width,
        depth=wanted.depth,
        heads=wanted.heads,
        mlp_width=round(wanted.width * wanted.mlp_ratio),
        classes=len(labels),
        distillation_token=recipe.objective.has_token,
    )
    with torch.device("meta"):
        module = VisionTransformer(architecture)
    return Classifier(module, architecture, spec, labels, reference=_name(architecture), library="checkpoint")


def _resized(classifier: Classifier, size: int) -> Classifier:
    architecture = classifier.architecture
    if (architecture.image_height, architecture.image_width) == (size, size):
        return classifier
    return resize_classifier(classifier, size)


def _vit_architecture(classifier: Classifier) -> VitArchitecture:
    if not isinstance(classifier.architecture, VitArchitecture):
        raise InvalidValue(f"{classifier.reference} is no plain ViT, so it cannot be a student; it may be a teacher")
    return classifier.architecture


def _name(architecture: VitArchitecture) -> str:
    return f"vit-{architecture.width}x{architecture.depth}-patch{architecture.patch}"
