"""Tools on top of model, engine and LAMMPS, one per subcommand of lmp-dp."""
