"""The table that `pair_style dp ... timing yes` prints after each run."""

from __future__ import annotations

from collections.abc import Mapping


def table(seconds: Mapping[str, float], wall: float, threads: int, atom_steps: int) -> str:
    """Thread time per stage.

    Parameters
    ----------
    seconds : mapping
        Stage -> seconds, summed over threads.
    wall : float
        Seconds that LAMMPS waited for the pair style.
    threads : int
        Threads of this rank.
    atom_steps : int
        Local atoms, summed over the steps.

    Returns
    -------
    str
        Lines for LAMMPS's log. What the stages leave of `threads` times `wall` is Python's own
        work and waiting for one another.
    """
    total = threads * wall
    rows = {**seconds, "Python and waiting": max(0.0, total - sum(seconds.values()))}
    lines = [
        f"pair_style dp timing: first rank, {threads} threads, {wall:.4g} s",
        f"{'stage':<20} {'thread s':>10} {'us/atom/step':>13} {'%':>6}",
    ]
    for name, value in rows.items():
        per_atom = 1e6 * value / max(1, atom_steps)
        lines.append(
            f"{name:<20} {value:>10.4f} {per_atom:>13.3f} {100 * value / max(total, 1e-9):>6.1f}"
        )
    return "\n".join(lines) + "\n"
