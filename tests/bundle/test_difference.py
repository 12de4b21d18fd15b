"""What is told of two bundles that differ."""

from __future__ import annotations

from dataclasses import replace

from vitlet.bundle.difference import differences
from vitlet.records import Precision


def test_nothing_is_another(manifest):
    assert differences(manifest, replace(manifest, created="2030-01-01T00:00:00+00:00")) == ()


def test_everything_is_another(manifest):
    spec = replace(manifest.image_spec, mean=(0.1, 0.2, 0.3), interpolation="lanczos")
    packages = {**manifest.environment.packages, "torch": "9.9", "new": "1.0"}
    new = replace(
        manifest,
        reference="another",
        image_spec=spec,
        model=replace(manifest.model, engine="openvino", precision=Precision("bf16")),
        architecture=replace(manifest.architecture, depth=manifest.architecture.depth + 1),
        environment=replace(manifest.environment, processor="Z80", packages=packages),
    )
    old, before = manifest, manifest.model
    assert differences(old, new) == (
        f"It was made from another instead of {old.reference}.",
        f"It runs on openvino bf16 instead of {before.engine} {before.precision}.",
        f"Images are prepared otherwise: interpolation is lanczos instead of {old.image_spec.interpolation}.",
        "Images are prepared otherwise: mean is (0.1, 0.2, 0.3) instead of "
        f"({', '.join(f'{one:g}' for one in old.image_spec.mean)}).",
        "The model has another architecture.",
        f"Versions changed: {_version(old, 'torch')}, new none -> 1.0.",
        f"It was measured on Z80 instead of {old.environment.processor}.",
    )


def _version(manifest, name: str) -> str:
    return f"{name} {manifest.environment.packages.get(name, 'none')} -> 9.9"
