// Moments of basis functions (tables) or channels (nets), gradients of the rows, and back to pairs.
//
//   B_kq = sum_rows R_k phi_q + empty padding_kq              dE/dR_k = sum_q phi_q dB_kq
//                                                    for k = 0 also  sum_q phi'_q sum_k R_k dB_kq

// The functions of one neighbour element t: blocks_tu = (number of functions, first column of B),
// starts_tu = (first of its coefficients, slopes of pieces, padding).
struct Functions {
  int count, column;
  index_t coefficients, slopes, padding;
};

__device__ __forceinline__ Functions functions_of(int t, const int *__restrict__ blocks_tu,
                                                  const index_t *__restrict__ starts_tu)
{
  Functions f;
  f.count = blocks_tu[2 * t];
  f.column = blocks_tu[2 * t + 1];
  f.coefficients = starts_tu[3 * t];
  f.slopes = starts_tu[3 * t + 1];
  f.padding = starts_tu[3 * t + 2];
  return f;
}

// phi_q of a row, and d phi_q / dx. Tables: a quintic in x_p on piece_p. Nets: columns of G and dG/ds,
// with one line per slot of the element, the first at coefficient[0].
struct TableRow {
  const REAL *at;
  int stride;
  REAL x;

  __device__ __forceinline__ REAL value(int q) const
  {
    REAL phi = at[5 * stride + q];
#pragma unroll
    for (int k = 4; k >= 0; k--) phi = phi * x + at[k * stride + q];
    return phi;
  }

  __device__ __forceinline__ REAL value_and_slope(int q, REAL &slope) const
  {
    REAL phi = at[5 * stride + q], dphi = (REAL) 0;
#pragma unroll
    for (int k = 4; k >= 0; k--) {
      dphi = dphi * x + phi;
      phi = phi * x + at[k * stride + q];
    }
    slope = dphi;
    return phi;
  }
};

struct NetRow {
  const REAL *g, *dg;

  __device__ __forceinline__ REAL value(int q) const { return g[q]; }
  __device__ __forceinline__ REAL value_and_slope(int q, REAL &slope) const
  {
    slope = dg[q];
    return g[q];
  }
};

// B of one centre for the functions of one element, or (fade_p) for these times the fade; lanes share out
// the functions.
template <typename RowOf>
__device__ __forceinline__ void moment_of_block(RowOf row_of, int begin, int n_rows, REAL missing, int n_slots,
                                                const REAL *__restrict__ rows_kp,
                                                const REAL *__restrict__ fade_p, int count,
                                                const REAL *__restrict__ padding_kq, int n_columns, REAL divisor,
                                                bool add, REAL *__restrict__ b_kq)
{
  for (int q = this_lane(); q < count; q += WARP) {
    REAL b0 = 0, b1 = 0, b2 = 0, b3 = 0;
#pragma unroll 4
    for (int p = begin; p < begin + n_rows; p++) {
      REAL phi = row_of(p).value(q);
      if (fade_p) phi *= fade_p[p];
      b0 += rows_kp[p] * phi;
      b1 += rows_kp[n_slots + p] * phi;
      b2 += rows_kp[2 * (index_t) n_slots + p] * phi;
      b3 += rows_kp[3 * (index_t) n_slots + p] * phi;
    }
    // padding last: it is the largest term, rounding in float32 is best this way
    const REAL sums[4] = {b0, b1, b2, b3};
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const REAL sum = (sums[k] + missing * padding_kq[k * count + q]) / divisor;
      b_kq[k * n_columns + q] = add ? b_kq[k * n_columns + q] + sum : sum;
    }
  }
}

