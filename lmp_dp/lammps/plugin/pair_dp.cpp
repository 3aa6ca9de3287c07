#include "pair_dp.h"

#include "embedded_python.h"

#include "atom.h"
#include "comm.h"
#include "compute.h"
#include "domain.h"
#include "error.h"
#include "fix.h"
#include "force.h"
#include "group.h"
#include "memory.h"
#include "modify.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "output.h"
#include "universe.h"
#include "update.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <sched.h>

using namespace LAMMPS_NS;

// In the flags of a hybrid style: a pair with a NULL type that no style has taken, as by pair_coeff none.
constexpr int LEFT_ALONE = 2;

PairDP::PairDP(LAMMPS *lmp) :
    Pair(lmp), python(nullptr), shared(), scale(nullptr), flat_of(nullptr), flat_build(-1),
    no_model(nullptr), asking(false)
{
  one_coeff = 1;
  manybody_flag = 1;
  restartinfo = 1;    // only the name: a run without a new pair_style ends with an error
  respa_enable = 0;
  single_enable = 0;
  ewaldflag = pppmflag = 1;    // see coulomb_cutoff
  no_virial_fdotr_compute = 1;
  centroidstressflag = CENTROID_AVAIL;
  shared.lammps_version = lmp->version;

  std::string message;
  python = embedded_python::bridge(lmp->python, message);
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
  int mine = shared.device != nullptr, any;
  MPI_Allreduce(&mine, &any, 1, MPI_INT, MPI_MAX, world);
  if (!any) return;
  constexpr int LENGTH = 256;
  char text[LENGTH] = "";
  if (shared.device) snprintf(text, LENGTH, "%s", shared.device);
  std::vector<char> all(comm->me == 0 ? LENGTH * comm->nprocs : 0);
  MPI_Gather(text, LENGTH, MPI_CHAR, all.data(), LENGTH, MPI_CHAR, 0, world);
  if (comm->me == 0)
    for (int rank = 0; rank < comm->nprocs; rank++)
      utils::logmesg(lmp, "pair_style dp: rank {} -> {}\n", rank, &all[LENGTH * rank]);
}

/* ---------------------------------------------------------------------- input script */

// pair_style dp <models> <keywords>: all of it is Python's to read
void PairDP::settings(int narg, char **arg)
{
  no_model = "the last pair_style dp command failed, so there is no model: write a pair_style dp "
             "command that works, and pair_coeff";
  where_am_i();
  shared.rank = comm->me;
  together(python->settings(&shared, narg, arg));
  no_model = nullptr;
  show_devices();
  comm_reverse = 3 * shared.n_models;
}

// A restart file holds nothing but the name of the style, so the model is not known yet.
void PairDP::read_restart(FILE *)
{
  shared.restarted = 1;
  no_model = "there is no model (a restart file does not name it): write pair_style dp MODEL.h5 and "
             "pair_coeff after read_restart";
}

// Where a script goes on without a model; the same on all ranks.
void PairDP::refuse_without_model()
{
  if (no_model) refuse(no_model);
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
  refuse_without_model();
  if (!allocated) allocate();
  shared.n_types = atom->ntypes;
  shared.model_types = model_types.data();
  shared.unit_style = update->unit_style;
  shared.boltz = force->boltz;
  shared.angstrom = force->angstrom;
  together(python->coeff(&shared, narg - 2, arg + 2));

  // On its own the style stands for all pairs, and NULL atoms feel nothing. Under a hybrid style, pairs
  // with a NULL type are for the other styles.
  const bool alone = force->pair == this;
  for (int i = 1; i <= atom->ntypes; i++)
    for (int j = 1; j <= atom->ntypes; j++) {
      setflag[i][j] = j >= i && (alone || (model_types[i] >= 0 && model_types[j] >= 0));
      scale[i][j] = 1.0;
    }
  // LAMMPS looks at these before init_style; see leave_null_pairs_alone for the others.
  int **const flags = force->pair->setflag;
  for (int i = 1; i <= atom->ntypes; i++)
    if (model_types[i] < 0 && flags[i][i] == 0) flags[i][i] = LEFT_ALONE;
}

// Under a hybrid style, pairs with a NULL type that no other style takes do not interact. Not by taking
// them: pair_coeff commands to come may leave them to the mixing rules of another style.
void PairDP::leave_null_pairs_alone()
{
  if (force->pair == this) return;
  int **const flags = force->pair->setflag;
  const bool first = force->pair_match("dp", 1, 1) == this;
  for (int i = 1; i <= atom->ntypes; i++)
    for (int j = i + 1; j <= atom->ntypes; j++) {
      if (first && flags[i][j] == LEFT_ALONE) flags[i][j] = 0;    // from an earlier run
      const bool i_is_null = model_types[i] < 0, j_is_null = model_types[j] < 0;
      const bool can_be_mixed = i_is_null && j_is_null && flags[i][i] != LEFT_ALONE &&
          flags[j][j] != LEFT_ALONE;
      if ((i_is_null || j_is_null) && flags[i][j] == 0 && !can_be_mixed) flags[i][j] = LEFT_ALONE;
    }
}

