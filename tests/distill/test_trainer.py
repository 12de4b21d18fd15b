"""The training loop learns, keeps its hands off what is not its own, and stops in one clear sentence."""

import math
import resource
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from vitlet.data.datasets import LabelledPixels
from vitlet.distill.objective import learn_from_teacher, learn_labels
from vitlet.distill.state import StateFile
from vitlet.distill.teacher import small_resnet
from vitlet.distill.trainer import evaluate, fit
from vitlet.errors import InvalidValue, TrainingFailed
from vitlet.models.vit import build_vit


@pytest.fixture
def state(tmp_path):
    return StateFile(tmp_path / "run", {"run": "bars"})


def test_learns_and_reports(train, test, spec, recipe, tiny, state):
    module, seen = build_vit(tiny), []
    recipe = replace(recipe, epochs=8, learning_rate=5e-3)
    epochs = fit(module, learn_labels(0.0), train, test, spec, recipe, state, stage="student", progress=seen.append)
    assert [epoch.number for epoch in epochs] == list(range(1, 9))
    assert epochs[-1].accuracy.top1 >= 0.9
    assert epochs[-1].loss < epochs[0].loss
    assert epochs[-1].learning_rate == pytest.approx(recipe.final_learning_rate)
    assert all(epoch.seconds > 0 for epoch in epochs)
    assert not module.training
    assert {at.stage for at in seen} == {"student"}
    assert all(at.total == 8 * 10 for at in seen)
    assert seen[-1].done == 80
    assert f"epoch 8 of 8 done, loss {epochs[-1].loss:.3f}, test accuracy {epochs[-1].accuracy.top1:.2%}" in (
        seen[-1].detail
    )
    assert "left" in seen[1].detail
    assert evaluate(module, test, spec) == epochs[-1].accuracy


def test_two_heads_are_counted_apart(test, spec, tiny):
    module = build_vit(replace(tiny, distillation_token=True))
    with torch.no_grad():
        for head, bias in ((module.head, (3.0, 0.0)), (module.distillation_head, (0.0, 9.0))):
            head.weight.zero_()
            head.bias.copy_(torch.tensor(bias))
    across = float((test.labels == 0).mean())
    found = evaluate(module, test, spec)
    assert found.class_head == across
    assert found.distillation_head == found.top1 == pytest.approx(1 - across)


def test_distillation_head_learns_the_teachers_decision_and_class_head_the_label(
    train, test, spec, recipe, tiny, state
):
    class Contrary(nn.Module):
        """A teacher that sees each bar, and calls it by the other name."""

        def forward(self, images):
            rows, columns = images[:, 0].mean(dim=2).amax(dim=1), images[:, 0].mean(dim=1).amax(dim=1)
            return torch.stack([columns - rows, rows - columns], dim=1)

    module = build_vit(replace(tiny, distillation_token=True))
    recipe = replace(recipe, epochs=10, learning_rate=5e-3, erase=0.0)
    epochs = fit(module, learn_from_teacher(Contrary(), 0.0), train, test, spec, recipe, state)
    assert epochs[-1].accuracy.class_head >= 0.9
    assert epochs[-1].accuracy.distillation_head <= 0.1


def test_nothing_global_is_changed(train, test, spec, recipe, tiny, state):
    torch.manual_seed(11)
    np.random.seed(11)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()
    flash = torch.backends.cuda.flash_sdp_enabled()
    fit(build_vit(tiny), learn_labels(0.1), train, test, spec, replace(recipe, epochs=1), state)
    small_resnet(2)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])
    assert torch.get_num_threads() == before[2]
    assert torch.backends.cuda.flash_sdp_enabled() == flash


def test_bfloat16_keeps_float32_weights(train, test, spec, recipe, tiny, state):
    module = build_vit(tiny)
    fit(module, learn_labels(0.1), train, test, spec, replace(recipe, epochs=1, bfloat16=True), state)
    assert {p.dtype for p in module.parameters()} == {torch.float32}


def test_weight_decay_spares_tokens_positions_norms_and_biases(train, test, spec, recipe, tiny, state):
    module = build_vit(tiny)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    no_gradient = lambda model, images, labels: 0.0 * model(images).sum()  # noqa: E731
    recipe = replace(recipe, epochs=1, warmup_epochs=0, weight_decay=0.5)
    fit(module, no_gradient, train, test, spec, recipe, state)
    shrunk = {name for name, p in module.named_parameters() if not torch.equal(p, before[name])}
    assert shrunk == {name for name, p in before.items() if p.dim() > 1 and name not in ("prefix", "position")}


