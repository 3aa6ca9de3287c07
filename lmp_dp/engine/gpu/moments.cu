// Moments of the functions:  B_kq = sum_rows R_k phi_q + empty padding_kq

// The rows of one block.
struct Rows {
  int begin, n;
  const REAL *rows_pk;
};

// B of one centre for N functions per lane, from `first` on, of those of one element; or (fade_p) for these times
// the fade.
template <int N, typename Of>
__device__ __forceinline__ void moment_of_pass(const Of &of, const Rows &rows, int missing,
                                               const REAL *__restrict__ fade_p, int first, int count,
                                               const REAL *__restrict__ padding_kq, int n_columns, REAL divisor,
                                               bool add, REAL *__restrict__ b_kq)
{
  REAL sums[4 * N];
#pragma unroll
  for (int v = 0; v < 4 * N; v++) sums[v] = 0;
#pragma unroll 1
  for (int p = rows.begin + this_lane() / HALF; p < rows.begin + rows.n; p += 2) {
    Row row = row_at(rows.rows_pk, p);
    REAL phi[N];
    of.values(p, first, phi);
#pragma unroll
    for (int k = 0; k < 4; k++) {
      if (fade_p) row.k[k] *= fade_p[p];
#pragma unroll
      for (int j = 0; j < N; j++) sums[k * N + j] += row.k[k] * phi[j];
    }
  }
  fold<HALF, 2 * N>(sums);
  // padding last: it is the largest term, rounding in float32 is best this way
#pragma unroll
  for (int v = 0; v < 2 * N; v++) {
    const int k = 2 * (this_lane() / HALF) + v / N, q = first + Of::function(v % N);
    if (q >= count) continue;
    const REAL sum = (sums[v] + (REAL) missing * padding_kq[k * count + q]) / divisor;
    b_kq[k * n_columns + q] = add ? b_kq[k * n_columns + q] + sum : sum;
  }
}

template <typename Of>
__device__ __forceinline__ void moment_of_block(const Of &of, const Rows &rows, int missing,
                                                const REAL *__restrict__ fade_p, int count,
                                                const REAL *__restrict__ padding_kq, int n_columns, REAL divisor,
                                                bool add, REAL *__restrict__ b_kq)
{
  for (int first = 0; first < count; first += PASS)
    if (count - first > HALF_PASS)
      moment_of_pass<4>(of, rows, missing, fade_p, first, count, padding_kq, n_columns, divisor, add, b_kq);
    else
      moment_of_pass<2>(of, rows, missing, fade_p, first, count, padding_kq, n_columns, divisor, add, b_kq);
}

template <bool FADES>
__device__ __forceinline__ void
moment_of_tables(int n_b, int n_types, const index_t *__restrict__ offsets_g, const int *__restrict__ n_rows_tb,
                 const int *__restrict__ empty_tb, int n_sel, const REAL *__restrict__ rows_pk,
                 const REAL *__restrict__ fade_up, const int *__restrict__ piece_p, const REAL *__restrict__ x_p,
                 const int *__restrict__ blocks_tu, const index_t *__restrict__ starts_tu,
                 const REAL *__restrict__ coefficients, const REAL *__restrict__ padding,
                 const index_t *__restrict__ empty_blocks, int n_empty, int n_columns, REAL *__restrict__ b_bkq)
{
  const int b = this_warp();
  if (b >= n_b) return;
  const index_t line = (index_t) b * 4 * n_columns;
  for (int t = 0; t < n_types; t++) {
    const Functions f = functions_of(t, blocks_tu, starts_tu);
    if (f.count == 0) continue;
    const index_t block = (index_t) t * n_b + b;
    const Rows rows = {(int) (offsets_g[block] - offsets_g[0]), n_rows_tb[block], rows_pk};
    const Tables of = {coefficients + f.coefficients, nullptr, per_piece(f.count), piece_p, x_p};
    moment_of_block(of, rows, empty_tb[n_sel == n_types ? block : b], nullptr, f.count, padding + f.padding,
                    n_columns, (REAL) 1, false, b_bkq + line + f.column);
    if (FADES)  // an empty slot has faded out
      moment_of_block(of, rows, 0, fade_up, f.count, padding + f.padding, n_columns, (REAL) 1, false,
                      b_bkq + line + f.column + f.count);
  }
  // blocks of empty slots alone: (element or -1, number of columns, first column of B, padding)
  for (int e = 0; e < n_empty; e++) {
    const index_t *of = empty_blocks + 4 * e;
    const REAL empty = (REAL) empty_tb[n_sel == n_types && of[0] >= 0 ? of[0] * n_b + b : b];
    for (int q = this_lane(); q < (int) of[1]; q += WARP)
      for (int k = 0; k < 4; k++) b_bkq[line + k * n_columns + of[2] + q] = empty * padding[of[3] + k * of[1] + q];
  }
}

