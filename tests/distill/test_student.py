"""The student at its start: the ViT that the recipe names, with the weights that it says."""

from dataclasses import replace

import pytest
import timm
import torch

from vitlet.distill.recipe import Objective, Recipe, Student, Training
from vitlet.distill.student import make_student, new_weights, trainable
from vitlet.errors import InvalidValue
from vitlet.models.build import build
from vitlet.models.checkpoint import save_checkpoint
from vitlet.models.positions import resize_classifier
from vitlet.models.reference import load
from vitlet.models.vit import VisionTransformer, build_vit, sine_cosine_positions
from vitlet.records import Architecture, Classifier, ImageSpec, TimmArchitecture, VitArchitecture

LABELS = ("across", "down", "neither")
OWN = ImageSpec(8, 12, (8, 12), "bilinear", (0.2,) * 3, (0.3,) * 3)
SMALL = Student(patch=2, width=16, depth=2, heads=2, mlp_ratio=2.5)
TINY = VitArchitecture(8, 8, 2, width=16, depth=2, heads=2, mlp_width=32, classes=3)
PLAIN, HARD = Objective("none", label_smoothing=0.0), Objective("hard")


def recipe_of(student: Student, objective: Objective = HARD, seed: int = 0) -> Recipe:
    return Recipe(student=student, objective=objective, training=Training(seed=seed))


def classifier_of(architecture: Architecture, labels: tuple[str, ...] = LABELS, seed: int = 7) -> Classifier:
    size = (architecture.image_height, architecture.image_width)
    return Classifier(build(architecture, seed=seed), architecture, ImageSpec(*size, size), labels, "start", "test")


@pytest.fixture
def start(tmp_path):
    """Write a trained model to start from; returns its reference."""

    def write(architecture: Architecture, labels: tuple[str, ...] = LABELS) -> str:
        return str(save_checkpoint(classifier_of(architecture, labels), tmp_path / "start.safetensors"))

    return write


def state_of(classifier: Classifier) -> dict[str, torch.Tensor]:
    return classifier.module.state_dict()


def equal_but(found: dict, wanted: dict, *but: str) -> None:
    """All tensors are equal, but those whose names begin so."""
    assert {n for n in found if not n.startswith(but)} == {n for n in wanted if not n.startswith(but)}
    for name, value in wanted.items():
        if not name.startswith(but):
            assert torch.equal(found[name], value), name


@pytest.mark.parametrize(("objective", "token"), [(PLAIN, False), (HARD, True), (Objective("soft", "class"), False)])
def test_by_sizes(objective, token):
    student = make_student(recipe_of(SMALL, objective), LABELS, OWN)
    assert student.architecture == VitArchitecture(
        image_height=8,
        image_width=12,
        patch=2,
        width=16,
        depth=2,
        heads=2,
        mlp_width=40,
        classes=3,
        distillation_token=token,
    )
    assert student.image_spec == OWN
    assert student.labels == LABELS
    assert student.reference == "vit-16x2-patch2"
    assert student.random_weights
    equal_but(state_of(student), build_vit(student.architecture).state_dict())


def test_by_sizes_at_another_image_size():
    student = make_student(recipe_of(replace(SMALL, image_size=16)), LABELS, OWN)
    assert (student.architecture.image_height, student.architecture.image_width) == (16, 16)
    assert student.image_spec == replace(OWN, height=16, width=16, resize=(16, 16))


def test_by_sizes_the_crop_keeps_its_share_of_larger_images():
    imagenet = ImageSpec(224, 224, 256)
    student = make_student(recipe_of(replace(SMALL, patch=16, image_size=112)), LABELS, imagenet)
    assert student.image_spec == replace(imagenet, height=112, width=112, resize=128)


def test_too_many_patches_for_a_student_by_sizes():
    imagenet = ImageSpec(224, 224, 256)
    with pytest.raises(InvalidValue, match=r"images of 224x224 pixels are 3136 patches of 4, .*set student\.patch=16"):
        make_student(recipe_of(replace(SMALL, patch=4)), LABELS, imagenet)
    assert make_student(recipe_of(replace(SMALL, patch=7)), LABELS, imagenet).architecture.grid == (32, 32)


def test_seeds():
    first, same = (make_student(recipe_of(SMALL, seed=3), LABELS, OWN) for _ in range(2))
    equal_but(state_of(first), state_of(same))
    other = state_of(make_student(recipe_of(SMALL, seed=4), LABELS, OWN))
    assert not torch.equal(state_of(first)["blocks.0.mlp.up.weight"], other["blocks.0.mlp.up.weight"])
    assert not torch.equal(state_of(first)["prefix"], other["prefix"])


def test_the_callers_generator_is_left_as_it_was():
    before = torch.get_rng_state()
    make_student(recipe_of(replace(SMALL, initialisation="xavier")), LABELS, OWN)
    make_student(recipe_of(Student("timm:deit_tiny_patch16_224")), LABELS, OWN)
    assert torch.equal(torch.get_rng_state(), before)