KERNEL moment_by_tables(int n_b, int n_types, int n_slots, const index_t *__restrict__ offsets_g,
                        const int *__restrict__ n_rows_tb, const int *__restrict__ empty_tb, int n_sel,
                        const REAL *__restrict__ rows_kp, int fading, const REAL *__restrict__ fade_up,
                        const int *__restrict__ piece_p, const REAL *__restrict__ x_p,
                        const int *__restrict__ blocks_tu, const index_t *__restrict__ starts_tu,
                        const REAL *__restrict__ coefficients, const REAL *__restrict__ padding, const index_t *__restrict__ empty_blocks, int n_empty,
                        int n_columns, REAL *__restrict__ b_bkq)
{
  const int b = this_warp();
  if (b >= n_b) return;
  REAL *b_kq = b_bkq + (index_t) b * 4 * n_columns;
  for (int t = 0; t < n_types; t++) {
    const Functions f = functions_of(t, blocks_tu, starts_tu);
    if (f.count == 0) continue;
    const index_t block = (index_t) t * n_b + b;
    const int begin = (int) (offsets_g[block] - offsets_g[0]), n_rows = n_rows_tb[block];
    const int empty = empty_tb[n_sel == n_types ? block : b];
    const REAL *table = coefficients + f.coefficients;
    auto row_of = [&](int p) {
      TableRow row = {table + (index_t) piece_p[p] * 6 * f.count, f.count, x_p[p]};
      return row;
    };
    moment_of_block(row_of, begin, n_rows, (REAL) empty, n_slots, rows_kp, nullptr, f.count,
                    padding + f.padding, n_columns, (REAL) 1, false, b_kq + f.column);
    if (fading)  // an empty slot has faded out
      moment_of_block(row_of, begin, n_rows, (REAL) 0, n_slots, rows_kp, fade_up, f.count,
                      padding + f.padding, n_columns, (REAL) 1, false, b_kq + f.column + f.count);
  }
  // blocks of empty slots alone: (element or -1, number of columns, first column of B, padding)
  for (int e = 0; e < n_empty; e++) {
    const index_t *of = empty_blocks + 4 * e;
    const REAL empty = (REAL) empty_tb[n_sel == n_types && of[0] >= 0 ? of[0] * n_b + b : b];
    for (int q = this_lane(); q < (int) of[1]; q += WARP)
      for (int k = 0; k < 4; k++) b_kq[k * n_columns + of[2] + q] = empty * padding[of[3] + k * of[1] + q];
  }
}

// For one neighbour element, or (t < 0) for empty slots alone; g_pm holds its slots, from first_slot (of the
// chunk) on.
KERNEL moment_by_net(int n_b, int t, int n_slots, int first_slot, const index_t *__restrict__ offsets_g,
                     const int *__restrict__ n_rows_tb, const int *__restrict__ empty_b,
                     const REAL *__restrict__ rows_kp, const REAL *__restrict__ g_pm, int n_channels,
                     const REAL *__restrict__ padding_km, REAL divisor, int add, REAL *__restrict__ b_bkm)
{
  const int b = this_warp();
  if (b >= n_b) return;
  const index_t block = (index_t) t * n_b + b;
  const int begin = t < 0 ? 0 : (int) (offsets_g[block] - offsets_g[0]), n_rows = t < 0 ? 0 : n_rows_tb[block];
  auto row_of = [&](int p) {
    NetRow row = {g_pm + (index_t) (p - first_slot) * n_channels, nullptr};
    return row;
  };
  moment_of_block(row_of, begin, n_rows, (REAL) empty_b[b], n_slots, rows_kp, nullptr, n_channels,
                  padding_km, n_channels, divisor, add, b_bkm + (index_t) b * 4 * n_channels);
}

// Of one centre: the force on it, and its part of the virial.
struct Sums {
  double force[3], virial[9];
};

