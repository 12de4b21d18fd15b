"""The training loop learns, keeps its hands off what is not its own, and stops in one clear sentence."""

import math
import random
import resource
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from vitlet.data.labelled import LabelledPixels
from vitlet.distill.decisions import DecisionStore
from vitlet.distill.evaluation import evaluate
from vitlet.distill.heads import Heads
from vitlet.distill.recipe import Objective
from vitlet.distill.state import StateFile
from vitlet.distill.trainer import fit
from vitlet.errors import InvalidValue, TrainingFailed
from vitlet.models.vit import VisionTransformer, build_vit


@pytest.fixture
def state(tmp_path):
    return StateFile(tmp_path / "run", {"run": "bars"})


def drop(architecture, probability=0.2):
    return build_vit(architecture, seed=1, drop_path=probability)


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def contrary(images):
    """A teacher that sees each bar, and calls it by the other name."""
    rows, columns = images[:, 0].mean(dim=2).amax(dim=1), images[:, 0].mean(dim=1).amax(dim=1)
    return torch.stack([columns - rows, rows - columns], dim=1) * 5


def longer(task, epochs, **training):
    return replace(task, training=replace(task.training, epochs=epochs, **training))


def test_learns_and_reports(task, alone, tiny, state):
    module, seen = build_vit(tiny), []
    task = longer(task, 16, learning_rate=0.2, drop_path=0.0)
    epochs = fit(module, task, state, replace(alone, stage="student", progress=seen.append))
    assert [epoch.number for epoch in epochs] == list(range(1, 17))
    assert epochs[-1].accuracy.top1 >= 0.9
    assert epochs[-1].loss < epochs[0].loss
    assert epochs[-1].learning_rate == pytest.approx(task.training.final_learning_rate, abs=1e-5)
    assert all(epoch.seconds >= epoch.waited_s > 0 for epoch in epochs)
    assert not module.training
    assert {at.stage for at in seen} == {"student"}
    assert all(at.total == 16 * 10 for at in seen)
    assert seen[-1].done == 160
    assert f"epoch 16 of 16 done, loss {epochs[-1].loss:.3f}, test accuracy {epochs[-1].accuracy.top1:.2%}" in (
        seen[-1].detail
    )
    assert [at.milestone for at in seen].count(True) == 16
    assert "left" in seen[1].detail
    assert evaluate(Heads(module), task.test, task.spec, processes=alone.processes) == epochs[-1].accuracy


def test_two_heads_are_counted_apart(task, alone, tiny):
    module = build_vit(replace(tiny, distillation_token=True))
    with torch.no_grad():
        for head, bias in ((module.head, (3.0, 0.0)), (module.distillation_head, (0.0, 9.0))):
            head.weight.zero_()
            head.bias.copy_(torch.tensor(bias))
    across = float((task.test.labels == 0).mean())
    found = evaluate(Heads(module), task.test, task.spec, processes=alone.processes)
    assert found.class_head == across
    assert found.distillation_head == found.top1 == pytest.approx(1 - across)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_distillation_head_learns_from_the_teacher_and_class_head_from_the_label(task, alone, tiny, state, kind):
    module = build_vit(replace(tiny, distillation_token=True))
    task = longer(task, 16, learning_rate=0.2, drop_path=0.0)
    task = replace(task, objective=Objective(kind, "token", 0.5, temperature=1.0), teacher=contrary)
    epochs = fit(module, task, state, alone)
    assert epochs[-1].accuracy.class_head >= 0.9
    assert epochs[-1].accuracy.distillation_head <= 0.1


def test_class_head_alone_can_learn_from_the_teacher(task, alone, tiny, state):
    task = longer(task, 16, learning_rate=0.2, drop_path=0.0)
    task = replace(task, objective=Objective("hard", "class", 1.0), teacher=contrary)
    assert fit(build_vit(tiny), task, state, alone)[-1].accuracy.top1 <= 0.1


