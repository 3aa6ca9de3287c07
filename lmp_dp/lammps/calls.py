"""What the C++ plugin calls.

`connect` hands the plugin a table of functions. Each of them gets the address of the `Shared` block
of one pair style, which `bridge` describes, finds the `PairStyle` behind it, and turns a
Python exception into a message there.
"""

from __future__ import annotations

import atexit
import ctypes
import itertools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lmp_dp.errors import LmpDpError, describe
from lmp_dp.lammps import strangers
from lmp_dp.lammps.bridge import (
    CALL_FAILED,
    CALL_INTERRUPTED,
    CALL_OK,
    CALLS,
    Bridge,
    Shared,
    difference,
)

if TYPE_CHECKING:
    from lmp_dp.lammps.pair_style import PairStyle

_styles: dict[int, PairStyle] = {}
_handles = itertools.count(1)
_prepared: dict[int, Any] = {}  # by address of `Shared`
_last_message = b""  # the plugin holds a pointer to it


def connect(address: int) -> None:
    """Fill the plugin's table of functions; called by the plugin, once per process.

    Parameters
    ----------
    address : int
        Address of the plugin's `struct Bridge`.

    Raises
    ------
    LmpDpError
        If the plugin was compiled from other sources than this module belongs to.
    """
    bridge = Bridge.from_address(address)
    if different := difference(bridge):
        raise LmpDpError(
            f"the compiled plugin and {__file__} belong to different versions of lmp_dp (of what "
            f"they share, {different}): install lmp-dp again"
        )
    special: dict[str, Callable[..., int]] = {
        "prepare": _prepare,
        "settings": _settings,
        "coeff": _coeff,
        "close": _close,
    }
    for name, kind in CALLS.items():
        setattr(bridge, name, kind(special.get(name) or _method(name)))
    # A LAMMPS that is never closed may outlive Python's modules, and then ask to be closed.
    atexit.register(_disconnect, bridge)


def _disconnect(bridge: Bridge) -> None:
    for name, kind in CALLS.items():
        setattr(bridge, name, kind())


def _guarded(shared: Shared, action: Callable[[], None]) -> int:
    """Run `action`; an exception must not leave Python here, since C++ is above."""
    global _last_message
    try:
        action()
    except KeyboardInterrupt:
        return CALL_INTERRUPTED  # the plugin ends the run and has Python raise it again after that
    except BaseException as error:
        _last_message = describe(error).encode(errors="replace")
        shared.message = _last_message
        return CALL_FAILED
    return CALL_OK


def _words(count: int, words: Any) -> list[str]:
    return [os.fsdecode(words[number]) for number in range(count)]


def _prepare(address: int, count: int, words: Any) -> int:
    shared = Shared.from_address(address)

    def action() -> None:
        from lmp_dp.lammps.arguments import read_arguments
        from lmp_dp.lammps.prepared import prepare

        strangers.refuse(shared.run.world_size)
        content, log, warning = prepare(read_arguments(_words(count, words)))
        texts = [text.encode(errors="backslashreplace") or None for text in (log, warning)]
        shared.run.models_size = len(content)
        shared.run.models = ctypes.cast(ctypes.c_char_p(content), ctypes.c_void_p)
        shared.log, shared.warning = texts
        _prepared[address] = content, texts  # `shared` points into them, until `settings`

    return _guarded(shared, action)


def _settings(address: int, count: int, words: Any) -> int:
    shared = Shared.from_address(address)

    def action() -> None:
        from lmp_dp.lammps.pair_style import PairStyle  # heavy: not before a model is used

        # The old one first: it may hold the same file, and must not be used if this one fails.
        previous = _styles.pop(shared.handle, None)
        shared.handle = 0
        if previous is not None:
            previous.close()
        try:
            style = PairStyle(shared, _words(count, words))
        finally:
            _prepared.pop(address, None)
        shared.handle = next(_handles)
        _styles[shared.handle] = style

    return _guarded(shared, action)


def _coeff(address: int, count: int, words: Any) -> int:
    shared = Shared.from_address(address)
    return _guarded(shared, lambda: _styles[shared.handle].coeff(_words(count, words)))


def _close(address: int) -> int:
    shared = Shared.from_address(address)
    return _guarded(shared, lambda: _styles.pop(shared.handle).close())


def _method(name: str) -> Callable[[int], int]:
    """The call that is a method of the pair style."""

    def call(address: int) -> int:
        shared = Shared.from_address(address)
        return _guarded(shared, lambda: getattr(_styles[shared.handle], name)())

    return call
