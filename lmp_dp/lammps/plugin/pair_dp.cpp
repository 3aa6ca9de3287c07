#include "pair_dp.h"

#include "embedded_python.h"

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "error.h"
#include "force.h"
#include "group.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "universe.h"
#include "update.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <sched.h>

using namespace LAMMPS_NS;

PairDP::PairDP(LAMMPS *lmp) :
    Pair(lmp), python(nullptr), shared(), scale(nullptr), flat_of(nullptr), flat_build(-1)
{
  one_coeff = 1;
  manybody_flag = 1;
  restartinfo = 1;    // only the name: a run without a new pair_style ends with an error
  respa_enable = 0;
  single_enable = 0;
  no_virial_fdotr_compute = 1;
  centroidstressflag = CENTROID_AVAIL;
  shared.lammps_version = lmp->version;

  std::string message;
  python = embedded_python::bridge(message);
  shared.message = message.c_str();
  together(python ? CALL_OK : CALL_FAILED);
}

PairDP::~PairDP()
{
  if (copymode) return;
  // No `close` either if Python has ended before LAMMPS (a script that never closes it).
  if (python && python->close && shared.handle) python->close(&shared);
  if (allocated) {
    memory->destroy(setflag);
    memory->destroy(cutsq);
    memory->destroy(scale);
  }
}

/* ---------------------------------------------------------------------- errors and messages */

// Ends the run with the same message on all ranks.
void PairDP::refuse(const std::string &message)
{
  error->all(FLERR, "pair_style dp: " + message);
}

// Takes the outcome of a call that all ranks made. Where all failed one message is enough; where some
// did (a file missing on one node) they must not wait for the others.
void PairDP::together(int outcome)
{
  int mine = outcome != CALL_OK, failures = 0;
  MPI_Allreduce(&mine, &failures, 1, MPI_INT, MPI_SUM, world);
  if (mine) fail(outcome, failures == comm->nprocs);
  if (failures) MPI_Barrier(world);    // the others are about to end the run: wait for it
  show();
}

// Ends the run with what Python said.
void PairDP::fail(int outcome, bool on_all_ranks)
{
  std::string text = "pair_style dp: ";
  if (outcome == CALL_INTERRUPTED) {
    text += "interrupted";
    embedded_python::interrupt();
  } else
    text += shared.message;
  if (on_all_ranks) error->all(FLERR, text);
  error->one(FLERR, text);
}

// Prints what Python left, to screen and log file.
void PairDP::show()
{
  if (shared.log && comm->me == 0) utils::logmesg(lmp, std::string(shared.log));
  if (shared.warning && comm->me == 0) error->warning(FLERR, std::string(shared.warning));
  shared.log = shared.warning = nullptr;
}

/* ---------------------------------------------------------------------- input script */

// pair_style dp <model> <keywords>: all of it is Python's to read
void PairDP::settings(int narg, char **arg)
{
  where_am_i();
  together(python->settings(&shared, narg, arg));
}

void PairDP::allocate()
{
  const int n = atom->ntypes;
  memory->create(setflag, n + 1, n + 1, "pair:setflag");
  memory->create(cutsq, n + 1, n + 1, "pair:cutsq");
  memory->create(scale, n + 1, n + 1, "pair:scale");
  model_types.assign(n + 1, -1);
  allocated = 1;
}

// pair_coeff * * <element of each type, or NULL>; LAMMPS sees to the * * (one_coeff)
void PairDP::coeff(int narg, char **arg)
{
  if (!shared.handle)
    refuse("no model: a restart file keeps the name of the pair style only; write pair_style dp MODEL.h5 "
           "and pair_coeff after read_restart");
  if (!allocated) allocate();
  shared.n_types = atom->ntypes;
  shared.model_types = model_types.data();
  together(python->coeff(&shared, narg - 2, arg + 2));

  // On its own the style stands for all pairs, and NULL atoms feel nothing. Under a hybrid style, pairs
  // with a NULL type are for the other styles.
  const bool alone = force->pair == this;
  for (int i = 1; i <= atom->ntypes; i++)
    for (int j = 1; j <= atom->ntypes; j++) {
      setflag[i][j] = j >= i && (alone || (model_types[i] >= 0 && model_types[j] >= 0));
      scale[i][j] = 1.0;
    }
}

void PairDP::init_style()
{
  if (!force->newton_pair)
    refuse("forces on ghost atoms would be lost with newton off: write newton on (before the box is "
           "defined)");
  // LAMMPS leaves such pairs out of the list; the model needs every neighbour.
  if (atom->molecular != Atom::ATOMIC && (atom->nbonds || atom->nangles))
    for (int i = 1; i <= 3; i++)
      if (force->special_lj[i] == 0.0 && force->special_coul[i] == 0.0)
        refuse("special_bonds takes bonded neighbours away, which the model needs: write special_bonds "
               "lj/coul 1 1 1, or 1.0e-50 in place of 0 where other styles need the weights");

  refuse_exclusions();

  neighbor->add_request(this, NeighConst::REQ_FULL);
  flat_of = nullptr;

  shared.unit_style = update->unit_style;
  shared.boltz = force->boltz;
  shared.angstrom = force->angstrom;
  shared.masses = atom->mass;
  together(python->init(&shared));
}

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

  const int *const types = types_seen();
  auto seen_atoms_in = [&](int igroup) {
    const int bit = group->bitmask[igroup];    // neighbor's own bits are not set up yet
    bigint mine = 0, all = 0;
    for (int i = 0; i < atom->nlocal; i++)
      if ((atom->mask[i] & bit) && model_types[types[i]] >= 0) mine++;
    MPI_Allreduce(&mine, &all, 1, MPI_LMP_BIGINT, MPI_SUM, world);
    return all > 0;
  };
  for (int k = 0; k < neighbor->nex_group; k++)
    if (seen_atoms_in(neighbor->ex1_group[k]) && seen_atoms_in(neighbor->ex2_group[k]))
      refuse_exclusion(std::string("group ") + group->names[neighbor->ex1_group[k]] + " " +
                       group->names[neighbor->ex2_group[k]]);
  for (int k = 0; k < neighbor->nex_mol; k++)
    if (seen_atoms_in(neighbor->ex_mol_group[k]))
      refuse_exclusion(std::string("molecule/") + (neighbor->ex_mol_intra[k] ? "intra " : "inter ") +
                       group->names[neighbor->ex_mol_group[k]]);
}

