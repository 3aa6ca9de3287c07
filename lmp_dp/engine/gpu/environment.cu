// Neighbour selection and environment rows (lmp_dp/engine/reference/environment.py has the equations).

struct Switch {
  double s, ds;  // sw(r)/r and its derivative
};

__device__ __forceinline__ Switch switched(double r, double rcut_smth, double width)
{
  // sw = 1 at u = 0 and 0 at u = 1: no branches
  const double u = min(max((r - rcut_smth) / width, 0.0), 1.0);
  const double sw = u * u * u * (-6.0 * u * u + 15.0 * u - 10.0) + 1.0;
  const double dsw = -30.0 * u * u * (u - 1.0) * (u - 1.0) / width;
  Switch result;
  result.s = sw / r;
  result.ds = (dsw - result.s) / r;
  return result;
}

struct Vector {
  double x, y, z;
};

__device__ __forceinline__ Vector displacement(const double *__restrict__ positions_ac, int i, int j)
{
  const double *from = positions_ac + 3 * (index_t) i, *to = positions_ac + 3 * (index_t) j;
  Vector r;
  r.x = to[0] - from[0];
  r.y = to[1] - from[1];
  r.z = to[2] - from[2];
  return r;
}

__device__ __forceinline__ double square(const Vector &r) { return r.x * r.x + r.y * r.y + r.z * r.z; }

// What a neighbour element's table needs to find a piece: lookup_tu = (lower, end of the fine part, width
// of a cell), cells_tu = (number of cells, first cell in pieces_h and first_h).
//
// Per block: rows_t = number of rows. Per row: slot_p (from the chunk's first slot), rows_kp, piece_p, x_p.
// Behind a block's rows, rows_kp is zero. gradients_pc is set to zero for all slots.
// totals: neighbours dropped because sel is too small, pairs beyond the tables' fine part.
KERNEL environment(const double *__restrict__ positions_ac, const int *__restrict__ neighbours_p,
                   const int *__restrict__ members_b, int n_b, int n_types, int n_slots,
                   const index_t *__restrict__ offsets_g, const int *__restrict__ sel_t, float rcut2, double rcut_smth,
                   double width, const double *__restrict__ shift_k, const double *__restrict__ scale_k,
                   int tabulated, const double *__restrict__ lookup_tu, const int *__restrict__ cells_tu,
                   const int *__restrict__ pieces_h, const int *__restrict__ first_h, int *__restrict__ n_rows_tb,
                   int *__restrict__ slot_p, REAL *__restrict__ rows_kp, int *__restrict__ piece_p,
                   REAL *__restrict__ x_p, double *__restrict__ gradients_pc,
                   unsigned long long *__restrict__ totals)
{
  const int b = this_warp();
  if (b >= n_b) return;
  const int lane = this_lane();
  const int i = members_b[b];
  const index_t chunk = offsets_g[0];
  for (int t = 0; t < n_types; t++) {
    const index_t block = (index_t) t * n_b + b;
    const int begin = (int) (offsets_g[block] - chunk), end = (int) (offsets_g[block + 1] - chunk);

    int found = 0;
    for (int start = begin; start < end; start += WARP) {
      const int slot = start + lane;
      bool within = false;
      if (slot < end) {
        const Vector r = displacement(positions_ac, i, neighbours_p[chunk + slot]);
        within = (float) square(r) <= rcut2;
        for (int k = 0; k < 3; k++) gradients_pc[3 * (chunk + slot) + k] = 0.0;
      }
      const unsigned mask = __ballot_sync(ALL_LANES, within);
      if (within) slot_p[begin + found + __popc(mask & ((1u << lane) - 1))] = slot;
      found += __popc(mask);
    }
    __syncwarp();

    // Too many: the nearest are kept; ties go by index, as in DeePMD-kit.
    const int sel = sel_t[t];
    if (found > sel) {
      for (int e = lane; e < found; e += WARP) {
        const int j = neighbours_p[chunk + slot_p[begin + e]];
        const float r2 = (float) square(displacement(positions_ac, i, j));
        int nearer = 0;
        for (int other = 0; other < found; other++) {
          const int k = neighbours_p[chunk + slot_p[begin + other]];
          const float s2 = (float) square(displacement(positions_ac, i, k));
          nearer += s2 < r2 || (s2 == r2 && k < j);
        }
        piece_p[begin + e] = nearer < sel;
      }
      __syncwarp();
      int kept = 0;
      for (int start = 0; start < found; start += WARP) {
        const int e = start + lane;
        const bool keep = e < found && piece_p[begin + e];
        const int slot = keep ? slot_p[begin + e] : 0;
        const unsigned mask = __ballot_sync(ALL_LANES, keep);
        if (keep) slot_p[begin + kept + __popc(mask & ((1u << lane) - 1))] = slot;
        kept += __popc(mask);
        __syncwarp();
      }
      if (lane == 0) atomicAdd(&totals[0], (unsigned long long) (found - kept));
      found = kept;
    }
    if (lane == 0) n_rows_tb[block] = found;

    for (int p = begin + lane; p < end; p += WARP) {
      if (p >= begin + found) {
        for (int k = 0; k < 4; k++) rows_kp[(index_t) k * n_slots + p] = (REAL) 0;
        continue;
      }
      const Vector r = displacement(positions_ac, i, neighbours_p[chunk + slot_p[p]]);
      const double length = sqrt(square(r));
      const double s = switched(length, rcut_smth, width).s, s_over_r = s / length;
      const REAL row = (REAL) (s * scale_k[0] - shift_k[0]);
      rows_kp[p] = row;
      rows_kp[n_slots + p] = (REAL) (s_over_r * r.x * scale_k[1] - shift_k[1]);
      rows_kp[2 * (index_t) n_slots + p] = (REAL) (s_over_r * r.y * scale_k[2] - shift_k[2]);
      rows_kp[3 * (index_t) n_slots + p] = (REAL) (s_over_r * r.z * scale_k[3] - shift_k[3]);
      if (!tabulated) continue;

      const double *lookup = lookup_tu + 3 * t;
      const int n_cells = cells_tu[2 * t], first_cell = cells_tu[2 * t + 1];
      const double at = ((double) row - lookup[0]) / lookup[2];
      const int cell = (int) min(max(floor(at), 0.0), (double) (n_cells - 1));
      const int pieces = pieces_h[first_cell + cell];
      const double in_cell = (at - cell) * pieces;
      const int local = (int) min(max(floor(in_cell), 0.0), (double) (pieces - 1));
      int piece = first_h[first_cell + cell] + local;
      double x = in_cell - local;
      if (at >= n_cells) {  // the straight lines outside are the last two pieces
        piece = first_h[first_cell + n_cells - 1] + pieces_h[first_cell + n_cells - 1];
        x = at - n_cells;
      } else if (at < 0.0) {
        piece = first_h[first_cell + n_cells - 1] + pieces_h[first_cell + n_cells - 1] + 1;
        x = at;
      }
      piece_p[p] = piece;
      x_p[p] = (REAL) x;
      if ((double) row > lookup[1]) atomicAdd(&totals[1], 1ull);
    }
    __syncwarp();
  }
}