KERNEL(IN_DOUBLE ? 5 : 6)
moment_by_tables(int n_b, int n_types, const index_t *__restrict__ offsets_g, const int *__restrict__ n_rows_tb,
                 const int *__restrict__ empty_tb, int n_sel, const REAL *__restrict__ rows_pk,
                 const REAL *__restrict__ fade_up, const int *__restrict__ piece_p, const REAL *__restrict__ x_p,
                 const int *__restrict__ blocks_tu, const index_t *__restrict__ starts_tu,
                 const REAL *__restrict__ coefficients, const REAL *__restrict__ padding,
                 const index_t *__restrict__ empty_blocks, int n_empty, int n_columns, REAL *__restrict__ b_bkq)
{
  moment_of_tables<false>(n_b, n_types, offsets_g, n_rows_tb, empty_tb, n_sel, rows_pk, fade_up, piece_p, x_p,
                          blocks_tu, starts_tu, coefficients, padding, empty_blocks, n_empty, n_columns, b_bkq);
}

KERNEL(IN_DOUBLE ? 4 : 6)
moment_by_fading_tables(int n_b, int n_types, const index_t *__restrict__ offsets_g,
                        const int *__restrict__ n_rows_tb, const int *__restrict__ empty_tb, int n_sel,
                        const REAL *__restrict__ rows_pk, const REAL *__restrict__ fade_up,
                        const int *__restrict__ piece_p, const REAL *__restrict__ x_p,
                        const int *__restrict__ blocks_tu, const index_t *__restrict__ starts_tu,
                        const REAL *__restrict__ coefficients, const REAL *__restrict__ padding,
                        const index_t *__restrict__ empty_blocks, int n_empty, int n_columns, REAL *__restrict__ b_bkq)
{
  moment_of_tables<true>(n_b, n_types, offsets_g, n_rows_tb, empty_tb, n_sel, rows_pk, fade_up, piece_p, x_p,
                         blocks_tu, starts_tu, coefficients, padding, empty_blocks, n_empty, n_columns, b_bkq);
}

// For one neighbour element, or (t < 0) for empty slots alone; g_pm holds its slots, from first_slot (of the
// chunk) on.
KERNEL(IN_DOUBLE ? 5 : 6)
moment_by_net(int n_b, int t, int first_slot, const index_t *__restrict__ offsets_g,
              const int *__restrict__ n_rows_tb, const int *__restrict__ empty_b, const REAL *__restrict__ rows_pk,
              const REAL *__restrict__ g_pm, int n_channels, const REAL *__restrict__ padding_km, REAL divisor,
              int add, REAL *__restrict__ b_bkm)
{
  const int b = this_warp();
  if (b >= n_b) return;
  const index_t block = (index_t) t * n_b + b;
  const Rows rows = {t < 0 ? 0 : (int) (offsets_g[block] - offsets_g[0]), t < 0 ? 0 : n_rows_tb[block], rows_pk};
  const Net of = {g_pm, nullptr, first_slot, n_channels};
  moment_of_block(of, rows, empty_b[b], nullptr, n_channels, padding_km, n_channels, divisor, add,
                  b_bkm + (index_t) b * 4 * n_channels);
}
