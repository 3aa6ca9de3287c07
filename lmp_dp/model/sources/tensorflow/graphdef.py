"""TensorFlow's GraphDef without TensorFlow: the parts of its messages that models are read from.

The messages are described here, field by field, and built by the `protobuf` package in a
descriptor pool of their own: TensorFlow in the same process registers messages of the same names in
the default pool. Fields that are not described (functions, debug information) are skipped in a
binary graph; in text a name that is not described is refused, since it may be a misspelled one.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import DecodeError

from lmp_dp.errors import ModelFileError

#: Larger constants than the largest published models hold, of 1 GB at most: one stored value may
#: stand for all, so that a damaged shape could ask for anything.
MAX_ELEMENTS = 2**27
_MAX_AXES = 32

# DataType by number, with the field of TensorProto that holds values of it one by one and NumPy's
# type; bfloat16, which NumPy lacks, is widened to float32.
_DATA_TYPES: dict[int, tuple[str, str, Any]] = {
    1: ("DT_FLOAT", "float_val", np.float32),
    2: ("DT_DOUBLE", "double_val", np.float64),
    3: ("DT_INT32", "int_val", np.int32),
    4: ("DT_UINT8", "int_val", np.uint8),
    5: ("DT_INT16", "int_val", np.int16),
    6: ("DT_INT8", "int_val", np.int8),
    7: ("DT_STRING", "string_val", np.object_),
    9: ("DT_INT64", "int64_val", np.int64),
    10: ("DT_BOOL", "bool_val", np.bool_),
    14: ("DT_BFLOAT16", "half_val", np.uint16),
    17: ("DT_UINT16", "int_val", np.uint16),
    19: ("DT_HALF", "half_val", np.uint16),
    22: ("DT_UINT32", "uint32_val", np.uint32),
    23: ("DT_UINT64", "uint64_val", np.uint64),
}
#: Types that no constant of a model has, but attributes of its operations may.
_OTHER_TYPES = {
    0: "DT_INVALID", 8: "DT_COMPLEX64", 11: "DT_QINT8", 12: "DT_QUINT8", 13: "DT_QINT32",
    15: "DT_QINT16", 16: "DT_QUINT16", 18: "DT_COMPLEX128", 20: "DT_RESOURCE", 21: "DT_VARIANT",
    24: "DT_FLOAT8_E5M2", 25: "DT_FLOAT8_E4M3FN", 29: "DT_INT4", 30: "DT_UINT4",
}  # fmt: skip
HALF_TYPES = frozenset({14, 19})
#: FullTypeId, which nothing is read from, but which stands in graphs in text form.
_FULL_TYPES = {
    0: "UNSET VAR ANY PRODUCT NAMED", 20: "FOR_EACH", 100: "CALLABLE",
    200: "BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 HALF FLOAT DOUBLE COMPLEX64 "
         "COMPLEX128 STRING BFLOAT16",
    1000: "TENSOR ARRAY OPTIONAL LITERAL ENCODED SHAPE_TENSOR", 10102: "DATASET RAGGED ITERATOR",
    10202: "MUTEX_LOCK LEGACY_VARIANT",
}  # fmt: skip

# message -> field -> (number, type); a type in [] is repeated, one in {} is a map from strings, one
# that begins with a capital letter is another message (or the enum), and fields behind "|" exclude
# each other.
_MESSAGES = {
    "GraphDef": {
        "node": (1, "[NodeDef]"), "library": (2, "Library"), "version": (3, "int32"),
        "versions": (4, "Versions"),
    },
    "Library": {},
    "Versions": {
        "producer": (1, "int32"), "min_consumer": (2, "int32"), "bad_consumers": (3, "[int32]"),
    },
    "NodeDef": {
        "name": (1, "string"), "op": (2, "string"), "input": (3, "[string]"),
        "device": (4, "string"), "attr": (5, "{AttrValue}"),
        "experimental_debug_info": (6, "Debug"), "experimental_type": (7, "FullType"),
    },
    "Debug": {"original_node_names": (1, "[string]"), "original_func_names": (2, "[string]")},
    "FullType": {
        "type_id": (1, "FullTypeId"), "args": (2, "[FullType]"), "s": (3, "|string"),
        "i": (4, "|int64"),
    },
    "AttrValue": {
        "list": (1, "|ListValue"), "s": (2, "|bytes"), "i": (3, "|int64"), "f": (4, "|float"),
        "b": (5, "|bool"), "type": (6, "|DataType"), "shape": (7, "|TensorShapeProto"),
        "tensor": (8, "|TensorProto"), "placeholder": (9, "|string"),
    },
    "ListValue": {
        "s": (2, "[bytes]"), "i": (3, "[int64]"), "f": (4, "[float]"), "b": (5, "[bool]"),
        "type": (6, "[DataType]"), "shape": (7, "[TensorShapeProto]"),
        "tensor": (8, "[TensorProto]"),
    },
    "TensorShapeProto": {"dim": (2, "[Dim]"), "unknown_rank": (3, "bool")},
    "Dim": {"size": (1, "int64"), "name": (2, "string")},
    "TensorProto": {
        "dtype": (1, "DataType"), "tensor_shape": (2, "TensorShapeProto"),
        "version_number": (3, "int32"), "tensor_content": (4, "bytes"),
        "float_val": (5, "[float]"), "double_val": (6, "[double]"), "int_val": (7, "[int32]"),
        "string_val": (8, "[bytes]"), "int64_val": (10, "[int64]"), "bool_val": (11, "[bool]"),
        "half_val": (13, "[int32]"), "uint32_val": (16, "[uint32]"),
        "uint64_val": (17, "[uint64]"),
    },
}  # fmt: skip


def parse(content: bytes, *, text: bool) -> Any:
    """A GraphDef message from the content of a ``.pb`` (binary) or ``.pbtxt`` (text) file.

    Raises
    ------
    ModelFileError
        The content is no GraphDef.
    """
    graph_def = _graph_def()()
    try:
        if text:
            text_format.Parse(content.decode(), graph_def)
        else:
            graph_def.ParseFromString(content)
    except (DecodeError, text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise ModelFileError(f"not a TensorFlow GraphDef: {error}") from error
    if not graph_def.node:
        raise ModelFileError("not a TensorFlow GraphDef: it has no nodes")
    return graph_def


def array_of(tensor: Any) -> np.ndarray:
    """The values of a TensorProto; texts as bytes objects, bfloat16 as float32.

    Values are stored as one block of bytes, or one by one, where the last one stands for all that
    follow (and none for zeros).

    Raises
    ------
    ModelFileError
        Its type, shape and values do not fit each other.
    """
    if tensor.dtype not in _DATA_TYPES:
        kind = _OTHER_TYPES.get(tensor.dtype, f"number {tensor.dtype}")
        raise ModelFileError(f"a constant has the data type {kind}, which no model has")
    name, field, dtype = _DATA_TYPES[tensor.dtype]
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    what = f"a constant of type {name} and shape {shape if len(shape) < 9 else '...'}"
    # each length, not only their product, which one zero makes zero
    if min(shape, default=0) < 0 or math.prod(n or 1 for n in shape) > MAX_ELEMENTS:
        raise ModelFileError(f"{what}, which is no shape")
    if len(shape) > _MAX_AXES:
        raise ModelFileError(f"{what} has {len(shape)} axes, expected at most {_MAX_AXES}")
    size, content, values = math.prod(shape), tensor.tensor_content, getattr(tensor, field)
    if content:
        if dtype is np.object_ or len(content) != size * np.dtype(dtype).itemsize:
            raise ModelFileError(f"{what} has {len(content)} bytes")
        flat = np.frombuffer(content, np.dtype(dtype).newbyteorder("<")).astype(dtype)
    else:
        if len(values) > size:
            raise ModelFileError(f"{what} has {len(values)} values")
        flat = np.empty(size, dtype)
        flat[: len(values)] = _in_range(values, flat.dtype, what)
        flat[len(values) :] = values[-1] if values else b"" if dtype is np.object_ else 0
    if name == "DT_HALF":
        flat = flat.view(np.float16)
    elif name == "DT_BFLOAT16":
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return flat.reshape(shape)


def _in_range(values: Any, dtype: np.dtype, what: str) -> Any:
    """Values of a narrower type than the field that stores them."""
    if dtype.kind in "iu" and len(values):
        limits = np.iinfo(dtype)
        if min(values) < limits.min or max(values) > limits.max:
            raise ModelFileError(f"{what} has values beyond its range")
    return values


@cache
def _graph_def() -> Any:
    """The class of GraphDef messages."""
    file = descriptor_pb2.FileDescriptorProto(
        name="graph.proto", package="tensorflow", syntax="proto3"
    )
    types = file.enum_type.add(name="DataType")
    names = {number: name for number, (name, _, _) in _DATA_TYPES.items()} | _OTHER_TYPES
    for number, name in sorted(names.items()):
        types.value.add(name=name, number=number)
        if number:  # of a variable, not of its value
            types.value.add(name=f"{name}_REF", number=100 + number)
    full_types = file.enum_type.add(name="FullTypeId")
    for first, words in _FULL_TYPES.items():
        for number, word in enumerate(words.split(), first):
            full_types.value.add(name=f"TFT_{word}", number=number)
    for name, fields in _MESSAGES.items():
        _describe(file.message_type.add(name=name), fields)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.GraphDef"))


def _describe(message: Any, fields: dict[str, tuple[int, str]]) -> None:
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, (number, kind) in fields.items():
        field = message.field.add(name=name, number=number, label=kinds.LABEL_OPTIONAL)
        if kind[0] in "[{":
            field.label = kinds.LABEL_REPEATED
        elif kind[0] == "|":
            if not message.oneof_decl:
                message.oneof_decl.add(name="value")
            field.oneof_index = 0
        plain = kind.strip("|[]{}")
        if kind[0] == "{":  # a map with strings as keys is a list of pairs on the wire
            entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
            entry.options.map_entry = True
            _describe(entry, {"key": (1, "string"), "value": (2, plain)})
            field.type = kinds.TYPE_MESSAGE
            field.type_name = f".tensorflow.{message.name}.{entry.name}"
        elif plain[0].isupper():
            field.type = kinds.TYPE_MESSAGE if plain in _MESSAGES else kinds.TYPE_ENUM
            field.type_name = f".tensorflow.{plain}"
        else:
            field.type = getattr(kinds, f"TYPE_{plain.upper()}")
