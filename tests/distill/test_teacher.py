"""Any classifier as a teacher: asked about the student's images, answering for the data's classes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from torch.nn import functional as F

from vitlet.distill.recipe import SMALL_RESNET
from vitlet.distill.teacher import Teacher, load_teacher, of_classifier, of_module, same_classes
from vitlet.errors import InvalidValue, ModelNotFound, ModelUnreadable, NotWritable, Unsupported
from vitlet.models.build import build
from vitlet.models.bundled import load_bundled
from vitlet.models.checkpoint import load_checkpoint, save_checkpoint
from vitlet.models.small_resnet import small_resnet
from vitlet.records import Classifier, ImageSpec, TimmArchitecture, VitArchitecture

LABELS = ("across", "down", "neither")
SPEC = ImageSpec(8, 12, (8, 12), "bilinear", (0.2, 0.3, 0.4), (0.5, 0.6, 0.7))


def random_images(height: int = 8, width: int = 12, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def answers(teacher, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return teacher(images)


class TestSmallResnet:
    def test_reads_what_was_written(self, tmp_path):
        made = small_resnet(SPEC, LABELS, seed=5)
        path = save_checkpoint(made, tmp_path / "teacher.safetensors")
        found = load_checkpoint(path)
        torch.testing.assert_close(answers(found.module, random_images()), answers(made.module, random_images()))
        assert (found.labels, found.image_spec, found.architecture) == (LABELS, SPEC, made.architecture)
        assert not found.module.training
        assert [file.name for file in tmp_path.iterdir()] == ["teacher.safetensors"]

    def test_size_and_seed(self):
        ten = small_resnet(SPEC, tuple("abcdefghij"))
        assert sum(p.numel() for p in ten.module.parameters()) == pytest.approx(0.63e6, rel=0.01)
        first, same, other = (small_resnet(SPEC, LABELS, seed=seed).module.state_dict() for seed in (5, 5, 6))
        assert all(torch.equal(value, same[name]) for name, value in first.items())
        assert not torch.equal(first["conv1.0.weight"], other["conv1.0.weight"])
        assert small_resnet(SPEC, LABELS, seed=5).random_weights

    def test_the_callers_generator_is_left_as_it_was(self):
        before = torch.get_rng_state()
        small_resnet(SPEC, LABELS)
        assert torch.equal(torch.get_rng_state(), before)

    def test_small_images_keep_their_resolution(self):
        module = small_resnet(SPEC, LABELS).module
        assert answers(lambda x: module.maxpool(module.conv1(x)), torch.zeros(1, 3, 28, 28)).shape == (1, 32, 28, 28)

    def test_damaged(self, tmp_path):
        path = save_checkpoint(small_resnet(SPEC, LABELS), tmp_path / "teacher.safetensors")
        path.write_bytes(path.read_bytes()[:-10])
        with pytest.raises(ModelUnreadable, match=r"teacher\.safetensors is no whole safetensors file"):
            load_teacher(str(path))

    def test_cannot_be_written(self, tmp_path):
        with pytest.raises(NotWritable, match=r"teacher\.safetensors cannot be written"):
            save_checkpoint(small_resnet(SPEC, LABELS), tmp_path / "none" / "teacher.safetensors")

    def test_its_name_in_a_recipe_is_no_model_reference(self):
        """So no file or model of that name is taken for it, nor the other way round."""
        with pytest.raises(ModelNotFound, match="small-resnet"):
            load_teacher(SMALL_RESNET)


def classifier_of(kind: str) -> Classifier:
    if kind == "resnet":
        return small_resnet(SPEC, LABELS, seed=3)
    if kind == "timm":
        architecture = TimmArchitecture("test_convnext", 3, 64, 64)
        spec = ImageSpec(64, 64, 64)
    else:
        architecture = VitArchitecture(8, 12, 4, width=16, depth=1, heads=2, mlp_width=16, classes=3)
        architecture, spec = replace(architecture, distillation_token=kind == "distilled"), SPEC
    return Classifier(build(architecture, seed=3), architecture, spec, LABELS, kind, "test")


@pytest.mark.parametrize("kind", ["resnet", "vit", "distilled", "timm"])
def test_a_checkpoint(kind, tmp_path):
    made = classifier_of(kind)
    path = save_checkpoint(made, tmp_path / "teacher.safetensors")
    teacher = load_teacher(str(path))
    spec = made.image_spec
    images = random_images(spec.height, spec.width)
    torch.testing.assert_close(answers(teacher.answer, images), answers(made.module, images), rtol=0, atol=1e-6)
    assert (teacher.spec, teacher.labels, teacher.name) == (spec, LABELS, str(path))
    assert teacher.parameters == sum(p.numel() for p in made.module.parameters())
    assert not teacher.module.training
    assert not any(p.requires_grad for p in teacher.module.parameters())
    assert teacher.identity == of_classifier(made).identity != of_classifier(load_bundled()).identity


def test_the_bundled_model():
    teacher, bundled = load_teacher("bundled"), load_bundled()
    images = random_images(28, 28)
    assert torch.equal(answers(teacher.answer, images), answers(bundled.module, images))
    assert (teacher.name, teacher.spec, teacher.labels) == ("bundled", bundled.image_spec, bundled.labels)


def test_a_teacher_that_is_not_there(tmp_path):
    with pytest.raises(ModelNotFound, match=r"there is no file .*none\.safetensors"):
        load_teacher(str(tmp_path / "none.safetensors"))
    with pytest.raises(ModelNotFound, match="did you mean"):
        load_teacher("timm:regnety_1600")


class Sees(torch.nn.Module):
    """Answers with what it sees: the mean of each third of the image's columns, and keeps the images."""

    def forward(self, images):
        self.images = images
        return torch.stack([part.mean(dim=(1, 2, 3)) for part in images.chunk(3, dim=3)], dim=1)


