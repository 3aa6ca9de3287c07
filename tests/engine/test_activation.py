"""Every activation function: its value against the formula, its slope against its value."""

from __future__ import annotations

import numpy as np
import pytest

from lmp_dp.engine.activation import curvature, value_and_slope
from lmp_dp.model.network import ACTIVATIONS, canonical_activation

Z = np.concatenate([np.linspace(-12, 12, 401) + 0.0031, [-700.0, 700.0]])


def exact(name: str, z: np.ndarray) -> np.ndarray:
    z = z.astype(np.longdouble)
    sigmoid = 1 / (1 + np.exp(-z))
    root = np.sqrt(np.longdouble(2) / np.pi)
    if name.startswith("silut"):
        threshold = np.longdouble(name.split(":")[1])
        s = 1 / (1 + np.exp(-threshold))
        slope = s + threshold * s * (1 - s)
        return np.where(
            z < threshold, z * sigmoid, np.tanh(slope * (z - threshold)) + threshold * s
        )
    return {
        "tanh": lambda: np.tanh(z),
        "relu": lambda: np.maximum(z, 0),
        "relu6": lambda: np.clip(z, 0, 6),
        "softplus": lambda: np.logaddexp(0, z),
        "sigmoid": lambda: sigmoid,
        "gelu": lambda: z / 2 * (1 + np.tanh(root * (z + np.longdouble("0.044715") * z**3))),
        "gelu_tf": lambda: z / 2 * (1 + np.tanh(root * (z + np.float32(0.044715) * z**3))),
        "silu": lambda: z * sigmoid,
        "linear": lambda: z,
    }[name]()


@pytest.mark.parametrize(
    "name", [*(n for n in ACTIVATIONS if n != "silut"), "silut:3.0", "silut:0.7"]
)
def test_value_and_slope(name: str) -> None:
    value, slope = value_and_slope(name, Z)
    # a few units in the last place of the largest intermediate value (z itself)
    np.testing.assert_allclose(value, exact(name, Z), rtol=1e-14, atol=3e-15)
    step = 1e-5
    difference = (value_and_slope(name, Z + step)[0] - value_and_slope(name, Z - step)[0]) / (
        2 * step
    )
    smooth = np.abs(Z) < 100
    if name.startswith("relu"):
        smooth &= (np.abs(Z) > 2 * step) & (np.abs(Z - 6) > 2 * step)
    if name.startswith("silut"):  # its second derivative jumps at the threshold
        smooth &= np.abs(Z - float(name.split(":")[1])) > 2 * step
    np.testing.assert_allclose(slope[smooth], difference[smooth], atol=1e-9)
    single, single_slope = value_and_slope(name, Z.astype(np.float32))
    assert single.dtype == single_slope.dtype == np.float32
    np.testing.assert_allclose(single[smooth], value[smooth], rtol=1e-6, atol=2e-6)


def test_names() -> None:
    assert canonical_activation("None") == canonical_activation("linear") == "linear"
    assert canonical_activation("silut") == "silut:3.0"
    assert canonical_activation("SiLUT:1.5") == "silut:1.5"
    with pytest.raises(Exception, match="unknown activation function 'swish'; known are tanh"):
        canonical_activation("swish")
    with pytest.raises(Exception, match="'x' is not a number"):
        canonical_activation("silut:x")


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_curvature_is_the_derivative_of_the_slope(name: str) -> None:
    name = "silut:1.5" if name == "silut" else name
    z = np.linspace(-8, 8, 320) + 0.0031
    z = z[np.abs(z - 1.5) > 1e-3]
    if name.startswith("relu"):
        z = z[(np.abs(z) > 1e-3) & (np.abs(z - 6) > 1e-3)]
    step = 1e-5
    slope = [value_and_slope(name, z + s)[1] for s in (step, -step)]
    np.testing.assert_allclose(curvature(name, z), (slope[0] - slope[1]) / (2 * step), atol=1e-8)
