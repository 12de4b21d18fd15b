"""A teacher's stored answers are what it gave, to float16's precision, and are taken for nobody else's."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vitlet.distill.decisions import MOST_CLASSES, DecisionStore, StoredEpoch, digest
from vitlet.distill.processes import Processes
from vitlet.errors import InvalidValue, TrainingFailed

ALONE = Processes(0, 1, torch.device("cpu"))
IDENTITY = {"teacher": "abc", "data": "def", "augmentation": {"area": (0.1, 1.0)}, "seed": 3}
POSITIONS = 12


def logits_of(classes: int, seed: int = 0, scale: float = 4.0) -> torch.Tensor:
    return scale * torch.randn(POSITIONS, classes, generator=torch.Generator().manual_seed(seed))


def stored(folder, logits: torch.Tensor, epoch: int = 0) -> DecisionStore:
    """A store whose epoch holds these, taken up in batches of five in another order."""
    store = DecisionStore(folder, IDENTITY, POSITIONS, logits.shape[1])
    for positions in torch.arange(POSITIONS).flip(0).split(5):
        store.add(positions, logits[positions])
    store.finish(epoch, ALONE)
    return store


def opened(store: DecisionStore, epoch: int = 0) -> StoredEpoch:
    found = store.open(epoch)
    assert found is not None
    return found


def precision(logits: torch.Tensor) -> torch.Tensor:
    """Half a step of float16, whose significand has 11 bits, at each number."""
    return logits.abs() * 2**-11 + 2**-24


@pytest.mark.parametrize("classes", [1, 2, 10, MOST_CLASSES])
def test_all_logits_of_few_classes(classes, tmp_path):
    logits = logits_of(classes)
    found = opened(stored(tmp_path / "new" / "folder", logits)).logits(torch.arange(POSITIONS))
    assert found.dtype == torch.float32
    assert bool(((found - logits).abs() <= precision(logits) * 1.01).all())


@pytest.mark.parametrize("scale", [0.1, 4.0, 20.0])
def test_the_highest_logits_of_many_classes_and_the_probability_of_the_others(scale, tmp_path):
    logits = logits_of(100, scale=scale)
    found = opened(stored(tmp_path, logits)).logits(torch.arange(POSITIONS))
    top, classes = logits.topk(MOST_CLASSES, dim=1)
    assert bool(((found.gather(1, classes) - top).abs() <= precision(top) * 1.01).all())
    others = torch.ones(POSITIONS, 100, dtype=torch.bool).scatter(1, classes, False)
    for kept, mine, theirs in zip(others, found, logits, strict=True):
        assert len(set(mine[kept].tolist())) == 1  # they share the rest evenly
        wanted = theirs[kept].logsumexp(dim=0)
        assert abs(mine[kept].logsumexp(dim=0) - wanted) <= 2 * precision(wanted) + 1e-5
        assert mine[kept].max() <= mine[~kept].min()
    rest, expected = (z.softmax(dim=1)[others].view(POSITIONS, -1).sum(dim=1) for z in (found, logits))
    torch.testing.assert_close(rest, expected, rtol=0.03, atol=1e-6)


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("apart", [0.0, 1e-5, 1e-3, 0.1])
def test_the_teachers_decision_is_always_kept(classes, apart, tmp_path):
    """Also where float16 cannot tell the highest logit from another, which may be of a class before it."""
    levels = torch.linspace(5, 15, POSITIONS).unsqueeze(1)  # float16 rounds some up and some down
    logits = levels + apart * logits_of(classes, scale=0.1)
    last = torch.arange(POSITIONS) % classes
    logits[torch.arange(POSITIONS), last] = logits.max(dim=1).values + max(apart, 1e-5)
    found = opened(stored(tmp_path, logits)).logits(torch.arange(POSITIONS))
    assert torch.equal(found.argmax(dim=1), last)
    torch.testing.assert_close(found.gather(1, last[:, None]), logits.gather(1, last[:, None]), rtol=1e-3, atol=0)


def test_positions_and_epochs_are_kept_apart(tmp_path):
    first, second = logits_of(4, seed=1), logits_of(4, seed=2)
    store = stored(tmp_path, first, epoch=0)
    stored(tmp_path, second, epoch=3)
    some = torch.tensor([7, 2, 2, 11])
    for epoch, logits in ((0, first), (3, second)):
        torch.testing.assert_close(opened(store, epoch).logits(some), logits[some], rtol=1e-3, atol=1e-3)
    assert store.open(1) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-00000.safetensors", "epoch-00003.safetensors"]


def test_a_store_is_used_again_for_the_next_epoch(tmp_path):
    store = DecisionStore(tmp_path, IDENTITY, POSITIONS, 4)
    for epoch in range(2):
        store.add(torch.arange(POSITIONS), logits_of(4, seed=epoch))
        store.finish(epoch, ALONE)
    for epoch in range(2):
        found = opened(store, epoch).logits(torch.arange(POSITIONS))
        torch.testing.assert_close(found, logits_of(4, seed=epoch), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("classes", [4, 100])
def test_what_is_added_is_given_back_as_it_will_be_read(classes, tmp_path):
    """So that the epoch that stores them learns the very same as those that read them."""
    store, logits = DecisionStore(tmp_path, IDENTITY, POSITIONS, classes), logits_of(classes)
    positions = torch.arange(POSITIONS).flip(0).split(5)
    found = [store.add(part, logits[part].bfloat16()) for part in positions]
    store.finish(0, ALONE)
    for part, given in zip(positions, found, strict=True):
        assert torch.equal(given, opened(store).logits(part))


def test_nothing_is_written_where_nothing_was_added(tmp_path):
    DecisionStore(tmp_path / "none", IDENTITY, POSITIONS, 4).finish(0, ALONE)
    assert not (tmp_path / "none").exists()


def test_bfloat16_logits_with_a_gradient(tmp_path):
    store, logits = DecisionStore(tmp_path, IDENTITY, POSITIONS, 4), logits_of(4).bfloat16().requires_grad_()
    store.add(torch.arange(POSITIONS), logits)
    store.finish(0, ALONE)
    found = opened(store).logits(torch.arange(POSITIONS))
    torch.testing.assert_close(found, logits.detach().float(), rtol=1e-3, atol=0)


@dataclass(frozen=True)
class Together(Processes):
    """One of two processes; what they sum is put together when both have given theirs."""

    given: dict[int, list[torch.Tensor]] = field(default_factory=dict)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        mine = self.given.setdefault(self.rank, [])
        mine.append(values.clone())
        other = self.given.get(1 - self.rank)
        return values if other is None else values.add_(other[len(mine) - 1])


@pytest.mark.parametrize("classes", [4, 100])
def test_the_parts_of_two_processes_are_put_together(classes, tmp_path):
    logits, given = logits_of(classes), {}
    for rank in (1, 0):  # the first process writes, so it comes last here
        store = DecisionStore(tmp_path / str(rank), IDENTITY, POSITIONS, classes)
        mine = torch.arange(POSITIONS)[rank::2]
        store.add(mine, logits[mine])
        store.finish(2, Together(rank, 2, torch.device("cpu"), given))
    assert not (tmp_path / "1").exists()
    whole = opened(stored(tmp_path / "one", logits)).logits(torch.arange(POSITIONS))
    shared = opened(DecisionStore(tmp_path / "0", IDENTITY, POSITIONS, classes), 2).logits(torch.arange(POSITIONS))
    assert torch.equal(shared, whole)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"teacher": "other"}, "another teacher; name another folder"),
        ({"teacher": "other", "seed": 4}, "another seed and teacher"),
        ({"augmentation": {"area": (0.2, 1.0)}}, "another augmentation"),
        ({"more": 1}, "another more"),
        ({"seed": None}, "another seed"),
    ],
)
def test_decisions_of_another_run(change, named, tmp_path):
    stored(tmp_path, logits_of(4))
    other = DecisionStore(tmp_path, {**IDENTITY, **change}, POSITIONS, 4)
    with pytest.raises(InvalidValue, match=f"were stored for {named}"):
        other.open(0)


def test_a_tuple_is_as_json_gives_it_back(tmp_path):
    stored(tmp_path, logits_of(4))
    same = DecisionStore(tmp_path, {**IDENTITY, "augmentation": {"area": [0.1, 1.0]}}, POSITIONS, 4)
    assert same.open(0) is not None


@pytest.mark.parametrize("damage", ["empty", "junk", "short", "folder"])
def test_damaged_files(damage, tmp_path):
    store = stored(tmp_path, logits_of(4))
    path = tmp_path / "epoch-00000.safetensors"
    whole = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        path.write_bytes({"empty": b"", "junk": b"\xff" * 1000, "short": whole[:-1]}[damage])
    with pytest.raises(TrainingFailed, match=r"stored decisions .*epoch-00000\.safetensors are damaged .*delete that"):
        store.open(0)


#: What a hostile or mistaken file may hold in the place of the tensors or of what it says of itself.
HOSTILE = {
    "too few": (lambda t: {n: v[:5].clone() for n, v in t.items()}, None),
    "too many classes": (lambda t: {n: v.repeat(1, 2) for n, v in t.items()}, None),
    "one is missing": (lambda t: {"logits": t["logits"]}, None),
    "one more": (lambda t: {**t, "others": torch.zeros(POSITIONS).half()}, None),
    "another type": (lambda t: {**t, "logits": t["logits"].float()}, None),
    "classes beyond the last": (lambda t: {**t, "classes": t["classes"] + 1}, None),
    "classes before the first": (lambda t: {**t, "classes": t["classes"] - 1}, None),
    "no numbers": (lambda t: {**t, "logits": t["logits"] * float("nan")}, None),
    "no JSON": (lambda t: t, "no JSON"),
    "no object": (lambda t: t, "[1]"),
    "null": (lambda t: t, "null"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files(case, tmp_path):
    store = stored(tmp_path, logits_of(4))
    path = tmp_path / "epoch-00000.safetensors"
    change, told = HOSTILE[case]
    told = json.dumps(IDENTITY) if told is None else told
    save_file(change(load_file(path)), path, metadata={"vitlet_decisions": told})
    with pytest.raises(TrainingFailed, match=r"stored decisions .* are damaged .*delete that file"):
        store.open(0)


@contextmanager
def little_space(size_bytes: int) -> Iterator[None]:
    """A limit on the size of files fails in the middle of writing, as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    store = DecisionStore(tmp_path, IDENTITY, POSITIONS, 100)
    store.add(torch.arange(POSITIONS), logits_of(100))
    with little_space(200), pytest.raises(TrainingFailed, match=r"decisions cannot be stored in .*File too large"):
        store.finish(0, ALONE)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    store = DecisionStore(tmp_path / "file", IDENTITY, POSITIONS, 4)
    store.add(torch.arange(POSITIONS), logits_of(4))
    with pytest.raises(TrainingFailed, match=r"decisions cannot be stored in .*file \("):
        store.finish(0, ALONE)


def test_the_digest_tells_weights_and_names():
    def module(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))

    one = module(1)
    assert digest(one) == digest(module(1)) != digest(module(2))
    assert len(digest(one)) == 64
    assert digest(nn.Sequential(*one, nn.ReLU())) == digest(one)
    assert digest(nn.Sequential(nn.ReLU(), *one)) != digest(one)
    with torch.no_grad():
        one[1].running_mean[0] += 1e-6
    assert digest(one) != digest(module(1))
    assert digest(module(1).to(memory_format=torch.channels_last)) == digest(module(1))
