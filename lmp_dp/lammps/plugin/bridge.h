// The bridge between PairDP and Python: C structs that lmp_dp/lammps/bridge.py mirrors field by field
// with ctypes. Change both together; where each field lies is compared, by name, when they meet.
//
// One Shared lives in each PairDP and is "shared memory" between the two sides. Strings and arrays
// belong to the side that sets the pointer, and stay valid until the next call. Lengths, energies and
// so on are in the LAMMPS units of the run.
//
// The fields are listed once, in the macros below, which declare them and name them to Python.
#ifndef LMP_DP_BRIDGE_H
#define LMP_DP_BRIDGE_H

#include <cstddef>
#include <cstdint>

extern "C" {

typedef double Vector[3];
typedef double Symmetric[6];

// What Python answers to settings and coeff, and LAMMPS facts that do not change during a run.
#define LMP_DP_RUN(FIELD) \
  FIELD(double, cutoff)         /* by coeff */ \
  FIELD(const char *, device)   /* by settings: the GPU that this rank uses; null: none */ \
  FIELD(int32_t, n_models)      /* by settings */ \
  FIELD(int32_t, builds_lists)  /* by settings: 1 if the engine finds neighbours: no list is needed */ \
  FIELD(int32_t, rank)          /* of this process among those of this LAMMPS */ \
  FIELD(int32_t, world_size)    /* ranks of MPI, of which this LAMMPS may have a part */ \
  FIELD(int32_t, restarted)     /* 1 if this pair style comes from a restart file */ \
  FIELD(int32_t, local_rank)    /* of this process among those on its node, ... */ \
  FIELD(int32_t, local_size)    /* ... their number, ... */ \
  FIELD(int32_t, node_cores)    /* ... and that of the distinct cores they may run on */ \
  FIELD(int32_t, n_types) \
  FIELD(int32_t *, model_types) /* per LAMMPS type, from 1: set by Python in coeff, -1 for NULL */ \
  FIELD(const double *, masses) /* likewise, 0 where not set; null if masses are per atom */ \
  FIELD(int32_t, tag_size)      /* 4, or 8 with BIGBIG */ \
  FIELD(const char *, lammps_version) \
  FIELD(const char *, unit_style) \
  FIELD(double, boltz) \
  FIELD(double, angstrom) \
  /* Neighbours dropped and pairs outside of the tables, since the pair_style command. */ \
  FIELD(int64_t *, counts)      /* (n_models, 2), by count of this rank, for warn, finish of all */ \
  /* By prepare on the first rank, for settings on all: see lmp_dp.lammps.prepared. */ \
  FIELD(const char *, models) \
  FIELD(int64_t, models_size) \
  FIELD(int32_t, watching)      /* by settings, warn, the same on all ranks: 1: there may be a warning */

// One step: atoms (local ones first, then ghosts), and the neighbours of `n_centres` local atoms,
// those of centre c being neighbours[offsets[c] .. offsets[c+1]-1].
#define LMP_DP_STEP(FIELD) \
  FIELD(int64_t, timestep) \
  FIELD(int64_t, n_neighbours) \
  FIELD(int32_t, n_local) \
  FIELD(int32_t, n_all) \
  FIELD(int32_t, n_centres) \
  FIELD(int32_t, rebuilt)       /* 1 if atoms or neighbour lists changed since the last call */ \
  FIELD(int32_t, want_virial) \
  FIELD(const double *, x)      /* (n_all, 3) */ \
  FIELD(double *, f)            /* (n_all, 3), added to */ \
  FIELD(const int32_t *, types) /* 0: an atom that the model does not see now */ \
  FIELD(const void *, tags)     /* atom IDs, of run.tag_size bytes each */ \
  FIELD(const int32_t *, centres) \
  FIELD(const int64_t *, offsets) \
  FIELD(const int32_t *, neighbours) \
  FIELD(double *, energies)     /* per atom, added to; null unless wanted, as are the next two */ \
  FIELD(double *, virials6)     /* (n_all, 6): xx yy zz xy xz yz */ \
  FIELD(double *, virials9)     /* (n_all, 9): xx yy zz xy xz yz yx zx zy */ \
  FIELD(double, energy)         /* set by Python */ \
  FIELD(Symmetric, virial)      /* set by Python if want_virial: xx yy zz xy xz yz */ \
  FIELD(double, skin)           /* of the neighbour lists */ \
  FIELD(double, scale)          /* of energy, forces and virials (fix adapt) */ \
  FIELD(Vector, box_low) \
  FIELD(Symmetric, box)         /* xx yy zz yz xz xy: LAMMPS's h */

// Model deviation, on the steps where compute leaves forces here (else they are null).
#define LMP_DP_DEVIATION(FIELD) \
  FIELD(double *, model_forces)         /* (n_all, n_models, 3); for deviate ghosts' are with owners */ \
  FIELD(double *, model_virials)        /* (n_models, 9); for record the sum over all ranks */ \
  FIELD(double *, deviations)           /* (n_local), set by deviate */ \
  FIELD(const double *, all_deviations) /* of all ranks' atoms, for record, ... */ \
  FIELD(const void *, all_tags)         /* ... their IDs (null if atoms have none) ... */ \
  FIELD(int64_t, n_atoms)               /* ... and number */

// Parameters of the frame and of atoms: what gives them (IDs, null: nothing), by settings, ...
#define LMP_DP_PARAMETERS(FIELD) \
  FIELD(const char *, fparam_compute) \
  FIELD(const char *, fparam_fix) \
  FIELD(const char *, aparam_compute) \
  FIELD(const char *, ttm_fix) \
  FIELD(int32_t, fparam_index)    /* in the vector of the fix, from 0; -1: its scalar */ \
  FIELD(int32_t, n_fparam) \
  FIELD(int32_t, n_aparam) \
  FIELD(int32_t, ttm_group)       /* bit of fix ttm's group in `groups` */ \
  FIELD(const double *, fparam)   /* ... and on each step: (n_fparam) */ \
  FIELD(const double *, aparam)   /* (n_local, n_aparam) */ \
  FIELD(const double *, ttm)      /* (n_ttm), what fix ttm stores in restart files */ \
  FIELD(int64_t, n_ttm) \
  FIELD(const int32_t *, groups)  /* per atom, one bit per group */

#define LMP_DP_DECLARE(type, name) type name;
struct Run { LMP_DP_RUN(LMP_DP_DECLARE) };
struct Step { LMP_DP_STEP(LMP_DP_DECLARE) };
struct Deviation { LMP_DP_DEVIATION(LMP_DP_DECLARE) };
struct Parameters { LMP_DP_PARAMETERS(LMP_DP_DECLARE) };

// Texts are null where there is nothing to say.
#define LMP_DP_SHARED(FIELD) \
  FIELD(int64_t, handle)        /* of the Python object behind this pair style; 0: none yet */ \
  FIELD(const char *, message)  /* of the error, when a call fails */ \
  FIELD(const char *, log)      /* for screen and log file */ \
  FIELD(const char *, warning)  /* for LAMMPS's warning channel */ \
  FIELD(Run, run) \
  FIELD(Step, step) \
  FIELD(Deviation, deviation) \
  FIELD(Parameters, parameters)

struct Shared { LMP_DP_SHARED(LMP_DP_DECLARE) };
#undef LMP_DP_DECLARE

// Where a field of Shared lies. Those of its parts are called "part.field".
struct Field {
  const char *name;
  int64_t offset, size;
};

// The calls into Python return one of these.
enum { CALL_OK = 0, CALL_FAILED = 1, CALL_INTERRUPTED = 2 };

struct Bridge {
  int64_t bridge_size, n_fields;    // set by C++, checked by Python, ...
  const Field *fields;              // ... as is this
  int (*prepare)(Shared *, int narg, char **arg);     // pair_style dp <arg>, on the first rank ...
  int (*settings)(Shared *, int narg, char **arg);    // ... and then on all
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

#define LMP_DP_AT(part, type, name) {#part "." #name, offsetof(Shared, part.name), sizeof(type)},
#define LMP_DP_IN_SHARED(type, name) {#name, offsetof(Shared, name), sizeof(type)},
#define LMP_DP_IN_RUN(type, name) LMP_DP_AT(run, type, name)
#define LMP_DP_IN_STEP(type, name) LMP_DP_AT(step, type, name)
#define LMP_DP_IN_DEVIATION(type, name) LMP_DP_AT(deviation, type, name)
#define LMP_DP_IN_PARAMETERS(type, name) LMP_DP_AT(parameters, type, name)
constexpr Field SHARED_FIELDS[] = {
    LMP_DP_RUN(LMP_DP_IN_RUN) LMP_DP_STEP(LMP_DP_IN_STEP) LMP_DP_DEVIATION(LMP_DP_IN_DEVIATION)
    LMP_DP_PARAMETERS(LMP_DP_IN_PARAMETERS) LMP_DP_SHARED(LMP_DP_IN_SHARED)};

#endif
