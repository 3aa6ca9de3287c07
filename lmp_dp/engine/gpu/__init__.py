"""The gpu backend: a model's forms (`lmp_dp.engine.forms`) in CUDA kernels.

`engine` makes a step of chunks; each goes through the `stages` of its element, one per form
(`moment`) and the fitting net (`fitting`). `lists` builds neighbour lists on the device, `memory`
counts what a system takes there, `upload` takes a model there, `device` is all of CuPy that is
used, and `kernels`, the `.cu` files beside it, says which thread does what. `toolkit` finds what
CuPy needs on a machine; `trial` and `self_test` ask a device whether it computes.
"""

from lmp_dp.engine.gpu.engine import GpuEngine, UnsuitedModelError

__all__ = ["GpuEngine", "UnsuitedModelError"]