def seeing(spec: ImageSpec = SPEC, labels: tuple[str, ...] = LABELS) -> Teacher:
    return of_module("seeing", Sees(), spec, labels)


def test_the_same_preprocessing_hands_the_images_on():
    teacher, images = seeing(), random_images()
    answers(teacher.for_student(SPEC, LABELS), images)
    assert teacher.module.images is images


def test_another_normalisation():
    other = replace(SPEC, mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.15))
    teacher, images = seeing(other), random_images()
    answers(teacher.for_student(SPEC, LABELS), images)

    def column(values):
        return torch.tensor(values, dtype=torch.float64).view(3, 1, 1)

    pixels = images.double() * column(SPEC.std) + column(SPEC.mean)  # on the 0..1 scale
    by_hand = (pixels - column(other.mean)) / column(other.std)
    torch.testing.assert_close(teacher.module.images.double(), by_hand, rtol=0, atol=1e-5)
    assert teacher.module.images.dtype == torch.float32


@pytest.mark.parametrize(("height", "width"), [(16, 24), (4, 6), (8, 8), (20, 12)])
def test_another_size(height, width):
    teacher, images = seeing(replace(SPEC, height=height, width=width)), random_images()
    answers(teacher.for_student(SPEC, LABELS), images)
    by_hand = F.interpolate(images, size=(height, width), mode="bilinear", antialias=True, align_corners=False)
    assert torch.equal(teacher.module.images, by_hand)


def test_what_does_not_reach_the_model_makes_no_difference():
    teacher, images = seeing(replace(SPEC, resize=20, interpolation="bicubic")), random_images()
    answers(teacher.for_student(SPEC, LABELS), images)
    assert teacher.module.images is images


def test_another_normalisation_and_size_at_once():
    other = replace(SPEC, height=16, width=24, mean=(0.5,) * 3, std=(0.5,) * 3)
    teacher, images = seeing(other), random_images()
    answers(teacher.for_student(SPEC, LABELS), images)
    first = seeing(replace(other, height=8, width=12))
    answers(first.for_student(SPEC, LABELS), images)
    second = F.interpolate(first.module.images, size=(16, 24), mode="bilinear", antialias=True, align_corners=False)
    assert torch.equal(teacher.module.images, second)


@pytest.mark.parametrize("kind", ["resnet", "timm", "vit"])
@pytest.mark.parametrize("times", [0.5, 1, 1.5])
def test_a_network_without_a_fixed_size_sees_larger_images_as_the_student_does(kind, times):
    """Smaller ones are resized for it: it was trained on its own, and might have none left inside."""
    made = classifier_of(kind)
    own = (made.image_spec.height, made.image_spec.width)
    size = tuple(int(edge * times) for edge in own)
    teacher, shapes = of_classifier(made), []
    made.module.register_forward_pre_hook(lambda module, inputs: shapes.append(tuple(inputs[0].shape[2:])))
    student = replace(made.image_spec, height=size[0], width=size[1])
    assert answers(teacher.for_student(student, LABELS), random_images(*size)).shape == (2, 3)
    assert shapes == [size if times > 1 and kind != "vit" else own]


