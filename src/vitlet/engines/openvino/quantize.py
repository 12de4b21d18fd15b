"""Small weights and int8 arithmetic for OpenVINO's graph, by NNCF."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from vitlet.data.calibration import Calibration
from vitlet.engines.artifacts import ATTENTION_PRODUCTS
from vitlet.engines.openvino.quiet import last_line, nncf, openvino, silenced
from vitlet.errors import Unsupported
from vitlet.records import Precision

#: SmoothQuant's share of an activation's range that moves into the weights (2211.10438, eq. 4).
_SMOOTHING = 0.5
_SMALL_TYPES, _FLOAT_TYPES = {"i8", "u8", "i4", "u4"}, {"f32", "f16"}
_PRODUCTS = {"MatMul", "Convolution", "ScaledDotProductAttention"}
_LARGEST_GROUP = {"int8": 128, "int4": 64}
_SMALLEST_GROUP = 32


def quantized(model: Any, calibration: Calibration, weight_bits: int, in_float: Sequence[str] = ()) -> Any:
    """``openvino.Model`` with int8 weights (per output channel) and activations (per tensor), but for the operations
    ``in_float``. With 7 ``weight_bits`` the weights use but half of their range.

    What NNCF's transformer settings leave open was chosen on vitlet's bundled model (500 images, 128
    of them to calibrate; relative error of the logits in brackets). Ranges are the smallest and
    largest value over all images (0.010), and not their mean over images, NNCF's choice (0.025),
    which clips. SmoothQuant at 0.5 is right both for plain weights and for weights with outlier
    channels as large ViTs have them (0.010, 0.010); at NNCF's 0.95 it is, too, but is known to
    damage trained ViTs; at 0.15, its choice for ViT-B, it is a little worse (0.014, 0.013); without
    it outliers cost much (0.011, 0.092). Asymmetric activations ("mixed") win over symmetric
    ones (0.015) and cost 1 % of the latency.

    Raises:
        Unsupported: NNCF fails on this model, or its graph does not tell where one of the operations is.
    """
    toolkit = nncf()
    kept = [name for operation in in_float for name in _nodes_of(model, operation)]
    with silenced():
        ranges = import_module("nncf.quantization.range_estimator").RangeEstimatorParametersSet
        smoothing = import_module("nncf.quantization.advanced_parameters").AdvancedSmoothQuantParameters
        settings = toolkit.AdvancedQuantizationParameters(
            overflow_fix=toolkit.OverflowFix.FIRST_LAYER if weight_bits == 8 else toolkit.OverflowFix.ENABLE,
            smooth_quant_alphas=smoothing(matmul=_SMOOTHING),
            activations_range_estimator_params=ranges.MINMAX,
        )
        try:
            return toolkit.quantize(
                model,
                toolkit.Dataset(calibration),
                model_type=toolkit.ModelType.TRANSFORMER,
                preset=toolkit.QuantizationPreset.MIXED,
                subset_size=len(calibration),
                fast_bias_correction=True,
                ignored_scope=toolkit.IgnoredScope(names=kept),
                advanced_parameters=settings,
            )
        except Exception as error:  # graphs that NNCF does not know make it raise anything
            raise Unsupported(f"NNCF cannot quantize this model ({last_line(error)}); use fp32") from error


def _nodes_of(model: Any, operation: str) -> list[str]:
    """The nodes that multiply for an operation, a module's path ("blocks.0.mlp.up")."""
    parent, _, product = operation.rpartition(".")
    # Both products of attention are one node, of their module.
    module = parent if product in ATTENTION_PRODUCTS else operation
    found = [
        node.get_friendly_name()
        for node in model.get_ops()
        if node.get_type_name() in _PRODUCTS and node.get_friendly_name().startswith(f"__module.{module}/")
    ]
    if not found:
        raise Unsupported(f"OpenVINO's graph of this model does not tell which of its products is {operation!r}")
    return found


def with_small_weights(model: Any, precision: Precision) -> Any:
    """``openvino.Model`` whose linears have int8 weights (per output channel) or int4 weights (in
    groups along the input); in int4 the heads stay int8.

    Raises:
        Unsupported: NNCF fails on this model.
    """
    toolkit = nncf()
    with silenced():
        options: dict[str, Any] = {"mode": toolkit.CompressWeightsMode.INT8_ASYM}
        if precision.name.startswith("int4"):
            options = {
                "mode": toolkit.CompressWeightsMode.INT4_ASYM,
                "group_size": group_size(model, precision),
                "ratio": 1.0,
                "advanced_parameters": toolkit.AdvancedCompressionParameters(
                    group_size_fallback_mode=toolkit.GroupSizeFallbackMode.ADJUST
                ),
            }
        try:
            return toolkit.compress_weights(model, **options)
        except Exception as error:
            raise Unsupported(f"NNCF cannot compress this model's weights ({last_line(error)}); use fp32") from error


def group_size(model: Any, precision: Precision) -> int:
    """The number of neighbouring inputs that share one scale, for weights in int4 and for activations
    that are quantized as they come: the largest of 128 (int4: 64), 64, 32 that divides the inputs of
    every linear, since OpenVINO computes a linear whose inputs it does not divide in fp32.

    Larger groups are faster: of DeiT-S in int8-dynamic, groups of 128 take 0.80 and of 32, OpenVINO's
    choice, 1.0 of the time.
    """
    inputs = [node.input(1) for node in model.get_ops() if node.get_type_name() == "MatMul"]
    weights = [port for port in inputs if port.get_source_output().get_node().get_type_name() == "Constant"]
    common = math.gcd(*(port.get_shape()[-1] for port in weights))
    return max(_SMALLEST_GROUP, math.gcd(common, _LARGEST_GROUP[precision.name[:4]]))


def small_share(model: Any) -> float:
    """The share, above 0 and up to 1, of the model's constants that NNCF made int8 or int4.

    Raises:
        Unsupported: none of them.
    """
    sizes = {True: 0, False: 0}
    for node in model.get_ops():
        kind = node.get_element_type().get_type_name() if node.get_type_name() == "Constant" else ""
        if kind in _SMALL_TYPES or kind in _FLOAT_TYPES:
            sizes[kind in _SMALL_TYPES] += math.prod(node.get_output_shape(0))
    if not sizes[True]:
        raise Unsupported("the model has no layer whose weights NNCF could make small; use fp32")
    return sizes[True] / sum(sizes.values())


def with_half_weights(model: Any) -> Any:
    """``model`` itself, its weights stored in fp16; OpenVINO packs them for the arithmetic it computes in."""
    openvino()
    import_module("openvino._offline_transformations").compress_model_transformation(model)
    return model
