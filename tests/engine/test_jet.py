"""A net's derivatives along its one input, against differences."""

from __future__ import annotations

import numpy as np
import pytest

from lmp_dp.engine import jet
from lmp_dp.model import load


@pytest.mark.parametrize("name", ["oh_two_sided", "oh_one_sided", "oh_overflow", "cu_tiny"])
def test_jets_of_networks(name: str, converted) -> None:
    """G, G', G'' of nets with time steps and joins, against differences (error h^2 and eps/h)."""
    net = load(converted(name)).descriptor.nets.embeddings[0]
    s = np.linspace(-1, 4, 101) + 0.00123
    _, dg, ddg = jet.evaluate(net, s)
    plus, minus = (jet.evaluate(net, s + h) for h in (1e-5, -1e-5))
    np.testing.assert_allclose(dg, (plus[0] - minus[0]) / 2e-5, atol=1e-7)
    if name != "oh_two_sided":  # relu: no second derivative at kinks
        np.testing.assert_allclose(ddg, (plus[1] - minus[1]) / 2e-5, atol=1e-6)
