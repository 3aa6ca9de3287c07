"""What every backend is."""

from __future__ import annotations

from typing import Protocol

from lmp_dp.engine.neighbourhood import Neighbourhood, Outputs, Result


class Engine(Protocol):
    """A model that can be evaluated.

    Attributes
    ----------
    seconds : dict
        Thread time per stage over all evaluations; empty where a backend does not measure.
    builds_lists : bool
        The engine finds neighbours itself; `Neighbourhood` needs no lists.
    checks_finite : bool
        Positions that are not finite do no harm, and `Result.finite` is meant.
    """

    @property
    def seconds(self) -> dict[str, float]: ...
    @property
    def builds_lists(self) -> bool: ...
    @property
    def checks_finite(self) -> bool: ...

    def memory(self) -> str:
        """What it holds on a device, in words; empty without one."""
        ...

    def close(self) -> None:
        """Let go of threads and memory; another evaluation takes them again."""
        ...

    def compute(self, nb: Neighbourhood, outputs: Outputs) -> Result:
        """Energy, forces and what `outputs` asks for."""
        ...
