"""The small ResNet is kept and read back whole, and nothing else is taken for a teacher."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from vitlet.distill.teacher import Teacher, load_teacher, save_teacher, small_resnet
from vitlet.errors import ModelNotFound, ModelUnreadable, NotWritable

LABELS = ("across", "down", "neither")


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return Teacher(small_resnet(3, seed=5), LABELS)


@pytest.fixture
def file(teacher, tmp_path):
    save_teacher(teacher, tmp_path / "deep" / "teacher.safetensors")
    return tmp_path / "deep" / "teacher.safetensors"


def test_reads_what_was_written(teacher, file):
    found = load_teacher(file)
    images = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(found.module(images), teacher.module(images), rtol=0, atol=0)
    assert found.labels == LABELS
    assert not found.module.training
    assert [p.name for p in file.parent.iterdir()] == ["teacher.safetensors"]


def test_size_and_seed(teacher):
    assert 0.3e6 < Teacher(small_resnet(10), ("",) * 10).parameters < 0.7e6
    same, other = small_resnet(3, seed=5).state_dict(), small_resnet(3, seed=6).state_dict()
    assert all(torch.equal(value, same[name]) for name, value in teacher.module.state_dict().items())
    assert not torch.equal(same["conv1.0.weight"], other["conv1.0.weight"])


def test_small_images_keep_their_resolution(teacher):
    with torch.inference_mode():
        stem = teacher.module.maxpool(teacher.module.conv1(torch.zeros(1, 3, 28, 28)))
    assert stem.shape == (1, 32, 28, 28)


def test_missing_teacher(tmp_path):
    with pytest.raises(ModelNotFound, match=r"no teacher at .*none\.safetensors"):
        load_teacher(tmp_path / "none.safetensors")


def test_damaged_teacher(file):
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ModelUnreadable, match=r"teacher\.safetensors is damaged"):
        load_teacher(file)


@pytest.mark.parametrize("metadata", [None, {"vitlet_teacher": "small-resnet-0", "labels": json.dumps(LABELS)}])
def test_other_models_are_no_teacher(file, metadata):
    save_file(load_file(file), file, metadata=metadata)
    with pytest.raises(ModelUnreadable, match="no teacher that vitlet trained"):
        load_teacher(file)


@pytest.mark.parametrize("labels", [None, "no json", json.dumps(["too", "few"])])
def test_teacher_with_wrong_labels_is_damaged(file, labels):
    metadata = {"vitlet_teacher": "small-resnet-1"} | ({"labels": labels} if labels else {})
    save_file(load_file(file), file, metadata=metadata)
    with pytest.raises(ModelUnreadable, match="damaged"):
        load_teacher(file)


def test_teacher_that_cannot_be_written(teacher, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NotWritable, match="teacher cannot be written"):
        save_teacher(teacher, tmp_path / "file" / "teacher.safetensors")
