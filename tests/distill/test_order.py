"""Which image stands where, for any number of images, batch, repeats, seed and processes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.data.mixup import Mixup

from vitlet.distill.order import EpochBatches, Order, share
from vitlet.distill.variation import kept_generators, seed_all
from vitlet.errors import InvalidValue

unhurried = settings(deadline=None)
seeds = st.integers(0, 2**31 - 1)
epochs = st.integers(0, 1000)
orders = st.builds(Order, st.integers(1, 300), st.integers(1, 64), st.just(1), seeds)
repeating = st.builds(Order, st.integers(1, 300), st.integers(1, 64), st.integers(1, 8), seeds)
worlds = st.sampled_from([1, 2, 3, 4, 8])


@unhurried
@given(orders, epochs)
def test_each_image_comes_once_and_the_first_ones_fill_up_the_last_batch(order, epoch):
    found = order.indices(epoch)
    assert found.shape == (order.steps, order.batch)
    assert found.dtype == np.int64
    assert 0 <= order.positions - order.count < order.batch
    flat = found.ravel()
    np.testing.assert_array_equal(np.sort(flat[: order.count]), np.arange(order.count))
    filling = flat[order.count :]
    np.testing.assert_array_equal(filling, np.resize(flat[: order.count], len(filling)))


@unhurried
@given(repeating, epochs)
def test_repeats_show_fewer_images_each_so_often(order, epoch):
    """1901.09335: an epoch stays as long."""
    chosen = -(-order.count // order.repeats)
    flat = order.indices(epoch).ravel()
    assert len(flat) == order.positions == Order(order.count, order.batch).positions
    assert flat.min() >= 0
    assert flat.max() < order.count
    runs = np.resize(np.repeat(flat[:: order.repeats][:chosen], order.repeats), len(flat))
    np.testing.assert_array_equal(flat, runs)  # those of an image stand together, so mostly in one batch
    images, times = np.unique(flat[: order.count], return_counts=True)
    assert len(images) == chosen
    # Only the last image may have lost some to the end of the epoch.
    assert (times == order.repeats).sum() >= chosen - 1


@unhurried
@given(repeating, epochs)
def test_everything_follows_from_seed_and_epoch(order, epoch):
    again = Order(order.count, order.batch, order.repeats, order.seed)
    np.testing.assert_array_equal(order.indices(epoch), again.indices(epoch))
    np.testing.assert_array_equal(order.seeds(epoch), again.seeds(epoch))
    assert order.mix_seed(epoch, 3) == again.mix_seed(epoch, 3)


@unhurried
@given(st.builds(Order, st.integers(40, 300), st.integers(1, 64), st.just(1), st.integers(0, 2**31 - 2)), epochs)
def test_epochs_and_seeds_differ(order, epoch):
    other = Order(order.count, order.batch, order.repeats, order.seed + 1)
    for indices, variations, mix in (
        (order.indices(epoch + 1), order.seeds(epoch + 1), order.mix_seed(epoch + 1, 0)),
        (other.indices(epoch), other.seeds(epoch), other.mix_seed(epoch, 0)),
    ):
        assert (indices != order.indices(epoch)).any()
        assert (variations != order.seeds(epoch)).any()
        assert mix != order.mix_seed(epoch, 0)
    assert order.mix_seed(epoch, 0) != order.mix_seed(epoch, 1)


@unhurried
@given(repeating, epochs)
def test_each_position_has_a_seed_of_its_own(order, epoch):
    found = order.seeds(epoch)
    assert found.shape == (order.steps, order.batch)
    assert found.dtype == np.uint32
    assert len(np.unique(found)) >= found.size - 1  # by chance two may be the same, hardly ever


def shared_batches(most_pairs: int = 8) -> st.SearchStrategy[tuple[int, int]]:
    """(batch, world) that go together."""
    return st.builds(lambda world, pairs: (2 * world * pairs, world), worlds, st.integers(1, most_pairs))


@unhurried
@given(shared_batches())
def test_shares_part_a_batch(batch_and_world):
    batch, world = batch_and_world
    shares = [share(batch, rank, world) for rank in range(world)]
    assert {len(part) for part in shares} == {batch // world}
    np.testing.assert_array_equal(np.sort(np.concatenate(shares)), np.arange(batch))


@unhurried
@given(st.integers(1, 100))
def test_one_process_keeps_the_order(batch):
    np.testing.assert_array_equal(share(batch, 0, 1), np.arange(batch))


@unhurried
@given(shared_batches())
def test_turning_a_share_round_is_turning_the_batch_round(batch_and_world):
    """Mixing adds to a batch the same batch turned round."""
    batch, world = batch_and_world
    for rank in range(world):
        mine = share(batch, rank, world)
        np.testing.assert_array_equal(mine[::-1], np.arange(batch)[::-1][mine])


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_timms_mixing_of_each_share_is_that_of_the_whole_batch(world, mixup, cutmix):
    images = torch.randn(16, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(16) % 5
    mix, mixed = Mixup(mixup, cutmix, num_classes=5), 0
    for seed in range(6):
        with kept_generators():
            seed_all(seed)
            whole, targets = mix(images.clone(), labels)
        mixed += not torch.equal(whole, images)
        for rank in range(world):
            mine = torch.from_numpy(share(16, rank, world))
            with kept_generators():
                seed_all(seed)
                part, wanted = mix(images[mine].clone(), labels[mine])
            assert torch.equal(part, whole[mine])
            assert torch.equal(wanted, targets[mine])
    assert mixed > 3  # a rectangle of CutMix may be empty


@pytest.mark.parametrize(("batch", "world", "multiple"), [(7, 2, 4), (6, 2, 4), (12, 4, 8), (1, 3, 6)])
def test_a_batch_that_cannot_be_shared(batch, world, multiple):
    with pytest.raises(
        InvalidValue, match=rf"a batch of {batch} cannot be shared by {world}.* a multiple of {multiple}"
    ):
        share(batch, 0, world)
    with pytest.raises(InvalidValue, match="cannot be shared"):
        EpochBatches(Order(20, batch), 0, world)


@unhurried
@given(st.integers(1, 100), shared_batches(3), st.integers(1, 4), seeds, epochs)
def test_the_processes_batches_together_are_the_epoch(count, batch_and_world, repeats, seed, epoch):
    batch, world = batch_and_world
    order = Order(count, batch, repeats, seed)
    parts = [EpochBatches(order, rank, world) for rank in range(world)]
    for part in parts:
        part.epoch = epoch
        assert len(part) == order.steps
    indices, variations = order.indices(epoch).ravel(), order.seeds(epoch).ravel()
    seen = []
    for step, together in enumerate(zip(*parts, strict=True)):
        places = [place for mine in together for place in mine]
        assert {place.position // batch for place in places} == {step}
        for place in places:
            assert place.image == indices[place.position]
            assert place.seed == variations[place.position]
        seen += [place.position for place in places]
    assert sorted(seen) == list(range(order.positions))
