"""The cpu backend: numba kernels on chunks that stay in cache, chunks in parallel.

`engine` divides the centres into chunks and adds up what they give; a chunk goes through the
stages, one per form (`moment`) and the fitting net (`fitting`), in a `room` of its own; `packing`
lays a model's forms out for the `kernels`.
"""

from lmp_dp.engine.cpu.engine import CpuEngine

__all__ = ["CpuEngine"]
