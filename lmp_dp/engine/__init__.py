"""How a model is evaluated: neighbours, environment, embedding, descriptor, fitting, and back.

Knows arrays, not LAMMPS. `reference` is the specification; `cpu` and `gpu` evaluate what `lowering`
makes of a model. DATAFLOW.md tells on one page how data flow; LOG.md what was tried, and measured.
"""

from lmp_dp.engine.neighbourhood import Neighbourhood, Outputs, Result
from lmp_dp.engine.potential import Evaluation, Potential

__all__ = ["Evaluation", "Neighbourhood", "Outputs", "Potential", "Result"]
