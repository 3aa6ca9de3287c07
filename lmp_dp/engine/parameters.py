"""Parameters of the frame and of atoms (``fparam``, ``aparam``), as the fitting nets take them.

p_i = ( (fparam - avg) istd, (aparam_i - avg) istd )
"""

from __future__ import annotations

import numpy as np

from lmp_dp.engine.neighbourhood import Neighbourhood
from lmp_dp.model.fitting import Fitting


def of_atoms(fitting: Fitting, nb: Neighbourhood) -> np.ndarray:
    """p of every local atom, in the fitting nets' precision.

    Returns
    -------
    (n_local, n_fparam + n_aparam) array
        Without columns for most models.
    """
    parameters_af = np.empty((nb.n_local, fitting.n_fparam + fitting.n_aparam), fitting.dtype)
    if fitting.n_fparam:
        scaled_f = (nb.fparam_f - fitting.fparam_avg_f) * fitting.fparam_istd_f
        parameters_af[:, : fitting.n_fparam] = scaled_f
    if fitting.n_aparam:
        scaled_af = (nb.aparam_af - fitting.aparam_avg_f) * fitting.aparam_istd_f
        parameters_af[:, fitting.n_fparam :] = scaled_af
    return parameters_af
