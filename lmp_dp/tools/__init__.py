"""Tools on top of model, engine and LAMMPS: check, verify."""