void PairDP::init_style()
{
  refuse_without_model();
  if (!force->newton_pair)
    refuse("forces on ghost atoms would be lost with newton off: write newton on (before the box is "
           "defined)");
  // LAMMPS leaves such pairs out of the list; the model needs every neighbour.
  if (atom->molecular != Atom::ATOMIC && (atom->nbonds || atom->nangles))
    for (int i = 1; i <= 3; i++)
      if (force->special_lj[i] == 0.0 && force->special_coul[i] == 0.0)
        refuse("special_bonds takes bonded neighbours away, which the model needs: write special_bonds "
               "lj/coul 1 1 1, or 1.0e-50 in place of 0 where other styles need the weights");

  leave_null_pairs_alone();
  refuse_exclusions();
  refuse_groups();

  if (!shared.builds_lists) neighbor->add_request(this, NeighConst::REQ_FULL);
  flat_of = nullptr;
  flat_build = -1;

  masses.assign(atom->ntypes + 1, 0.0);
  for (int i = 1; atom->mass && i <= atom->ntypes; i++)
    if (atom->mass_setflag[i]) masses[i] = atom->mass[i];
  shared.masses = atom->mass && !atom->rmass ? masses.data() : nullptr;
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
  scale[j][i] = scale[i][j];
  return shared.cutoff;
}

void *PairDP::extract(const char *name, int &dim)
{
  if (strcmp(name, "cut_coul") == 0) return coulomb_cutoff(dim);
  dim = 2;
  return strcmp(name, "scale") == 0 ? (void *) scale : nullptr;
}

// Where LAMMPS's kspace styles split charges into short and long range. The short range is that of a style
// beside this one, whose cutoff it is then. Where there is none, the long range is all there is, as with
// pair deepmd: the first pair_style dp answers with its own cutoff. (Hybrid styles want one answer.)
void *PairDP::coulomb_cutoff(int &dim)
{
  if (asking || force->pair_match("dp", 1, 1) != this) return nullptr;
  if (force->pair != this) {
    asking = true;
    const void *const other = force->pair->extract("cut_coul", dim);
    asking = false;
    if (other) return nullptr;
  }
  refuse_without_model();
  if (shared.cutoff == 0.0) refuse("pair_coeff is missing: write pair_coeff * * and the elements");
  dim = 0;
  return &shared.cutoff;
}

double PairDP::memory_usage()
{
  return Pair::memory_usage() + 8.0 * offsets.capacity() + 4.0 * centres.capacity() +
      4.0 * neighbours.capacity() + 12.0 * all_deviations.capacity();
}

/* ---------------------------------------------------------------------- the run */

void PairDP::compute(int eflag, int vflag)
{
  ev_init(eflag, vflag);
  refuse_without_model();    // after run ... pre no

  shared.scale = scale[1][1];
  for (int i = 1; i <= atom->ntypes; i++)
    for (int j = i; j <= atom->ntypes; j++)
      if (setflag[i][j] && scale[i][j] != shared.scale)
        error->all(FLERR, "pair_style dp: energies are per atom, not per pair, so the scale must be the "
                          "same for all types: write scale * *");

  const bool rebuilt = flat_of != list || neighbor->ago == 0 || neighbor->ncalls != flat_build;
  if (rebuilt && list) flatten();
  flat_build = neighbor->ncalls;
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
  shared.skin = neighbor->skin;
  std::copy_n(domain->boxlo, 3, shared.box_low);
  std::copy_n(domain->h, 6, shared.box);
  fetch_parameters();

  if (!python->compute) error->one(FLERR, "pair_style dp: Python has ended");
  const int outcome = python->compute(&shared);
  if (outcome != CALL_OK) {
    flat_of = nullptr;
    flat_build = -1;
    fail(outcome);
  }
  show();

  if (eflag_global) eng_vdwl += shared.energy;
  if (vflag_global)
    for (int k = 0; k < 6; k++) virial[k] += shared.virial[k];
  if (shared.model_forces) deviate();

  // What one rank alone has seen is said where all of them meet in any case.
  if (shared.watching && (neighbor->ago == 0 || update->ntimestep == output->next_thermo)) {
    add_up_counts();
    if (std::any_of(shared.counts, shared.counts + 2 * shared.n_models, [](int64_t n) { return n > 0; }))
      together(python->warn(&shared));
  }
}

// Leaves the counts of all ranks in shared.counts.
void PairDP::add_up_counts()
{
  const int outcome = python->count(&shared);
  if (outcome != CALL_OK) fail(outcome);
  MPI_Allreduce(MPI_IN_PLACE, shared.counts, 2 * shared.n_models, MPI_INT64_T, MPI_SUM, world);
}

Compute *PairDP::compute_of(const char *keyword, const char *id)
{
  Compute *compute = modify->get_compute_by_id(id);
  if (!compute) refuse(std::string(keyword) + ": there is no compute " + id);
  return compute;
}

Fix *PairDP::fix_of(const char *keyword, const char *id)
{
  Fix *fix = modify->get_fix_by_id(id);
  if (!fix) refuse(std::string(keyword) + ": there is no fix " + id);
  return fix;
}