def test_xavier_is_for_blocks_and_positions():
    plain, xavier = (new_weights(TINY, seed=2, initialisation=name).state_dict() for name in ("deit", "xavier"))
    for name, value in plain.items():
        if name.startswith("blocks.") and value.dim() == 2:
            rows, columns = value.shape
            assert xavier[name].abs().max() <= (6 / (rows + columns)) ** 0.5
            assert xavier[name].std().item() == pytest.approx((2 / (rows + columns)) ** 0.5, rel=0.1)
            assert value.std().item() == pytest.approx(0.02, rel=0.1)
        elif name == "position":
            assert torch.equal(xavier[name], sine_cosine_positions(4, 4, 16))
        else:
            assert torch.equal(xavier[name], value), name


@pytest.mark.parametrize(("objective", "token"), [(PLAIN, False), (HARD, True)])
@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_a_named_model_without_a_download(name, objective, token):
    """timm's model of that name, with the data's classes, and a distillation token if the objective asks for one."""
    student = make_student(recipe_of(Student(f"timm:{name}"), objective, seed=5), LABELS, OWN)
    with torch.device("meta"):
        theirs = timm.create_model(name, num_classes=3)
    is_distilled = "distilled" in name
    # In vitlet the tokens before the patches hold their positions already.
    expected = sum(p.numel() for p in theirs.parameters()) - 192 * (2 if is_distilled else 1)
    expected += (int(token) - int(is_distilled)) * (192 + 3 * 193)  # a token, and its head
    assert sum(p.numel() for p in student.module.parameters()) == expected
    assert student.architecture.classes == 3
    assert student.architecture.distillation_token == token
    assert student.image_spec == load(f"timm:{name}", random_weights=True).image_spec
    assert student.random_weights
    assert student.reference == f"timm:{name}"
    with torch.inference_mode():
        assert student.module(torch.zeros(1, 3, 224, 224)).shape == (1, 3)


def test_a_file_as_the_model_is_only_its_architecture(start):
    reference = start(replace(TINY, registers=2), ("a", "b", "c"))
    student = make_student(recipe_of(Student(reference), seed=5), LABELS, OWN)
    wanted = replace(TINY, registers=2, distillation_token=True)
    assert student.architecture == wanted
    equal_but(state_of(student), new_weights(wanted, seed=5, initialisation="deit").state_dict())


@pytest.mark.parametrize("token", [False, True])
def test_going_on_from_a_model_of_the_same_classes(token, start):
    reference = start(replace(TINY, distillation_token=token))
    student = make_student(recipe_of(Student(start=reference), HARD if token else PLAIN), LABELS, OWN)
    equal_but(state_of(student), state_of(load(reference)))
    assert not student.random_weights
    assert student.reference == reference
    assert student.image_spec == load(reference).image_spec


@pytest.mark.parametrize("classes", [("a", "b", "c"), ("a", "b", "c", "d")])
def test_heads_of_other_classes_are_drawn(classes, start):
    """Also where there are just as many: they mean something else."""
    reference = start(replace(TINY, distillation_token=True, classes=len(classes)), classes)
    student = make_student(recipe_of(Student(start=reference), seed=9), LABELS, OWN)
    equal_but(state_of(student), state_of(load(reference)), "head.", "distillation_head.")
    drawn = new_weights(student.architecture, seed=9, initialisation="deit").state_dict()
    for name in ("head.weight", "head.bias", "distillation_head.weight", "distillation_head.bias"):
        assert torch.equal(state_of(student)[name], drawn[name])


def test_rows_of_the_same_classes_are_taken_by_name(start):
    """A start of other classes, among them two of the data's, in another order and spelling."""
    theirs = ("Neither", "up", "left", "across")
    reference = start(replace(TINY, distillation_token=True, classes=4), theirs)
    found = state_of(make_student(recipe_of(Student(start=reference), seed=9), LABELS, OWN))
    started = state_of(load(reference))
    drawn = new_weights(replace(TINY, distillation_token=True), seed=9, initialisation="deit").state_dict()
    for name in ("head.weight", "head.bias", "distillation_head.weight", "distillation_head.bias"):
        assert torch.equal(found[name][[0, 2]], started[name][[3, 0]])
        assert torch.equal(found[name][1], drawn[name][1])


def test_an_undistilled_starts_rows_go_to_both_heads(start):
    reference = start(replace(TINY, classes=2), ("down", "up"))
    found = state_of(make_student(recipe_of(Student(start=reference)), LABELS, OWN))
    for part in ("weight", "bias"):
        row = state_of(load(reference))[f"head.{part}"][0]
        assert torch.equal(found[f"head.{part}"][1], row)
        assert torch.equal(found[f"distillation_head.{part}"][1], row)


@pytest.mark.parametrize("registers", [0, 2])
def test_an_undistilled_start_gets_a_token_and_a_head(registers, start):
    reference = start(replace(TINY, registers=registers))
    student, theirs = make_student(recipe_of(Student(start=reference)), LABELS, OWN), state_of(load(reference))
    found = state_of(student)
    equal_but(found, theirs, "prefix", "distillation_head.")
    expected = torch.cat([theirs["prefix"][:, :1], theirs["prefix"][:, :1], theirs["prefix"][:, 1:]], dim=1)
    assert torch.equal(found["prefix"], expected)
    for part in ("weight", "bias"):
        assert torch.equal(found[f"distillation_head.{part}"], theirs[f"head.{part}"])