def test_nan_loss_names_the_last_usable_state(train, test, spec, recipe, tiny, state):
    steps = []

    def fails_in_the_second_epoch(model, images, labels):
        steps.append(1)
        return learn_labels(0.0)(model, images, labels) * (math.nan if len(steps) > 15 else 1.0)

    with pytest.raises(TrainingFailed, match=r"the loss became nan in epoch 2; .*training\.pt.*--resume") as caught:
        fit(build_vit(tiny), fails_in_the_second_epoch, train, test, spec, recipe, state)
    assert str(state.path) in str(caught.value)
    assert len(fit(build_vit(tiny), learn_labels(0.0), train, test, spec, recipe, state)) == 3


def test_nan_loss_at_once_says_that_nothing_is_left(train, test, spec, recipe, tiny, state):
    nan = lambda model, images, labels: model(images).sum() * math.inf  # noqa: E731
    with pytest.raises(TrainingFailed, match="no epoch was finished"):
        fit(build_vit(tiny), nan, train, test, spec, recipe, state)


@contextmanager
def little_space(size_bytes):
    """A limit on the size of files fails in the middle of writing, as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_full_disk_keeps_the_state_before(train, test, spec, recipe, tiny, state):
    stop = replace(recipe, epochs=1, warmup_epochs=0)
    fit(build_vit(tiny), learn_labels(0.1), train, test, spec, stop, state)
    whole = state.path.read_bytes()
    with (
        little_space(len(whole) // 2),
        pytest.raises(TrainingFailed, match=r"epoch 2 .* is in .*training\.pt.*--resume"),
    ):
        fit(build_vit(tiny), learn_labels(0.1), train, test, spec, recipe, state)
    assert state.path.read_bytes() == whole
    assert [p.name for p in state.folder.iterdir()] == ["training.pt"]


def test_the_state_before_is_never_written_into(train, test, spec, recipe, tiny, state):
    fit(build_vit(tiny), learn_labels(0.1), train, test, spec, replace(recipe, epochs=1, warmup_epochs=0), state)
    whole, link = state.path.read_bytes(), state.folder / "link"
    link.hardlink_to(state.path)
    fit(build_vit(tiny), learn_labels(0.1), train, test, spec, recipe, state)
    assert link.read_bytes() == whole != state.path.read_bytes()


def test_full_disk_before_the_first_state(train, test, spec, recipe, tiny, state):
    with little_space(1000), pytest.raises(TrainingFailed, match=r"epoch 1 cannot be saved in .*no epoch was finished"):
        fit(build_vit(tiny), learn_labels(0.1), train, test, spec, recipe, state)
    assert list(state.folder.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"junk", None])
def test_damaged_state_is_named(train, test, spec, recipe, tiny, state, content):
    fit(build_vit(tiny), learn_labels(0.1), train, test, spec, replace(recipe, epochs=1, warmup_epochs=0), state)
    whole = state.path.read_bytes()
    state.path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(TrainingFailed, match=r"training\.pt is damaged .*delete it"):
        fit(build_vit(tiny), learn_labels(0.1), train, test, spec, recipe, state)


def test_state_that_would_run_code_is_refused(train, test, spec, recipe, tiny, state, tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "was-run"), "w"))

    state.folder.mkdir()
    torch.save({"identity": Hostile()}, state.path)
    with pytest.raises(TrainingFailed, match="damaged"):
        fit(build_vit(tiny), learn_labels(0.1), train, test, spec, recipe, state)
    assert not (tmp_path / "was-run").exists()


def test_state_of_another_run_is_refused(train, test, spec, recipe, tiny, state):
    fit(build_vit(tiny), learn_labels(0.1), train, test, spec, replace(recipe, epochs=1, warmup_epochs=0), state)
    other = StateFile(state.folder, {"run": "other bars"})
    with pytest.raises(InvalidValue, match="was begun with another run"):
        fit(build_vit(tiny), learn_labels(0.1), train, test, spec, recipe, other)


def test_images_of_another_size_are_refused(train, test, spec, recipe, tiny, state):
    wide = LabelledPixels(np.zeros((2, 8, 9), np.uint8), np.zeros(2, np.int64), ("a", "b"))
    with pytest.raises(InvalidValue, match=r"the test data are 2 images of 8x9; .* 8x8"):
        fit(build_vit(tiny), learn_labels(0.1), train, wide, spec, recipe, state)
    with pytest.raises(InvalidValue, match="the training data are 0 images"):
        fit(build_vit(tiny), learn_labels(0.1), train.first(0), test, spec, recipe, state)
