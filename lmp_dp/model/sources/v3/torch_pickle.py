"""What a TorchScript archive says in its pickle, read without Python's unpickler.

A pickle is a program. Here a machine of our own takes it instruction by instruction (`pickletools`
names them; nothing of `pickle` runs). It knows those that TorchScript writes, and the functions in
`_FUNCTIONS`, which build plain containers and descriptions of tensors. Any other instruction or
name is refused by name. Objects are a `Module`, with attributes and nothing to call.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lmp_dp.errors import ModelFileError

#: Classes of a module that was compiled; the archive's own names, and nothing outside of it.
_COMPILED = "__torch__."


@dataclass
class Module:
    """An object of a compiled class: its attributes by name."""

    kind: str
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Storage:
    """Numbers of one record of the archive."""

    dtype: str
    key: str
    count: int


@dataclass(frozen=True)
class Tensor:
    """A view of a storage: offset, shape and strides in numbers."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Global:
    """A name that the pickle mentions; it stands for itself."""

    name: str


#: Kinds of storages, and the NumPy type of their numbers.
_STORAGES = {
    "torch FloatStorage": "<f4",
    "torch DoubleStorage": "<f8",
    "torch IntStorage": "<i4",
    "torch LongStorage": "<i8",
    "torch ShortStorage": "<i2",
    "torch CharStorage": "<i1",
    "torch ByteStorage": "<u1",
    "torch BoolStorage": "<u1",
}


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *hooks: Any) -> Tensor:
    if not isinstance(storage, Storage) or len(hooks) > 2:
        raise ModelFileError("a tensor is not made of a storage")
    if not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise ModelFileError("a tensor's shape or strides are no tuples")
    if not all(type(n) is int for n in (offset, *shape, *strides)):
        raise ModelFileError("a tensor's offset, shape or strides are no integers")
    return Tensor(storage, offset, shape, strides)


def _list(items: Any) -> list[Any]:
    if not isinstance(items, list):
        raise ModelFileError("a list is not made of a list")
    return items


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch.jit._pickle build_intlist": _list,
    "torch.jit._pickle build_doublelist": _list,
    "torch.jit._pickle build_boollist": _list,
    "torch.jit._pickle build_tensorlist": _list,
    "torch.jit._pickle restore_type_tag": lambda value, tag: value,
    "collections OrderedDict": lambda: {},
}
_MARK = object()


