"""What belongs to the whole process: the threads of BLAS, and what a fork leaves unusable.

A forked child has no other thread than the one that forked, and locks as they happened to be.
"""

from __future__ import annotations

import os
from threading import Lock
from typing import Any, Protocol
from weakref import WeakSet

from threadpoolctl import ThreadpoolController


class Renewable(Protocol):
    """Something that a forked child must make anew."""

    def renew(self) -> None:
        """Drop threads and locks, which may be those of another process, and take new ones."""
        ...


_renewables: WeakSet[Renewable] = WeakSet()


def renew_in_children(thing: Renewable) -> None:
    """Have `thing` renewed in every child that is forked from now on, as long as it exists."""
    _renewables.add(thing)


def _renew_all() -> None:
    for thing in list(_renewables):
        thing.renew()


os.register_at_fork(after_in_child=_renew_all)


class _OneBlasThread:
    """Context manager: BLAS has one thread from the first one that enters to the last that leaves.

    With a limit of its own each would restore what it met, also while another one is at work.
    """

    def __init__(self) -> None:
        self._blas = ThreadpoolController().select(user_api="blas")
        self._inside = 0
        self._limit: Any = None
        self._lock = Lock()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            # setting and restoring takes 10 us
            if self._inside == 1 and any(x.num_threads != 1 for x in self._blas.lib_controllers):
                self._limit = self._blas.limit(limits=1)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._restore()

    def renew(self) -> None:
        """Nobody is inside any more."""
        self._lock = Lock()
        self._inside = 0
        self._restore()

    def _restore(self) -> None:
        limit, self._limit = self._limit, None
        if limit is not None:
            limit.restore_original_limits()


one_blas_thread = _OneBlasThread()
renew_in_children(one_blas_thread)
