"""The heads of a ViT with a distillation token: both for training, any of them for inference."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from vitlet.distill.recipe import Head
from vitlet.errors import InvalidValue
from vitlet.models.vit import VisionTransformer
from vitlet.records import Classifier, VitArchitecture


class Heads(nn.Module):
    """Any classifier as one whose call gives every head's logits as a tuple: what distributed training and
    torch.compile wrap, since they see a module's ``forward`` alone.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.count = 2 if getattr(model, "distilled", False) else 1

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """float [batch, 3, height, width] -> (class head's,) or (class head's, distillation head's), each
        float [batch, classes]."""
        if self.count == 1:
            return (self.model(images),)
        by_class, by_teacher = self.model.both_heads(images)  # type: ignore[operator]
        return by_class, by_teacher


def with_head(classifier: Classifier, head: Head) -> Classifier:
    """The same model with only this head's answer; "average" is what a distilled ViT gives by itself.

    Exact: the token that no head reads any more stays in the sequence as a register, because the
    others attend to it. Nothing but the unused head is dropped, so every engine can run the result.

    Raises:
        InvalidValue: the model has no distillation token.
    """
    if head == "average":
        return classifier
    old, module = classifier.architecture, classifier.module
    if not (isinstance(old, VitArchitecture) and old.distillation_token and isinstance(module, VisionTransformer)):
        raise InvalidValue(f"{classifier.reference} has no distillation token, so it has one head: leave it 'average'")
    new = replace(old, distillation_token=False, registers=old.registers + 1)
    state = {name: value for name, value in module.state_dict().items() if not name.startswith("distillation_head.")}
    if head == "distillation":
        prefix = state["prefix"]
        # The head reads the first token. Positions are in the tokens already, so their order is free.
        state["prefix"] = torch.cat([prefix[:, 1:2], prefix[:, :1], prefix[:, 2:]], dim=1)
        for part in ("weight", "bias"):
            state[f"head.{part}"] = module.state_dict()[f"distillation_head.{part}"]
    chosen = VisionTransformer(new).eval()
    chosen.load_state_dict(state)
    return replace(classifier, module=chosen, architecture=new)
