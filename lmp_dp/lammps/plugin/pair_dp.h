#ifndef LMP_DP_PAIR_DP_H
#define LMP_DP_PAIR_DP_H

#include "bridge.h"
#include "pair.h"

#include <string>
#include <vector>

namespace LAMMPS_NS {

// Pair style dp: hands LAMMPS's arrays to lmp_dp.lammps.calls, which calls the engine. No physics.
// Each pair_dp*.cpp has the members of one concern; pair_dp.cpp those that LAMMPS calls.
class PairDP : public Pair {
 public:
  PairDP(LAMMPS *);
  ~PairDP() override;
  void settings(int, char **) override;
  void coeff(int, char **) override;
  void init_style() override;
  void init_list(int, class NeighList *) override;
  double init_one(int, int) override;
  void compute(int, int) override;
  void finish() override;
  void *extract(const char *, int &) override;
  double memory_usage() override;
  int pack_reverse_comm(int, int, double *) override;
  void unpack_reverse_comm(int, int *, double *) override;
  void write_restart(FILE *) override {}    // the model is named in the input script
  void read_restart(FILE *) override;

 private:
  const Bridge *python;
  Shared shared;
  double **scale;    // per type pair; fix adapt writes to it

  // Our flat copy of the neighbour list, made when LAMMPS makes a new one.
  std::vector<int64_t> offsets;
  std::vector<int32_t> centres, neighbours;
  NeighList *flat_of;    // the list it is a copy of; null: no valid copy
  bigint flat_build;     // neighbor->ncalls at that time

  const char *no_model;    // why there is none; null: there is one
  bool asking;             // in coulomb_cutoff

  std::vector<int32_t> model_types;
  std::vector<double> masses;    // per LAMMPS type, 0: not set
  std::vector<int32_t> seen;    // types_seen, where it differs from atom->type

  std::vector<double> fparam, aparam, ttm;
  std::vector<char> received;    // models from the first rank, during settings

  // Deviations of the models, gathered from all ranks.
  std::vector<double> all_deviations;
  std::vector<tagint> all_tags;

  void allocate();
  void share_models(int, char **);
  PairDP *first_of_all();
  void where_am_i();
  void flatten();
  void leave_null_pairs_alone();
  void refuse_exclusions();
  void refuse_groups();
  bigint seen_atoms(int igroup, bool inside);
  void *coulomb_cutoff(int &dim);
  const int *types_seen();
  void deviate();
  void add_up_counts();
  void fetch_parameters();
  void fparam_from(class Compute *);
  void fparam_from(class Fix *);
  void aparam_from(class Compute *);
  void temperatures_from(class Fix *);
  Compute *compute_of(const char *keyword, const char *id);
  Fix *fix_of(const char *keyword, const char *id);
  void refuse(const std::string &);
  void refuse_without_model();
  std::string reason(int outcome);
  void together(int outcome);
  void fail(int outcome);
  void show();
  void show_devices();
};

}    // namespace LAMMPS_NS

#endif
