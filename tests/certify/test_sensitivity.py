"""Sensitivity of operations, on small models whose weak spots are made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from vitlet.certify.attention import attention_maps
from vitlet.certify.inspection import Cost, InputStatistics, ranked
from vitlet.certify.rollout import rollout
from vitlet.certify.sensitivity import cost_of, sensitivities
from vitlet.certify.simulation import Simulation
from vitlet.data.imageset import ImageSet
from vitlet.errors import InvalidValue, Unsupported
from vitlet.models.vit import VisionTransformer, build_vit
from vitlet.records import Classifier, ImageSpec, VitArchitecture

SPEC = ImageSpec(8, 8, 8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def small_vit(**options: object) -> VisionTransformer:
    """Three blocks, with weights large enough that every operation matters."""
    sizes = {"image_height": 8, "image_width": 8, "patch": 4, "width": 16, "depth": 3, "heads": 2, "mlp_width": 32}
    model = build_vit(VitArchitecture(**sizes, classes=5, **options), seed=3)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.weight.mul_(10)
    return model


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    """Eleven images: more than a batch, and no multiple of it."""
    path = tmp_path_factory.mktemp("pixels") / "pixels.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (11, 8, 8, 3), np.uint8))
    return ImageSet(path, SPEC, tuple(f"{i}.png" for i in range(11)), (-1,) * 11)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"distillation_token": True},
        {"registers": 2},
        {"class_token": False, "pool": "mean", "pool_norm": True, "final_norm": False},
        {"pool": "token+mean", "layer_scale": True, "pre_norm": True},
        {"pre_logits": 8, "qkv_bias": False},
    ],
)
def test_spelled_out_and_resumed_runs_are_the_plain_one(images: ImageSet, options: dict) -> None:
    model = small_vit(**options)
    (batch,) = images.batches(11)
    simulation = Simulation(model, images.batches())
    with torch.no_grad():
        np.testing.assert_allclose(simulation.run(batch), model(torch.from_numpy(batch)).numpy(), rtol=1e-4, atol=1e-5)
    # In another order than that of the model, so that no run can lean on what the one before it left behind.
    for one in sorted(simulation.operations, key=lambda one: one.name[::-1]):
        simulation.run(batch)
        simulation.run(batch, ["embed"], resume=True)
        resumed = simulation.run(batch, [one.name], resume=True)
        np.testing.assert_allclose(resumed, simulation.run(batch, [one.name]), rtol=1e-4, atol=1e-5)
        assert not np.array_equal(resumed, simulation.run(batch)), one.name


def test_the_callers_model_stays_as_it_is(images: ImageSet) -> None:
    model = small_vit()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    sensitivities(Simulation(model, images.batches()), images)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert type(model.blocks) is nn.Sequential


def test_operations_of_a_vit(images: ImageSet) -> None:
    simulation = Simulation(small_vit(distillation_token=True), images.batches())
    found = {one.name: one for one in simulation.operations}
    assert len(found) == 1 + 3 * 6 + 2
    tokens, width = 4 + 2, 16
    assert found["embed"].macs == 4 * width * 3 * 4 * 4
    assert found["blocks.1.mlp.up"].macs == tokens * width * 32
    assert found["blocks.1.attention.scores"].macs == found["blocks.1.attention.weighted_sum"].macs == tokens**2 * width
    assert (found["blocks.2.attention.qkv"].kind, found["blocks.2.attention.qkv"].block) == ("qkv", 2)
    assert (found["head"].macs, found["head"].weight_bytes, found["head"].block) == (width * 5, 4 * width * 5, None)


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_huge_channel_makes_an_operation_the_most_sensitive(images: ImageSet, dynamic: bool) -> None:
    """One channel of what comes to it is 300 times the others, and does nothing in float: its weights are zero."""
    model = small_vit()
    with torch.no_grad():
        model.blocks[1].mlp_norm.weight[5] = 300
        model.blocks[1].mlp.up.weight[:, 5] = 0
    found = sensitivities(Simulation(model, images.batches(), dynamic=dynamic), images)
    assert ranked(found)[0].operation.name == "blocks.1.mlp.up"
    worst = next(one for one in found.operations if one.operation.name == "blocks.1.mlp.up")
    assert worst.sqnr_db == min(one.sqnr_db for one in found.operations)
    (statistics,) = [one for one in found.inputs if one.operation == "blocks.1.mlp.up"]
    assert statistics.outlier_channels == (5,)
    assert not any(one.outlier_channels for one in found.inputs if one.operation.startswith("blocks.0"))


def test_costs_by_plain_numpy(images: ImageSet) -> None:
    simulation = Simulation(small_vit(), images.batches())
    (batch,) = images.batches(11)
    exact, rounded = (simulation.run(batch, names).astype(np.float64) for names in ((), ["head", "embed"]))
    found = cost_of(simulation, images, ["embed", "head"])
    assert found.logits_error == pytest.approx(np.linalg.norm(exact - rounded) / np.linalg.norm(exact), rel=1e-3)
    p, q = (np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in (exact, rounded))
    assert found.kl_divergence == pytest.approx((p * np.log(p / q)).sum() / 11, rel=1e-3)
    assert found.changed == (exact.argmax(axis=1) != rounded.argmax(axis=1)).sum()


def test_sqnr_of_a_linear_by_plain_numpy(images: ImageSet) -> None:
    """The head alone, whose input is known from the model."""
    model = small_vit()
    (batch,) = images.batches(11)
    seen: list[np.ndarray] = []
    model.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().numpy()))
    with torch.no_grad():
        model(torch.from_numpy(batch))
    values, weight = seen[0].astype(np.float64), model.head.weight.detach().numpy().astype(np.float64)
    low, high = min(values.min(), 0), max(values.max(), 0)
    step, scales = (high - low) / 255, np.abs(weight).max(axis=1, keepdims=True) / 127
    zero = round(-low / step)
    rounded = (np.clip(np.rint(values / step) + zero, 0, 255) - zero) * step
    noise = rounded @ (np.rint(weight / scales) * scales).T - values @ weight.T
    expected = 10 * np.log10(((values @ weight.T) ** 2).sum() / (noise**2).sum())
    found = sensitivities(Simulation(small_vit(), images.batches()), images)
    assert found.operations[-1].operation.name == "head"
    assert found.operations[-1].sqnr_db == pytest.approx(expected, abs=0.05)


def test_a_convolutional_model(images: ImageSet) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5), nn.Identity()
    )
    found = sensitivities(Simulation(model, images.batches()), images)
    assert [(one.operation.name, one.operation.kind) for one in found.operations] == [
        ("0", "convolution"),
        ("4", "linear"),
    ]
    assert found.operations[0].operation.macs == 6 * 6 * 4 * 3 * 3 * 3
    assert len(found.inputs[0].channel_maxima) == 3
    with pytest.raises(Unsupported, match="nothing to quantize"):
        Simulation(nn.Flatten(), images.batches())


def test_blocks_of_another_model_keep_their_names(images: ImageSet) -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(nn.ModuleDict({"fc1": nn.Linear(8, 8), "fc2": nn.Linear(8, 8)}) for _ in "ab")

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            for block in self.blocks:
                pixels = block["fc2"](block["fc1"](pixels))
            return pixels.mean((1, 2))

    found = [(one.kind, one.block) for one in Simulation(Other(), images.batches()).operations]
    assert found == [("fc1", 0), ("fc2", 0), ("fc1", 1), ("fc2", 1)]


def test_statistics_of_inputs(images: ImageSet) -> None:
    simulation = Simulation(small_vit(), images.batches())
    values = np.concatenate([*images.batches()])
    found = simulation.inputs[0]
    assert (found.operation, found.minimum, found.maximum) == ("embed", values.min(), values.max())
    np.testing.assert_allclose(found.channel_maxima, np.abs(values).max(axis=(0, 2, 3)))
    exact = np.quantile(np.abs(values), 0.999)
    assert exact * 0.999 <= found.magnitude_999 <= exact * 1.04
    probabilities = next(one for one in simulation.inputs if one.name == "probabilities")
    assert 0 <= probabilities.minimum <= probabilities.maximum <= 1
    assert (probabilities.channel_maxima, probabilities.outlier_channels) == ((), ())
    assert len(next(one for one in simulation.inputs if one.name == "query").channel_maxima) == 16


def test_outliers_are_named_by_size() -> None:
    found = InputStatistics("x", "input", -50.0, 70.0, 60.0, (1.0, 50.0, 0.5, 6.5, 1.0, 70.0, 1.0))
    assert (found.median_channel, found.outlier_channels) == (1.0, (5, 1, 3))


def test_an_unknown_operation_is_refused(images: ImageSet) -> None:
    with pytest.raises(InvalidValue, match=r"'blocks\.9\.mlp\.up' is no operation of this model; there are: embed, "):
        cost_of(Simulation(small_vit(), images.batches()), images, ["blocks.9.mlp.up"])
    with pytest.raises(InvalidValue, match="3 changed of 2 images"):
        Cost(0.0, 0.0, 3, 2)


@pytest.mark.parametrize("options", [{}, {"distillation_token": True}, {"class_token": False, "pool": "mean"}])
def test_attention_maps_by_plain_torch(images: ImageSet, options: dict) -> None:
    model = small_vit(**options)
    labels = tuple("abcde")
    classifier = Classifier(model, _architecture(options), SPEC, labels, "small", "timm")
    (found,) = attention_maps(Simulation(model, images.batches()), classifier, images, [3])
    layers: list[np.ndarray] = []

    def keep(attention: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        query, key, _ = attention.qkv(inputs[0])[0].reshape(-1, 3, 2, 8).permute(1, 2, 0, 3)
        layers.append((query @ key.mT / 8**0.5).softmax(-1).mean(0).detach().numpy())

    for block in model.blocks:
        block.attention.register_forward_pre_hook(keep)
    batch = list(images.batches())[3]
    with torch.no_grad():
        answer = labels[int(model(torch.from_numpy(batch)).argmax())]
    prefix = model.prefix_tokens
    rows = [0, 1] if options.get("distillation_token") else [0] if prefix else range(4)
    for matrix, shares in ((rollout(layers), found.original.rollout), (layers[-1], found.original.last)):
        expected = matrix[list(rows), prefix:].mean(axis=0)
        np.testing.assert_allclose(np.ravel(shares), expected / expected.sum(), rtol=1e-4)
    assert (found.image, found.original.answer) == ("3.png", answer)
    assert 0 < found.rollout_moved < 0.2
    assert found.pixels == np.load(images.pixels_path)[3].tobytes()


def _architecture(options: dict) -> VitArchitecture:
    sizes = {"image_height": 8, "image_width": 8, "patch": 4, "width": 16, "depth": 3, "heads": 2, "mlp_width": 32}
    return VitArchitecture(**sizes, classes=5, **options)


def test_files_of_pixels_are_left_alone(images: ImageSet) -> None:
    before = Path(images.pixels_path).read_bytes()
    sensitivities(Simulation(small_vit(), images.batches()), images)
    assert Path(images.pixels_path).read_bytes() == before
