// Shared by all kernels. REAL is float or double.

#define index_t long long  // a macro, so that a kernel's signature reads the same to every tool

#define WARP 32
#define HALF 16
#define ALL_LANES 0xffffffffu
#define WARPS_PER_BLOCK 4
// A kernel of blocks of 128 threads, of which so many are to fit on a multiprocessor at once: that bounds registers.
#define KERNEL(blocks) extern "C" __global__ void __launch_bounds__(128, blocks)

// The warp of the grid that this thread belongs to, and its place in it.
__device__ __forceinline__ int this_warp() { return blockIdx.x * WARPS_PER_BLOCK + threadIdx.x / WARP; }
__device__ __forceinline__ int this_lane() { return threadIdx.x % WARP; }
__device__ __forceinline__ index_t this_thread() { return (index_t) blockIdx.x * blockDim.x + threadIdx.x; }

// The sum over a warp, in every lane; the same order of additions always.
template <typename T> __device__ __forceinline__ T warp_sum(T value)
{
#pragma unroll
  for (int distance = WARP / 2; distance > 0; distance /= 2)
    value += __shfl_xor_sync(ALL_LANES, value, distance);
  return value;
}

// Of 2 * kept values keep half, and add those of the lane at this distance, which keeps the others. Numbers are a
// template's, so that values stays in registers: with a loop over them, local memory on sm_75 to sm_90.
template <int distance, int kept, typename T, int size> __device__ __forceinline__ void fold(T (&values)[size])
{
  const bool upper = this_lane() & distance;
#pragma unroll
  for (int i = 0; i < kept; i++) {
    const T give = upper ? values[i] : values[i + kept];
    const T keep = upper ? values[i + kept] : values[i];
    values[i] = keep + __shfl_xor_sync(ALL_LANES, give, distance);
  }
}

// 32 sums over a warp at once, with 31 shuffles: lane l gets the sum of all lanes' values[l].
template <typename T> __device__ __forceinline__ T warp_sums(T (&values)[WARP])
{
  fold<16, 16>(values);
  fold<8, 8>(values);
  fold<4, 4>(values);
  fold<2, 2>(values);
  fold<1, 1>(values);
  return values[0];
}

// 16 sums over each half of a warp at once, with 15 shuffles: lane l of a half gets the sum of its lanes' values[l].
template <typename T> __device__ __forceinline__ T half_warp_sums(T (&values)[HALF])
{
  fold<8, 8>(values);
  fold<4, 4>(values);
  fold<2, 2>(values);
  fold<1, 1>(values);
  return values[0];
}

struct Vector {
  double x, y, z;
};

// Of each product and sum rounded, as the other backends do: which neighbours are as near as each other, and which of
// them are kept, must not depend on what a compiler contracts, and one kernel must find what another one has counted.
__device__ __forceinline__ double square(const Vector &r)
{
  return __dadd_rn(__dadd_rn(__dmul_rn(r.x, r.x), __dmul_rn(r.y, r.y)), __dmul_rn(r.z, r.z));
}
