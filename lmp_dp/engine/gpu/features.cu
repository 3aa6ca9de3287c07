// Features of the reduced moment (lmp_dp/engine/lowering/reduction.py) and their gradient.
//
//   S_ab = sum_k C_ka C_kb,  b < n_axis, b <= a < rank, ordered by b, then a

KERNEL features(const REAL *__restrict__ c_bkr, int n_b, int n_columns, int rank, int n_axis, index_t n_features,
                REAL *__restrict__ f_bi)
{
  const int b = this_warp();
  if (b >= n_b) return;
  const REAL *c0 = c_bkr + (index_t) b * 4 * n_columns;
  const REAL *c1 = c0 + n_columns, *c2 = c1 + n_columns, *c3 = c2 + n_columns;
  REAL *f = f_bi + b * n_features;
  for (int axis = 0; axis < n_axis; axis++) {
    const REAL x0 = c0[axis], x1 = c1[axis], x2 = c2[axis], x3 = c3[axis];
    for (int a = axis + this_lane(); a < rank; a += WARP)
      f[a - axis] = x0 * c0[a] + x1 * c1[a] + x2 * c2[a] + x3 * c3[a];
    f += rank - axis;
  }
}

// dE/dC_ka = (sum_b dS_ab C_kb + [a < n_axis] sum_a' dS_a'a C_ka') / divisor; columns beyond rank get zero.
KERNEL features_backward(const REAL *__restrict__ c_bkr, const REAL *__restrict__ df_bi, int n_b, int n_columns,
                         int rank, int n_axis, index_t n_features, REAL divisor, REAL *__restrict__ dc_bkr)
{
  const int b = this_warp();
  if (b >= n_b) return;
  const REAL *c0 = c_bkr + (index_t) b * 4 * n_columns;
  const REAL *c1 = c0 + n_columns, *c2 = c1 + n_columns, *c3 = c2 + n_columns;
  const REAL *df = df_bi + b * n_features;
  REAL *dc = dc_bkr + (index_t) b * 4 * n_columns;
  for (int a = this_lane(); a < n_columns; a += WARP) {
    REAL s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    if (a < rank) {
      int row = 0;  // of dS_.b
      for (int axis = 0; axis < min(n_axis, a + 1); axis++) {
        const REAL g = df[row + a - axis];
        s0 += g * c0[axis];
        s1 += g * c1[axis];
        s2 += g * c2[axis];
        s3 += g * c3[axis];
        row += rank - axis;
      }
      if (a < n_axis) {
        const REAL *own = df + a * rank - a * (a - 1) / 2;
        for (int other = a; other < rank; other++) {
          const REAL g = own[other - a];
          s0 += g * c0[other];
          s1 += g * c1[other];
          s2 += g * c2[other];
          s3 += g * c3[other];
        }
      }
    }
    dc[a] = s0 / divisor;
    dc[n_columns + a] = s1 / divisor;
    dc[2 * n_columns + a] = s2 / divisor;
    dc[3 * n_columns + a] = s3 / divisor;
  }
}
