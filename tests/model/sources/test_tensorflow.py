"""The reader of TensorFlow graphs, where a damaged or unusual graph is the subject."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import MODELS
from lmp_dp.errors import ModelFileError, UnsupportedModelError
from lmp_dp.model.sources.tensorflow import graphdef
from lmp_dp.model.sources.tensorflow.graph import Graph
from lmp_dp.model.sources.tensorflow.model import read_graph


def damage(graph, rng: np.random.Generator) -> None:
    """Rename, cut off, mix up about one node in fifty, but for gradients, which nothing reads."""
    nodes = list(graph.node)
    for node in nodes:
        if node.name.startswith("gradients") or rng.random() > 0.02:
            continue
        kind = rng.integers(6)
        if kind == 0:
            node.name += "x"
        elif kind == 1:
            node.op = str(rng.choice(["Identity", "Slice", "Const"]))
        elif kind == 2:
            del node.input[:]
        elif kind == 3:
            for key in list(node.attr):
                del node.attr[key]
        elif kind == 4 and len(node.input):
            node.input[0] = node.name
        elif node.op == "Const":
            other = nodes[int(rng.integers(len(nodes)))]
            node.attr["value"].CopyFrom(other.attr["value"])


@pytest.mark.parametrize("name", ["oh_two_sided", "e3_two"])
def test_damaged_graphs_are_read_or_refused(name: str) -> None:
    content, refused = (MODELS / f"{name}.pb").read_bytes(), 0
    for seed in range(50):
        graph = graphdef.parse(content, text=False)
        damage(graph, np.random.default_rng(seed))
        try:
            read_graph(Graph(graph))
        except (ModelFileError, UnsupportedModelError):
            refused += 1
    assert 10 < refused < 50


def without_script(name: str) -> Graph:
    """A random model's graph as one of DeePMD-kit 2.0: no training script in it."""
    graph = graphdef.parse((MODELS / f"{name}.pb").read_bytes(), text=False)
    for node in graph.node:
        if node.name.startswith("train_attr/"):
            node.name = f"nothing/{node.name}"
    return Graph(graph)


@pytest.mark.parametrize("name", ["e3_two", "tebd_two_sided"])
def test_what_a_model_computes_stands_in_its_operations(name: str) -> None:
    """Which descriptor, its sizes, activations and nets: none of it needs the training script."""
    found = read_graph(without_script(name))
    expected = read_graph(Graph.read(MODELS / f"{name}.pb"))
    assert found.descriptor.kind == expected.descriptor.kind
    assert found.descriptor.describe() == expected.descriptor.describe()
    assert found.fitting.nets[0].layers[0].activation == "tanh"
    if expected.fitting.type_to is not None:
        np.testing.assert_array_equal(found.fitting.type_to, expected.fitting.type_to)


def test_shared_layers_need_the_script() -> None:
    with pytest.raises(ModelFileError, match=r"shared fitting layers .* --input input\.json"):
        read_graph(without_script("oh_shared_layers"))


def test_embeddings_of_electronic_configurations_are_refused() -> None:
    graph = graphdef.parse((MODELS / "tebd_two_sided.pb").read_bytes(), text=False)
    for node in graph.node:
        if node.op == "OneHot":
            node.op = "Const"
    with pytest.raises(UnsupportedModelError, match="use_econf_tebd"):
        read_graph(Graph(graph))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"descriptor": {"list": 3}}, "'descriptor/list' .* expected a list"),
        ({"descriptor": {"list": [3]}}, "'descriptor/list/0' .* expected an object"),
        ({"descriptor": {"list": [{"type": 3}]}}, "'descriptor/list/0/type' .* a string"),
        ({"type_embedding": 3}, "'type_embedding' .* expected an object"),
        ({"fitting_net": {"layer_name": [3]}}, "'fitting_net/layer_name' .* strings and nulls"),
    ],
)
def test_training_inputs_of_another_shape(model: dict, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        read_graph(Graph.read(MODELS / "tebd_two_sided.pb"), {"model": model})