// Parameters of the frame and of atoms from computes and fixes, as they are on this step.
void PairDP::fetch_parameters()
{
  const int n_f = shared.n_fparam, n_a = shared.n_aparam, n = atom->nlocal;
  const bigint now = update->ntimestep;
  fparam.resize(n_f);
  shared.fparam = nullptr;
  if (shared.fparam_compute) {
    Compute *compute = compute_of("fparam_from_compute", shared.fparam_compute);
    if (n_f == 1 ? !compute->scalar_flag : !compute->vector_flag || compute->size_vector < n_f)
      refuse(std::string("fparam_from_compute: compute ") + compute->id + " gives no " +
             (n_f == 1 ? "scalar" : "vector of " + std::to_string(n_f) + " values"));
    if (n_f == 1) {
      if (compute->invoked_scalar != now) compute->compute_scalar();
      compute->invoked_flag |= Compute::INVOKED_SCALAR;
      fparam[0] = compute->scalar;
    } else {
      if (compute->invoked_vector != now) compute->compute_vector();
      compute->invoked_flag |= Compute::INVOKED_VECTOR;
      std::copy_n(compute->vector, n_f, fparam.begin());
    }
    shared.fparam = fparam.data();
  }
  if (shared.fparam_fix) {
    Fix *fix = fix_of("fparam_from_fix", shared.fparam_fix);
    const int index = shared.fparam_index;
    if (index < 0 ? !fix->scalar_flag : !fix->vector_flag || fix->size_vector < index + n_f)
      refuse(std::string("fparam_from_fix: fix ") + fix->id + " gives no " +
             (index < 0 ? "scalar" : "vector of " + std::to_string(index + n_f) + " values"));
    for (int k = 0; k < n_f; k++)
      fparam[k] = index < 0 ? fix->compute_scalar() : fix->compute_vector(index + k);
    shared.fparam = fparam.data();
  }
  if (shared.aparam_compute) {
    Compute *compute = compute_of("aparam_from_compute", shared.aparam_compute);
    if (!compute->peratom_flag || (n_a == 1) != (compute->size_peratom_cols == 0) ||
        (n_a > 1 && compute->size_peratom_cols < n_a))
      refuse(std::string("aparam_from_compute: compute ") + compute->id + " gives no " +
             std::to_string(n_a) + " values per atom");
    if (compute->invoked_peratom != now) compute->compute_peratom();
    compute->invoked_flag |= Compute::INVOKED_PERATOM;
    aparam.resize((size_t) n * n_a);
    for (int i = 0; i < n; i++)
      for (int k = 0; k < n_a; k++)
        aparam[(size_t) i * n_a + k] = n_a == 1 ? compute->vector_atom[i] : compute->array_atom[i][k];
    shared.aparam = aparam.data();
  }
  shared.ttm = nullptr;
  if (shared.ttm_fix) {
    Fix *fix = fix_of("ttm", shared.ttm_fix);
    if (strcmp(fix->style, "ttm") != 0 && strcmp(fix->style, "ttm/grid") != 0)
      refuse(std::string("ttm: fix ") + fix->id + " is of style " + fix->style +
             ", expected ttm or ttm/grid");
    // The wheel lacks the header of this fix. What it writes to restart files is open to all.
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
    shared.ttm = ttm.data();
    shared.n_ttm = count;
    shared.ttm_group = fix->groupbit;
    shared.groups = atom->mask;
  }
}

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
  MPI_Gatherv(shared.deviations, n, MPI_DOUBLE, all_deviations.data(), counts.data(), offsets.data(),
              MPI_DOUBLE, 0, world);
  if (atom->tag_enable) {
    all_tags.resize(offsets.back());
    MPI_Gatherv(atom->tag, n, MPI_LMP_TAGINT, all_tags.data(), counts.data(), offsets.data(),
                MPI_LMP_TAGINT, 0, world);
  }
  MPI_Reduce(comm->me ? shared.model_virials : MPI_IN_PLACE, shared.model_virials, 9 * shared.n_models,
             MPI_DOUBLE, MPI_SUM, 0, world);
  shared.all_deviations = all_deviations.data();
  shared.all_tags = atom->tag_enable ? all_tags.data() : nullptr;
  shared.n_atoms = offsets.back();
  together(comm->me ? (int) CALL_OK : python->record(&shared));
}

int PairDP::pack_reverse_comm(int n, int first, double *buffer)
{
  const int width = 3 * shared.n_models;
  std::copy_n(shared.model_forces + (int64_t) first * width, n * width, buffer);
  return n * width;
}

void PairDP::unpack_reverse_comm(int n, int *atoms, double *buffer)
{
  const int width = 3 * shared.n_models;
  for (int i = 0; i < n; i++) {
    double *forces = shared.model_forces + (int64_t) atoms[i] * width;
    for (int k = 0; k < width; k++) forces[k] += *buffer++;
  }
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
}

void PairDP::finish()
{
  if (!python->finish) return;
  refuse_without_model();
  add_up_counts();
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
