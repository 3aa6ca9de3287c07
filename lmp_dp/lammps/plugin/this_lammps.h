#ifndef LMP_DP_THIS_LAMMPS_H
#define LMP_DP_THIS_LAMMPS_H

#include <string>

namespace this_lammps {
// Why the plugin must not be used in the LAMMPS of this process, with what to do; empty if it fits. Asks
// nothing of LAMMPS or MPI that depends on the layout of a class or on MPI's types.
std::string unfit();
}

#endif
