// The bridge between PairDP and Python: two C structs that lmp_dp/lammps/bridge.py mirrors field by
// field with ctypes. Change both together; the sizes are compared when they meet.
//
// One Shared lives in each PairDP and is "shared memory" between the two sides. Strings and arrays
// belong to the side that sets the pointer, and stay valid until the next call. Lengths, energies and
// so on are in the LAMMPS units of the run.
#ifndef LMP_DP_BRIDGE_H
#define LMP_DP_BRIDGE_H

#include <cstdint>

extern "C" {

struct Shared {
  int64_t handle;    // of the Python object behind this pair style; 0: none yet

  // What Python answers. Texts are null where there is nothing to say.
  const char *message;    // of the error, when a call fails
  const char *log;        // for screen and log file
  const char *warning;    // for LAMMPS's warning channel
  double cutoff;          // by coeff
  int32_t n_models;       // by settings
  int32_t builds_lists;   // by settings: 1 if the engine finds neighbours itself, so that no list is needed
  const char *device;     // by settings: the GPU that this rank uses; null: none

  // LAMMPS facts that do not change during a run.
  int32_t rank;             // of this process among those of this LAMMPS
  int32_t restarted;        // 1 if this pair style comes from a restart file
  const char *lammps_version;
  const char *unit_style;
  double boltz, angstrom;
  const double *masses;     // per LAMMPS type, from 1, 0 where not set; null if masses are per atom
  int32_t *model_types;     // per LAMMPS type, from 1: set by Python in coeff, -1 for NULL
  int32_t n_types;
  int32_t local_rank;       // of this process among those on its node, ...
  int32_t local_size;       // ... their number, ...
  int32_t node_cores;       // ... and that of the distinct cores they may run on

  // One step: atoms (local ones first, then ghosts), and the neighbours of `n_centres` local atoms,
  // those of centre c being neighbours[offsets[c] .. offsets[c+1]-1].
  int64_t step;
  int64_t n_neighbours;
  const double *x;    // (n_all, 3)
  double *f;          // (n_all, 3), added to
  const int32_t *types;    // 0: an atom that the model does not see now
  const int32_t *tags;     // atom IDs
  const int32_t *centres;
  const int64_t *offsets;
  const int32_t *neighbours;
  double *energies;     // per atom, added to; null unless wanted, as are the next two
  double *virials6;     // (n_all, 6): xx yy zz xy xz yz
  double *virials9;     // (n_all, 9): xx yy zz xy xz yz yx zx zy
  double energy;        // set by Python
  double virial[6];     // set by Python if want_virial: xx yy zz xy xz yz
  double skin;          // of the neighbour lists
  double box_low[3];
  double box[6];        // xx yy zz yz xz xy: LAMMPS's h
  double scale;         // of energy, forces and virials (fix adapt)
  int32_t n_local, n_all, n_centres;
  int32_t rebuilt;      // 1 if atoms or neighbour lists changed since the last call
  int32_t want_virial;

  // Neighbours dropped and pairs outside of the tables, since the pair_style command.
  int64_t *counts;      // (n_models, 2): those of this rank by count, for warn and finish those of all
  int32_t watching;     // by settings and warn, the same on all ranks: 1 while there may be a warning

  // Model deviation, on the steps where compute leaves forces here (else they are null).
  double *model_forces;     // (n_all, n_models, 3) of compute; for deviate ghosts' are with their owners
  double *model_virials;    // (n_models, 9); for record the sum over all ranks
  double *deviations;       // (n_local), set by deviate
  const double *all_deviations;    // of all ranks' atoms, for record, ...
  const int32_t *all_tags;         // ... their IDs (null if atoms have none) ...
  int64_t n_atoms;                 // ... and number

  // Parameters of the frame and of atoms: what gives them (IDs, null: nothing), by settings, ...
  const char *fparam_compute, *fparam_fix, *aparam_compute, *ttm_fix;
  int32_t fparam_index;       // in the vector of the fix, from 0; -1: its scalar
  int32_t n_fparam, n_aparam;
  int32_t ttm_group;          // bit of fix ttm's group in `groups`
  const double *fparam;       // ... and on each step: (n_fparam)
  const double *aparam;       // (n_local, n_aparam)
  const double *ttm;          // (n_ttm), what fix ttm stores in restart files
  int64_t n_ttm;
  const int32_t *groups;      // per atom, one bit per group
};

// The calls into Python return one of these.
enum { CALL_OK = 0, CALL_FAILED = 1, CALL_INTERRUPTED = 2 };

struct Bridge {
  int64_t bridge_size, shared_size;    // set by C++, checked by Python
  int (*settings)(Shared *, int narg, char **arg);    // pair_style dp <arg>
  int (*coeff)(Shared *, int narg, char **arg);       // pair_coeff * * <arg>
  int (*init)(Shared *);                              // before each run
  int (*compute)(Shared *);
  int (*deviate)(Shared *);                           // after compute, where it left model_forces
  int (*record)(Shared *);                            // after deviate, on the first rank only
  int (*count)(Shared *);                             // before warn and finish
  int (*warn)(Shared *);                              // on a few steps, after compute
  int (*finish)(Shared *);                            // after each run
  int (*close)(Shared *);
};
}

#endif
