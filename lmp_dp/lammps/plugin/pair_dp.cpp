#include "pair_dp.h"

#include "embedded_python.h"

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "neighbor.h"
#include "output.h"
#include "universe.h"
#include "update.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <sched.h>

using namespace LAMMPS_NS;

asm(".weak MPI_Comm_split_type");    // missing in a LAMMPS without MPI, where the plugin says so

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
  shared.run.tag_size = sizeof(tagint);
  shared.run.lammps_version = lmp->version;
  MPI_Comm_size(MPI_COMM_WORLD, &shared.run.world_size);

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

/* ---------------------------------------------------------------------- input script */

// pair_style dp <models> <keywords>: all of it is Python's to read
void PairDP::settings(int narg, char **arg)
{
  no_model = "the last pair_style dp command failed, so there is no model: write a pair_style dp "
             "command that works, and pair_coeff";
  where_am_i();
  shared.run.rank = comm->me;
  share_models(narg, arg);
  together(python->settings(&shared, narg, arg));
  shared.run.models = nullptr;
  received = {};
  no_model = nullptr;
  show_devices();
  comm_reverse = 3 * shared.run.n_models;
}

// Models that have to be converted or tabulated are, by the first rank: all ranks get what it made, bit
// for bit, whatever they share of file systems.
void PairDP::share_models(int narg, char **arg)
{
  constexpr int64_t AT_ONCE = 1 << 30;    // MPI counts in int
  shared.run.models = nullptr;
  shared.run.models_size = 0;
  together(comm->me == 0 ? python->prepare(&shared, narg, arg) : CALL_OK);
  MPI_Bcast(&shared.run.models_size, 1, MPI_INT64_T, 0, world);
  const int64_t size = shared.run.models_size;
  if (comm->me != 0) received.resize(size);
  char *const content = comm->me == 0 ? const_cast<char *>(shared.run.models) : received.data();
  for (int64_t done = 0; done < size; done += AT_ONCE)
    MPI_Bcast(content + done, (int) std::min(AT_ONCE, size - done), MPI_CHAR, 0, world);
  shared.run.models = content;
}