@pytest.mark.parametrize("registers", [0, 2])
def test_a_distilled_start_loses_its_token_where_none_is_asked_for(registers, start):
    reference = start(replace(TINY, registers=registers, distillation_token=True))
    student = make_student(recipe_of(Student(start=reference), PLAIN), LABELS, OWN)
    theirs = state_of(load(reference))
    equal_but(state_of(student), theirs, "prefix", "distillation_head.")
    assert not any(name.startswith("distillation_head") for name in state_of(student))
    expected = torch.cat([theirs["prefix"][:, :1], theirs["prefix"][:, 2:]], dim=1)
    assert torch.equal(state_of(student)["prefix"], expected)


def test_an_image_size_interpolates_the_starts_positions(start):
    reference = start(replace(TINY, distillation_token=True))
    student = make_student(recipe_of(Student(start=reference, image_size=14)), LABELS, OWN)
    resized = resize_classifier(load(reference), 14)
    equal_but(state_of(student), state_of(resized))
    assert student.architecture == resized.architecture
    assert student.image_spec == resized.image_spec
    assert (student.image_spec.height, student.image_spec.resize) == (14, (14, 14))


def test_as_deit_is_tuned_at_384(start):
    """The recipe names a model and, as its start, the same; here a file and one of another size."""
    reference = start(TINY)
    shape = replace(TINY, image_height=12, image_width=12)
    model = str(save_checkpoint(classifier_of(shape), reference.replace("start.", "model.")))
    student = make_student(recipe_of(Student(model, start=reference)), LABELS, OWN)
    equal_but(state_of(student), state_of(resize_classifier(load(reference), 12)), "prefix", "distillation_head.")
    assert student.reference == model
    both = make_student(recipe_of(Student(reference, start=reference, image_size=12)), LABELS, OWN)
    equal_but(state_of(both), state_of(student))


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"depth": 3}, r"blocks\.2\."),
        ({"width": 32}, r"blocks\.0\.attention\.projection\.bias"),
        ({"registers": 1}, "prefix"),
        ({"patch": 4}, r"embed\.weight"),
        ({"layer_scale": True}, r"blocks\.0\.attention_scale\.gamma"),
        ({"image_width": 12}, "position"),
    ],
)
def test_a_start_that_does_not_fit(change, differs, start, tmp_path):
    reference = start(TINY)
    model = str(save_checkpoint(classifier_of(replace(TINY, **change)), tmp_path / "model.safetensors"))
    with pytest.raises(InvalidValue, match=rf"weights of .*start\.safetensors do not fit the student \({differs}"):
        make_student(recipe_of(Student(model, start=reference), PLAIN), LABELS, OWN)


def test_what_is_no_vit_cannot_be_a_student(start):
    with pytest.raises(InvalidValue, match=r"timm:resnet18 is no plain ViT.*it may be a teacher"):
        make_student(recipe_of(Student("timm:resnet18")), LABELS, OWN)
    convnext = start(TimmArchitecture("test_convnext", 3, 64, 64))
    with pytest.raises(InvalidValue, match=r"is no plain ViT"):
        make_student(recipe_of(Student(start=convnext)), LABELS, OWN)
    with pytest.raises(InvalidValue, match=r"start\.safetensors"):
        make_student(recipe_of(Student("timm:deit_tiny_patch16_224", start=convnext)), LABELS, OWN)


def test_pooling_by_the_mean_takes_no_distillation_token(start):
    reference = start(replace(TINY, pool="mean", class_token=False))
    with pytest.raises(InvalidValue, match=r"pools by 'mean', .*set objective\.through to class"):
        make_student(recipe_of(Student(reference)), LABELS, OWN)
    student = make_student(recipe_of(Student(start=reference), Objective("hard", "class")), LABELS, OWN)
    equal_but(state_of(student), state_of(load(reference)))


def test_sizes_that_make_no_vit():
    with pytest.raises(InvalidValue, match="width 16 is no multiple of heads 3"):
        make_student(recipe_of(replace(SMALL, heads=3)), LABELS, OWN)
    with pytest.raises(InvalidValue, match="a 8x12 image holds no patch of 9"):
        make_student(recipe_of(replace(SMALL, patch=9)), LABELS, OWN)


def test_trainable_is_a_copy_with_stochastic_depth():
    student = make_student(recipe_of(replace(SMALL, depth=3)), LABELS, OWN)
    module = trainable(student, 0.4)
    assert isinstance(module, VisionTransformer)
    equal_but(module.state_dict(), state_of(student))
    assert [getattr(block.drop_path, "probability", 0.0) for block in module.blocks] == pytest.approx([0.0, 0.2, 0.4])
    with torch.no_grad():
        module.head.weight.zero_()
    assert bool(state_of(student)["head.weight"].any())
    images = torch.randn(1, 3, 8, 12)
    with torch.inference_mode():
        torch.testing.assert_close(trainable(student, 0.4).eval()(images), student.module(images), rtol=0, atol=1e-6)
