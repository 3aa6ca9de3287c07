// The neighbour list: atoms in cells no narrower than the list's cutoff, 27 cells per centre.
//
// Atoms are sorted by cell, cells along x follow one another, so that a centre looks through nine
// ranges of atoms.

struct Grid {
  double low[3], per_width[3];
  int n[3];
};

__device__ __forceinline__ Grid read_grid(const double *__restrict__ grid_reals, const int *__restrict__ grid_ints)
{
  Grid grid;
  for (int c = 0; c < 3; c++) {
    grid.low[c] = grid_reals[c];
    grid.per_width[c] = grid_reals[3 + c];
    grid.n[c] = grid_ints[c];
  }
  return grid;
}

__device__ __forceinline__ int cell_along(const Grid &grid, int c, double x)
{
  const int cell = (int) floor((x - grid.low[c]) * grid.per_width[c]);
  return min(max(cell, 0), grid.n[c] - 1);
}

// Cell of each atom, one thread per atom; atoms that the model does not see are put behind all cells.
KERNEL(1) cells(const double *__restrict__ positions_ac, const int *__restrict__ types_a, int n_all,
             const double *__restrict__ grid_reals, const int *__restrict__ grid_ints, int *__restrict__ cell_a)
{
  const index_t a = this_thread();
  if (a >= n_all) return;
  const Grid grid = read_grid(grid_reals, grid_ints);
  const int x = cell_along(grid, 0, positions_ac[3 * a]);
  const int y = cell_along(grid, 1, positions_ac[3 * a + 1]);
  const int z = cell_along(grid, 2, positions_ac[3 * a + 2]);
  cell_a[a] = types_a[a] < 0 ? grid.n[0] * grid.n[1] * grid.n[2] : (z * grid.n[1] + y) * grid.n[0] + x;
}

// Calls visit(within, atom, type) with all lanes, for all atoms in the cells around centre i.
template <typename Visit>
__device__ __forceinline__ void visit_neighbours(
    int i, const double *__restrict__ positions_ac, const Grid &grid, const int *__restrict__ first_h,
    const double *__restrict__ sorted_positions_ac, const int *__restrict__ sorted_types_a,
    const int *__restrict__ sorted_atoms_a, const int *__restrict__ excluded_t, double cutoff2, Visit visit)
{
  const double xi = positions_ac[3 * (index_t) i], yi = positions_ac[3 * (index_t) i + 1],
               zi = positions_ac[3 * (index_t) i + 2];
  const int cx = cell_along(grid, 0, xi), cy = cell_along(grid, 1, yi), cz = cell_along(grid, 2, zi);
  for (int z = max(cz - 1, 0); z <= min(cz + 1, grid.n[2] - 1); z++)
    for (int y = max(cy - 1, 0); y <= min(cy + 1, grid.n[1] - 1); y++) {
      const int row = (z * grid.n[1] + y) * grid.n[0];
      const int begin = first_h[row + max(cx - 1, 0)];
      const int end = first_h[row + min(cx + 1, grid.n[0] - 1) + 1];
      for (int start = begin; start < end; start += WARP) {
        const index_t at = start + this_lane();
        bool within = false;
        int atom = -1, type = -1;
        if (at < end) {
          const Vector r = {sorted_positions_ac[3 * at] - xi, sorted_positions_ac[3 * at + 1] - yi,
                            sorted_positions_ac[3 * at + 2] - zi};
          atom = sorted_atoms_a[at];
          type = sorted_types_a[at];
          within = atom != i && square(r) <= cutoff2 && !excluded_t[type];
        }
        visit(within, atom, type);
      }
    }
}

