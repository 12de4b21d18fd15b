"""Small classifiers of every sort that an engine may be given, and a way to run code in a process
that never saw them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vitlet.data.calibration import Calibration
from vitlet.engines import Engine, engines
from vitlet.errors import Unsupported
from vitlet.models.build import build
from vitlet.records import (
    Architecture,
    Artifact,
    Classifier,
    ImageSpec,
    Precision,
    TimmArchitecture,
    VitArchitecture,
    to_json,
)

ARCHITECTURES: dict[str, Architecture] = {
    # Class and distillation token, wide enough that the weights and not the program fill the file.
    "distilled": VitArchitecture(
        image_height=32,
        image_width=32,
        patch=8,
        width=192,
        depth=3,
        heads=3,
        mlp_width=768,
        classes=10,
        distillation_token=True,
    ),
    # As many of the other switches as go together, and images that are not square.
    "pooled": VitArchitecture(
        image_height=32,
        image_width=48,
        patch=16,
        width=64,
        depth=2,
        heads=2,
        mlp_width=96,
        classes=7,
        class_token=True,
        registers=2,
        pool="token+mean",
        qkv_bias=False,
        layer_scale=True,
        pre_norm=True,
        pool_norm=True,
        pre_logits=24,
        position="sincos",
        activation="quick_gelu",
    ),
    # No ViT: convolutions, and linears between them.
    "opaque": TimmArchitecture("test_convnext", classes=5, image_height=64, image_width=64),
    # torch.jit.script refuses its source.
    "traced": TimmArchitecture(
        "hiera_tiny_224", classes=5, image_height=224, image_width=224, options={"embed_dim": 8}
    ),
}


#: Engines that compile native code on export, a quarter of a minute each time. They are given the
#: distilled classifier in all precisions, and others only as named here.
SLOW_TO_EXPORT: dict[str, dict[str, tuple[str, ...]]] = {"inductor": {"pooled": ("fp32",)}, "torchao": {}}


def is_given(engine: Engine, precision: Precision, name: str) -> bool:
    """Whether the tests export the classifier ``name`` with this engine in this precision."""
    if engine.name not in SLOW_TO_EXPORT or name == "distilled":
        return True
    return str(precision) in SLOW_TO_EXPORT[engine.name].get(name, ())


@dataclass(frozen=True)
class Finished:
    returncode: int
    stdout: str
    stderr: str

    @property
    def answer(self) -> Any:
        """The JSON on the last line of standard output."""
        assert self.returncode == 0, self.stderr
        return json.loads(self.stdout.splitlines()[-1])


def fresh_process(code: str, *arguments: object) -> Finished:
    """Run Python ``code`` in its own process; it finds ``arguments``, as JSON, in ``arguments``."""
    prelude = "import json, sys\narguments = json.loads(sys.argv[1])\n"
    passed = json.dumps([str(a) if isinstance(a, Path) else to_json(a) for a in arguments])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", prelude + code, passed],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def make_classifier(architecture: Architecture, *, seed: int = 3) -> Classifier:
    height, width = architecture.image_height, architecture.image_width
    module = build(architecture, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        # Fresh heads give logits near 0, in which a wrong answer could hide below the tolerance.
        if "head" in name and parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return Classifier(
        module,
        architecture,
        ImageSpec(height, width, (height, width)),
        labels=tuple(f"class {i}" for i in range(architecture.classes)),
        reference=f"test:{getattr(architecture, 'name', 'vit')}",
        library="checkpoint",
    )


def calibration_for(classifier: Classifier) -> Calibration:
    """Inputs like those of ``images_for``."""
    return Calibration(classifier.image_spec, random_count=16, seed=100)


def images_for(classifier: Classifier, batch: int, *, seed: int = 0) -> np.ndarray:
    size = (batch, 3, classifier.architecture.image_height, classifier.architecture.image_width)
    return np.random.default_rng(seed).standard_normal(size, dtype=np.float32)


def logits_of(classifier: Classifier, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return classifier.module(torch.from_numpy(images)).numpy()


def state_of_caller(module: torch.nn.Module) -> dict[str, object]:
    """What an export must leave as it was: the module, the random state, the choice of kernels."""
    return {
        "weights": {name: tensor.clone() for name, tensor in module.state_dict().items()},
        "kinds of modules": [type(part) for part in module.modules()],
        "hooks": [len(part._forward_pre_hooks) + len(part._forward_hooks) for part in module.modules()],
        "gradients": [parameter.requires_grad for parameter in module.parameters()],
        "random state": torch.get_rng_state(),
        "kernels": torch.backends.quantized.engine,
    }


def difference(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """What of ``state_of_caller`` is not the same."""

    def same(one: object, other: object) -> bool:
        if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
            return torch.equal(one, other)
        if isinstance(one, dict) and isinstance(other, dict):
            return list(one) == list(other) and all(same(one[name], other[name]) for name in one)
        return one == other

    return [what for what in before if not same(before[what], after[what])]


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``engine`` and ``precision`` is run for every variant that vitlet knows."""
    if {"engine", "precision"} <= set(metafunc.fixturenames):
        variants = [
            pytest.param(engine, precision, id=f"{name}-{precision}")
            for name, engine in engines().items()
            for precision in engine.precisions()
        ]
        metafunc.parametrize(("engine", "precision"), variants)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """These models are too small to be shared out."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def classifiers() -> dict[str, Classifier]:
    return {name: make_classifier(architecture) for name, architecture in ARCHITECTURES.items()}


@pytest.fixture(scope="session")
def distilled(classifiers: dict[str, Classifier]) -> Classifier:
    return classifiers["distilled"]


@pytest.fixture(scope="session")
def changed_by_export() -> dict[tuple[str, Precision], list[str]]:
    """What exporting the distilled classifier changed that is its caller's, for each variant that was ``exported``."""
    return {}


