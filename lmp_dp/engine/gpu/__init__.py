"""The gpu backend: a model's forms (`lmp_dp.engine.forms`) in CUDA kernels.

`engine` makes a step of chunks; each goes through the stages, one per form (`moment`) and the
fitting net (`fitting`). `lists` builds neighbour lists on the device, `upload` takes a model there,
`device` is all of CuPy that is used, and `kernels`, the `.cu` files beside it, says which thread
does what.
"""

from lmp_dp.engine.gpu.engine import GpuEngine

__all__ = ["GpuEngine"]
