"""Errors inside of a LAMMPS run, raised by the Python method that started it.

LAMMPS's own way to raise an error from a callback, `lmp.error`, ends the process.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lmp_dp.errors import LmpDpError

if TYPE_CHECKING:
    from lammps import lammps

RUNNERS = ("command", "commands_list", "commands_string", "file")  # methods of `lammps`


class RunError(LmpDpError):
    """A LAMMPS run was ended because forces could not be computed on some rank."""


def raise_after_commands(lmp: lammps, let_go: Callable[[lammps], None]) -> list[RunError]:
    """Have `lmp`'s methods that may run raise what is put into the returned list during the run.

    `let_go` is called after each of them, and when `lmp` is closed.
    """
    failures: list[RunError] | None = getattr(lmp, "_lmp_dp_failures", None)
    if failures is None:
        failures = lmp._lmp_dp_failures = []
        command = lmp.command
        for name in RUNNERS:
            setattr(
                lmp,
                name,
                _raising(
                    getattr(lmp, name),
                    failures,
                    lambda: command("timer timeout off"),
                    lambda: let_go(lmp),
                ),
            )
        close = lmp.close

        def closing() -> None:
            close()
            let_go(lmp)

        lmp.close = closing
    return failures


def _raising(
    method: Callable[..., Any],
    failures: list[RunError],
    go_on: Callable[[], Any],
    let_go: Callable[[], None],
) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        failures.clear()
        try:
            return method(*arguments, **keywords)
        finally:
            let_go()
            if failures:
                go_on()  # the timer by which the run was ended; there may be another one
                raise failures[0]

    return wrapped
