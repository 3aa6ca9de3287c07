// Gradients of the rows, and back to pairs.
//
//   dE/dR_k = sum_q phi_q dB_kq;  for k = 0 also  sum_q phi'_q sum_k R_k dB_kq

// dE/dR of up to 32 rows of a block from `start` on, for N functions per lane from `first` on, to (or added to)
// shared[row]. Eight rows are reduced together, 16 sums per half of the warp. If it FADES there are as many
// functions more, which are times the fade f:  dB_kq + f dF_kq in place of dB_kq, and
// sum_q phi_q sum_k R_k dF_kq  times its slope.
template <bool FADES, int N, typename Of>
__device__ __forceinline__ void gradients_of_pass(const Of &of, const Rows &rows, int start, int n_slots,
                                                  const REAL *__restrict__ fade_up, int first, int count,
                                                  int n_columns, const REAL *__restrict__ db_kq, REAL (*shared)[4])
{
  const int half = this_lane() / HALF;
  REAL db[4][N], df[4][N];
#pragma unroll
  for (int k = 0; k < 4; k++) {
    Of::columns(db_kq + k * n_columns, first, count, db[k]);
    if (FADES) Of::columns(db_kq + count + k * n_columns, first, count, df[k]);
  }
  for (int group = start; group < min(start + WARP, rows.n); group += 8) {
    REAL partial[HALF];
#pragma unroll
    for (int e = 0; e < 4; e++) {
      REAL dr_k[4] = {0, 0, 0, 0};
      if (group + 2 * e + half < rows.n) {
        const int p = rows.begin + group + 2 * e + half;
        REAL phi[N], dphi[N], along = 0, faded = 0;
        const REAL dx = of.values_and_slopes(p, first, phi, dphi);
        const Row row = row_at(rows.rows_pk, p);
#pragma unroll
        for (int j = 0; j < N; j++) {
          REAL d[4];
#pragma unroll
          for (int k = 0; k < 4; k++) {
            d[k] = FADES ? db[k][j] + fade_up[p] * df[k][j] : db[k][j];
            dr_k[k] += phi[j] * d[k];
          }
          along += dphi[j] * (row.k[0] * d[0] + row.k[1] * d[1] + row.k[2] * d[2] + row.k[3] * d[3]);
          if (FADES)
            faded += phi[j] * (row.k[0] * df[0][j] + row.k[1] * df[1][j] + row.k[2] * df[2][j] + row.k[3] * df[3][j]);
        }
        dr_k[0] += dx * along;
        if (FADES) dr_k[0] += fade_up[n_slots + p] * faded;
      }
#pragma unroll
      for (int k = 0; k < 4; k++) partial[4 * e + k] = dr_k[k];
    }
    const int lane = this_lane() % HALF;
    REAL &to = shared[group - start + 2 * (lane / 4) + half][lane % 4];
    const REAL sum = half_warp_sums(partial);
    to = first ? to + sum : sum;
  }
}

// Where the pairs of a chunk are, and what becomes of them; `adds` to gradients that are there.
struct Pairs {
  const double *positions_ac;
  const int *neighbours_p, *slot_p;
  double rcut_smth, width, protection;
  const double *scale_k;
  bool adds;
  double *gradients_pc;

  // from dE/dR to dE/dr
  __device__ __forceinline__ void add(int i, int p, const REAL (&dr_k)[4], double (&force)[3]) const
  {
    const int slot = slot_p[p];
    const Vector r = displacement(positions_ac, i, neighbours_p[slot]);
    const double length = sqrt(square(r));
    const Switch sw = switched(length, length + protection, rcut_smth, width);
    const double x[3] = {r.x / length, r.y / length, r.z / length};
    double q[3], inward = 0.0;
    for (int k = 0; k < 3; k++) {
      q[k] = (double) dr_k[k + 1] * scale_k[k + 1];
      inward += q[k] * x[k];
    }
    // R_k = s x_k/q, q = r + protection: dR_k/dr_c = (s' r/q - s r/q^2) x_k x_c/r^2 + s/q delta_kc
    const double ratio = length / (length + protection), s_over_r = sw.s / (length + protection);
    const double along = (double) dr_k[0] * scale_k[0] * sw.ds + (sw.ds - s_over_r) * ratio * inward;
    for (int k = 0; k < 3; k++) {
      const double g = along * x[k] + s_over_r * q[k];
      double *to = gradients_pc + 3 * (index_t) slot + k;
      *to = adds ? *to + g : g;
      force[k] += g;
    }
  }
};