static_assert(sizeof(tagint) == sizeof(int32_t), "Shared.tags are of 32 bits");

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

void PairDP::init_list(int, NeighList *pointer)
{
  list = pointer;
  flat_of = nullptr;
}

double PairDP::init_one(int i, int j)
{
  if (setflag[i][j] == 0) error->all(FLERR, "pair_style dp: not all pair coeffs are set");
  scale[j][i] = scale[i][j];
  return shared.cutoff;
}

void *PairDP::extract(const char *name, int &dim)
{
  dim = 2;
  return strcmp(name, "scale") == 0 ? (void *) scale : nullptr;
}

double PairDP::memory_usage()
{
  return Pair::memory_usage() + 8.0 * offsets.capacity() + 4.0 * centres.capacity() +
      4.0 * neighbours.capacity();
}

/* ---------------------------------------------------------------------- the run */

void PairDP::compute(int eflag, int vflag)
{
  ev_init(eflag, vflag);

  shared.scale = scale[1][1];
  for (int i = 1; i <= atom->ntypes; i++)
    for (int j = i; j <= atom->ntypes; j++)
      if (setflag[i][j] && scale[i][j] != shared.scale)
        error->all(FLERR, "pair_style dp: energies are per atom, not per pair, so the scale must be the "
                          "same for all types: write scale * *");

  const bool rebuilt = flat_of != list || neighbor->ago == 0 || neighbor->ncalls != flat_build;
  if (rebuilt) flatten();
  shared.rebuilt = rebuilt;

  // A rank without atoms may have no arrays.
  const int n_all = atom->nlocal + atom->nghost;
  shared.step = update->ntimestep;
  shared.n_local = atom->nlocal;
  shared.n_all = n_all;
  shared.x = n_all ? &atom->x[0][0] : nullptr;
  shared.f = n_all ? &atom->f[0][0] : nullptr;
  shared.types = types_seen();
  shared.tags = atom->tag;
  shared.energies = eflag_atom && n_all ? eatom : nullptr;
  shared.virials6 = vflag_atom && n_all ? &vatom[0][0] : nullptr;
  shared.virials9 = cvflag_atom && n_all ? &cvatom[0][0] : nullptr;
  shared.want_virial = vflag_global != 0;
  for (int k = 0; k < 3; k++) {
    shared.box_low[k] = domain->boxlo[k];
    shared.periodic[k] = domain->periodicity[k];
  }
  for (int k = 0; k < 6; k++) shared.box[k] = domain->h[k];

  if (!python->compute) error->one(FLERR, "pair_style dp: Python has ended");
  const int outcome = python->compute(&shared);
  if (outcome != CALL_OK) {
    flat_of = nullptr;
    fail(outcome, comm->nprocs == 1);
  }
  show();

  if (eflag_global) eng_vdwl += shared.energy;
  if (vflag_global)
    for (int k = 0; k < 6; k++) virial[k] += shared.virial[k];
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
  shared.n_centres = n;
  shared.n_neighbours = offsets[n];
  shared.centres = centres.data();
  shared.offsets = offsets.data();
  shared.neighbours = neighbours.data();
  flat_of = list;
  flat_build = neighbor->ncalls;
}

void PairDP::finish()
{
  if (!python->finish) return;
  MPI_Allreduce(shared.counts, shared.total_counts, 2, MPI_INT64_T, MPI_SUM, world);
  together(python->finish(&shared));
}

// Who shares this node, for the choice of threads and GPU: the rank among the processes here, and the
// number of distinct cores that all of them together may use.
void PairDP::where_am_i()
{
  MPI_Comm node;
  MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
  MPI_Comm_rank(node, &shared.local_rank);
  MPI_Comm_size(node, &shared.local_size);
  cpu_set_t mine, all;
  CPU_ZERO(&mine);
  CPU_ZERO(&all);
  sched_getaffinity(0, sizeof(mine), &mine);
  MPI_Allreduce(&mine, &all, sizeof(mine), MPI_BYTE, MPI_BOR, node);
  shared.node_cores = CPU_COUNT(&all);
  MPI_Comm_free(&node);

  // Ranks of other partitions count as well, but need not come here, so MPI cannot be asked for them.
  // MPICH's mpirun says how many ranks a node has; failing that, take all partitions to be on this one.
  if (universe->nworlds > 1) {
    const char *rank = getenv("MPI_LOCALRANKID"), *size = getenv("MPI_LOCALNRANKS");
    shared.local_rank = rank ? atoi(rank) : universe->me;
    shared.local_size = size ? atoi(size) : universe->nprocs;
  }
}