@pytest.fixture(scope="session")
def exported(
    classifiers: dict[str, Classifier],
    changed_by_export: dict[tuple[str, Precision], list[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Artifact]:
    """Export a classifier (the distilled one if not said otherwise), once for each variant; skip
    where the variant cannot be had here."""
    folder = tmp_path_factory.mktemp("exported")
    done: dict[tuple[str, str, Precision], Artifact] = {}

    def export(engine: Engine, precision: Precision, name: str = "distilled") -> Artifact:
        key = (name, engine.name, precision)
        if not is_given(engine, precision, name):
            pytest.skip(f"exporting {name} with {engine.name} {precision} takes long and would show nothing new")
        if key not in done:
            before = state_of_caller(classifiers[name].module) if name == "distilled" else None
            try:
                path = folder / "-".join(map(str, key))
                done[key] = engine.export(
                    classifiers[name], precision, path, calibration=calibration_for(classifiers[name])
                )
            except Unsupported as unsupported:
                pytest.skip(unsupported.reason)
            if before is not None:
                changed_by_export[engine.name, precision] = difference(
                    before, state_of_caller(classifiers[name].module)
                )
        return done[key]

    return export


# Functions that tests call, as fixtures: test modules cannot import from here.
@pytest.fixture(name="make_classifier", scope="session")
def _make_classifier() -> Callable[..., Classifier]:
    return make_classifier


@pytest.fixture(name="images_for", scope="session")
def _images_for() -> Callable[..., np.ndarray]:
    return images_for


@pytest.fixture(name="calibration_for", scope="session")
def _calibration_for() -> Callable[..., Calibration]:
    return calibration_for


@pytest.fixture(name="logits_of", scope="session")
def _logits_of() -> Callable[..., np.ndarray]:
    return logits_of


@pytest.fixture(name="state_of_caller", scope="session")
def _state_of_caller() -> Callable[..., dict[str, object]]:
    return state_of_caller


@pytest.fixture(name="difference", scope="session")
def _difference() -> Callable[..., list[str]]:
    return difference


@pytest.fixture(name="relative_error", scope="session")
def _relative_error() -> Callable[..., float]:
    return relative_error


@pytest.fixture(name="fresh_process", scope="session")
def _fresh_process() -> Callable[..., Finished]:
    return fresh_process
