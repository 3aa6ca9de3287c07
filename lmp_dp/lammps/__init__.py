"""Who calls the engine from LAMMPS: the pair style, fix external, and the launcher.

`plugin/` is the C++ pair style, which holds no physics; `calls` is what it calls, `pair_style` and
`ensemble` (its models) are behind that.
`libraries` finds the shared libraries that must be in the process, `launcher` runs LAMMPS inside
this process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["FixExternal"]

if TYPE_CHECKING:
    from lmp_dp.lammps.fix_external import FixExternal


def __getattr__(name: str) -> Any:
    # Lazily: `libraries` is imported by every `import lammps` and has to be quick.
    if name == "FixExternal":
        from lmp_dp.lammps.fix_external import FixExternal

        return FixExternal
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
