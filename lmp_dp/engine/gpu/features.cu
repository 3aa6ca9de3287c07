// Features of the reduced moment (lmp_dp/engine/lowering/reduction.py) and their gradient.
//
//   S_ab = sum_k C_ka C_kb,  b < n_axis, b <= a < rank, ordered by b, then a
//
// Lanes share out the columns a, so that they read and write S side by side; columns b are taken some at a time,
// from shared memory, where all lanes read the same number.

#define AXES 8  // at a time: 32 numbers C_kb, one per lane

// C_kb / divisor of the axes from first on, to where all lanes find it.
__device__ __forceinline__ void load_axes(const REAL *__restrict__ c_kr, int n_columns, int first, int n_axis,
                                          REAL divisor, REAL (*axes)[4])
{
  const int axis = this_lane() / 4, k = this_lane() % 4;
  __syncwarp();
  axes[axis][k] = first + axis < n_axis ? c_kr[k * n_columns + first + axis] / divisor : (REAL) 0;
  __syncwarp();
}

KERNEL(8) features(const REAL *__restrict__ c_bkr, int n_b, int n_columns, int rank, int n_axis, index_t n_features,
                   REAL *__restrict__ f_bi)
{
  __shared__ __align__(16) REAL shared[WARPS_PER_BLOCK][AXES][4];
  REAL (*axes)[4] = shared[threadIdx.x / WARP];
  const int b = this_warp();
  if (b >= n_b) return;
  const REAL *c = c_bkr + (index_t) b * 4 * n_columns;
  REAL *f = f_bi + b * n_features;  // S_ab is f[a - b] for b = first
  for (int first = 0; first < n_axis; first += AXES) {
    load_axes(c, n_columns, first, n_axis, (REAL) 1, axes);
    for (int a = first + this_lane(); a < rank; a += WARP) {
      const REAL x0 = c[a], x1 = c[n_columns + a], x2 = c[2 * n_columns + a], x3 = c[3 * n_columns + a];
      int at = a - first;
#pragma unroll
      for (int e = 0; e < AXES; e++) {
        if (first + e < n_axis && first + e <= a)
          f[at] = x0 * axes[e][0] + x1 * axes[e][1] + x2 * axes[e][2] + x3 * axes[e][3];
        at += rank - first - e - 1;
      }
    }
    for (int e = 0; e < AXES; e++) f += rank - first - e;
  }
}

// dE/dC_ka = (sum_b dS_ab C_kb + [a < n_axis] sum_a' dS_a'a C_ka') / divisor; columns beyond rank get zero. Each
// dS is read once: its lane adds to its own column a, and to 32 sums over the lanes for the columns b.
KERNEL(4) features_backward(const REAL *__restrict__ c_bkr, const REAL *__restrict__ df_bi, int n_b, int n_columns,
                            int rank, int n_axis, index_t n_features, REAL divisor, REAL *__restrict__ dc_bkr)
{
  __shared__ __align__(16) REAL shared[WARPS_PER_BLOCK][AXES][4];
  REAL (*axes)[4] = shared[threadIdx.x / WARP];
  const int b = this_warp(), lane = this_lane();
  if (b >= n_b) return;
  const REAL *c = c_bkr + (index_t) b * 4 * n_columns;
  const REAL *df = df_bi + b * n_features;  // as f above
  REAL *dc = dc_bkr + (index_t) b * 4 * n_columns;
  for (int first = 0; first < n_axis; first += AXES) {
    load_axes(c, n_columns, first, n_axis, divisor, axes);
    REAL of_axes[WARP];
#pragma unroll
    for (int v = 0; v < WARP; v++) of_axes[v] = 0;
    for (int a = first / WARP * WARP + lane; a < n_columns; a += WARP) {
      REAL own[4], x[4];
#pragma unroll
      for (int k = 0; k < 4; k++) {
        own[k] = first > 0 ? dc[k * n_columns + a] : (REAL) 0;
        x[k] = c[k * n_columns + a];
      }
      int at = a - first;
#pragma unroll
      for (int e = 0; e < AXES; e++) {
        if (first + e < n_axis && first + e <= a && a < rank) {
          const REAL g = df[at];
#pragma unroll
          for (int k = 0; k < 4; k++) {
            own[k] += g * axes[e][k];
            of_axes[4 * e + k] += g * x[k];
          }
        }
        at += rank - first - e - 1;
      }
#pragma unroll
      for (int k = 0; k < 4; k++) dc[k * n_columns + a] = own[k];
    }
    const REAL sum = warp_sums(of_axes) / divisor;  // of axis lane / 4
    __syncwarp();
    if (first + lane / 4 < n_axis) dc[lane % 4 * n_columns + first + lane / 4] += sum;
    for (int e = 0; e < AXES; e++) df += rank - first - e;
  }
}
