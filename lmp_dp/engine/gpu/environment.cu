// Neighbour selection and environment rows (lmp_dp/engine/reference/environment.py has the equations).

struct Switch {
  double s, ds;  // sw(r)/q and its derivative; q is r, or more where the model protects divisions by it
};

__device__ __forceinline__ Switch switched(double r, double q, double rcut_smth, double width)
{
  // sw = 1 at u = 0 and 0 at u = 1: no branches
  const double u = min(max((r - rcut_smth) / width, 0.0), 1.0);
  const double sw = u * u * u * (-6.0 * u * u + 15.0 * u - 10.0) + 1.0;
  const double dsw = -30.0 * u * u * (u - 1.0) * (u - 1.0) / width;
  Switch result;
  result.s = sw / q;
  result.ds = (dsw - result.s) / q;
  return result;
}

// How far a neighbour has faded out, and the derivative of that by s; which of the two is `fading`.
struct Fade {
  double f, slope;
};

enum Fading { NEVER = 0, OF_SW = 1, OF_S = 2 };

__device__ __forceinline__ Fade faded(double s, double radius)
{
  const double u = max(1.0 - radius * s, 0.0);
  Fade fade = {1.0 - u * u * u, 3.0 * radius * u * u};
  return fade;
}

// sw = s q; d(sw)/dr by ds/dr, where both are 0 so is the force
__device__ __forceinline__ Fade switched_off(const Switch &sw, double q)
{
  Fade fade = {sw.s * q, sw.ds < 0.0 ? q + sw.s / sw.ds : 0.0};
  return fade;
}

// A row of the environment as one record, which is read and written 16 bytes at a time.
struct __align__(16) Row {
  REAL k[4];
};

__device__ __forceinline__ Row &row_at(REAL *rows_pk, int p) { return reinterpret_cast<Row *>(rows_pk)[p]; }
__device__ __forceinline__ const Row &row_at(const REAL *rows_pk, int p)
{
  return reinterpret_cast<const Row *>(rows_pk)[p];
}

__device__ __forceinline__ Vector displacement(const double *__restrict__ positions_ac, int i, int j)
{
  const double *from = positions_ac + 3 * (index_t) i, *to = positions_ac + 3 * (index_t) j;
  Vector r;
  r.x = to[0] - from[0];
  r.y = to[1] - from[1];
  r.z = to[2] - from[2];
  return r;
}

// What becomes of a neighbour within the cutoff (lmp_dp.engine.selection.Fate).
enum Fate { ROW = 0, ABSENT = 1, HIDDEN = 2, EMPTY = 3 };

// The neighbours of one centre within the cutoff: those of element t are the slots
// slot_p[begin(t)] .. slot_p[begin(t) + n_rows_tb[t * n_b + b] - 1], which count from the chunk's first one.
struct Found {
  const double *positions_ac;
  const int *neighbours_p;
  const index_t *offsets_g;
  int i, b, n_b, in_float32;
  int *n_rows_tb, *slot_p, *kept_p;

  __device__ __forceinline__ index_t block(int t) const { return (index_t) t * n_b + b; }
  __device__ __forceinline__ int begin(int t) const { return (int) (offsets_g[block(t)] - offsets_g[0]); }
  __device__ __forceinline__ int neighbour(int p) const { return neighbours_p[offsets_g[0] + slot_p[p]]; }
  // by which neighbours are compared, with each other and with the cutoff
  __device__ __forceinline__ double r2(int j) const
  {
    const double exact = square(displacement(positions_ac, i, j));
    return in_float32 ? (double) (float) exact : exact;
  }
};

// Leave the `keep` nearest neighbours of elements first .. last - 1; ties go by index, as in DeePMD-kit.
// Returns how many of the others would have been rows.
__device__ int keep_nearest(const Found &of, int first, int last, int keep, const int *__restrict__ fate_t)
{
  const int lane = this_lane();
  for (int t = first; t < last; t++) {
    const int begin = of.begin(t), found = of.n_rows_tb[of.block(t)];
    for (int e = lane; e < found; e += WARP) {
      const int j = of.neighbour(begin + e);
      const double r2 = of.r2(j);
      int nearer = 0;
      for (int u = first; u < last; u++) {
        const int others = of.begin(u), count = of.n_rows_tb[of.block(u)];
        for (int other = 0; other < count; other++) {
          const int k = of.neighbour(others + other);
          const double s2 = of.r2(k);
          nearer += s2 < r2 || (s2 == r2 && k < j);
        }
      }
      of.kept_p[begin + e] = nearer < keep;
    }
  }
  __syncwarp();
  int dropped = 0;
  for (int t = first; t < last; t++) {
    const int begin = of.begin(t), found = of.n_rows_tb[of.block(t)];
    int kept = 0;
    for (int start = 0; start < found; start += WARP) {
      const int e = start + lane;
      const bool stays = e < found && of.kept_p[begin + e];
      const int slot = stays ? of.slot_p[begin + e] : 0;
      const unsigned mask = __ballot_sync(ALL_LANES, stays);
      __syncwarp();  // votes do not order memory: all lanes have read before one writes
      if (stays) of.slot_p[begin + kept + __popc(mask & ((1u << lane) - 1))] = slot;
      kept += __popc(mask);
      __syncwarp();
    }
    if (lane == 0) of.n_rows_tb[of.block(t)] = kept;
    if (fate_t[t] == ROW) dropped += found - kept;
  }
  __syncwarp();
  return dropped;
}

