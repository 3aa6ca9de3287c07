"""Frozen graphs read without TensorFlow: as TensorFlow reads them; damaged ones are refused."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format

from conftest import RECORDED, TESTS, source_graph
from lmp_dp.errors import ModelFileError
from lmp_dp.model.sources.tensorflow import graphdef
from lmp_dp.model.sources.tensorflow.graph import Graph

needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is what it is compared with"
)


# --------------------------------------------------------------------------- against TensorFlow
@pytest.fixture(scope="module")
def theirs():
    """TensorFlow's own class of GraphDef messages, and its reader of constants."""
    from tensorflow.core.framework import graph_pb2
    from tensorflow.python.framework import tensor_util

    return graph_pb2.GraphDef, tensor_util.MakeNdarray


def assert_same_array(found: np.ndarray, expected: np.ndarray) -> None:
    if expected.dtype.name == "bfloat16":  # which NumPy lacks
        expected = expected.astype(np.float32)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    if expected.dtype == object:
        assert found.tolist() == expected.tolist()
    else:
        assert found.tobytes() == expected.tobytes()  # to the last bit, and of NaN too


@needs_tensorflow
@pytest.mark.parametrize("name", RECORDED)
def test_all_graphs_are_read_as_tensorflow_reads_them(name: str, theirs, tmp_path: Path) -> None:
    """Every node of every graph, from its binary and from its text form."""
    graph_def, make_array = theirs
    source = source_graph(name)
    expected = graph_def.FromString(source.read_bytes())
    text = tmp_path / "model.pbtxt"
    text.write_text(text_format.MessageToString(expected))
    paths = [source, text] if text.stat().st_size < 4_000_000 else [source]
    for path in paths:
        graph = Graph.read(path)
        assert list(graph.names()) == [node.name for node in expected.node]
        for node in expected.node:
            assert graph.op(node.name) == node.op
            inputs = [i.partition(":")[0] for i in node.input if not i.startswith("^")]
            assert graph.inputs(node.name) == inputs
            assert graph.is_const(node.name) == (node.op == "Const")
            for key, value in node.attr.items():
                kind = value.WhichOneof("value")
                if kind in ("i", "f", "b", "s", "type"):
                    assert graph.attr(node.name, key) == getattr(value, kind)
                elif kind == "list" and key in ("sel_a", "sel_r"):
                    assert graph.attr(node.name, key) == list(value.list.i)
            if node.op == "Const":
                assert_same_array(graph.const(node.name), make_array(node.attr["value"].tensor))


@needs_tensorflow
def test_messages_are_described_as_tensorflow_describes_them(theirs) -> None:
    """Names, numbers, types and labels of all fields and values of enumerations."""
    seen: set[str] = set()

    def compare(ours, theirs) -> None:
        if ours.full_name in seen:
            return
        seen.add(ours.full_name)
        for field in ours.fields:
            other = theirs.fields_by_name[field.name]
            assert (field.number, field.type) == (other.number, other.type), field.full_name
            assert is_repeated(field) == is_repeated(other), field.full_name
            one_of = [f.containing_oneof and [x.name for x in f.containing_oneof.fields]
                      for f in (field, other)]  # fmt: skip
            assert one_of[0] is None or set(one_of[0]) <= set(one_of[1]), field.full_name
            if field.enum_type is not None:
                values, others = ({v.name: v.number for v in f.enum_type.values}
                                  for f in (field, other))  # fmt: skip
                assert values.items() <= others.items(), field.full_name
            if field.message_type is not None:
                assert field.message_type.GetOptions().map_entry == (
                    other.message_type.GetOptions().map_entry
                )
                compare(field.message_type, other.message_type)

    def is_repeated(field) -> bool:
        return field.is_repeated if hasattr(field, "is_repeated") else field.label == 3

    compare(graphdef.parse(b'node { name: "a" }', text=True).DESCRIPTOR, theirs[0].DESCRIPTOR)
    assert len(seen) > 10