def test_an_identity_is_of_all_that_decides_the_answers():
    made = classifier_of("vit")
    identity = of_classifier(made).identity
    assert (
        identity == of_classifier(classifier_of("vit")).identity == of_classifier(replace(made, reference="x")).identity
    )
    others = [
        replace(made, labels=LABELS[::-1]),
        replace(made, image_spec=replace(SPEC, mean=(0.5,) * 3)),
        replace(made, module=build(made.architecture, seed=4)),
        replace(made, architecture=replace(made.architecture, heads=4)),
    ]
    assert len({identity, *(of_classifier(other).identity for other in others)}) == 5


@pytest.mark.parametrize(
    ("theirs", "asked", "columns"),
    [
        (LABELS, LABELS, [0, 1, 2]),
        (("0", "1", "2"), ("2", "0"), [2, 0]),
        (LABELS, ("neither", "across", "down"), [2, 0, 1]),
        (LABELS, ("Down", "ACROSS"), [1, 0]),
        (("tabby, tabby cat", "goldfish, Carassius auratus", "ox"), ("goldfish", "tabby cat"), [1, 0]),
        (("T-shirt/top", "Coat", "Bag"), ("t_shirt_top", "bag"), [0, 2]),
    ],
)
def test_classes_are_found_by_their_names(theirs, asked, columns):
    images = random_images()
    found = answers(seeing(labels=theirs).for_student(SPEC, asked), images)
    assert torch.equal(found, answers(Sees(), images)[:, columns])


@pytest.mark.parametrize(
    ("theirs", "asked", "named"),
    [
        (LABELS, ("across", "up"), "up"),
        (LABELS, ("a", "b", "c", "d"), "a, b, c"),
        (LABELS, ("across", "Across"), "across, Across"),
        (("crane", "crane", "ox"), ("crane", "ox"), "crane"),
    ],
)
def test_classes_that_a_teacher_does_not_know(theirs, asked, named):
    sentence = (
        rf"the teacher seeing \(3 classes, as {', '.join(theirs)}\) does not know the data's classes {named}; take"
    )
    with pytest.raises(InvalidValue, match=sentence):
        seeing(labels=theirs).for_student(SPEC, asked)


def resnet(folder: Path, processor: object = None, **options: object) -> torch.nn.Module:
    """A tiny classifier of transformers that is no ViT, with its image processor, as the hub holds them."""
    config = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        layer_type="basic",
        id2label=dict(enumerate(LABELS)),
        label2id={name: index for index, name in enumerate(LABELS)},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = transformers.ResNetForImageClassification(config).eval()
    model.save_pretrained(folder)
    processor = processor or transformers.ConvNextImageProcessor(
        size={"shortest_edge": 32}, image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6], **options
    )
    processor.save_pretrained(folder)
    return model


@pytest.fixture(autouse=True)
def _quiet():
    """transformers draws bars while it reads and writes weights."""
    transformers.utils.logging.disable_progress_bar()
    yield
    transformers.utils.logging.enable_progress_bar()