// What a neighbour element's table needs to find a piece: lookup_tu = (lower, end of the fine part, width
// of a cell), cells_tu = (number of cells, first cell in pieces_h and first_h).
//
// Per block: n_rows_tb = number of rows. Per row: slot_p (from the chunk's first slot), rows_pk, fade_up (if
// there is `fading`: the fade, and its slope by the row's first component), piece_p, x_p.
// Behind a block's rows, nets read rows_pk and fade_up: zeros. gradients_pc is set to zero for all slots, unless it
// `adds`.
// empty_tb: empty slots by element, or (n_sel = 1) of all elements together, which share their slots.
// totals: neighbours dropped because sel is too small, pairs beyond the tables' fine part.
KERNEL(1) environment(const double *__restrict__ positions_ac, const int *__restrict__ neighbours_p,
                   const int *__restrict__ members_b, int n_b, int n_types, int n_slots,
                   const index_t *__restrict__ offsets_g, const int *__restrict__ sel_t, int n_sel,
                   const int *__restrict__ fate_t, int n_nearest, int in_float32, double rcut2, double rcut_smth,
                   double width, double protection, const double *__restrict__ shift_k,
                   const double *__restrict__ scale_k, int tabulated, const double *__restrict__ lookup_tu,
                   const int *__restrict__ cells_tu, const int *__restrict__ pieces_h,
                   const int *__restrict__ first_h, int *n_rows_tb, int *__restrict__ empty_tb, int *slot_p,
                   REAL *__restrict__ rows_pk, int fading, double fade_radius, REAL *__restrict__ fade_up, int *piece_p,
                   REAL *__restrict__ x_p, int adds,
                   double *__restrict__ gradients_pc, unsigned long long *__restrict__ totals)
{
  const int b = this_warp();
  if (b >= n_b) return;
  const int lane = this_lane();
  const int i = members_b[b];
  const index_t chunk = offsets_g[0];
  // before it has the rows' pieces, piece_p marks what is kept
  const Found of = {positions_ac, neighbours_p, offsets_g, i, b, n_b, in_float32, n_rows_tb, slot_p, piece_p};

  int total = 0;
  for (int t = 0; t < n_types; t++) {
    const int begin = of.begin(t), end = (int) (offsets_g[of.block(t) + 1] - chunk);
    int found = 0;
    for (int start = begin; start < end; start += WARP) {
      const int slot = start + lane;
      bool within = false;
      if (slot < end) {
        within = fate_t[t] != ABSENT && of.r2(neighbours_p[chunk + slot]) <= rcut2;
        if (!adds)
          for (int k = 0; k < 3; k++) gradients_pc[3 * (chunk + slot) + k] = 0.0;
      }
      const unsigned mask = __ballot_sync(ALL_LANES, within);
      if (within) slot_p[begin + found + __popc(mask & ((1u << lane) - 1))] = slot;
      found += __popc(mask);
    }
    if (lane == 0) n_rows_tb[of.block(t)] = found;
    total += found;
  }
  __syncwarp();

  int dropped = 0;
  if (n_nearest > 0 && total > n_nearest) dropped += keep_nearest(of, 0, n_types, n_nearest, fate_t);
  if (n_sel == n_types)
    for (int t = 0; t < n_types; t++)
      if (n_rows_tb[of.block(t)] > sel_t[t]) dropped += keep_nearest(of, t, t + 1, sel_t[t], fate_t);
  if (lane == 0 && dropped) atomicAdd(&totals[0], (unsigned long long) dropped);

  int taken = 0;
  for (int t = 0; t < n_types; t++) {
    const int with_slots = n_rows_tb[of.block(t)], fate = fate_t[t];
    const int found = fate == ROW ? with_slots : 0;
    const int used = fate == EMPTY ? 0 : with_slots;
    __syncwarp();
    if (lane == 0) {
      n_rows_tb[of.block(t)] = found;
      if (n_sel == n_types) empty_tb[of.block(t)] = sel_t[t] - used;
    }
    taken += used;
    const int begin = of.begin(t), end = (int) (offsets_g[of.block(t) + 1] - chunk);
    for (int p = begin + lane; p < end; p += WARP) {
      if (p >= begin + found) {
        if (tabulated) break;
        const Row nothing = {};
        row_at(rows_pk, p) = nothing;
        for (int u = 0; u < (fading ? 2 : 0); u++) fade_up[(index_t) u * n_slots + p] = (REAL) 0;
        continue;
      }
      const Vector r = displacement(positions_ac, i, of.neighbour(p));
      const double length = sqrt(square(r)), divisor = length + protection;
      const Switch sw = switched(length, divisor, rcut_smth, width);
      const double s = sw.s, s_over_r = s / divisor;
      Row row;
      row.k[0] = (REAL) (s * scale_k[0] - shift_k[0]);
      row.k[1] = (REAL) (s_over_r * r.x * scale_k[1] - shift_k[1]);
      row.k[2] = (REAL) (s_over_r * r.y * scale_k[2] - shift_k[2]);
      row.k[3] = (REAL) (s_over_r * r.z * scale_k[3] - shift_k[3]);
      row_at(rows_pk, p) = row;
      if (fading) {
        const Fade fade = fading == OF_S ? faded(s, fade_radius) : switched_off(sw, divisor);
        fade_up[p] = (REAL) fade.f;
        fade_up[n_slots + p] = (REAL) (fade.slope / scale_k[0]);
      }
      if (!tabulated) continue;

      const double *lookup = lookup_tu + 3 * t;
      const int n_cells = cells_tu[2 * t], first_cell = cells_tu[2 * t + 1];
      const double at = ((double) row.k[0] - lookup[0]) / lookup[2];
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
      if ((double) row.k[0] > lookup[1]) atomicAdd(&totals[1], 1ull);
    }
  }
  if (lane == 0 && n_sel != n_types) empty_tb[b] = sel_t[0] - taken;
}