def read(content: bytes) -> Any:
    """What the pickle `content` describes.

    Returns
    -------
    Module, Tensor, dict, list, tuple, str, int, float, bool or None

    Raises
    ------
    ModelFileError
        The pickle would do something else than describe tensors and plain values, by name, or is
        broken.
    """
    machine = _Machine(len(content))
    try:
        for opcode, argument, _ in pickletools.genops(content):
            machine.take(opcode.name, argument)
    except (ValueError, IndexError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise ModelFileError(f"the archive's pickle is broken: {str(error)[:200]}") from error
    if len(machine.stack) != 1:
        raise ModelFileError(f"the archive's pickle leaves {len(machine.stack)} values, expected 1")
    return machine.stack[0]


class _Machine:
    """A stack and a memory; `take` follows one instruction.

    Nothing grows by more than an instruction brings along, so that what is held is bounded by the
    length of the pickle. Values may stand in many places, also in themselves: nobody may walk
    through all of them, or show one.
    """

    def __init__(self, n_bytes: int) -> None:
        self.stack: list[Any] = []
        self._memory: dict[int, Any] = {}
        self._n_bytes = n_bytes

    def take(self, name: str, argument: Any) -> None:
        if name in _VALUES:
            self.stack.append(_VALUES[name](argument))
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name == "LONG1":
            if abs(argument) > 2**63:
                raise ModelFileError("the archive's pickle has an integer of more than 64 bits")
            self.stack.append(argument)
        elif name not in ("PROTO", "STOP"):
            raise ModelFileError(
                f"the archive's pickle has the instruction {name}, which no model needs; it was "
                "not followed"
            )

    def _top(self, count: int) -> list[Any]:
        if count > len(self.stack) or any(item is _MARK for item in self.stack[-count:]):
            raise ModelFileError("the archive's pickle is broken: its stack has too little")
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def marked(self, argument: Any) -> list[Any]:
        for place in range(len(self.stack) - 1, -1, -1):
            if self.stack[place] is _MARK:
                taken = self.stack[place + 1 :]
                del self.stack[place:]
                return taken
        raise ModelFileError("the archive's pickle is broken: a mark is missing")

    def mark(self, argument: Any) -> None:
        self.stack.append(_MARK)

    def tuple(self, count: int | None) -> None:
        self.stack.append(tuple(self.marked(None) if count is None else self._top(count)))

    def append(self, argument: Any) -> None:
        (item,) = self._top(1)
        self._target(list).append(item)

    def appends(self, argument: Any) -> None:
        items = self.marked(None)
        self._target(list).extend(items)

    def setitem(self, argument: Any) -> None:
        self._fill(self._top(2))

    def setitems(self, argument: Any) -> None:
        self._fill(self.marked(None))

    def _fill(self, items: list[Any]) -> None:
        target = self._target(dict)
        keys, values = items[::2], items[1::2]
        if len(keys) != len(values) or not all(type(key) in (str, int) for key in keys):
            raise ModelFileError("the archive's pickle has a dictionary without plain keys")
        target.update(zip(keys, values, strict=True))

    def _target(self, kind: type) -> Any:
        if not self.stack or type(self.stack[-1]) is not kind:
            raise ModelFileError(f"the archive's pickle fills something that is no {kind.__name__}")
        return self.stack[-1]

    def put(self, number: int) -> None:
        if not self.stack or self.stack[-1] is _MARK:
            raise ModelFileError("the archive's pickle is broken: nothing to remember")
        self._memory[number] = self.stack[-1]

    def get(self, number: int) -> None:
        if number not in self._memory:
            raise ModelFileError(f"the archive's pickle remembers nothing as {number}")
        self.stack.append(self._memory[number])

    def name(self, name: str) -> None:
        known = name in _FUNCTIONS or name in _STORAGES or name.startswith(_COMPILED)
        if not known:
            raise ModelFileError(
                f"the archive's pickle names {name.replace(' ', '.')[:80]!r}, which is no part of "
                "a model; it was not run. Do not load this file with other programs"
            )
        self.stack.append(_Global(name))

    def call(self, argument: Any) -> None:
        function, arguments = self._top(2)
        if not isinstance(function, _Global) or function.name not in _FUNCTIONS:
            shown = function.name if isinstance(function, _Global) else type(function).__name__
            raise ModelFileError(f"the archive's pickle calls {shown[:80]!r}; it was not run")
        if type(arguments) is not tuple:
            raise ModelFileError("the archive's pickle calls with something that is no tuple")
        self.stack.append(_FUNCTIONS[function.name](*arguments))

    def make(self, argument: Any) -> None:
        kind, arguments = self._top(2)
        if not isinstance(kind, _Global) or not kind.name.startswith(_COMPILED) or arguments != ():
            raise ModelFileError("the archive's pickle makes an object of no compiled class")
        self.stack.append(Module(kind.name.removeprefix(_COMPILED).replace(" ", ".")))

    def build(self, argument: Any) -> None:
        (state,) = self._top(1)
        module = self._target(Module)
        if type(state) is not dict or not all(type(key) is str for key in state):
            raise ModelFileError("the archive's pickle has an object without plain attributes")
        module.attributes.update(state)

    def storage(self, argument: Any) -> None:
        (found,) = self._top(1)
        if type(found) is not tuple or len(found) != 5:
            raise ModelFileError("the archive's pickle refers to something that is no storage")
        word, kind, key, _, count = found
        if word != "storage" or not isinstance(kind, _Global) or kind.name not in _STORAGES:
            raise ModelFileError(
                "the archive's pickle refers to something that is no storage of numbers"
            )
        if type(key) is not str or not key.isdigit() or type(count) is not int or count < 0:
            raise ModelFileError("the archive's pickle refers to a storage without number or size")
        self.stack.append(Storage(_STORAGES[kind.name], key, count))


_VALUES: dict[str, Callable[[Any], Any]] = {
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_LIST": lambda _: [],
    "EMPTY_DICT": lambda _: {},
    "EMPTY_TUPLE": lambda _: (),
    **dict.fromkeys(
        ("BININT", "BININT1", "BININT2", "BINFLOAT", "BINUNICODE"), lambda value: value
    ),
}
_STEPS: dict[str, Callable[[_Machine, Any], Any]] = {
    "MARK": _Machine.mark,
    "TUPLE": lambda machine, _: machine.tuple(None),
    "TUPLE1": lambda machine, _: machine.tuple(1),
    "TUPLE2": lambda machine, _: machine.tuple(2),
    "TUPLE3": lambda machine, _: machine.tuple(3),
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.setitem,
    "SETITEMS": _Machine.setitems,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": _Machine.name,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.make,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.storage,
}
