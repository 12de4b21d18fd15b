"""The whole of ``distill``: from files of a data set to a checkpoint, and every mistake in one sentence."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from vitlet import pipeline
from vitlet.data.fashion_mnist import FASHION_MNIST_LABELS
from vitlet.data.folder import load_folder
from vitlet.data.labelled import LabelledPixels
from vitlet.distill.job import Run, Settings, distill, own_spec
from vitlet.distill.recipe import Augmentation, Objective, Recipe, Student, Teacher, Training
from vitlet.distill.recipe_file import load_recipe
from vitlet.errors import InvalidValue, ModelNotFound, NotWritable, OutputExists, Unsupported
from vitlet.measure.settings import MeasureSettings
from vitlet.models.checkpoint import load_checkpoint, save_checkpoint
from vitlet.models.small_resnet import small_resnet
from vitlet.records import ImageSpec, VitArchitecture, from_json, to_json

DATA = "torchvision:FashionMNIST"
ONE = Training(epochs=1, batch=24, warmup_epochs=0, bfloat16=False)
STILL = Augmentation("shifted", shift=1, random_augment="", colour_jitter=0, repeats=1, mixup=0, cutmix=0, erase=0)
RECIPE = Recipe(
    Student(width=32, depth=2, heads=2),
    Teacher("small-resnet", training=ONE, augmentation=STILL),
    Objective("hard"),
    ONE,
    STILL,
)
PLAIN = replace(RECIPE, objective=Objective("none"))
SPEC = ImageSpec(28, 28, (28, 28), "bilinear", (0.2,) * 3, (0.3,) * 3)


@pytest.fixture
def settings(fashion_root):
    threads = 2 if torch.get_num_threads() == 1 else 1  # another number than before, to see it restored
    return Settings(data_root=fashion_root, threads=threads, device="cpu")


def resnet(path, labels=FASHION_MNIST_LABELS, seed=0):
    save_checkpoint(small_resnet(SPEC, labels, seed=seed), path)
    return replace(RECIPE, teacher=Teacher(str(path)))


def test_teacher_and_student_end_to_end(tmp_path, settings):
    out = tmp_path / "student.safetensors"
    seen, before = [], torch.get_num_threads()
    done = distill(DATA, out, RECIPE, settings, progress=seen.append)
    assert torch.get_num_threads() == before
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["student.safetensors"]
    read = load_checkpoint(out)
    images = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(read.module(images), done.classifier.module(images), rtol=0, atol=1e-6)
    assert read.labels == done.classifier.labels == FASHION_MNIST_LABELS
    assert read.image_spec == done.classifier.image_spec
    assert read.architecture == done.classifier.architecture
    assert isinstance(read.architecture, VitArchitecture)
    assert read.architecture.distillation_token
    assert done.student.accuracy.distillation_head is not None
    assert done.student.parameters == sum(p.numel() for p in read.module.parameters())
    assert (done.student.train_images, done.student.test_images) == (48, 30)
    assert (done.student.threads, done.student.device, done.student.processes) == (settings.threads, "cpu", 1)
    assert done.teacher is not None
    assert done.teacher.accuracy.class_head is None
    assert done.taught_by == "small-resnet"
    assert {at.stage for at in seen} == {"teacher", "student"}
    kept = load_checkpoint(tmp_path / "student.training" / "teacher.safetensors")  # a classifier like any other
    assert (kept.labels, kept.image_spec) == (FASHION_MNIST_LABELS, read.image_spec)
    assert from_json(json.loads(json.dumps(to_json(done.student))), Run) == done.student
    # The recipe lies beside the state, and running it again does the same.
    assert load_recipe(str(tmp_path / "student.training" / "recipe.toml")) == RECIPE


@pytest.mark.parametrize("able", [True, False])
def test_the_kept_recipe_says_which_arithmetic_it_was(able, tmp_path, settings, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able})
    auto = replace(ONE, bfloat16="auto")
    recipe = replace(RECIPE, training=auto, teacher=replace(RECIPE.teacher, training=auto))
    done = distill(DATA, tmp_path / "student.safetensors", recipe, settings)
    assert (done.recipe.training.bfloat16, done.recipe.teacher.training.bfloat16) == (able, able)
    assert load_recipe(str(tmp_path / "student.training" / "recipe.toml")) == done.recipe


def test_resumed_after_its_end_trains_nothing_more(tmp_path, settings):
    out = tmp_path / "student.safetensors"
    again = replace(settings, resume=True)
    first = distill(DATA, out, RECIPE, settings)
    whole = load_checkpoint(out).module.state_dict()
    out.unlink()
    with pytest.raises(OutputExists, match="--resume"):
        distill(DATA, out, RECIPE, settings)
    second = distill(DATA, out, RECIPE, again)
    assert second.student == first.student
    again_read = load_checkpoint(out).module.state_dict()
    assert all(torch.equal(value, again_read[name]) for name, value in whole.items())
    with pytest.raises(OutputExists, match="already exists"):
        distill(DATA, out, RECIPE, again)
    out.unlink()
    with pytest.raises(InvalidValue, match="begun with another training settings"):
        distill(DATA, out, replace(RECIPE, training=replace(ONE, weight_decay=0.1)), again)


def test_goes_on_from_a_student(tmp_path, settings):
    first = distill(DATA, tmp_path / "first.safetensors", PLAIN, settings)
    still = replace(ONE, learning_rate=1e-9, final_learning_rate=0, warmup_learning_rate=0)  # no weight moves
    recipe = replace(PLAIN, student=Student(start=str(first.path)), training=still)
    more = distill(DATA, tmp_path / "more.safetensors", recipe, settings)
    old, new = first.classifier.module.state_dict(), more.classifier.module.state_dict()
    assert all(torch.allclose(old[name], new[name], rtol=0, atol=1e-6) for name in old)
    again = replace(settings, work=tmp_path / "more.training", resume=True)
    with pytest.raises(InvalidValue, match="begun with another start"):
        distill(DATA, tmp_path / "x.safetensors", replace(recipe, student=PLAIN.student), again)


def test_fine_tuning_at_a_higher_resolution(tmp_path, settings):
    first = distill(DATA, tmp_path / "first.safetensors", PLAIN, settings)
    recipe = replace(PLAIN, student=Student(start=str(first.path), image_size=36))
    more = distill(DATA, tmp_path / "more.safetensors", recipe, settings)
    read = load_checkpoint(more.path)
    assert (read.architecture.image_height, read.image_spec.height) == (36, 36)
    assert read.module.position.shape == (1, 81, 32)


def test_without_a_teacher_there_is_no_distillation_token(tmp_path, settings):
    done = distill(DATA, tmp_path / "student.safetensors", PLAIN, replace(settings, dtype="float16"))
    assert (done.teacher, done.taught_by) == (None, "")
    assert done.path.stat().st_size < 2.5 * done.student.parameters  # two bytes each, and the metadata
    assert not load_checkpoint(done.path).architecture.distillation_token
    assert done.student.accuracy.distillation_head is None


@pytest.mark.parametrize("head", ["class", "distillation"])
def test_one_head_at_inference(tmp_path, settings, head):
    recipe = replace(resnet(tmp_path / "t.safetensors"), objective=Objective("soft", head=head))
    done = distill(DATA, tmp_path / "student.safetensors", recipe, settings)
    read = load_checkpoint(done.path)
    assert isinstance(read.architecture, VitArchitecture)
    assert not read.architecture.distillation_token
    images = torch.randn(3, 3, 28, 28, generator=torch.Generator().manual_seed(1))
    whole = distill(DATA, tmp_path / "both.safetensors", replace(recipe, objective=Objective("soft")), settings)
    by_class, by_teacher = whole.classifier.module.both_heads(images)
    expected = by_class if head == "class" else by_teacher
    torch.testing.assert_close(read.module(images), expected, rtol=0, atol=1e-6)


def test_takes_a_teacher_that_was_trained_before(tmp_path, settings):
    recipe = resnet(tmp_path / "teacher.safetensors")
    out = tmp_path / "student.safetensors"
    done = distill(DATA, out, recipe, settings)
    assert done.teacher is None
    assert done.taught_by == str(tmp_path / "teacher.safetensors")
    assert not (tmp_path / "student.training" / "teacher").exists()
    out.unlink()
    resnet(tmp_path / "teacher.safetensors", seed=9)
    with pytest.raises(InvalidValue, match="begun with another teacher;"):
        distill(DATA, out, recipe, replace(settings, resume=True))


def test_a_students_checkpoint_can_teach(tmp_path, settings):
    first = distill(DATA, tmp_path / "first.safetensors", PLAIN, settings)
    done = distill(DATA, tmp_path / "second.safetensors", replace(RECIPE, teacher=Teacher(str(first.path))), settings)
    assert done.taught_by == str(first.path)


def test_stored_decisions_serve_another_student_and_no_other_teacher(tmp_path, settings):
    recipe = resnet(tmp_path / "t.safetensors")
    settings = replace(settings, decisions=tmp_path / "decisions")
    first = distill(DATA, tmp_path / "a.safetensors", recipe, settings)
    (stored,) = (tmp_path / "decisions").iterdir()
    written = stored.stat().st_mtime_ns
    wider = replace(recipe, student=replace(recipe.student, width=64), objective=Objective("soft"))
    distill(DATA, tmp_path / "b.safetensors", wider, settings)
    assert stored.stat().st_mtime_ns == written
    same = distill(DATA, tmp_path / "c.safetensors", recipe, settings)
    assert same.student.epochs[0].loss == first.student.epochs[0].loss
    resnet(tmp_path / "t.safetensors", seed=9)
    with pytest.raises(InvalidValue, match="stored for another teacher; name another folder"):
        distill(DATA, tmp_path / "d.safetensors", recipe, settings)
    with pytest.raises(InvalidValue, match="no teacher whose decisions could be stored"):
        distill(DATA, tmp_path / "e.safetensors", PLAIN, settings)


def test_a_folder_of_pictures_of_any_size(tmp_path, settings):
    random = np.random.default_rng(0)
    for name, shade in (("dark", 40), ("light", 200)):
        for part, count in (("train", 6), ("val", 3)):
            folder = tmp_path / "pictures" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(shade - 30, shade + 30, (20 + number, 40, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    (tmp_path / "pictures" / "train" / "dark" / "0.png").write_bytes(b"broken")
    (tmp_path / "pictures" / "val" / "dark" / "0.png").write_bytes(b"broken")
    recipe = replace(PLAIN, student=replace(PLAIN.student, image_size=32, patch=8), training=replace(ONE, batch=4))
    recipe = replace(recipe, augmentation=Augmentation(repeats=1, random_augment="rand-m9-mstd0.5-inc1"))
    done = distill(str(tmp_path / "pictures"), tmp_path / "out.safetensors", recipe, replace(settings, data_root=None))
    assert done.classifier.labels == ("dark", "light")
    assert (done.classifier.image_spec.height, done.classifier.image_spec.mean[0]) == (32, 0.485)
    assert done.student.epochs[-1].unreadable == 1
    assert (done.student.train_images, done.student.test_images, done.student.unreadable_test_images) == (12, 5, 1)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"teacher": "missing.safetensors"}, ModelNotFound, r"missing\.safetensors"),
        ({"start": "missing.safetensors"}, ModelNotFound, r"missing\.safetensors"),
        ({"model": "timm:resnet18"}, InvalidValue, "no plain ViT, so it cannot be a student"),
        ({"threads": 0}, InvalidValue, "threads is 0"),
        ({"data": "imagenet"}, InvalidValue, "'imagenet'"),
        ({"out": "student.pth"}, InvalidValue, r"student\.pth.*\.safetensors"),
        ({"out": "file/student.safetensors"}, NotWritable, "cannot be written"),
        ({"device": "cuda"}, Unsupported, "there is no CUDA device here"),
        ({"shard": True}, InvalidValue, "one process, so nothing to shard"),
    ],
)
def test_mistakes_are_refused_before_any_training(tmp_path, settings, change, error, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "file").write_text("in the way")
    data, out = change.pop("data", DATA), tmp_path / change.pop("out", "student.safetensors")
    recipe = PLAIN
    if "teacher" in change:
        recipe = replace(RECIPE, teacher=Teacher(str(tmp_path / change.pop("teacher"))))
    if "start" in change:
        recipe = replace(PLAIN, student=Student(start=str(tmp_path / change.pop("start"))))
    if "model" in change:
        recipe = replace(PLAIN, student=Student(model=change.pop("model")))
    before = torch.get_num_threads()
    with pytest.raises(error, match=message):
        distill(data, out, recipe, replace(settings, **change))
    assert torch.get_num_threads() == before
    assert not list(tmp_path.rglob("training.pt"))
    assert not list(tmp_path.rglob("*.probe"))


def test_teacher_of_other_classes_is_refused(tmp_path, settings):
    recipe = resnet(tmp_path / "teacher.safetensors", ("cat", "dog"))
    with pytest.raises(InvalidValue, match=r"2 classes, as cat, dog\) does not know the data's classes T-shirt"):
        distill(DATA, tmp_path / "student.safetensors", recipe, settings)


def test_the_student_flows_into_compress(tmp_path, settings):
    done = distill(DATA, tmp_path / "student.safetensors", PLAIN, settings)
    quick = {"engine_names": ["torch"], "precision_names": ["fp32"], "settings": MeasureSettings(1, 1, quick=True)}
    compressed = pipeline.compress_student(
        done, DATA, tmp_path / "student.vitlet", settings.data_root, max_drop=0.99, **quick
    )
    (row,) = compressed.bench.measurements
    assert row.top1 == pytest.approx(done.student.accuracy.top1)
    assert (compressed.bundle.path / "manifest.json").is_file()


def test_settings_are_checked():
    with pytest.raises(InvalidValue, match="dtype is 'int8'"):
        Settings(dtype="int8")
    with pytest.raises(InvalidValue, match="workers is -1"):
        Settings(workers=-1)


def test_image_spec_of_gray_and_colour_images_and_of_files(tmp_path):
    random = np.random.default_rng(0)
    gray = LabelledPixels(random.integers(0, 256, (5, 6, 8), dtype=np.uint8), np.zeros(5, np.int64), ("a",))
    spec = own_spec(gray)
    assert (spec.height, spec.width, spec.resize, spec.interpolation) == (6, 8, (6, 8), "bilinear")
    assert spec.mean == pytest.approx((gray.pixels.mean() / 255,) * 3, abs=5e-5)
    assert spec.std == pytest.approx((gray.pixels.std() / 255,) * 3, abs=5e-5)
    colour = LabelledPixels(random.integers(0, 256, (5, 6, 8, 3), dtype=np.uint8), np.zeros(5, np.int64), ("a",))
    assert own_spec(colour).mean == pytest.approx(colour.pixels.mean(axis=(0, 1, 2)) / 255, abs=5e-5)
    assert own_spec(colour).std == pytest.approx(colour.pixels.std(axis=(0, 1, 2)) / 255, abs=5e-5)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(2):
            Image.new("RGB", (9, 9)).save(tmp_path / name / f"{number}.png")
    assert own_spec(load_folder(tmp_path, "train")) == ImageSpec(224, 224, 256)