class TestHuggingFace:
    def test_any_classifier_of_transformers(self, tmp_path):
        model = resnet(tmp_path)
        teacher = load_teacher(f"hf:{tmp_path}")
        images = random_images(32, 32)
        with torch.inference_mode():
            expected = model(pixel_values=images).logits
        torch.testing.assert_close(answers(teacher.answer, images), expected, rtol=0, atol=1e-6)
        assert teacher.spec == ImageSpec(32, 32, (32, 32), mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
        assert (teacher.labels, teacher.name) == (LABELS, f"hf:{tmp_path}")
        assert teacher.parameters == sum(p.numel() for p in model.parameters())
        assert not teacher.module.training
        permuted = teacher.for_student(teacher.spec, LABELS[::-1])
        torch.testing.assert_close(answers(permuted, images), expected.flip(1), rtol=0, atol=1e-6)

    def test_weights_in_half_precision_answer_in_float32(self, tmp_path):
        resnet(tmp_path).half().save_pretrained(tmp_path)
        found = answers(load_teacher(f"hf:{tmp_path}").answer, random_images(32, 32))
        assert found.dtype == torch.float32
        assert bool(found.isfinite().all())

    @pytest.mark.parametrize(
        ("processor", "spec"),
        [
            (
                transformers.ConvNextImageProcessor(size={"shortest_edge": 384}, do_normalize=False),
                ImageSpec(384, 384, (384, 384), mean=(0.0,) * 3, std=(1.0,) * 3),
            ),
            (
                transformers.ViTImageProcessor(size={"height": 20, "width": 30}, rescale_factor=1 / 127.5),
                ImageSpec(20, 30, (20, 30), mean=(0.25,) * 3, std=(0.25,) * 3),
            ),
            (
                transformers.ViTImageProcessor(do_rescale=False, image_mean=[127.5] * 3, image_std=[51.0] * 3),
                ImageSpec(224, 224, (224, 224), mean=(0.5,) * 3, std=(0.2,) * 3),
            ),
            (
                transformers.DeiTImageProcessor(crop_size={"height": 28, "width": 36}),
                ImageSpec(28, 36, (28, 36)),
            ),
            (
                transformers.DeiTImageProcessor(size={"height": 40, "width": 40}, do_center_crop=False),
                ImageSpec(40, 40, (40, 40)),
            ),
        ],
        ids=["not normalised", "another scale", "not rescaled", "cropped", "not cropped"],
    )
    def test_processors(self, processor, spec, tmp_path):
        """What transformers makes of an even gray image is what the spec says; it decides the size too."""
        resnet(tmp_path, processor)
        found = load_teacher(f"hf:{tmp_path}").spec
        assert (found.height, found.width) == (spec.height, spec.width)
        gray = torch.full((3, 400, 400), 51, dtype=torch.uint8)
        theirs = processor(gray, return_tensors="pt")["pixel_values"][0]
        assert theirs.shape == (3, spec.height, spec.width)
        mine = torch.tensor([(51 / 255 - m) / s for m, s in zip(found.mean, found.std, strict=True)])
        torch.testing.assert_close(theirs.mean(dim=(1, 2)), mine, rtol=1e-4, atol=1e-4)

    def test_pickled_weights_are_refused(self, tmp_path):
        model = resnet(tmp_path)
        (tmp_path / "model.safetensors").unlink()
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
        with pytest.raises(ModelUnreadable, match=r"has no weights as safetensors, and pickled ones can run code"):
            load_teacher(f"hf:{tmp_path}")

    def test_weights_in_parts(self, tmp_path):
        model = resnet(tmp_path)
        (tmp_path / "model.safetensors").unlink()
        model.save_pretrained(tmp_path, max_shard_size="10KB")
        assert len(list(tmp_path.glob("*.safetensors"))) > 1
        images = random_images(32, 32)
        with torch.inference_mode():
            expected = model(pixel_values=images).logits
        torch.testing.assert_close(answers(load_teacher(f"hf:{tmp_path}").answer, images), expected)

    def test_damaged_weights(self, tmp_path):
        resnet(tmp_path)
        path = tmp_path / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(ModelUnreadable, match="are damaged"):
            load_teacher(f"hf:{tmp_path}")

    def test_a_repositorys_own_code_is_not_run(self, tmp_path):
        resnet(tmp_path)
        config = tmp_path / "config.json"
        own = '"auto_map": {"AutoModelForImageClassification": "own.Own", "AutoConfig": "own.OwnConfig"}, '
        text = config.read_text().replace('"resnet"', '"own"').replace("ResNetForImageClassification", "Own")
        config.write_text("{" + own + text.lstrip("{ \n"))
        (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'was-run')!r}, 'w')")
        with pytest.raises(Unsupported, match="is no image classifier of transformers"):
            load_teacher(f"hf:{tmp_path}")
        assert not (tmp_path / "was-run").exists()

    def test_what_classifies_no_images(self, tmp_path):
        config = transformers.BertConfig(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9
        )
        transformers.BertForSequenceClassification(config).save_pretrained(tmp_path)
        with pytest.raises(Unsupported, match=r"is no image .* transformers \(it has no preprocessor_config\.json\)"):
            load_teacher(f"hf:{tmp_path}")
        transformers.ViTImageProcessor().save_pretrained(tmp_path)
        with pytest.raises(Unsupported, match=r"is no image classifier of transformers \(Unrecognized configuration"):
            load_teacher(f"hf:{tmp_path}")

    def test_another_order_of_channels(self, tmp_path):
        resnet(tmp_path, transformers.MobileViTImageProcessor(size={"shortest_edge": 32}))
        with pytest.raises(Unsupported, match="takes images in the order blue, green, red"):
            load_teacher(f"hf:{tmp_path}")

    def test_a_folder_that_is_not_there(self, tmp_path):
        with pytest.raises(ModelNotFound, match="there is no folder"):
            load_teacher(f"hf:{tmp_path / 'none'}")


def test_classes_that_are_numbers_are_not_those_of_a_model_with_names():
    assert same_classes(("0", "1"), ("tench", "goldfish", "shark")) == (-1, -1)
    assert same_classes(("1", "0"), ("0", "1")) == (1, 0)
    assert same_classes(("goldfish", "Tench"), ("tench", "goldfish", "shark")) == (1, 0)
