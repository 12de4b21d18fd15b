"""Operations that stay in float while the others become int8."""

from __future__ import annotations

import pytest
import torch

import vitlet
from vitlet.bundle.manifest import ModelFile
from vitlet.engines import engine, engines, mixes
from vitlet.errors import InvalidValue, Unsupported
from vitlet.records import Precision, from_json, to_json

MIXING = [
    (name, str(precision)) for name, one in engines().items() for precision in one.precisions() if mixes(one, precision)
]


def linears(classifier):
    return tuple(name for name, module in classifier.module.named_modules() if isinstance(module, torch.nn.Linear))


def test_some_engines_mix():
    assert {name for name, _ in MIXING} == {"onnxruntime", "openvino"}


@pytest.mark.parametrize(("name", "precision"), MIXING)
def test_what_is_left_in_float_costs_nothing(
    name, precision, distilled, calibration_for, images_for, logits_of, relative_error, tmp_path
):
    images, wanted = images_for(distilled, 4), logits_of(distilled, images_for(distilled, 4))
    attention = ("blocks.0.attention.scores", "blocks.1.attention.weighted_sum")
    choices = {
        "plain": (),
        "one": ("blocks.1.mlp.up",),
        "most": (*(one for one in linears(distilled) if one != "blocks.0.mlp.down"), "embed", *attention),
    }
    sizes, errors = {}, {}
    for label, in_float in choices.items():
        chosen = Precision(precision, in_float=in_float)
        try:
            artifact = engine(name).export(distilled, chosen, tmp_path / label, calibration=calibration_for(distilled))
        except Unsupported as error:
            assert "bf16" in str(error)  # noqa: PT017 - this processor has none
            pytest.skip(str(error))
        assert artifact.precision == chosen
        assert all(one in artifact.note for one in in_float)
        assert from_json(to_json(ModelFile.of(artifact)), ModelFile).precision == chosen
        session = engine(name).open(artifact, threads=1)
        errors[label] = relative_error(session.run(images), wanted)
        sizes[label] = artifact.size_bytes
        session.close()
    assert errors["most"] < errors["plain"] / 2
    one = distilled.module.blocks[1].mlp.up.weight
    assert sizes["one"] - sizes["plain"] == pytest.approx(3 * one.numel(), rel=0.02)


@pytest.mark.parametrize("name", sorted({name for name, _ in MIXING}))
def test_no_such_operation(name, distilled, calibration_for, tmp_path):
    precision = Precision("int8-static", in_float=("blocks.9.mlp.up",))
    with pytest.raises(InvalidValue, match=r"'blocks\.9\.mlp\.up' is no operation of test:vit"):
        engine(name).export(distilled, precision, tmp_path / "x", calibration=calibration_for(distilled))
    assert not list(tmp_path.iterdir())


def test_nothing_left_to_quantize(distilled, tmp_path):
    precision = Precision("int8-dynamic", in_float=(*linears(distilled), "embed"))
    with pytest.raises(Unsupported, match="no linear layer is left"):
        engine("onnxruntime").export(distilled, precision, tmp_path / "x")


def test_other_engines_refuse(distilled, tmp_path):
    with pytest.raises(Unsupported, match="engine 'native' cannot leave operations of int8-dynamic in float"):
        engine("native").export(distilled, Precision("int8-dynamic", in_float=("head",)), tmp_path / "x")


def test_through_the_public_call(distilled, tmp_path):
    found = vitlet.export(
        distilled, engine="onnxruntime", precision="int8-dynamic", out=tmp_path / "model", in_float=["head"]
    )
    assert found.precision == Precision("int8-dynamic", in_float=("head",))
    with pytest.raises(InvalidValue, match="'nothing' is no operation"):
        vitlet.export(
            distilled, engine="onnxruntime", precision="int8-dynamic", out=tmp_path / "x", in_float=["nothing"]
        )


def test_what_a_precision_may_say():
    assert str(Precision("int8-static", in_float=("head", "embed"))) == "int8-static-2float"
    with pytest.raises(InvalidValue, match="int8 precisions, not in fp32"):
        Precision("fp32", in_float=("head",))
    with pytest.raises(InvalidValue, match="twice"):
        Precision("int8-static", in_float=("head", "head"))