// A restart file holds nothing but the name of the style, so the model is not known yet.
void PairDP::read_restart(FILE *)
{
  shared.run.restarted = 1;
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
  shared.run.n_types = atom->ntypes;
  shared.run.model_types = model_types.data();
  shared.run.unit_style = update->unit_style;
  shared.run.boltz = force->boltz;
  shared.run.angstrom = force->angstrom;
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

// Of several pair styles dp, under whichever of their names. (Another plugin's may be called deepmd.)
PairDP *PairDP::first_of_all()
{
  for (const char *name : {"dp", "deepmd/dp", "deepmd"})
    if (auto *const style = dynamic_cast<PairDP *>(force->pair_match(name, 1, 1))) return style;
  return this;
}

// Under a hybrid style, pairs with a NULL type that no other style takes do not interact. Not by taking
// them: pair_coeff commands to come may leave them to the mixing rules of another style.
void PairDP::leave_null_pairs_alone()
{
  if (force->pair == this) return;
  int **const flags = force->pair->setflag;
  const bool first = first_of_all() == this;
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

  // All ranks or none: LAMMPS's sums at the end of a run wait for those without a list. With backend
  // auto, ranks may differ (a device that fails its self-test, a node without one).
  int mine = !shared.run.builds_lists, any;
  MPI_Allreduce(&mine, &any, 1, MPI_INT, MPI_MAX, world);
  if (any) neighbor->add_request(this, NeighConst::REQ_FULL);
  flat_of = nullptr;
  flat_build = -1;

  masses.assign(atom->ntypes + 1, 0.0);
  for (int i = 1; atom->mass && i <= atom->ntypes; i++)
    if (atom->mass_setflag[i]) masses[i] = atom->mass[i];
  shared.run.masses = atom->mass && !atom->rmass ? masses.data() : nullptr;
  together(python->init(&shared));
}

void PairDP::init_list(int, NeighList *pointer)
{
  list = pointer;
  flat_of = nullptr;
}

double PairDP::init_one(int i, int j)
{
  scale[j][i] = scale[i][j];
  return shared.run.cutoff;
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
  if (asking || first_of_all() != this) return nullptr;
  if (force->pair != this) {
    asking = true;
    const void *const other = force->pair->extract("cut_coul", dim);
    asking = false;
    if (other) return nullptr;
  }
  refuse_without_model();
  if (shared.run.cutoff == 0.0) refuse("pair_coeff is missing: write pair_coeff * * and the elements");
  dim = 0;
  return &shared.run.cutoff;
}

double PairDP::memory_usage()
{
  return Pair::memory_usage() + 8.0 * offsets.capacity() + 4.0 * centres.capacity() +
      4.0 * neighbours.capacity() +
      (8.0 + sizeof(tagint)) * all_deviations.capacity();
}

/* ---------------------------------------------------------------------- the run */

void PairDP::compute(int eflag, int vflag)
{
  ev_init(eflag, vflag);
  refuse_without_model();    // after run ... pre no

  shared.step.scale = scale[1][1];
  for (int i = 1; i <= atom->ntypes; i++)
    for (int j = i; j <= atom->ntypes; j++)
      if (setflag[i][j] && scale[i][j] != shared.step.scale)
        error->all(FLERR, "pair_style dp: energies are per atom, not per pair, so the scale must be the "
                          "same for all types: write scale * *");

  const bool rebuilt = flat_of != list || neighbor->ago == 0 || neighbor->ncalls != flat_build;
  if (rebuilt && list) flatten();
  flat_build = neighbor->ncalls;
  shared.step.rebuilt = rebuilt;

  // A rank without atoms may have no arrays.
  const int n_all = atom->nlocal + atom->nghost;
  shared.step.timestep = update->ntimestep;
  shared.step.n_local = atom->nlocal;
  shared.step.n_all = n_all;
  shared.step.x = n_all ? &atom->x[0][0] : nullptr;
  shared.step.f = n_all ? &atom->f[0][0] : nullptr;
  shared.step.types = types_seen();
  shared.step.tags = atom->tag;
  shared.step.energies = eflag_atom && n_all ? eatom : nullptr;
  shared.step.virials6 = vflag_atom && n_all ? &vatom[0][0] : nullptr;
  shared.step.virials9 = cvflag_atom && n_all ? &cvatom[0][0] : nullptr;
  shared.step.want_virial = vflag_global != 0;
  shared.step.skin = neighbor->skin;
  std::copy_n(domain->boxlo, 3, shared.step.box_low);
  std::copy_n(domain->h, 6, shared.step.box);
  fetch_parameters();

  if (!python->compute) error->one(FLERR, "pair_style dp: Python has ended");
  const int outcome = python->compute(&shared);
  if (outcome != CALL_OK) {
    flat_of = nullptr;
    flat_build = -1;
    fail(outcome);
  }
  show();

  if (eflag_global) eng_vdwl += shared.step.energy;
  if (vflag_global)
    for (int k = 0; k < 6; k++) virial[k] += shared.step.virial[k];
  if (shared.deviation.model_forces) deviate();

  // What one rank alone has seen is said where all of them meet in any case.
  if (shared.run.watching && (neighbor->ago == 0 || update->ntimestep == output->next_thermo)) {
    add_up_counts();
    if (std::any_of(shared.run.counts, shared.run.counts + 2 * shared.run.n_models, [](int64_t n) { return n > 0; }))
      together(python->warn(&shared));
  }
}

// Leaves the counts of all ranks in shared.run.counts.
void PairDP::add_up_counts()
{
  const int outcome = python->count(&shared);
  if (outcome != CALL_OK) fail(outcome);
  MPI_Allreduce(MPI_IN_PLACE, shared.run.counts, 2 * shared.run.n_models, MPI_INT64_T, MPI_SUM, world);
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
  MPI_Comm_rank(node, &shared.run.local_rank);
  MPI_Comm_size(node, &shared.run.local_size);
  cpu_set_t mine, all;
  CPU_ZERO(&mine);
  CPU_ZERO(&all);
  sched_getaffinity(0, sizeof(mine), &mine);
  MPI_Allreduce(&mine, &all, sizeof(mine), MPI_BYTE, MPI_BOR, node);
  shared.run.node_cores = CPU_COUNT(&all);
  MPI_Comm_free(&node);

  // Ranks of other partitions count as well, but need not come here, so MPI cannot be asked for them.
  // MPICH's mpirun says how many ranks a node has; failing that, take all partitions to be on this one.
  if (universe->nworlds > 1) {
    const char *rank = getenv("MPI_LOCALRANKID"), *size = getenv("MPI_LOCALNRANKS");
    shared.run.local_rank = rank ? atoi(rank) : universe->me;
    shared.run.local_size = size ? atoi(size) : universe->nprocs;
  }
}
