// What pair style dp says, and how it ends a run.
#include "pair_dp.h"

#include "embedded_python.h"

#include "comm.h"
#include "error.h"

#include <cstdio>

using namespace LAMMPS_NS;

// Ends the run with the same message on all ranks.
void PairDP::refuse(const std::string &message)
{
  error->all(FLERR, "pair_style dp: " + message);
}

// What to say about a call that did not succeed.
std::string PairDP::reason(int outcome)
{
  if (outcome != CALL_INTERRUPTED) return std::string("pair_style dp: ") + shared.message;
  embedded_python::interrupt();
  return "pair_style dp: interrupted";
}

// Takes the outcomes of a call on all ranks: where any failed, all end with the message of the first.
void PairDP::together(int outcome)
{
  int mine = outcome == CALL_OK ? comm->nprocs : comm->me, first;
  MPI_Allreduce(&mine, &first, 1, MPI_INT, MPI_MIN, world);
  if (first < comm->nprocs) {
    std::string text = outcome == CALL_OK ? "" : reason(outcome);
    int size = text.size();
    MPI_Bcast(&size, 1, MPI_INT, first, world);
    text.resize(size);
    MPI_Bcast(&text[0], size, MPI_CHAR, first, world);
    error->all(FLERR, text);
  }
  show();
}

// Ends the run after a call that failed here, whatever the other ranks do.
void PairDP::fail(int outcome)
{
  const std::string text = reason(outcome);
  if (comm->nprocs == 1) error->all(FLERR, text);
  error->one(FLERR, text);
}

// Prints what Python left, to screen and log file.
void PairDP::show()
{
  if (shared.log && comm->me == 0) utils::logmesg(lmp, std::string(shared.log));
  if (shared.warning && comm->me == 0) error->warning(FLERR, std::string(shared.warning));
  shared.log = shared.warning = nullptr;
}

// Prints which rank uses which GPU.
void PairDP::show_devices()
{
  int mine = shared.run.device != nullptr, any;
  MPI_Allreduce(&mine, &any, 1, MPI_INT, MPI_MAX, world);
  if (!any) return;
  constexpr int LENGTH = 256;
  char text[LENGTH] = "";
  if (shared.run.device) snprintf(text, LENGTH, "%s", shared.run.device);
  std::vector<char> all(comm->me == 0 ? LENGTH * comm->nprocs : 0);
  MPI_Gather(text, LENGTH, MPI_CHAR, all.data(), LENGTH, MPI_CHAR, 0, world);
  if (comm->me == 0)
    for (int rank = 0; rank < comm->nprocs; rank++)
      utils::logmesg(lmp, "pair_style dp: rank {} -> {}\n", rank, &all[LENGTH * rank]);
}
