"""loc_frame of TensorFlow graphs: what is refused."""

from __future__ import annotations

import pytest

from conftest import source_graph
from lmp_dp.errors import UnsupportedModelError
from lmp_dp.model.sources.tensorflow import graphdef
from lmp_dp.model.sources.tensorflow.graph import Graph
from lmp_dp.model.sources.tensorflow.model import read_graph


def test_radial_neighbours_beside_angular_axes() -> None:
    """DeePMD-kit's forces do not even add up to 0 there, so that there is nothing to agree with."""
    content = graphdef.parse(source_graph("lf_cu").read_bytes(), text=False)
    (node,) = (node for node in content.node if node.op == "Descrpt")
    node.attr["sel_r"].list.i[:] = [5]
    with pytest.raises(UnsupportedModelError, match="forces are not the derivative of its energy"):
        read_graph(Graph(content))