// dE/dr of the rows of one block of centre i: a pass leaves dE/dR of 32 rows, of which every lane takes one.
template <bool FADES, typename Of>
__device__ __forceinline__ void gradients_of_block(const Of &of, const Rows &rows, int n_slots,
                                                   const REAL *__restrict__ fade_up, int count, int n_columns,
                                                   const REAL *__restrict__ db_kq, REAL (*shared)[4],
                                                   const Pairs &pairs, int i, double (&force)[3])
{
  const int lane = this_lane();
  for (int start = 0; start < rows.n; start += WARP) {
    for (int first = 0; first < count; first += FADES ? HALF_PASS : PASS)  // fading takes twice the registers
      if (!FADES && count - first > HALF_PASS)
        gradients_of_pass<FADES, 4>(of, rows, start, n_slots, fade_up, first, count, n_columns, db_kq, shared);
      else
        gradients_of_pass<FADES, 2>(of, rows, start, n_slots, fade_up, first, count, n_columns, db_kq, shared);
    __syncwarp();
    if (start + lane < rows.n) pairs.add(i, rows.begin + start + lane, shared[lane], force);
    __syncwarp();
  }
}

__device__ __forceinline__ void add_force(const double (&force)[3], int i, double *__restrict__ forces_ac)
{
  for (int k = 0; k < 3; k++) {
    const double sum = warp_sum(force[k]);
    if (this_lane() == 0) forces_ac[3 * (index_t) i + k] += sum;
  }
}

// Pair gradients of a chunk; the force on each centre is added to forces_ac.
template <bool FADES>
__device__ __forceinline__ void gradients_of_tables(
    const Pairs &pairs, const int *__restrict__ members_b, int n_b, int n_types, int n_slots,
    const index_t *__restrict__ offsets_g, const int *__restrict__ n_rows_tb, const REAL *__restrict__ rows_pk,
    const REAL *__restrict__ fade_up, const int *__restrict__ piece_p, const REAL *__restrict__ x_p,
    const int *__restrict__ blocks_tu, const index_t *__restrict__ starts_tu, const REAL *__restrict__ coefficients,
    const REAL *__restrict__ slopes, int n_columns, const REAL *__restrict__ db_bkq, double *__restrict__ forces_ac,
    REAL (*shared)[4])
{
  const int b = this_warp();
  if (b >= n_b) return;
  const int i = members_b[b];
  double force[3] = {0.0, 0.0, 0.0};
  for (int t = 0; t < n_types; t++) {
    const Functions f = functions_of(t, blocks_tu, starts_tu);
    if (f.count == 0) continue;
    const index_t block = (index_t) t * n_b + b;
    const Rows rows = {(int) (offsets_g[block] - offsets_g[0]), n_rows_tb[block], rows_pk};
    const Tables of = {coefficients + f.coefficients, slopes + f.slopes, per_piece(f.count), piece_p, x_p};
    gradients_of_block<FADES>(of, rows, n_slots, fade_up, f.count, n_columns,
                              db_bkq + (index_t) b * 4 * n_columns + f.column, shared, pairs, i, force);
  }
  add_force(force, i, forces_ac);
}

