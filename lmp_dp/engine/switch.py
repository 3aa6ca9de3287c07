r"""The switching function, the one place where it is written for arrays and single numbers.

    sw = 1                               r <  rcut_smth
       = u^3 (-6 u^2 + 15 u - 10) + 1    u = (r - rcut_smth)/width
       = 0                               r >= rcut

width is rcut - rcut_smth (`Environment.switch_width`). The kernels of the cpu and gpu
backends have their own copies.
"""

from __future__ import annotations

from typing import Any

from lmp_dp.engine.namespace import namespace_of


def switch(r: Any, rcut_smth: float, width: float) -> tuple[Any, Any]:
    """sw(r) and dsw/dr."""
    xp = namespace_of(r)
    u = xp.clip((r - rcut_smth) / width, 0.0, 1.0)
    return (
        u**3 * (-6.0 * u**2 + 15.0 * u - 10.0) + 1.0,
        -30.0 * u**2 * (u - 1.0) ** 2 / width,
    )
