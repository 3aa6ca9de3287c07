// The functions that a row is expanded in: basis functions (tables) or channels (nets).
//
// The halves of a warp take alternate rows. The lanes of a half share out the functions, PASS at a time (or HALF_PASS,
// where no more are left): four (two) per lane.

#define PASS 64
#define HALF_PASS 32
// blocks that fit on a multiprocessor at once: without spills no more do
constexpr bool IN_DOUBLE = sizeof(REAL) == 8;

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

// Coefficients of a piece.
__device__ __forceinline__ int per_piece(int count) { return 6 * HALF_PASS * ((count + HALF_PASS - 1) / HALF_PASS); }

// Two numbers in one access; functions are counted in sectors of memory, so that pairs are whole.
struct __align__(2 * sizeof(REAL)) Pair {
  REAL x, y;
};

__device__ __forceinline__ Pair pair_at(const REAL *from) { return *reinterpret_cast<const Pair *>(from); }

// Quintics in x_p on piece_p: phi_q of a row, and d phi_q / dx. The coefficients of HALF_PASS functions lie together,
// (piece, which of them, coefficient, function): a lane's are at constant distances.
struct Tables {
  const REAL *coefficients, *slopes_v;
  int per_piece;  // coefficients
  const int *piece_p;
  const REAL *x_p;

  // the lane's function number j, of those of a pass
  static __device__ __forceinline__ int function(int j)
  {
    return HALF_PASS * (j / 2) + 2 * (this_lane() % HALF) + j % 2;
  }

  // the lane's columns of a line of B, 0 beyond its end
  template <int N> static __device__ __forceinline__ void columns(const REAL *b_q, int first, int count, REAL (&own)[N])
  {
#pragma unroll
    for (int j = 0; j < N; j += 2) {
      const int q = first + function(j);
      const Pair nothing = {0, 0}, pair = q < count ? pair_at(b_q + q) : nothing;
      own[j] = pair.x;
      own[j + 1] = pair.y;
    }
  }

  __device__ __forceinline__ const REAL *at(int p, int first) const
  {
    return coefficients + (index_t) piece_p[p] * per_piece + 6 * first + function(0);
  }

  template <int N> __device__ __forceinline__ void values(int p, int first, REAL (&phi)[N]) const
  {
    const REAL *from = at(p, first);
    const REAL x = x_p[p];
#pragma unroll
    for (int j = 0; j < N; j += 2) {
      Pair sum = pair_at(from + 3 * HALF_PASS * j + 5 * HALF_PASS);
#pragma unroll
      for (int e = 4; e >= 0; e--) {
        const Pair c = pair_at(from + 3 * HALF_PASS * j + e * HALF_PASS);
        sum.x = sum.x * x + c.x;
        sum.y = sum.y * x + c.y;
      }
      phi[j] = sum.x;
      phi[j + 1] = sum.y;
    }
  }

  // returns dx/ds
  template <int N>
  __device__ __forceinline__ REAL values_and_slopes(int p, int first, REAL (&phi)[N], REAL (&dphi)[N]) const
  {
    const REAL *from = at(p, first);
    const REAL x = x_p[p];
#pragma unroll
    for (int j = 0; j < N; j += 2) {
      const Pair highest = pair_at(from + 3 * HALF_PASS * j + 5 * HALF_PASS);
      Pair c = pair_at(from + 3 * HALF_PASS * j + 4 * HALF_PASS);
      Pair slope = highest, sum = {highest.x * x + c.x, highest.y * x + c.y};
#pragma unroll
      for (int e = 3; e >= 0; e--) {
        c = pair_at(from + 3 * HALF_PASS * j + e * HALF_PASS);
        slope.x = slope.x * x + sum.x;
        slope.y = slope.y * x + sum.y;
        sum.x = sum.x * x + c.x;
        sum.y = sum.y * x + c.y;
      }
      phi[j] = sum.x;
      phi[j + 1] = sum.y;
      dphi[j] = slope.x;
      dphi[j + 1] = slope.y;
    }
    return slopes_v[piece_p[p]];
  }
};

// Columns of G and dG/ds, with a line per slot of the element, from first_slot on. As many as there are: lines begin
// anywhere, and are read one number at a time. Beyond their end it is the last column again.
struct Net {
  const REAL *g_pm, *dg_pm;
  int first_slot, n_channels;

  static __device__ __forceinline__ int function(int j) { return HALF * j + this_lane() % HALF; }

  template <int N> static __device__ __forceinline__ void columns(const REAL *b_q, int first, int count, REAL (&own)[N])
  {
#pragma unroll
    for (int j = 0; j < N; j++) own[j] = first + function(j) < count ? b_q[first + function(j)] : (REAL) 0;
  }

  template <int N> __device__ __forceinline__ void read(const REAL *from_pm, int p, int first, REAL (&own)[N]) const
  {
    const REAL *line = from_pm + (index_t) (p - first_slot) * n_channels;
#pragma unroll
    for (int j = 0; j < N; j++) own[j] = line[min(first + function(j), n_channels - 1)];
  }

  template <int N> __device__ __forceinline__ void values(int p, int first, REAL (&phi)[N]) const
  {
    read(g_pm, p, first, phi);
  }

  template <int N>
  __device__ __forceinline__ REAL values_and_slopes(int p, int first, REAL (&phi)[N], REAL (&dphi)[N]) const
  {
    read(g_pm, p, first, phi);
    read(dg_pm, p, first, dphi);
    return 1;
  }
};
