"""Activation functions and their derivatives, for NumPy and CuPy arrays.

``value_and_slope(name, z)`` returns act(z) and act'(z) in the precision of ``z``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from lmp_dp.engine.namespace import namespace_of
from lmp_dp.engine.neighbourhood import Array

ValueAndSlope = Callable[[Array], tuple[Array, Array]]

#: gelu(z) = z/2 (1 + tanh(sqrt(2/pi) (z + c z^3))): c is 0.044715 in DeePMD-kit's own operator,
#: and the float32 nearest to it in TensorFlow's (gelu_tf) in every precision.
GELU_SCALE = math.sqrt(2.0 / math.pi)
GELU_CUBIC = {"gelu": 0.044715, "gelu_tf": float(np.float32(0.044715))}


def value_and_slope(name: str, z: Array) -> tuple[Array, Array]:
    """act(z) and its derivative; `name` as `lmp_dp.model.network.canonical_activation` gives it."""
    kind, _, threshold = name.partition(":")
    if kind == "silut":
        return _silut(z, float(threshold))
    if kind in GELU_CUBIC:
        return _gelu(z, GELU_CUBIC[kind])
    return _PLAIN[kind](z)


def curvature(name: str, z: Array) -> Array:
    """act''(z), for tables; zero where it does not exist (relu, relu6)."""
    kind, _, threshold = name.partition(":")
    xp = namespace_of(z)
    if kind in ("relu", "relu6", "linear"):
        return xp.zeros_like(z)
    if kind in GELU_CUBIC:
        cubic = GELU_CUBIC[kind]
        tanh = xp.tanh(GELU_SCALE * (z + cubic * z * z * z))
        inner, inner_slope = GELU_SCALE * (1 + 3 * cubic * z * z), 6 * GELU_SCALE * cubic * z
        slope = 1 - tanh * tanh
        return slope * inner + 0.5 * z * slope * (inner_slope - 2 * tanh * inner * inner)
    if kind == "silut":
        factor, _ = silut_constants(float(threshold))
        tanh = xp.tanh(factor * (z - float(threshold)))
        beyond = -2 * factor * factor * tanh * (1 - tanh * tanh)
        return xp.where(z < float(threshold), curvature("silu", z), beyond)
    if kind == "tanh":
        value, slope = _tanh(z)
        return -2 * value * slope
    value, slope = _sigmoid(z)
    if kind == "sigmoid":
        return slope * (1 - 2 * value)
    if kind == "softplus":
        return slope
    assert kind == "silu", kind
    return slope * (2 + z * (1 - 2 * value))


def silut_constants(threshold: float) -> tuple[float, float]:
    """Slope and value of silu at the threshold: beyond it silut is tanh(slope (z - T)) + value."""
    sigmoid = 1.0 / (1.0 + math.exp(-threshold))
    return sigmoid * (1.0 + threshold * (1.0 - sigmoid)), threshold * sigmoid


def _tanh(z: Array) -> tuple[Array, Array]:
    value = namespace_of(z).tanh(z)
    return value, 1 - value * value


def _relu(z: Array) -> tuple[Array, Array]:
    xp = namespace_of(z)
    return xp.maximum(z, 0), (z > 0).astype(z.dtype)


def _relu6(z: Array) -> tuple[Array, Array]:
    xp = namespace_of(z)
    return xp.clip(z, 0, 6), ((z > 0) & (z < 6)).astype(z.dtype)


def _sigmoid_value(z: Array) -> Array:
    # (1 + tanh(z/2)) / 2 never overflows
    return 0.5 * (1 + namespace_of(z).tanh(0.5 * z))


def _softplus(z: Array) -> tuple[Array, Array]:
    xp = namespace_of(z)
    return xp.log1p(xp.exp(-xp.abs(z))) + xp.maximum(z, 0), _sigmoid_value(z)


def _sigmoid(z: Array) -> tuple[Array, Array]:
    value = _sigmoid_value(z)
    return value, value * (1 - value)


def _gelu(z: Array, cubic: float) -> tuple[Array, Array]:
    tanh = namespace_of(z).tanh(GELU_SCALE * (z + cubic * z * z * z))
    inner_slope = GELU_SCALE * (1 + 3 * cubic * z * z)
    return 0.5 * z * (1 + tanh), 0.5 * (1 + tanh) + 0.5 * z * (1 - tanh * tanh) * inner_slope


def _silu(z: Array) -> tuple[Array, Array]:
    sigmoid = _sigmoid_value(z)
    return z * sigmoid, sigmoid * (1 + z * (1 - sigmoid))


def _silut(z: Array, threshold: float) -> tuple[Array, Array]:
    xp = namespace_of(z)
    slope, constant = silut_constants(threshold)
    tanh = xp.tanh(slope * (z - threshold))
    below, below_slope = _silu(z)
    inside = z < threshold
    return (
        xp.where(inside, below, tanh + constant),
        xp.where(inside, below_slope, slope * (1 - tanh * tanh)),
    )


def _linear(z: Array) -> tuple[Array, Array]:
    return z, namespace_of(z).ones_like(z)


_PLAIN: dict[str, ValueAndSlope] = {
    "tanh": _tanh,
    "relu": _relu,
    "relu6": _relu6,
    "softplus": _softplus,
    "sigmoid": _sigmoid,
    "silu": _silu,
    "linear": _linear,
}