def test_stored_decisions_give_the_same_weights_and_spare_the_teacher(task, alone, tiny, tmp_path):
    """With mixing, erasing, repeats and a cycle of variations: the teacher sees each varied image once, ever."""
    varied = replace(task.augmentation, mixup=0.8, cutmix=1.0, erase=0.5, repeats=2, cycle=2)
    task = replace(longer(task, 4), augmentation=varied, objective=Objective("hard"))
    calls = []

    def teacher(images):
        calls.append(len(images))
        return contrary(images).half().float()  # as exact as what is stored

    def trained(name, task):
        module = drop(replace(tiny, distillation_token=True))
        fit(module, task, StateFile(tmp_path / name, {}), alone)
        return weights(module)

    store = DecisionStore(tmp_path / "decisions", {"of": "bars"}, task.order.positions, 2)
    live = trained("live", replace(task, teacher=teacher))
    assert sum(calls) == 4 * 160
    calls.clear()
    assert same(trained("first", replace(task, teacher=teacher, store=store)), live)
    assert sum(calls) == 2 * 160  # the other two epochs return to the same variations
    calls.clear()
    assert same(trained("second", replace(task, teacher=teacher, store=store)), live)
    assert calls == []
    assert sorted(path.name for path in store.folder.iterdir()) == [
        "epoch-00000.safetensors",
        "epoch-00001.safetensors",
    ]


def test_nothing_global_is_changed(task, alone, tiny, state):
    torch.manual_seed(11)
    np.random.seed(11)
    random.seed(11)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate(), torch.get_num_threads()
    flash = torch.backends.cuda.flash_sdp_enabled()
    mixed = replace(task.augmentation, mixup=0.8, cutmix=1.0, erase=0.5)
    fit(drop(tiny), replace(longer(task, 1), augmentation=mixed), state, alone)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]
    assert torch.get_num_threads() == before[3]
    assert torch.backends.cuda.flash_sdp_enabled() == flash


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")  # on one core
def test_workers_give_the_same_weights(task, alone, tiny, tmp_path):
    found = []
    for workers in (0, 2):
        module = drop(tiny)
        fit(module, longer(task, 2), StateFile(tmp_path / str(workers), {}), replace(alone, workers=workers))
        found.append(weights(module))
    assert same(*found)


def test_moving_average_is_the_result_and_resumes(task, alone, tiny, tmp_path):
    task = longer(task, 3, ema=0.9)
    whole = drop(tiny)
    state = StateFile(tmp_path / "whole", {})
    fit(whole, task, state, alone)
    stored = torch.load(state.path, weights_only=True)
    assert same(stored["average"], weights(whole))
    assert not same(stored["average"], stored["module"])
    stopped = StateFile(tmp_path / "stopped", {})
    with pytest.raises(KeyboardInterrupt):
        fit(drop(tiny), task, stopped, replace(alone, progress=interrupt_in("epoch 3")))
    resumed = drop(tiny)
    fit(resumed, task, stopped, alone)
    assert same(weights(resumed), weights(whole))


def interrupt_in(text):
    def progress(at):
        if at.detail.startswith(text):
            raise KeyboardInterrupt

    return progress


def test_an_unreadable_training_image_is_counted_not_fatal(task, alone, tiny, state):
    class Damaged(LabelledPixels):
        def read(self, index):
            from vitlet.errors import UnreadableImage

            if index in (3, 77):
                raise UnreadableImage(f"image {index} is damaged")
            return super().read(index)

    train = Damaged(task.train.pixels, task.train.labels, task.train.class_names)
    seen = []
    epochs = fit(build_vit(tiny), replace(task, train=train), state, replace(alone, progress=seen.append))
    assert epochs[-1].unreadable == 2
    assert "2 images cannot be read" in seen[-1].detail


def test_bfloat16_keeps_float32_weights(task, alone, tiny, state):
    module = build_vit(tiny)
    fit(module, longer(task, 1, bfloat16=True), state, alone)
    assert {p.dtype for p in module.parameters()} == {torch.float32}


class BreaksInTheSecondEpoch(VisionTransformer):
    """Its answers are no numbers after 15 training steps."""

    def __init__(self, architecture):
        super().__init__(architecture)
        self.steps = 0

    def forward(self, images):
        self.steps += self.training
        return super().forward(images) * (math.nan if self.steps > 15 else 1.0)


def test_nan_loss_names_the_last_usable_state(task, alone, tiny, state):
    with pytest.raises(TrainingFailed, match=r"the loss became nan in epoch 2; .*training\.pt.*--resume") as caught:
        fit(BreaksInTheSecondEpoch(tiny), task, state, alone)
    assert str(state.path) in str(caught.value)
    assert len(fit(build_vit(tiny), task, state, alone)) == 3  # and it is usable indeed


