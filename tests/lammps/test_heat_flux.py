"""compute heat/flux with centroid/stress/atom against the law of continuity.

Of an isolated cluster J V = d/dt sum_i r_i e_i, e_i the kinetic and potential energy of atom i.
This fails if per-atom virials are shared out otherwise than the per-atom energies are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lammps_frames import read_frames
from lammps_runs import run_lammps, thermo

STEP = 0.0001  # ps
CLUSTER = """
units metal
boundary f f f
read_data {data}
group molecules id 1:96
group others subtract all molecules
delete_atoms group others
change_box all x delta -9 9 y delta -9 9 z delta -9 9 boundary f f f
pair_style dp {model}
pair_coeff * * O H
timestep {step}
fix 1 all nve
compute pe all pe/atom
compute ke all ke/atom
compute stress all centroid/stress/atom NULL virial
compute flux all heat/flux ke pe stress
thermo 1
thermo_style custom step etotal c_flux[1] c_flux[2] c_flux[3]
thermo_modify format float %.17g norm no
dump 1 all custom 1 out.dump id type xu yu zu c_pe c_ke
dump_modify 1 sort id format float %.17g
run 20
"""


@pytest.mark.parametrize("ranks", [1, 2])
def test_continuity(water_data: Path, water_model: Path, tmp_path: Path, ranks: int) -> None:
    script = CLUSTER.format(data=water_data, model=water_model, step=STEP)
    run_lammps(script, tmp_path, ranks=ranks)
    table = thermo(tmp_path / "log.lammps")
    flux = np.stack([table[f"c_flux[{c}]"] for c in (1, 2, 3)], axis=1)
    frames = read_frames(tmp_path / "out.dump")
    energy = np.stack([frame.columns["c_pe"] + frame.columns["c_ke"] for frame in frames])
    place = np.stack([frame.vectors("xu", "yu", "zu") for frame in frames])
    moment = np.einsum("sa,sac->sc", energy - energy[0].mean(), place)
    # sum_i r_i times a constant was taken off, which the mass centre's drift would bring in
    drift = energy[0].mean() * np.gradient(place.sum(axis=1), STEP, axis=0)
    found = (moment[2:] - moment[:-2]) / (2 * STEP) + drift[1:-1]
    # central differences: (w dt)^2 / 6 with the O-H stretch, w = 2 pi 100 / ps, is 7e-4
    size = np.abs(flux).max()
    assert size > 1.0
    np.testing.assert_allclose(found, flux[1:-1], rtol=0, atol=1e-3 * size)
