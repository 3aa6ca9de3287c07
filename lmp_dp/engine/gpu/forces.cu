// From pair gradients to forces and per-atom virials: each atom collects, over the reverse list, what
// the pairs in which it is the neighbour do to it. No atomics, the same order of additions always.

// F_j -= sum over pairs (i, j) of dE/dr_ij
KERNEL(8) forces_on_neighbours(int n_all, const index_t *__restrict__ reverse_offsets_a,
                               const unsigned *__restrict__ reverse_p, const double *__restrict__ gradients_pc,
                               double *__restrict__ forces_ac)
{
  const int a = this_warp();
  if (a >= n_all) return;
  double x = 0.0, y = 0.0, z = 0.0;
  for (index_t at = reverse_offsets_a[a] + this_lane(); at < reverse_offsets_a[a + 1]; at += WARP) {
    const double *g = gradients_pc + 3 * (index_t) reverse_p[at];
    x += g[0];
    y += g[1];
    z += g[2];
  }
  x = warp_sum(x);
  y = warp_sum(y);
  z = warp_sum(z);
  if (this_lane() == 0) {
    forces_ac[3 * (index_t) a] -= x;
    forces_ac[3 * (index_t) a + 1] -= y;
    forces_ac[3 * (index_t) a + 2] -= z;
  }
}

// The centre of each slot of a chunk, one warp per centre; offsets_g begins at the chunk's first block.
KERNEL(8) centres_of_slots(const int *__restrict__ members_b, int n_b, int n_types,
                           const index_t *__restrict__ offsets_g, int *__restrict__ centres_p)
{
  const int b = this_warp();
  if (b >= n_b) return;
  for (int t = 0; t < n_types; t++) {
    const index_t block = (index_t) t * n_b + b;
    for (index_t slot = offsets_g[block] + this_lane(); slot < offsets_g[block + 1]; slot += WARP)
      centres_p[slot] = members_b[b];
  }
}

// W_j -= sum over pairs (i, j) of dE/dr_ij (x) r_ij, given wholly to the neighbour as in DeePMD-kit
KERNEL(5) virials_of_neighbours(int n_all, const index_t *__restrict__ reverse_offsets_a,
                                const unsigned *__restrict__ reverse_p, const int *__restrict__ centres_p,
                                const double *__restrict__ positions_ac, const double *__restrict__ gradients_pc,
                                double *__restrict__ virials_acc)
{
  const int a = this_warp();
  if (a >= n_all) return;
  double w[9] = {0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0};
  for (index_t at = reverse_offsets_a[a] + this_lane(); at < reverse_offsets_a[a + 1]; at += WARP) {
    const index_t slot = reverse_p[at];
    const Vector r = displacement(positions_ac, centres_p[slot], a);
    const double rc[3] = {r.x, r.y, r.z};
    for (int k = 0; k < 3; k++)
      for (int l = 0; l < 3; l++) w[3 * k + l] -= gradients_pc[3 * slot + k] * rc[l];
  }
  for (int k = 0; k < 9; k++) {
    const double sum = warp_sum(w[k]);
    if (this_lane() == 0) virials_acc[9 * (index_t) a + k] = sum;
  }
}
