"""The whole of ``distill``: from files of a data set to a checkpoint, and every mistake in one sentence."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from vitlet.data.datasets import FASHION_MNIST_LABELS, LabelledPixels
from vitlet.distill.job import Run, distill, image_spec, train_student
from vitlet.distill.recipe import Recipe
from vitlet.distill.student import new_student, small_vit
from vitlet.distill.teacher import Teacher, load_teacher, save_teacher, small_resnet
from vitlet.errors import InvalidValue, ModelNotFound, NotWritable, OutputExists
from vitlet.models.checkpoint import load_checkpoint
from vitlet.models.vit import sine_cosine_positions
from vitlet.records import from_json, to_json

DATA = "torchvision:FashionMNIST"
ONE = Recipe(epochs=1, batch=24)


@pytest.fixture
def settings(fashion_root):
    threads = 2 if torch.get_num_threads() == 1 else 1  # another number than before, to see it restored
    return {"recipe": ONE, "teacher_recipe": ONE, "data_root": fashion_root, "threads": threads}


def test_teacher_and_student_end_to_end(tmp_path, settings):
    out = tmp_path / "student.safetensors"
    seen, before = [], torch.get_num_threads()
    done = distill(DATA, out, progress=seen.append, **settings)
    assert torch.get_num_threads() == before
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["student.safetensors"]
    read = load_checkpoint(out)
    images = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(read.module(images), done.classifier.module(images), rtol=0, atol=1e-6)
    assert read.labels == done.classifier.labels == FASHION_MNIST_LABELS
    assert read.image_spec == done.classifier.image_spec
    assert read.architecture == done.classifier.architecture
    assert read.architecture.distillation_token
    assert done.student.accuracy.distillation_head is not None
    assert done.student.parameters == sum(p.numel() for p in read.module.parameters())
    assert (done.student.train_images, done.student.test_images) == (48, 30)
    assert done.student.threads == settings["threads"]
    assert done.teacher is not None
    assert done.teacher.accuracy.class_head is None
    assert {at.stage for at in seen} == {"teacher", "student"}
    kept = load_teacher(tmp_path / "student.training" / "teacher.safetensors")
    assert kept.parameters == done.teacher.parameters
    assert from_json(json.loads(json.dumps(to_json(done.student))), Run) == done.student


def test_resumed_after_its_end_trains_nothing_more(tmp_path, settings):
    out = tmp_path / "student.safetensors"
    first = distill(DATA, out, **settings)
    out.unlink()
    with pytest.raises(OutputExists, match="--resume"):
        distill(DATA, out, **settings)
    again = distill(DATA, out, resume=True, **settings)
    assert again.student.epochs == first.student.epochs
    assert again.student.accuracy == first.student.accuracy
    with pytest.raises(OutputExists, match="already exists"):
        distill(DATA, out, resume=True, **settings)
    out.unlink()
    with pytest.raises(InvalidValue, match="begun with another recipe"):
        distill(DATA, out, resume=True, **settings | {"recipe": replace(ONE, seed=1)})


def test_goes_on_from_a_student(tmp_path, settings):
    first = distill(DATA, tmp_path / "first.safetensors", **settings)
    teacher = tmp_path / "first.training" / "teacher.safetensors"
    still = replace(ONE, learning_rate=1e-9, final_learning_rate=0.0)  # so small that no weight moves
    more = distill(
        DATA, tmp_path / "more.safetensors", teacher=teacher, start=first.path, **settings | {"recipe": still}
    )
    old, new = first.classifier.module.state_dict(), more.classifier.module.state_dict()
    assert all(torch.allclose(old[name], new[name], rtol=0, atol=1e-6) for name in old)
    other = distill(DATA, tmp_path / "plain.safetensors", objective="none", **settings)
    with pytest.raises(InvalidValue, match="no student of this kind"):
        distill(DATA, tmp_path / "x.safetensors", teacher=teacher, start=other.path, **settings)
    with pytest.raises(ModelNotFound, match=r"nowhere\.safetensors"):
        distill(DATA, tmp_path / "y.safetensors", start=tmp_path / "nowhere.safetensors", **settings)


def test_a_training_resumes_only_from_the_weights_it_began_with(tmp_path, settings):
    first = distill(DATA, tmp_path / "first.safetensors", objective="none", **settings)
    again = {"objective": "none", "work": tmp_path / "work"}
    distill(DATA, tmp_path / "a.safetensors", start=first.path, **again, **settings)
    with pytest.raises(InvalidValue, match="begun with another"):
        distill(DATA, tmp_path / "b.safetensors", resume=True, **again, **settings)


def test_without_a_teacher_there_is_no_distillation_token(tmp_path, settings):
    done = distill(DATA, tmp_path / "student.safetensors", objective="none", dtype="float16", **settings)
    assert done.teacher is None
    assert done.path.stat().st_size < 2.2 * done.student.parameters  # two bytes each, and the metadata
    assert not load_checkpoint(done.path).architecture.distillation_token
    assert done.student.accuracy.distillation_head is None


def test_takes_a_teacher_that_was_trained_before(tmp_path, settings):
    path = tmp_path / "teacher.safetensors"
    save_teacher(Teacher(small_resnet(10), FASHION_MNIST_LABELS), path)
    done = distill(DATA, tmp_path / "student.safetensors", teacher=path, **settings)
    assert done.teacher is None
    assert done.classifier.architecture.distillation_token
    assert not (tmp_path / "student.training" / "teacher").exists()


def test_a_training_resumes_only_with_the_teacher_it_began_with(tmp_path, settings):
    path, out = tmp_path / "teacher.safetensors", tmp_path / "student.safetensors"
    save_teacher(Teacher(small_resnet(10), FASHION_MNIST_LABELS), path)
    distill(DATA, out, teacher=path, **settings)
    out.unlink()
    save_teacher(Teacher(small_resnet(10, seed=9), FASHION_MNIST_LABELS), path)
    with pytest.raises(InvalidValue, match="begun with another teacher;"):
        distill(DATA, out, teacher=path, resume=True, **settings)


def test_teacher_of_other_classes_is_refused(tmp_path, settings):
    path = tmp_path / "teacher.safetensors"
    save_teacher(Teacher(small_resnet(2), ("cat", "dog")), path)
    with pytest.raises(InvalidValue, match="the teacher knows cat, dog, but"):
        distill(DATA, tmp_path / "student.safetensors", teacher=path, **settings)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"dtype": "int8"}, InvalidValue, "dtype is 'int8'"),
        ({"objective": "soft"}, InvalidValue, "objective is 'soft'"),
        ({"objective": "none", "teacher": "t.safetensors"}, InvalidValue, "leave out --teacher t.safetensors"),
        ({"teacher": "missing.safetensors"}, ModelNotFound, r"missing\.safetensors"),
        ({"start": "missing.safetensors"}, ModelNotFound, r"missing\.safetensors to start from"),
        ({"threads": 0}, InvalidValue, "threads is 0"),
        ({"data": "imagenet"}, InvalidValue, "'imagenet'"),
        ({"out": "student.pth"}, InvalidValue, r"student\.pth.*\.safetensors"),
        ({"out": "file/student.safetensors"}, NotWritable, "cannot be written"),
    ],
)
def test_mistakes_are_refused_before_any_training(tmp_path, settings, change, error, message):
    (tmp_path / "file").write_text("in the way")
    arguments = {"data": DATA, "out": "student.safetensors", **settings, **change}
    data, out = arguments.pop("data"), tmp_path / arguments.pop("out")
    for name in change.keys() & {"teacher", "start"}:
        arguments[name] = tmp_path / change[name]
        message = message.replace("--teacher ", f"--teacher {tmp_path}/")
    before = torch.get_num_threads()
    with pytest.raises(error, match=message):
        distill(data, out, **arguments)
    assert torch.get_num_threads() == before
    assert not list(tmp_path.rglob("training.pt"))
    assert not list(tmp_path.rglob("*.probe"))


def test_distillation_token_and_teacher_go_together(train, test, recipe, tmp_path):
    architecture = small_vit(train, distillation_token=True)
    with pytest.raises(InvalidValue, match="exactly if it has a teacher"):
        train_student("bars", train, test, recipe, tmp_path, architecture=architecture)


def test_image_spec_of_gray_and_colour_images():
    random = np.random.default_rng(0)
    gray = LabelledPixels(random.integers(0, 256, (5, 6, 8), dtype=np.uint8), np.zeros(5, np.int64), ("a",))
    spec = image_spec(gray)
    assert (spec.height, spec.width, spec.resize, spec.interpolation) == (6, 8, (6, 8), "bilinear")
    assert spec.mean == pytest.approx((gray.pixels.mean() / 255,) * 3, abs=5e-5)
    assert spec.std == pytest.approx((gray.pixels.std() / 255,) * 3, abs=5e-5)
    colour = LabelledPixels(random.integers(0, 256, (5, 6, 8, 3), dtype=np.uint8), np.zeros(5, np.int64), ("a",))
    assert image_spec(colour).mean == pytest.approx(colour.pixels.mean(axis=(0, 1, 2)) / 255, abs=5e-5)
    assert image_spec(colour).std == pytest.approx(colour.pixels.std(axis=(0, 1, 2)) / 255, abs=5e-5)


def test_new_student_is_seeded_and_starts_as_it_says(train, tiny):
    before = torch.get_rng_state()
    first, same, other = (new_student(tiny, seed=seed, drop_path=0.1).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(value, same[name]) for name, value in first.items())
    assert not torch.equal(first["blocks.0.mlp.up.weight"], other["blocks.0.mlp.up.weight"])
    torch.testing.assert_close(first["position"], sine_cosine_positions(4, 4, 16))
    assert first["blocks.1.mlp.up.weight"].abs().max() <= (6 / (16 + 32)) ** 0.5
    assert first["blocks.1.mlp.up.weight"].std().item() == pytest.approx((2 / (16 + 32)) ** 0.5, rel=0.1)