@needs_tensorflow
@pytest.mark.parametrize(
    "values",
    [
        np.array([[1.5, -0.0, np.nan], [np.inf, 1e-40, 3.0]], "f4"),
        np.array([1e-310, -np.inf]),
        np.array([6.1e-5, 65504.0, -0.0, np.nan], "f2"),
        np.float16(1.5),
        np.array([True, False]),
        *(np.array([[0, 1], [np.iinfo(t).min, np.iinfo(t).max]], t)
          for t in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")),
        np.zeros((3, 0)),
        np.zeros((0, 2), "f2"),
        np.zeros(0, "i8"),
        np.float64(2.0),
        np.array([b"a", b"\xff\x00", b""], object),
        np.array(b"one", object),
        np.zeros((2, 0), object),
    ],
    ids=str,
)  # fmt: skip
def test_constants_of_every_type(values: np.ndarray, theirs) -> None:
    from tensorflow.python.framework import tensor_util

    proto = tensor_util.make_tensor_proto(values, dtype="string" if values.dtype == "O" else None)
    assert_same_array(ours(proto), np.asarray(values))
    if values.dtype != object:  # as one value each, and not as a block of bytes
        values = values // 2 if values.dtype == np.uint64 else values  # TensorFlow's limit
        proto = tensor_util.make_tensor_proto(values.tolist(), values.dtype, values.shape)
        assert_same_array(ours(proto), np.asarray(values))


@needs_tensorflow
@pytest.mark.parametrize("dtype", ["half", "bfloat16", "float32", "float64", "int8", "bool"])
@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
@pytest.mark.parametrize("stored", [0, 1, 2])
def test_the_last_value_stands_for_all_that_follow(dtype, shape, stored, theirs) -> None:
    import tensorflow as tf

    proto = tf.make_tensor_proto(np.ones(()), dtype)
    proto.tensor_content = b""
    field = next(f.name for f, _ in proto.ListFields() if f.name.endswith("_val"))
    del getattr(proto, field)[:]
    stored = min(stored, int(np.prod(shape)))
    getattr(proto, field).extend([1, 0][:stored] if dtype == "bool" else [3, 5][:stored])
    del proto.tensor_shape.dim[:]
    for length in shape:
        proto.tensor_shape.dim.add(size=length)
    assert_same_array(ours(proto), theirs[1](proto))


def ours(proto) -> np.ndarray:
    """A TensorProto of TensorFlow by way of its bytes."""
    message = graphdef.parse(b'node { name: "a" }', text=True)
    tensor = message.node[0].attr["value"].tensor
    tensor.ParseFromString(proto.SerializeToString())
    return graphdef.array_of(tensor)


@needs_tensorflow
@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_both_live_in_one_process(first: str) -> None:
    """Messages of the same names, whichever is there first; TensorFlow's graph still runs."""
    path = source_graph("cu_tiny")
    steps = {
        "ours": f"""
from lmp_dp.model.sources.tensorflow.graph import Graph
graph = Graph.read({str(path)!r})
""",
        "theirs": f"""
import tensorflow as tf
graph_def = tf.compat.v1.GraphDef()
graph_def.ParseFromString(open({str(path)!r}, "rb").read())
with tf.Graph().as_default() as other:
    a = tf.constant(2.0) * 3.0
    with tf.compat.v1.Session() as session:
        assert session.run(a) == 6.0
""",
    }
    order = ("ours", "theirs", "ours") if first == "ours" else ("theirs", "ours", "theirs")
    code = (
        "".join(steps[step] for step in order)
        + """
assert list(graph.names()) == [node.name for node in graph_def.node]
assert type(graph_def).__module__.startswith("tensorflow")
"""
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


# --------------------------------------------------------------------------- without it
def constant(text: str) -> np.ndarray:
    content = (
        f'node {{ name: "a" op: "Const" attr {{ key: "value" value {{ tensor {{ {text} }} }} }} }}'
    )
    graph = graphdef.parse(content.encode(), text=True)
    return graphdef.array_of(graph.node[0].attr["value"].tensor)


def shape(*lengths: int) -> str:
    return "tensor_shape { " + " ".join(f"dim {{ size: {n} }}" for n in lengths) + " }"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"dtype: DT_DOUBLE {shape(2, 2)} double_val: 1.5", np.full((2, 2), 1.5)),
        (f"dtype: DT_FLOAT {shape(3)} float_val: 1 float_val: 2", np.array([1, 2, 2], "f4")),
        (f"dtype: DT_FLOAT {shape(3)}", np.zeros(3, "f4")),
        (f"dtype: DT_HALF {shape(2)} half_val: 15360 half_val: 49152", np.array([1, -2], "f2")),
        (f"dtype: DT_BFLOAT16 {shape(2)} half_val: 16256 half_val: 32704", [1.0, np.nan]),
        ('dtype: DT_BFLOAT16 tensor_shape {} tensor_content: "\\200\\077"', 1.0),
        (f'dtype: DT_STRING {shape(2)} string_val: "ab"', [b"ab", b"ab"]),
        (f"dtype: DT_STRING {shape(1)}", [b""]),
        (f"dtype: DT_INT64 {shape(0)}", np.zeros(0, "i8")),
        (f"dtype: DT_UINT8 {shape(2)} int_val: 255", np.array([255, 255], "u1")),
    ],
)
def test_values(text: str, expected) -> None:
    found = constant(text)
    np.testing.assert_array_equal(found, expected)
    if isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'dtype: DT_DOUBLE {shape(2)} tensor_content: "1234567"', r"shape \(2,\) has 7 bytes"),
        (f'dtype: DT_DOUBLE {shape(0)} tensor_content: "12345678"', r"shape \(0,\) has 8 bytes"),
        (f'dtype: DT_STRING {shape(1)} tensor_content: "a"', "DT_STRING and .* has 1 bytes"),
        (f"dtype: DT_INT32 {shape(1)} int_val: 1 int_val: 2", r"shape \(1,\) has 2 values"),
        (f"dtype: DT_INT32 {shape(0)} int_val: 1", r"shape \(0,\) has 1 values"),
        (f"dtype: DT_DOUBLE {shape(-1)} double_val: 1", r"shape \(-1,\), which is no shape"),
        (f"dtype: DT_DOUBLE {shape(-2, -3)} double_val: 1", "which is no shape"),
        (f"dtype: DT_DOUBLE {shape(2**28)} double_val: 1", "which is no shape"),
        (f"dtype: DT_DOUBLE {shape(2**40)}", "which is no shape"),
        (f"dtype: DT_DOUBLE {shape(2**14, 2**14)}", "which is no shape"),
        (f"dtype: DT_DOUBLE {shape(2**62, 2**62, 4)}", "which is no shape"),
        (f"dtype: DT_DOUBLE {shape(0, 2**62)}", "which is no shape"),
        (f"dtype: DT_DOUBLE {shape(*[1] * 33)} double_val: 1", "has 33 axes"),
        (f"dtype: DT_DOUBLE {shape(*[1] * 10_000)} double_val: 1", "has 10000 axes"),
        (f"dtype: DT_UINT8 {shape(1)} int_val: 256", "DT_UINT8 and .* has values beyond its range"),
        (f"dtype: DT_INT8 {shape(2)} int_val: -129 int_val: 1", "has values beyond its range"),
        (f"dtype: DT_HALF {shape(1)} half_val: -1", "DT_HALF and .* has values beyond its range"),
        (f"dtype: DT_COMPLEX64 {shape(1)}", "data type DT_COMPLEX64, which no model has"),
        (f"dtype: DT_DOUBLE_REF {shape(1)}", "data type number 102"),
        ("", "data type DT_INVALID"),
        (f"dtype: 77 {shape(1)}", "data type number 77"),
    ],
)  # fmt: skip
def test_constants_that_contradict_themselves(text: str, message: str) -> None:
    with pytest.raises(ModelFileError, match=message) as caught:
        constant(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it has no nodes"),
        (b"versions { producer: 1 }", "it has no nodes"),
        (b'node { nam: "a" }', 'no field named "nam"'),
        (b'node { name: "a" attr { key: "v" value { tensor { float_vals: 1 } } } }', "float_vals"),
        (b'node { name: "a" attr { key: "v" value { tensor { dtype: DT_REAL } } } }', "DT_REAL"),
        (b'node { name: "a" ', "not a TensorFlow GraphDef"),
        (b'node { name: "\xff" }', "not a TensorFlow GraphDef"),
        (b"node { name: 3 }", "not a TensorFlow GraphDef"),
        (b'node { name: "a" attr { key: "v" value { i: 99999999999999999999 } } }', "GraphDef"),
        (b"node { experimental_type " + b"{ args " * 50_000, "not a TensorFlow GraphDef"),
        (b"{" * 100_000, "not a TensorFlow GraphDef"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_damaged_text(content: bytes, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        graphdef.parse(content, text=True)


def test_what_models_are_not_read_from_is_skipped() -> None:
    text = b"""
    node { name: "a" op: "NoOp" device: "/cpu" experimental_debug_info { original_node_names: "b" }
           experimental_type { type_id: TFT_PRODUCT args { type_id: TFT_TENSOR } } }
    library { } versions { producer: 1987 min_consumer: 12 }
    """
    graph = graphdef.parse(text, text=True)
    assert [node.name for node in graph.node] == ["a"]
    binary = graph.SerializeToString()
    function = (
        b"\x12\x06\x0a\x04\x0a\x02\x0a\x00"  # library { function { signature { name: "" } } }
    )
    unknown = b"\xfa\x3f\x03abc"  # field 1023
    graph = graphdef.parse(binary + function + unknown, text=False)
    assert [node.name for node in graph.node] == ["a"]


def nested(depth: int) -> bytes:
    """A node's experimental_type with `depth` args inside of each other."""
    content = b""
    for _ in range(depth):
        content = b"\x12" + varint(len(content)) + content
    node = b"\x3a" + varint(len(content)) + content
    return b"\x0a" + varint(len(node)) + node


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def test_damaged_binary_graphs(tmp_path: Path) -> None:
    """Cut off, or with flipped bits: refused, or a graph whose constants are read or refused."""
    content, path = (TESTS / "models" / "cu_tiny.pb").read_bytes(), tmp_path / "model.pb"
    with pytest.raises(ModelFileError, match="not a TensorFlow GraphDef"):
        graphdef.parse(nested(5000), text=False)
    rng, refused = np.random.default_rng(1), 0
    for n in range(120):
        data = bytearray(content)
        if n % 2:
            del data[rng.integers(1, len(data)) :]
        else:
            for place in rng.integers(0, len(data), 20):
                data[place] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(data)
        try:
            graph = Graph.read(path)
            for name in graph.named_by_op("Const"):
                graph.const(name)
        except ModelFileError as error:
            refused += 1
            message = str(error)
            assert len(message) < 500
    assert refused > 40


def test_missing_parts_are_named() -> None:
    graph = Graph(graphdef.parse(b'node { name: "a" op: "NoOp" }', text=True))
    with pytest.raises(ModelFileError, match="the graph has no constant 'a'"):
        graph.const("a")
    with pytest.raises(ModelFileError, match="the graph has no constant 'b'"):
        graph.const("b")
