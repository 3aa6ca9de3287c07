#ifndef LMP_DP_EMBEDDED_PYTHON_H
#define LMP_DP_EMBEDDED_PYTHON_H

#include "bridge.h"
#include <string>

namespace LAMMPS_NS { class Python; }

namespace embedded_python {
// The functions of lmp_dp.lammps.calls. At the first call this finds the Python of the process, or
// has it started by LAMMPS (the PYTHON package), or opens one. Null, and a message, if that fails.
const Bridge *bridge(LAMMPS_NS::Python *of_lammps, std::string &message);

// Have Python raise KeyboardInterrupt as soon as LAMMPS has returned to it.
void interrupt();
}

#endif
