// Parameters of the frame and of atoms for pair style dp, from computes and fixes, as they are on a step.
#include "pair_dp.h"

#include "atom.h"
#include "comm.h"
#include "compute.h"
#include "fix.h"
#include "modify.h"
#include "update.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

using namespace LAMMPS_NS;

void PairDP::fetch_parameters()
{
  Parameters &from = shared.parameters;
  from.fparam = from.ttm = nullptr;    // an earlier pair_style command may have had them
  if (from.fparam_compute) fparam_from(compute_of("fparam_from_compute", from.fparam_compute));
  if (from.fparam_fix) fparam_from(fix_of("fparam_from_fix", from.fparam_fix));
  if (from.aparam_compute) aparam_from(compute_of("aparam_from_compute", from.aparam_compute));
  if (from.ttm_fix) temperatures_from(fix_of("ttm", from.ttm_fix));
}

Compute *PairDP::compute_of(const char *keyword, const char *id)
{
  Compute *compute = modify->get_compute_by_id(id);
  if (!compute) refuse(std::string(keyword) + ": there is no compute " + id + ", define it before the run");
  return compute;
}

Fix *PairDP::fix_of(const char *keyword, const char *id)
{
  Fix *fix = modify->get_fix_by_id(id);
  if (!fix) refuse(std::string(keyword) + ": there is no fix " + id + ", define it before the run");
  return fix;
}

void PairDP::fparam_from(Compute *compute)
{
  const int n = shared.parameters.n_fparam;
  if (n == 1 ? !compute->scalar_flag : !compute->vector_flag || compute->size_vector < n)
    refuse(std::string("fparam_from_compute: compute ") + compute->id + " gives no " +
           (n == 1 ? "scalar" : "vector of " + std::to_string(n) + " values"));
  fparam.resize(n);
  if (n == 1) {
    if (compute->invoked_scalar != update->ntimestep) compute->compute_scalar();
    compute->invoked_flag |= Compute::INVOKED_SCALAR;
    fparam[0] = compute->scalar;
  } else {
    if (compute->invoked_vector != update->ntimestep) compute->compute_vector();
    compute->invoked_flag |= Compute::INVOKED_VECTOR;
    std::copy_n(compute->vector, n, fparam.begin());
  }
  shared.parameters.fparam = fparam.data();
}

void PairDP::fparam_from(Fix *fix)
{
  const int n = shared.parameters.n_fparam, index = shared.parameters.fparam_index;
  if (index < 0 ? !fix->scalar_flag : !fix->vector_flag || fix->size_vector < index + n)
    refuse(std::string("fparam_from_fix: fix ") + fix->id + " gives no " +
           (index < 0 ? "scalar" : "vector of " + std::to_string(index + n) + " values"));
  fparam.resize(n);
  for (int k = 0; k < n; k++)
    fparam[k] = index < 0 ? fix->compute_scalar() : fix->compute_vector(index + k);
  shared.parameters.fparam = fparam.data();
}

void PairDP::aparam_from(Compute *compute)
{
  const int n = shared.parameters.n_aparam;
  if (!compute->peratom_flag || (n == 1) != (compute->size_peratom_cols == 0) ||
      (n > 1 && compute->size_peratom_cols < n))
    refuse(std::string("aparam_from_compute: compute ") + compute->id + " gives no " +
           std::to_string(n) + " values per atom");
  if (compute->invoked_peratom != update->ntimestep) compute->compute_peratom();
  compute->invoked_flag |= Compute::INVOKED_PERATOM;
  aparam.resize((size_t) atom->nlocal * n);
  for (int i = 0; i < atom->nlocal; i++)
    for (int k = 0; k < n; k++)
      aparam[(size_t) i * n + k] = n == 1 ? compute->vector_atom[i] : compute->array_atom[i][k];
  shared.parameters.aparam = aparam.data();
}

// The wheel lacks the header of fix ttm. What it writes to restart files is open to all.
void PairDP::temperatures_from(Fix *fix)
{
  if (strcmp(fix->style, "ttm") != 0 && strcmp(fix->style, "ttm/grid") != 0)
    refuse(std::string("ttm: fix ") + fix->id + " is of style " + fix->style +
           ", expected ttm or ttm/grid");
  char *text = nullptr;
  size_t size = 0;
  FILE *memory_file = open_memstream(&text, &size);
  fix->write_restart(memory_file);
  fclose(memory_file);
  int64_t count = size / sizeof(double);
  MPI_Bcast(&count, 1, MPI_INT64_T, 0, world);
  ttm.resize(count);
  if (comm->me == 0) memcpy(ttm.data(), text + sizeof(int), count * sizeof(double));
  free(text);
  MPI_Bcast(ttm.data(), count, MPI_DOUBLE, 0, world);
  shared.parameters.ttm = ttm.data();
  shared.parameters.n_ttm = count;
  shared.parameters.ttm_group = fix->groupbit;
  shared.parameters.groups = atom->mask;
}
