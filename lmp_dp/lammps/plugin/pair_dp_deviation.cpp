// Model deviation of pair style dp: how much several models disagree.
#include "pair_dp.h"

#include "atom.h"
#include "comm.h"

#include <algorithm>
#include <numeric>

using namespace LAMMPS_NS;

// How much the models disagree: each rank for its atoms, the first rank for the file.
void PairDP::deviate()
{
  comm->reverse_comm(this);
  const int outcome = python->deviate(&shared);
  if (outcome != CALL_OK) fail(outcome);

  const int n = atom->nlocal;
  std::vector<int> counts(comm->nprocs), offsets(comm->nprocs + 1, 0);
  MPI_Gather(&n, 1, MPI_INT, counts.data(), 1, MPI_INT, 0, world);
  std::partial_sum(counts.begin(), counts.end(), offsets.begin() + 1);
  all_deviations.resize(offsets.back());
  MPI_Gatherv(shared.deviation.deviations, n, MPI_DOUBLE, all_deviations.data(), counts.data(), offsets.data(),
              MPI_DOUBLE, 0, world);
  if (atom->tag_enable) {
    all_tags.resize(offsets.back());
    MPI_Gatherv(atom->tag, n, MPI_LMP_TAGINT, all_tags.data(), counts.data(), offsets.data(),
                MPI_LMP_TAGINT, 0, world);
  }
  MPI_Reduce(comm->me ? shared.deviation.model_virials : MPI_IN_PLACE, shared.deviation.model_virials, 9 * shared.run.n_models,
             MPI_DOUBLE, MPI_SUM, 0, world);
  shared.deviation.all_deviations = all_deviations.data();
  shared.deviation.all_tags = atom->tag_enable ? all_tags.data() : nullptr;
  shared.deviation.n_atoms = offsets.back();
  together(comm->me ? (int) CALL_OK : python->record(&shared));
}

int PairDP::pack_reverse_comm(int n, int first, double *buffer)
{
  const int width = 3 * shared.run.n_models;
  std::copy_n(shared.deviation.model_forces + (int64_t) first * width, n * width, buffer);
  return n * width;
}

void PairDP::unpack_reverse_comm(int n, int *atoms, double *buffer)
{
  const int width = 3 * shared.run.n_models;
  for (int i = 0; i < n; i++) {
    double *forces = shared.deviation.model_forces + (int64_t) atoms[i] * width;
    for (int k = 0; k < width; k++) forces[k] += *buffer++;
  }
}
