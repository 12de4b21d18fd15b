"""Batches are the same however many processes read them, and what cannot be read stops nothing but is counted."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitlet.data.labelled import LabelledFiles, LabelledPixels
from vitlet.data.preprocess import preprocess
from vitlet.distill.loader import MOST_UNREADABLE, Batch, plain_batches, training_stream
from vitlet.distill.order import Order
from vitlet.distill.recipe import Augmentation
from vitlet.distill.variation import kept_generators, seed_all, training_transform
from vitlet.errors import NoImages
from vitlet.records import ImageSpec

SPEC = ImageSpec(8, 8, (8, 8), "bilinear", (0.2,) * 3, (0.3,) * 3)
VARIED = Augmentation("shifted", shift=2, erase=0.5)
COUNT = 23

# torch counts the processors that this process may use, and warns of more workers than those.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


def pixels(count: int = COUNT) -> LabelledPixels:
    drawn = np.random.default_rng(3)
    labels = drawn.integers(0, 5, count)
    return LabelledPixels(drawn.integers(0, 256, (count, 8, 8, 3), np.uint8), labels, tuple("abcde"))


@pytest.fixture
def files(tmp_path) -> LabelledFiles:
    """The same as files, of which images 4 and 5 are damaged."""
    data = pixels()
    paths = tuple(f"{index}.png" for index in range(data.count))
    for index, path in enumerate(paths):
        data.read(index).save(tmp_path / path)
    for index in (4, 5):
        (tmp_path / paths[index]).write_bytes((tmp_path / paths[index]).read_bytes()[:60])
    return LabelledFiles(paths, data.labels, data.class_names, tmp_path)


def batches(data, workers, *, epoch=1, order=None, **options) -> tuple[list[Batch], set[int]]:
    stream = training_stream(data, SPEC, VARIED, order or Order(data.count, 6), workers=workers, **options)
    found = list(stream.epoch(epoch))
    assert stream.waited_s > 0
    return found, stream.unreadable


def same(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.positions, other.positions)
        assert one.unreadable == other.unreadable


def test_batches_are_those_of_the_order_and_varied_by_its_seeds():
    data, order = pixels(), Order(COUNT, 6, repeats=3, seed=9)
    found, _ = batches(data, 0, order=order, epoch=2)
    transform = training_transform(VARIED, SPEC)
    for step, batch in enumerate(found):
        images = order.indices(2)[step]
        assert batch.images.dtype == torch.float32
        assert batch.images.shape == (6, 3, 8, 8)
        assert batch.labels.dtype == torch.int64
        np.testing.assert_array_equal(batch.labels.numpy(), data.labels[images])
        np.testing.assert_array_equal(batch.positions.numpy(), np.arange(6) + 6 * step)
        for place, image in enumerate(images):
            with kept_generators():
                seed_all(int(order.seeds(2)[step, place]))
                assert torch.equal(batch.images[place], transform(data.read(int(image))))


@pytest.mark.parametrize("of", ["pixels", "files"])
def test_workers_change_nothing(of, files):
    data = pixels() if of == "pixels" else files
    alone, unreadable = batches(data, 0)
    shared, also_unreadable = batches(data, 2)
    same(alone, shared)
    assert unreadable == also_unreadable == ({4, 5} if of == "files" else set())


class Slow(LabelledPixels):
    """Each image takes a while to read, as from a disk."""

    def read(self, index):
        time.sleep(READING_S)
        return super().read(index)


READING_S = 0.01


@pytest.mark.parametrize(("workers", "waits"), [(0, True), (2, False)])
def test_workers_read_while_the_device_computes(workers, waits):
    """The device takes as long for a batch as one process for reading it; two are more than enough to feed it."""
    fast = pixels(48)
    data = Slow(fast.pixels, fast.labels, fast.class_names)
    stream = training_stream(data, SPEC, VARIED, Order(data.count, 8), workers=workers)
    for _ in stream.epoch(0):  # the workers start
        pass
    busy = 0.0
    for _ in stream.epoch(1):
        time.sleep(8 * READING_S)
        busy += 8 * READING_S
    assert (stream.waited_s > 0.8 * busy) is waits
    assert (stream.waited_s < 0.5 * busy) is not waits  # the first batch of an epoch has to be waited for


def test_a_stream_can_be_passed_again_and_epochs_differ():
    data = pixels()
    stream = training_stream(data, SPEC, VARIED, Order(COUNT, 6), workers=2)
    passes = [list(stream.epoch(number)) for number in (0, 1, 0)]
    same(passes[0], passes[2])
    assert not torch.equal(passes[0][0].images, passes[1][0].images)
    same(passes[1], batches(data, 0, epoch=1)[0])


@pytest.mark.parametrize("world", [2, 4])
def test_the_processes_batches_together_are_those_of_one(world):
    data, order = pixels(), Order(COUNT, 8)
    whole, _ = batches(data, 0, order=order)
    parts = [batches(data, 0, order=order, rank=rank, world=world)[0] for rank in range(world)]
    for step, batch in enumerate(whole):
        together = Batch(*(torch.cat([getattr(p[step], n) for p in parts]) for n in ("images", "labels", "positions")))
        sorted_by = together.positions.argsort()
        assert torch.equal(together.positions[sorted_by], batch.positions)
        assert torch.equal(together.images[sorted_by], batch.images)
        assert torch.equal(together.labels[sorted_by], batch.labels)


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_leaves_the_callers_generators_alone(workers):
    def generators():
        return random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes()

    data, before = pixels(), generators()
    for batch in training_stream(data, SPEC, VARIED, Order(COUNT, 6), workers=workers).epoch(0):
        assert batch.images.shape == (6, 3, 8, 8)
        assert generators() == before
    assert len(list(plain_batches(data, SPEC, batch=5, workers=workers))) == 5
    assert generators() == before


def test_the_next_image_stands_in_for_a_damaged_one(files):
    order = Order(COUNT, 6, seed=2)
    found, unreadable = batches(files, 0, order=order)
    images, labels = order.indices(1), torch.cat([batch.labels for batch in found]).numpy().reshape(4, 6)
    stand_ins = np.where(np.isin(images, (4, 5)), 6, images)
    np.testing.assert_array_equal(labels, files.labels[stand_ins])
    assert unreadable == {4, 5}
    transform = training_transform(VARIED, SPEC)
    for step, place in np.argwhere(images == 4):
        with kept_generators():
            seed_all(int(order.seeds(1)[step, place]))
            assert torch.equal(found[step].images[place], transform(files.read(6)))
        assert found[step].unreadable[:2] == (4, 5)


def test_the_first_image_stands_in_for_a_last_one_that_is_damaged(files):
    last = files.subset([0, 1, 4])
    found, unreadable = batches(last, 0, order=Order(3, 3))
    assert unreadable == {2}
    place = int(np.flatnonzero(Order(3, 3).indices(1)[0] == 2)[0])
    assert found[0].labels[place] == files.labels[0]


def test_no_readable_image_is_one_sentence(files):
    broken = files.subset([4, 5] * 40)
    with pytest.raises(NoImages) as caught:
        batches(broken, 0)
    assert str(caught.value).startswith(f"{MOST_UNREADABLE} images one after another cannot be read, the last: ")
    assert str(caught.value).count("\n") == 0
    assert str(caught.value).endswith(".png: is truncated")
    with pytest.raises(NoImages, match=r"^2 images one after another"):
        batches(files.subset([4, 5]), 0, order=Order(2, 2))


def test_no_readable_image_is_the_same_sentence_out_of_a_worker(failing):
    told = failing("unreadable", "training")
    assert told.startswith("NoImages: 24 images one after another cannot be read, the last: image ")
    assert told.endswith(": is truncated\n")
    assert told.count("\n") == 1


@pytest.fixture
def failing(tmp_path):
    """What ``dying_readers.py`` was told, in a process of its own; its readers are ended with it. (They hold its
    output open, so that goes to files rather than to pipes, which would have to be read to their end.)
    """

    def run(*arguments: str) -> str:
        script, told = str(Path(__file__).with_name("dying_readers.py")), tmp_path / "told"
        with told.open("w") as out, (tmp_path / "errors").open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, script, *arguments], stdout=out, stderr=errors, start_new_session=True
            )
            process.wait(timeout=600)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        assert told.read_text(), (tmp_path / "errors").read_text()
        return told.read_text()

    return run


@pytest.mark.parametrize("reads", ["training", "test"])
def test_a_worker_that_dies_ends_in_a_sentence_that_names_the_option(reads, failing):
    told = failing("died", reads)
    assert told.startswith("TrainingFailed: a process that reads images died ")
    assert "(--workers)" in told
    assert told.count("\n") == 1


def test_a_mistake_in_a_worker_is_not_told_as_its_death(failing):
    told = failing("mistaken", "training")
    assert told.startswith("RuntimeError: ")
    assert "a mistake" in told


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_plain_batches_hold_every_test_image_once(world, workers):
    data, seen = pixels(), []
    counts = set()
    for rank in range(world):
        found = list(plain_batches(data, SPEC, batch=5, rank=rank, world=world, workers=workers))
        counts.add(tuple(len(batch.labels) for batch in found))
        for batch in found:
            for image, label, position in zip(batch.images, batch.labels, batch.positions.tolist(), strict=True):
                if int(label) == -1:
                    assert position >= data.count
                    assert not bool(image.any())
                else:
                    seen.append(position)
                    assert int(label) == data.labels[position]
                    np.testing.assert_array_equal(image.numpy(), preprocess(data.read(position), SPEC))
    assert sorted(seen) == list(range(data.count))
    assert len(counts) == 1  # all processes have as many batches, and as large


def test_more_processes_than_test_images():
    data = pixels(2)
    found = [list(plain_batches(data, SPEC, batch=5, rank=rank, world=4)) for rank in range(4)]
    assert [[batch.labels.tolist() for batch in batches] for batches in found] == [
        [[data.labels[0]]],
        [[data.labels[1]]],
        [[-1]],
        [[-1]],
    ]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_test_image_is_black_without_a_label(workers, files):
    labels, unreadable = [], []
    for batch in plain_batches(files, SPEC, batch=6, workers=workers):
        assert bool((batch.images[batch.labels < 0] == 0).all())
        labels += batch.labels.tolist()
        unreadable += batch.unreadable
    assert unreadable == [4, 5]
    expected = files.labels.copy()
    expected[[4, 5]] = -1
    assert labels == expected.tolist()


def test_images_of_any_size_come_in_the_specs(tmp_path):
    sizes = [(5, 9), (30, 8), (64, 64)]
    for index, size in enumerate(sizes):
        Image.effect_noise(size, 50).convert("RGB").save(tmp_path / f"{index}.png")
    data = LabelledFiles(("0.png", "1.png", "2.png"), np.zeros(3, np.int64), ("a",), tmp_path)
    for batch in (*batches(data, 0, order=Order(3, 3))[0], *plain_batches(data, SPEC, batch=3)):
        assert batch.images.shape == (3, 3, 8, 8)
