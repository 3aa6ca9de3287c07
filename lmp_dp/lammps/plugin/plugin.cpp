// What is visible from outside: LAMMPS's entry into the plugin, and a LAMMPS main program for lmp-dp run.

#include "lammps_plugin_interface.h"
#include "pair_dp.h"
#include "this_lammps.h"

#include "error.h"
#include "exceptions.h"
#include "force.h"
#include "input.h"
#include "lammps.h"
#include "library.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mpi.h>
#include <string>
#include <thread>

// The constructor of LAMMPS has MPI's type in its name. Weak: in a LAMMPS with another MPI it is missing,
// but the plugin is loaded, and can say why it does not fit.
#ifdef OPEN_MPI
asm(".weak _ZN9LAMMPS_NS6LAMMPSC1EiPPcP19ompi_communicator_t");
#else
asm(".weak _ZN9LAMMPS_NS6LAMMPSC1EiPPci");
#endif

#define EXPORT __attribute__((visibility("default")))

using namespace LAMMPS_NS;

static void *create_pair_dp(void *handle)
{
  return new PairDP(static_cast<LAMMPS *>(handle));
}

// In place of create_pair_dp where LAMMPS is another one than the plugin was compiled for. The layout of
// its classes is unknown then, so this does what error->all does without touching one. (lammps_error, of
// the C interface, would end a whole Python.)
static void *refuse_pair_dp(void *handle)
{
  const std::string text = "ERROR: pair_style dp: " + this_lammps::unfit();
  if (lammps_extract_setting(handle, "world_rank") == 0)
    utils::logmesg(static_cast<LAMMPS *>(handle), text + "\n");
  throw LAMMPSException(text);
}

static bool in_lmp_dp_run = false;

static Pair *refuse_deepmd(LAMMPS *lammps)
{
  lammps->error->all(FLERR, "Unrecognized pair style 'deepmd'\nA script for pair style deepmd runs as it is "
                            "with LAMMPS's suffix dp: lmp-dp run -sf dp -in SCRIPT");
  return nullptr;
}

// With the suffix dp, deepmd means deepmd/dp; but a hybrid style ends the arguments of one style only where
// it meets the name of another, and deepmd is none unless it is in the map. A real one stays, or takes the
// place of this one.
static void make_deepmd_a_name(LAMMPS *lammps)
{
  if (in_lmp_dp_run || (lammps->suffix && strcmp(lammps->suffix, "dp") == 0))
    lammps->force->pair_map->emplace("deepmd", refuse_deepmd);
}

extern "C" {

EXPORT void lammpsplugin_init(void *lmp, void *handle, void *regfunc)
{
  static const std::string version = LAMMPS_VERSION, date = version.substr(0, version.find(" - "));
  const bool fits = this_lammps::unfit().empty();
  lammpsplugin_t plugin = {};
  plugin.version = date.c_str();
  plugin.style = "pair";
  plugin.info = "Deep Potential pair style, engine in Python (lmp_dp)";
  plugin.author = "the lmp_dp developers";
  plugin.creator.v1 = fits ? create_pair_dp : refuse_pair_dp;
  plugin.handle = handle;
  // The second name is what LAMMPS's suffix dp (-sf dp) makes of deepmd: scripts for pair style deepmd
  // run as they are.
  for (const char *name : {"dp", "deepmd/dp"}) {
    plugin.name = name;
    reinterpret_cast<lammpsplugin_regfunc>(regfunc)(&plugin, lmp);
  }
  if (fits) make_deepmd_a_name(static_cast<LAMMPS *>(lmp));
}

// Why this LAMMPS must not be used with this plugin; empty if it may. Before all else.
EXPORT const char *lmp_dp_unfit()
{
  static const std::string reason = this_lammps::unfit();
  return reason.c_str();
}

// The whole of a LAMMPS program, if it may run with so many ranks. LAMMPS prints its errors before it
// throws them.
EXPORT int lmp_dp_main(int argc, char **argv, int (*may_run)(int world_size))
{
  in_lmp_dp_run = true;
  MPI_Init(&argc, &argv);
  int size;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (!may_run(size)) {
    MPI_Finalize();
    return 2;
  }
  int status = 0;
  try {
    LAMMPS *lammps = new LAMMPS(argc, argv, MPI_COMM_WORLD);
    lammps->input->file();
    delete lammps;
  } catch (LAMMPSAbortException &error) {    // on some ranks only: the others wait, so end them
    fflush(nullptr);
    // mpirun forgets what it has not read by then, and other ranks may be about to say the same
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    MPI_Abort(error.get_universe(), 1);
  } catch (LAMMPSException &) {
    status = 1;
  } catch (std::exception &error) {    // out of memory, most likely
    fprintf(stderr, "\nERROR: %s\n", error.what());
    fflush(nullptr);
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
  fflush(nullptr);
  MPI_Barrier(MPI_COMM_WORLD);
  MPI_Finalize();
  return status;
}
}
