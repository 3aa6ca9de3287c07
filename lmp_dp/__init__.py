"""Deep Potential models in LAMMPS through a Python engine.

``lmp_dp.Potential`` evaluates a model from Python; ``pair_style dp`` and
``lmp_dp.lammps.FixExternal`` do so from LAMMPS; the command ``lmp-dp`` converts models.
Importing this package is cheap: numerical code is loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Potential", "__version__"]

if TYPE_CHECKING:
    from lmp_dp.engine import Potential


def __getattr__(name: str) -> Any:
    if name == "Potential":
        from lmp_dp.engine import Potential

        return Potential
    raise AttributeError(f"module 'lmp_dp' has no attribute {name!r}")
