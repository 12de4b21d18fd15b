"""Times of operations: which of a profile's nodes belong to which operation, and a real pair of profiles."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitlet.engines.onnxruntime.node_times import _owners
from vitlet.engines.onnxruntime.operations import prefixes_of
from vitlet.measure.operation_times import OperationTime, OperationTimes

PREFIXES = prefixes_of(("embed", "blocks.0.mlp.up", "blocks.0.mlp.down", "head"))


def events(*named: tuple[str, str]) -> list[dict]:
    return [{"name": f"{name}_kernel_time", "args": {"op_name": kind}, "dur": 1} for name, kind in named]


def test_nodes_find_their_operation() -> None:
    owners = _owners(
        events(
            ("/embed/Conv_output_0_nchwc", "Conv"),
            ("ReorderOutput", "ReorderOutput"),
            ("/blocks/blocks.0/Add", "Add"),
            ("linear_3/input_int8/QuantizeLinear", "QuantizeLinear"),
            ("/blocks/blocks.0/mlp/up/Add_output_0/MatMulIntegerToFloat", "MatMulIntegerToFloat"),
            ("/blocks/blocks.0/mlp/activation/Erf", "Gelu"),
            ("/blocks/blocks.0/mlp/down/MatMul", "MatMul"),
            ("/blocks/blocks.0/mlp/down/Add", "Add"),
            ("logits/DynamicQuantizeMatMul", "DynamicQuantizeMatMul"),
        ),
        PREFIXES,
    )
    up, down = "blocks.0.mlp.up", "blocks.0.mlp.down"
    assert owners == ["embed", "embed", "", up, up, "", down, down, "head"]


def test_names_of_modules() -> None:
    assert prefixes_of(["blocks.11.attention.qkv", "layers.1.blocks.0.mlp.fc1"]) == {
        "/blocks/blocks.11/attention/qkv": "blocks.11.attention.qkv",
        "/layers/layers.1/blocks/blocks.0/mlp/fc1": "layers.1.blocks.0.mlp.fc1",
    }


def test_saved_is_the_difference_of_medians() -> None:
    one = OperationTime((3.0, 1.0, 9.0), (1.0, 2.0, 0.5))
    assert one.saved_ms == 2.0
    assert OperationTimes({"a": one, "b": one}).saved_ms == 4.0


def test_without_onnx_runtime_there_is_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from vitlet.certify import inspect
    from vitlet.records import Availability

    class Missing:
        def available(self) -> Availability:
            return Availability(False, "ONNX Runtime is not installed")

    monkeypatch.setattr(inspect, "engine", lambda name: Missing())
    found = inspect.times_in_float(None, None, None, None, tmp_path)
    assert (found.times, found.reason) == ({}, "ONNX Runtime is not installed")
