// The neighbours that pair style dp takes from LAMMPS, and what it refuses because they would be missing.
#include "pair_dp.h"

#include "atom.h"
#include "comm.h"
#include "group.h"
#include "neigh_list.h"
#include "neighbor.h"

#include <algorithm>

using namespace LAMMPS_NS;

// neigh_modify exclude takes pairs out of the list, but energies are per atom, of all of its neighbours.
// `exclude group G all` leaves nothing of the atoms of G: those are allowed, and absent (see types_seen).
void PairDP::refuse_exclusions()
{
  auto refuse_exclusion = [this](const std::string &what) {
    refuse("neigh_modify exclude " + what + " takes neighbours away, which the model needs: write "
           "neigh_modify exclude none (atoms that the model must not see: NULL in pair_coeff, or "
           "neigh_modify exclude group G all)");
  };
  for (int k = 0; k < neighbor->nex_type; k++)
    if (model_types[neighbor->ex1_type[k]] >= 0 && model_types[neighbor->ex2_type[k]] >= 0)
      refuse_exclusion("type " + std::to_string(neighbor->ex1_type[k]) + " " +
                       std::to_string(neighbor->ex2_type[k]));

  auto seen_atoms_in = [this](int igroup) { return seen_atoms(igroup, true) > 0; };
  for (int k = 0; k < neighbor->nex_group; k++)
    if (seen_atoms_in(neighbor->ex1_group[k]) && seen_atoms_in(neighbor->ex2_group[k]))
      refuse_exclusion(std::string("group ") + group->names[neighbor->ex1_group[k]] + " " +
                       group->names[neighbor->ex2_group[k]]);
  for (int k = 0; k < neighbor->nex_mol; k++)
    if (seen_atoms_in(neighbor->ex_mol_group[k]))
      refuse_exclusion(std::string("molecule/") + (neighbor->ex_mol_intra[k] ? "intra " : "inter ") +
                       group->names[neighbor->ex_mol_group[k]]);
}

// `comm_modify group`, which LAMMPS shows to derived classes only.
struct BorderGroup : Comm {
  static int of(const Comm *comm) { return comm->*(&BorderGroup::bordergroup); }
};

// Atoms outside of these groups are missing in the lists, or are no ghosts.
void PairDP::refuse_groups()
{
  auto refuse_group = [this](const std::string &command, int igroup) {
    if (igroup && seen_atoms(igroup, false))
      refuse(command + " " + group->names[igroup] + " takes neighbours away, which the model needs: leave it "
             "out, or name a group that holds all atoms of the model");
  };
  refuse_group("neigh_modify include", neighbor->includegroup);
  refuse_group("comm_modify group", BorderGroup::of(comm));
}

// How many atoms that the model sees are in a group, or outside of it, on all ranks.
bigint PairDP::seen_atoms(int igroup, bool inside)
{
  const int bit = group->bitmask[igroup];    // neighbor's own bits may not be set up yet
  const int *const types = types_seen();
  bigint mine = 0, all = 0;
  for (int i = 0; i < atom->nlocal; i++)
    if (((atom->mask[i] & bit) != 0) == inside && model_types[types[i]] >= 0) mine++;
  MPI_Allreduce(&mine, &all, 1, MPI_LMP_BIGINT, MPI_SUM, world);
  return all;
}

// LAMMPS's types of all atoms, 0 (absent) for atoms without any neighbours by `exclude group G all`. That
// is how fix gcmc asks for the energy without an atom: a lone atom's energy must not be in it.
const int *PairDP::types_seen()
{
  int absent = 0;
  for (int k = 0; k < neighbor->nex_group; k++) {
    const int one = neighbor->ex1_group[k], two = neighbor->ex2_group[k];
    if (one == 0) absent |= group->bitmask[two];    // group 0 is all
    if (two == 0) absent |= group->bitmask[one];
  }
  if (!absent) return atom->type;
  const int n_all = atom->nlocal + atom->nghost;
  seen.resize(n_all);
  for (int i = 0; i < n_all; i++) seen[i] = atom->mask[i] & absent ? 0 : atom->type[i];
  return seen.data();
}

// Copies LAMMPS's paged list into flat arrays that only grow.
void PairDP::flatten()
{
  const int n = list->inum;
  centres.assign(list->ilist, list->ilist + n);
  offsets.resize(n + 1);
  offsets[0] = 0;
  for (int c = 0; c < n; c++) offsets[c + 1] = offsets[c] + list->numneigh[centres[c]];
  if ((int64_t) neighbours.size() < offsets[n]) neighbours.resize(offsets[n] + offsets[n] / 8);
  for (int c = 0; c < n; c++) {
    const int *from = list->firstneigh[centres[c]];
    std::transform(from, from + list->numneigh[centres[c]], neighbours.begin() + offsets[c],
                   [](int j) { return j & NEIGHMASK; });
  }
  shared.step.n_centres = n;
  shared.step.n_neighbours = offsets[n];
  shared.step.centres = centres.data();
  shared.step.offsets = offsets.data();
  shared.step.neighbours = neighbours.data();
  flat_of = list;
}