// Neighbours of each centre by element, counts_tb, and how often each atom is one, counts_a; members_b are the
// centres' atoms.
KERNEL(1) count_neighbours(const int *__restrict__ members_b, int n_b, const double *__restrict__ positions_ac,
                        const double *__restrict__ grid_reals, const int *__restrict__ grid_ints,
                        const int *__restrict__ first_h, const double *__restrict__ sorted_positions_ac,
                        const int *__restrict__ sorted_types_a, const int *__restrict__ sorted_atoms_a,
                        const int *__restrict__ excluded_t, double cutoff2, int *__restrict__ counts_tb,
                        int *__restrict__ counts_a)
{
  const int b = this_warp();
  if (b >= n_b) return;
  const Grid grid = read_grid(grid_reals, grid_ints);
  visit_neighbours(members_b[b], positions_ac, grid, first_h, sorted_positions_ac, sorted_types_a,
                   sorted_atoms_a, excluded_t, cutoff2, [&](bool within, int atom, int type) {
                     if (!within) return;
                     atomicAdd(&counts_tb[(index_t) type * n_b + b], 1);
                     atomicAdd(&counts_a[atom], 1);
                   });
}

// The list itself, neighbours by slot, and the reverse list: slots by neighbour, in no order yet. cursors_tb holds
// the blocks' first slots at first, cursors_a the first places in the reverse list; both are used up.
KERNEL(1) fill_neighbours(const int *__restrict__ members_b, int n_b, const double *__restrict__ positions_ac,
                       const double *__restrict__ grid_reals, const int *__restrict__ grid_ints,
                       const int *__restrict__ first_h, const double *__restrict__ sorted_positions_ac,
                       const int *__restrict__ sorted_types_a, const int *__restrict__ sorted_atoms_a,
                       const int *__restrict__ excluded_t, double cutoff2, index_t *__restrict__ cursors_tb,
                       int *__restrict__ neighbours_p, unsigned *__restrict__ cursors_a,
                       unsigned *__restrict__ reverse_p)
{
  const int b = this_warp();
  if (b >= n_b) return;
  const Grid grid = read_grid(grid_reals, grid_ints);
  const int i = members_b[b], lane = this_lane();
  visit_neighbours(i, positions_ac, grid, first_h, sorted_positions_ac, sorted_types_a, sorted_atoms_a,
                   excluded_t, cutoff2, [&](bool within, int atom, int type) {
                     // element by element of those found, in the order of the lanes
                     unsigned left = __ballot_sync(ALL_LANES, within);
                     while (left) {
                       const int t = __shfl_sync(ALL_LANES, type, __ffs(left) - 1);
                       const unsigned same = __ballot_sync(ALL_LANES, within && type == t);
                       const index_t cursor = cursors_tb[(index_t) t * n_b + b];
                       __syncwarp();
                       if (within && type == t) {
                         const index_t slot = cursor + __popc(same & ((1u << lane) - 1));
                         neighbours_p[slot] = atom;
                         reverse_p[atomicAdd(&cursors_a[atom], 1u)] = (unsigned) slot;
                       }
                       if (lane == 0) cursors_tb[(index_t) t * n_b + b] = cursor + __popc(same);
                       __syncwarp();
                       left &= ~same;
                     }
                   });
}

// Puts the slots of each atom's reverse list in ascending order, in place: the order in which atomics filled it
// leaves no trace. Bitonic, all comparators point the same way, so that what lies behind the end need not exist.
KERNEL(8) sort_reverse(int n_all, const index_t *__restrict__ reverse_offsets_a, unsigned *__restrict__ reverse_p)
{
  const int a = this_warp();
  if (a >= n_all) return;
  const index_t begin = reverse_offsets_a[a];
  const int n = (int) (reverse_offsets_a[a + 1] - begin);
  unsigned *slots = reverse_p + begin;
  int padded = 1;
  while (padded < n) padded *= 2;
  for (int size = 2; size <= padded; size *= 2)
    for (int half = size / 2; half > 0; half /= 2) {
      for (int pair = this_lane(); pair < padded / 2; pair += WARP) {
        const int low = 2 * pair - (pair & (half - 1));
        const int high = half == size / 2 ? low ^ (size - 1) : low + half;
        if (high >= n) continue;
        const unsigned one = slots[low], other = slots[high];
        if (one > other) {
          slots[low] = other;
          slots[high] = one;
        }
      }
      __syncwarp();
    }
}