// dE/dr of the rows of one block, to gradients_pc. Eight rows are reduced together (32 sums); then
// every lane takes one of 32 rows from dE/dR to dE/dr. If it FADES there are as many functions more, which
// are times the fade f:  dB_kq + f dF_kq in place of dB_kq, and  sum_q phi_q sum_k R_k dF_kq  times its slope.
template <bool FADES, typename RowOf>
__device__ __forceinline__ void gradients_of_block(
    RowOf row_of, const REAL *__restrict__ slope_of_piece, const int *__restrict__ piece_p, int begin, int n_rows,
    int n_slots, const REAL *__restrict__ rows_kp, const REAL *__restrict__ fade_up, int count, int n_columns,
    const REAL *__restrict__ db_kq,
    REAL (*shared)[4], const double *__restrict__ positions_ac, int i, const int *__restrict__ neighbours_p,
    const int *__restrict__ slot_p, double rcut_smth, double width, double protection,
    const double *__restrict__ scale_k, bool adds,
    double *__restrict__ gradients_pc, Sums &sums)
{
  const int lane = this_lane();
  for (int start = 0; start < n_rows; start += WARP) {
    for (int group = start; group < min(start + WARP, n_rows); group += 8) {
      REAL partial[WARP];
#pragma unroll
      for (int v = 0; v < WARP; v++) partial[v] = 0;
      for (int q = lane; q < count; q += WARP) {
        const REAL *of_q = db_kq + q, *faded = of_q + count;
        const REAL all[4] = {of_q[0], of_q[n_columns], of_q[2 * n_columns], of_q[3 * n_columns]};
#pragma unroll
        for (int e = 0; e < 8; e++)
          if (group + e < n_rows) {
            const int p = begin + group + e;
            REAL slope;
            const REAL phi = row_of(p).value_and_slope(q, slope);
            if (slope_of_piece) slope *= slope_of_piece[piece_p[p]];
            const REAL r0 = rows_kp[p], r1 = rows_kp[n_slots + p], r2 = rows_kp[2 * (index_t) n_slots + p],
                       r3 = rows_kp[3 * (index_t) n_slots + p];
            REAL d0 = all[0], d1 = all[1], d2 = all[2], d3 = all[3];
            if (FADES) {
              const REAL f0 = faded[0], f1 = faded[n_columns], f2 = faded[2 * n_columns], f3 = faded[3 * n_columns];
              const REAL fade = fade_up[p];
              d0 += fade * f0;
              d1 += fade * f1;
              d2 += fade * f2;
              d3 += fade * f3;
              partial[4 * e] += phi * (r0 * f0 + r1 * f1 + r2 * f2 + r3 * f3) * fade_up[n_slots + p];
            }
            const REAL along = r0 * d0 + r1 * d1 + r2 * d2 + r3 * d3;
            partial[4 * e] += phi * d0 + slope * along;
            partial[4 * e + 1] += phi * d1;
            partial[4 * e + 2] += phi * d2;
            partial[4 * e + 3] += phi * d3;
          }
      }
      shared[group - start + lane / 4][lane % 4] = warp_sums(partial);
    }
    __syncwarp();
    if (start + lane < n_rows) {
      const int slot = slot_p[begin + start + lane];
      const Vector r = displacement(positions_ac, i, neighbours_p[slot]);
      const double length = sqrt(square(r));
      const Switch sw = switched(length, length + protection, rcut_smth, width);
      const double x[3] = {r.x / length, r.y / length, r.z / length};
      double q[3], inward = 0.0;
      for (int k = 0; k < 3; k++) {
        q[k] = (double) shared[lane][k + 1] * scale_k[k + 1];
        inward += q[k] * x[k];
      }
      // R_k = s x_k/q, q = r + protection: dR_k/dr_c = (s' r/q - s r/q^2) x_k x_c/r^2 + s/q delta_kc
      const double ratio = length / (length + protection), s_over_r = sw.s / (length + protection);
      const double along = (double) shared[lane][0] * scale_k[0] * sw.ds + (sw.ds - s_over_r) * ratio * inward;
      const double rc[3] = {r.x, r.y, r.z};
      for (int k = 0; k < 3; k++) {
        const double g = along * x[k] + s_over_r * q[k];
        double *to = gradients_pc + 3 * (index_t) slot + k;
        *to = adds ? *to + g : g;
        sums.force[k] += g;
        for (int l = 0; l < 3; l++) sums.virial[3 * k + l] -= g * rc[l];
      }
    }
    __syncwarp();
  }
}

