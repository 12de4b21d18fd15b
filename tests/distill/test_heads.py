"""Both heads for training and either for inference, of vitlet's own ViTs and of DeiT's checkpoints."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from torch import nn

from vitlet.distill.heads import Heads, with_head
from vitlet.engines import engine
from vitlet.errors import InvalidValue
from vitlet.models.build import build
from vitlet.models.checkpoint import load_checkpoint, save_checkpoint
from vitlet.models.reference import load
from vitlet.records import Classifier, ImageSpec, Precision, TimmArchitecture, VitArchitecture

DISTILLED = VitArchitecture(
    image_height=8,
    image_width=12,
    patch=4,
    width=32,
    depth=3,
    heads=2,
    mlp_width=48,
    classes=5,
    distillation_token=True,
    registers=2,
    layer_scale=True,
    pre_logits=24,
)


def lively(module: nn.Module, seed: int = 0) -> nn.Module:
    """Numbers large enough that another token or head shows in the logits."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(
                0.3 * torch.randn(parameter.shape, generator=generator) / max(1, parameter[0].numel()) ** 0.5
            )
    return module.eval()


def classifier_of(architecture: VitArchitecture) -> Classifier:
    size = (architecture.image_height, architecture.image_width)
    labels = tuple(f"class {n}" for n in range(architecture.classes))
    return Classifier(lively(build(architecture)), architecture, ImageSpec(*size, size), labels, "tiny", "checkpoint")


@pytest.fixture
def classifier() -> Classifier:
    return classifier_of(DISTILLED)


def images_for(architecture: VitArchitecture, count: int = 3) -> torch.Tensor:
    size = (architecture.image_height, architecture.image_width)
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def images() -> torch.Tensor:
    return images_for(DISTILLED)


def logits(module: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return module(images)


def wanted(module: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        by_class, by_teacher = module.both_heads(images)
    found = {"class": by_class, "distillation": by_teacher, "average": (by_class + by_teacher) / 2}
    assert (by_class - by_teacher).abs().max() > 0.05  # or no test here could tell them apart
    return found


def test_heads_of_a_distilled_vit(classifier, images):
    heads = Heads(classifier.module)
    found = logits(heads, images)
    expected = wanted(classifier.module, images)
    assert heads.count == len(found) == 2
    assert torch.equal(found[0], expected["class"])
    assert torch.equal(found[1], expected["distillation"])


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_heads_of_any_other_classifier_is_its_answer(kind, images):
    other = (
        TimmArchitecture("test_resnet", 5, 64, 64) if kind == "resnet" else replace(DISTILLED, distillation_token=False)
    )
    plain = build(other)
    heads = Heads(plain)
    found = logits(heads, images)
    assert heads.count == len(found) == 1
    assert torch.equal(found[0], logits(plain, images))


@pytest.mark.parametrize("registers", [0, 2])
@pytest.mark.parametrize("head", ["class", "distillation", "average"])
def test_one_head_answers_as_it_did_among_both(head, registers):
    classifier = classifier_of(replace(DISTILLED, registers=registers))
    images = images_for(DISTILLED)
    expected = wanted(classifier.module, images)
    before = {name: value.clone() for name, value in classifier.module.state_dict().items()}
    chosen = with_head(classifier, head)
    torch.testing.assert_close(logits(chosen.module, images), expected[head], rtol=0, atol=1e-6)
    assert chosen.architecture.distillation_token == (head == "average")
    assert chosen.architecture.prefix_tokens == classifier.architecture.prefix_tokens
    assert not chosen.module.training
    assert (chosen.labels, chosen.image_spec) == (classifier.labels, classifier.image_spec)
    # The caller's model is as it was, also when the chosen one is changed.
    if chosen is not classifier:
        with torch.no_grad():
            for parameter in chosen.module.parameters():
                parameter.zero_()
    assert all(torch.equal(value, before[name]) for name, value in classifier.module.state_dict().items())


@pytest.mark.parametrize("head", ["class", "distillation"])
def test_one_head_survives_a_checkpoint_and_runs_in_an_engine(head, classifier, images, tmp_path):
    expected = wanted(classifier.module, images)[head]
    path = save_checkpoint(with_head(classifier, head), tmp_path / "one.safetensors")
    found = load_checkpoint(path)
    torch.testing.assert_close(logits(found.module, images), expected, rtol=0, atol=1e-6)
    native = engine("native")
    if not native.available().ok:
        pytest.skip(native.available().reason)
    artifact = native.export(found, Precision("fp32"), tmp_path / "one.vitlet")
    session = native.open(artifact, threads=1)
    np.testing.assert_allclose(session.run(images.numpy()), expected.numpy(), rtol=0, atol=1e-5)
    session.close()


@pytest.mark.parametrize("head", ["class", "distillation"])
def test_a_model_without_the_token_has_no_heads_to_choose_from(head):
    plain = classifier_of(replace(DISTILLED, distillation_token=False))
    with pytest.raises(InvalidValue, match=r"tiny has no distillation token, .*leave it 'average'"):
        with_head(plain, head)
    assert with_head(plain, "average") is plain


def test_heads_of_deits_own_checkpoint(tmp_path):
    """A file as DeiT's repository has them, and timm as the library that tells what is right."""
    theirs = lively(timm.create_model("deit_tiny_distilled_patch16_224"))
    torch.save({"model": theirs.state_dict()}, tmp_path / "deit.pth")
    classifier = load(str(tmp_path / "deit.pth"))
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        average = theirs(images)
        theirs.set_distilled_training(True)
        by_class, by_teacher = theirs.train()(images)  # without dropout or stochastic depth the same as eval
    assert (by_class - by_teacher).abs().max() > 0.05
    expected = {"class": by_class, "distillation": by_teacher, "average": average}
    for head, theirs_says in expected.items():
        found = logits(with_head(classifier, head).module, images)
        torch.testing.assert_close(found, theirs_says, rtol=0, atol=1e-5)
    for found, theirs_says in zip(logits(Heads(classifier.module), images), (by_class, by_teacher), strict=True):
        torch.testing.assert_close(found, theirs_says, rtol=0, atol=1e-5)