KERNEL(IN_DOUBLE ? 3 : 4)
gradients_by_tables(const double *__restrict__ positions_ac, const int *__restrict__ neighbours_p,
                    const int *__restrict__ members_b, int n_b, int n_types, int n_slots,
                    const index_t *__restrict__ offsets_g, const int *__restrict__ n_rows_tb,
                    const int *__restrict__ slot_p, const REAL *__restrict__ rows_pk,
                    const REAL *__restrict__ fade_up, const int *__restrict__ piece_p,
                    const REAL *__restrict__ x_p, const int *__restrict__ blocks_tu,
                    const index_t *__restrict__ starts_tu, const REAL *__restrict__ coefficients,
                    const REAL *__restrict__ slopes, int n_columns, const REAL *__restrict__ db_bkq,
                    double rcut_smth, double width, double protection, const double *__restrict__ scale_k,
                    int adds, double *__restrict__ gradients_pc, double *__restrict__ forces_ac)
{
  __shared__ REAL shared[WARPS_PER_BLOCK][WARP][4];
  const index_t chunk = offsets_g[0];
  const Pairs pairs = {positions_ac, neighbours_p + chunk, slot_p, rcut_smth, width, protection, scale_k, adds != 0,
                       gradients_pc + 3 * chunk};
  gradients_of_tables<false>(pairs, members_b, n_b, n_types, n_slots, offsets_g, n_rows_tb, rows_pk, fade_up,
                             piece_p, x_p, blocks_tu, starts_tu, coefficients, slopes, n_columns, db_bkq,
                             forces_ac, shared[threadIdx.x / WARP]);
}

KERNEL(IN_DOUBLE ? 3 : 4)
gradients_by_fading_tables(const double *__restrict__ positions_ac, const int *__restrict__ neighbours_p,
                           const int *__restrict__ members_b, int n_b, int n_types, int n_slots,
                           const index_t *__restrict__ offsets_g, const int *__restrict__ n_rows_tb,
                           const int *__restrict__ slot_p, const REAL *__restrict__ rows_pk,
                           const REAL *__restrict__ fade_up, const int *__restrict__ piece_p,
                           const REAL *__restrict__ x_p, const int *__restrict__ blocks_tu,
                           const index_t *__restrict__ starts_tu, const REAL *__restrict__ coefficients,
                           const REAL *__restrict__ slopes, int n_columns, const REAL *__restrict__ db_bkq,
                           double rcut_smth, double width, double protection, const double *__restrict__ scale_k,
                           int adds, double *__restrict__ gradients_pc, double *__restrict__ forces_ac)
{
  __shared__ REAL shared[WARPS_PER_BLOCK][WARP][4];
  const index_t chunk = offsets_g[0];
  const Pairs pairs = {positions_ac, neighbours_p + chunk, slot_p, rcut_smth, width, protection, scale_k, adds != 0,
                       gradients_pc + 3 * chunk};
  gradients_of_tables<true>(pairs, members_b, n_b, n_types, n_slots, offsets_g, n_rows_tb, rows_pk, fade_up,
                            piece_p, x_p, blocks_tu, starts_tu, coefficients, slopes, n_columns, db_bkq,
                             forces_ac, shared[threadIdx.x / WARP]);
}

KERNEL(IN_DOUBLE ? 3 : 4)
gradients_by_net(const double *__restrict__ positions_ac, const int *__restrict__ neighbours_p,
                 const int *__restrict__ members_b, int n_b, int t, int n_slots, int first_slot,
                 const index_t *__restrict__ offsets_g, const int *__restrict__ n_rows_tb,
                 const int *__restrict__ slot_p, const REAL *__restrict__ rows_pk, const REAL *__restrict__ g_pm,
                 const REAL *__restrict__ dg_pm, int n_channels, const REAL *__restrict__ db_bkm, double rcut_smth,
                 double width, double protection, const double *__restrict__ scale_k, int adds,
                 double *__restrict__ gradients_pc, double *__restrict__ forces_ac)
{
  __shared__ REAL shared[WARPS_PER_BLOCK][WARP][4];
  const int b = this_warp();
  if (b >= n_b) return;
  const int i = members_b[b];
  const index_t chunk = offsets_g[0], block = (index_t) t * n_b + b;
  const Pairs pairs = {positions_ac, neighbours_p + chunk, slot_p, rcut_smth, width, protection, scale_k, adds != 0,
                       gradients_pc + 3 * chunk};
  const Rows rows = {(int) (offsets_g[block] - chunk), n_rows_tb[block], rows_pk};
  const Net of = {g_pm, dg_pm, first_slot, n_channels};
  double force[3] = {0.0, 0.0, 0.0};
  gradients_of_block<false>(of, rows, n_slots, nullptr, n_channels, n_channels,
                            db_bkm + (index_t) b * 4 * n_channels, shared[threadIdx.x / WARP], pairs, i, force);
  add_force(force, i, forces_ac);
}