__device__ __forceinline__ void write_sums(Sums &sums, int i, int b, double *__restrict__ forces_ac,
                                           double *__restrict__ virials_bcc)
{
  for (int k = 0; k < 3; k++) {
    const double force = warp_sum(sums.force[k]);
    if (this_lane() == 0) forces_ac[3 * (index_t) i + k] += force;
  }
  for (int k = 0; k < 9; k++) {
    const double virial = warp_sum(sums.virial[k]);
    if (this_lane() == 0) virials_bcc[9 * (index_t) b + k] += virial;
  }
}

// Pair gradients of a chunk; the force on each centre is added to forces_ac, its virial to virials_bcc.
template <bool FADES>
__device__ __forceinline__ void gradients_of_tables(const double *__restrict__ positions_ac,
    const int *__restrict__ neighbours_p, const int *__restrict__ members_b, int n_b, int n_types, int n_slots,
    const index_t *__restrict__ offsets_g, const int *__restrict__ n_rows_tb, const int *__restrict__ slot_p,
    const REAL *__restrict__ rows_kp, const REAL *__restrict__ fade_up, const int *__restrict__ piece_p,
    const REAL *__restrict__ x_p, const int *__restrict__ blocks_tu, const index_t *__restrict__ starts_tu,
    const REAL *__restrict__ coefficients, const REAL *__restrict__ slopes, int n_columns,
    const REAL *__restrict__ db_bkq, double rcut_smth, double width, double protection,
    const double *__restrict__ scale_k, int adds, double *__restrict__ gradients_pc,
    double *__restrict__ forces_ac, double *__restrict__ virials_bcc, REAL (*shared)[4])
{
  const int b = this_warp();
  if (b >= n_b) return;
  const int i = members_b[b];
  const index_t chunk = offsets_g[0];
  Sums sums = {{0.0, 0.0, 0.0}, {0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0}};
  for (int t = 0; t < n_types; t++) {
    const Functions f = functions_of(t, blocks_tu, starts_tu);
    if (f.count == 0) continue;
    const index_t block = (index_t) t * n_b + b;
    const int begin = (int) (offsets_g[block] - chunk);
    const REAL *table = coefficients + f.coefficients;
    auto row_of = [&](int p) {
      TableRow row = {table + (index_t) piece_p[p] * 6 * f.count, f.count, x_p[p]};
      return row;
    };
    gradients_of_block<FADES>(row_of, slopes + f.slopes, piece_p, begin, n_rows_tb[block], n_slots, rows_kp, fade_up,
                       f.count, n_columns, db_bkq + (index_t) b * 4 * n_columns + f.column, shared,
                       positions_ac, i, neighbours_p + chunk, slot_p, rcut_smth, width, protection, scale_k, adds,
                       gradients_pc + 3 * chunk, sums);
  }
  write_sums(sums, i, b, forces_ac, virials_bcc);
}

KERNEL gradients_by_tables(const double *__restrict__ positions_ac, const int *__restrict__ neighbours_p,
                           const int *__restrict__ members_b, int n_b, int n_types, int n_slots,
                           const index_t *__restrict__ offsets_g, const int *__restrict__ n_rows_tb,
                           const int *__restrict__ slot_p, const REAL *__restrict__ rows_kp,
                           const REAL *__restrict__ fade_up, const int *__restrict__ piece_p,
                           const REAL *__restrict__ x_p, const int *__restrict__ blocks_tu,
                           const index_t *__restrict__ starts_tu, const REAL *__restrict__ coefficients,
                           const REAL *__restrict__ slopes, int n_columns, const REAL *__restrict__ db_bkq,
                           double rcut_smth, double width, double protection, const double *__restrict__ scale_k,
                           int adds, double *__restrict__ gradients_pc, double *__restrict__ forces_ac,
                           double *__restrict__ virials_bcc)
{
  __shared__ REAL shared[WARPS_PER_BLOCK][WARP][4];
  gradients_of_tables<false>(positions_ac, neighbours_p, members_b, n_b, n_types, n_slots, offsets_g, n_rows_tb,
      slot_p, rows_kp, fade_up, piece_p, x_p, blocks_tu, starts_tu, coefficients, slopes, n_columns, db_bkq,
      rcut_smth, width, protection, scale_k, adds, gradients_pc, forces_ac, virials_bcc,
      shared[threadIdx.x / WARP]);
}