def test_nan_loss_at_once_says_that_nothing_is_left(task, alone, tiny, state):
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, images):
            return torch.full((len(images), 2), math.inf) * self.weight

    with pytest.raises(TrainingFailed, match=r"the loss became nan in epoch 1; .*no epoch was finished"):
        fit(Broken(), task, state, alone)


@contextmanager
def little_space(size_bytes):
    """A limit on the size of files fails in the middle of writing, as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_full_disk_keeps_the_state_before(task, alone, tiny, state):
    with pytest.raises(KeyboardInterrupt):
        fit(drop(tiny), task, state, replace(alone, progress=interrupt_in("epoch 2")))
    whole = state.path.read_bytes()
    with (
        little_space(len(whole) // 2),
        pytest.raises(TrainingFailed, match=r"epoch 2 .* is in .*training\.pt.*--resume"),
    ):
        fit(drop(tiny), task, state, alone)
    assert state.path.read_bytes() == whole
    assert [path.name for path in state.folder.iterdir()] == ["training.pt"]
    # A reader that has the state open still sees the old one: it is replaced, not overwritten.
    link = state.folder / "link"
    link.hardlink_to(state.path)
    fit(drop(tiny), task, state, alone)
    assert link.read_bytes() == whole != state.path.read_bytes()


def test_weights_that_break_in_the_last_step_do_not_replace_the_state(task, alone, tiny, state):
    """The loss is looked at before the step that it makes: here the very last gradient of the second epoch breaks."""
    module, steps = drop(tiny), []

    def breaks(gradient):
        steps.append(1)
        return gradient * (math.nan if len(steps) == 20 else 1.0)

    module.head.weight.register_hook(breaks)
    with pytest.raises(TrainingFailed, match=r"the weights became infinite or NaN in epoch 2; start again"):
        fit(module, task, state, alone)
    stored = torch.load(state.path, weights_only=True)
    assert len(stored["epochs"]) == 1
    assert all(value.isfinite().all() for value in stored["module"].values())


def test_full_disk_before_the_first_state(task, alone, tiny, state):
    with little_space(1000), pytest.raises(TrainingFailed, match=r"epoch 1 cannot be saved in .*no epoch was finished"):
        fit(build_vit(tiny), task, state, alone)
    assert list(state.folder.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"junk", None])
def test_damaged_state_is_named(task, alone, tiny, state, content):
    fit(build_vit(tiny), longer(task, 1), state, alone)
    whole = state.path.read_bytes()
    state.path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(TrainingFailed, match=r"training\.pt is damaged .*delete it"):
        fit(build_vit(tiny), task, state, alone)


def test_state_that_would_run_code_is_refused(task, alone, tiny, state, tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "was-run"), "w"))

    state.folder.mkdir()
    torch.save({"identity": Hostile()}, state.path)
    with pytest.raises(TrainingFailed, match="damaged"):
        fit(build_vit(tiny), task, state, alone)
    assert not (tmp_path / "was-run").exists()


def test_state_of_another_run_is_refused(task, alone, tiny, state):
    fit(build_vit(tiny), longer(task, 1), state, alone)
    other = StateFile(state.folder, {"run": "other bars"})
    with pytest.raises(InvalidValue, match="was begun with another run"):
        fit(build_vit(tiny), task, other, alone)


def test_what_cannot_be_run_is_refused_before_it_begins(task, alone, tiny, state):
    none = LabelledPixels(task.train.pixels[:0], task.train.labels[:0], task.train.class_names)
    with pytest.raises(InvalidValue, match="there are 0 training and 100 test images"):
        fit(build_vit(tiny), replace(task, train=none), state, alone)
    odd = replace(longer(task, 1, batch=15), augmentation=replace(task.augmentation, mixup=0.8))
    with pytest.raises(InvalidValue, match="a batch of 15 cannot be mixed in pairs"):
        fit(build_vit(tiny), odd, state, alone)
    with pytest.raises(InvalidValue, match="there is one process, so nothing to shard"):
        fit(build_vit(tiny), task, state, replace(alone, shard=True))
    with pytest.raises(InvalidValue, match="timm has no optimizer 'adamwx'"):
        fit(build_vit(tiny), longer(task, 1, optimizer="adamwx"), state, alone)
