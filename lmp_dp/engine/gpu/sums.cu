// Sums over all atoms. The same order of additions always, whatever the device: each thread takes every so
// manieth atom, warps and blocks add up by trees, and one block adds up the blocks.

#define SUMMED 11  // energy, nine of the virial, number of atoms whose position or force is not finite

// Sums over a block, in its first SUMMED threads.
__device__ __forceinline__ double block_sums(const double (&values)[SUMMED], double (*shared)[SUMMED])
{
#pragma unroll
  for (int u = 0; u < SUMMED; u++) {
    const double sum = warp_sum(values[u]);
    if (this_lane() == 0) shared[threadIdx.x / WARP][u] = sum;
  }
  __syncthreads();
  double sum = 0.0;
  if (threadIdx.x < SUMMED)
    for (int w = 0; w < WARPS_PER_BLOCK; w++) sum += shared[w][threadIdx.x];
  return sum;
}

// W = -sum_ij dE/dr_ij (x) r_ij with r_ij = x_j - x_i is sum_a F_a (x) x_a over all atoms, ghosts too: each pair
// gives dE/dr_ij to F_i and takes it from F_j. Since all F_a add up to nothing, x may be counted from any atom:
// from the first, so that no more digits cancel than the box has.
KERNEL(4) sums_of_blocks(int n_all, const double *__restrict__ energies_a, const double *__restrict__ positions_ac,
                         const double *__restrict__ forces_ac, double *__restrict__ partial)
{
  __shared__ double shared[WARPS_PER_BLOCK][SUMMED];
  double values[SUMMED] = {0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0};
  for (index_t a = this_thread(); a < n_all; a += (index_t) gridDim.x * blockDim.x) {
    const double *f = forces_ac + 3 * a, *x = positions_ac + 3 * a;
    values[0] += energies_a[a];
    bool finite = true;
#pragma unroll
    for (int l = 0; l < 3; l++) {
      finite = finite && isfinite(x[l]) && isfinite(f[l]);
      const double distance = x[l] - positions_ac[l];
#pragma unroll
      for (int k = 0; k < 3; k++) values[1 + 3 * k + l] += f[k] * distance;
    }
    values[10] += finite ? 0.0 : 1.0;
  }
  const double sum = block_sums(values, shared);
  if (threadIdx.x < SUMMED) partial[(index_t) blockIdx.x * SUMMED + threadIdx.x] = sum;
}

// sums: what is summed, and what was counted; one block.
KERNEL(4) total_sums(int n_parts, const double *__restrict__ partial, const unsigned long long *__restrict__ totals,
                     double *__restrict__ sums)
{
  __shared__ double shared[WARPS_PER_BLOCK][SUMMED];
  double values[SUMMED] = {0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0};
  for (int part = threadIdx.x; part < n_parts; part += blockDim.x)
#pragma unroll
    for (int u = 0; u < SUMMED; u++) values[u] += partial[part * SUMMED + u];
  const double sum = block_sums(values, shared);
  if (threadIdx.x < SUMMED) sums[threadIdx.x] = sum;
  else if (threadIdx.x < SUMMED + 2) sums[threadIdx.x] = (double) totals[threadIdx.x - SUMMED];
}