KERNEL gradients_by_fading_tables(const double *__restrict__ positions_ac, const int *__restrict__ neighbours_p,
                                  const int *__restrict__ members_b, int n_b, int n_types, int n_slots,
                                  const index_t *__restrict__ offsets_g, const int *__restrict__ n_rows_tb,
                                  const int *__restrict__ slot_p, const REAL *__restrict__ rows_kp,
                                  const REAL *__restrict__ fade_up, const int *__restrict__ piece_p,
                                  const REAL *__restrict__ x_p, const int *__restrict__ blocks_tu,
                                  const index_t *__restrict__ starts_tu, const REAL *__restrict__ coefficients,
                                  const REAL *__restrict__ slopes, int n_columns, const REAL *__restrict__ db_bkq,
                                  double rcut_smth, double width, double protection,
                                  const double *__restrict__ scale_k, int adds, double *__restrict__ gradients_pc,
                                  double *__restrict__ forces_ac, double *__restrict__ virials_bcc)
{
  __shared__ REAL shared[WARPS_PER_BLOCK][WARP][4];
  gradients_of_tables<true>(positions_ac, neighbours_p, members_b, n_b, n_types, n_slots, offsets_g, n_rows_tb,
      slot_p, rows_kp, fade_up, piece_p, x_p, blocks_tu, starts_tu, coefficients, slopes, n_columns, db_bkq,
      rcut_smth, width, protection, scale_k, adds, gradients_pc, forces_ac, virials_bcc,
      shared[threadIdx.x / WARP]);
}

KERNEL gradients_by_net(const double *__restrict__ positions_ac, const int *__restrict__ neighbours_p,
                        const int *__restrict__ members_b, int n_b, int t, int n_slots, int first_slot,
                        const index_t *__restrict__ offsets_g, const int *__restrict__ n_rows_tb,
                        const int *__restrict__ slot_p, const REAL *__restrict__ rows_kp,
                        const REAL *__restrict__ g_pm, const REAL *__restrict__ dg_pm, int n_channels,
                        const REAL *__restrict__ db_bkm, double rcut_smth, double width, double protection,
                        const double *__restrict__ scale_k, int adds, double *__restrict__ gradients_pc,
                        double *__restrict__ forces_ac, double *__restrict__ virials_bcc)
{
  __shared__ REAL shared[WARPS_PER_BLOCK][WARP][4];
  const int b = this_warp();
  if (b >= n_b) return;
  const int i = members_b[b];
  const index_t chunk = offsets_g[0], block = (index_t) t * n_b + b;
  Sums sums = {{0.0, 0.0, 0.0}, {0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0}};
  auto row_of = [&](int p) {
    const index_t line = (index_t) (p - first_slot) * n_channels;
    NetRow row = {g_pm + line, dg_pm + line};
    return row;
  };
  gradients_of_block<false>(row_of, (const REAL *) nullptr, (const int *) nullptr, (int) (offsets_g[block] - chunk),
                     n_rows_tb[block], n_slots, rows_kp, nullptr, n_channels, n_channels,
                     db_bkm + (index_t) b * 4 * n_channels, shared[threadIdx.x / WARP], positions_ac, i,
                     neighbours_p + chunk, slot_p, rcut_smth, width, protection, scale_k, adds, gradients_pc + 3 * chunk,
                     sums);
  write_sums(sums, i, b, forces_ac, virials_bcc);
}
