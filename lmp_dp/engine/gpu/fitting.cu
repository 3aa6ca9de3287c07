// Layers of the nets between the matrix products; one warp takes the row of one centre or slot, lane after lane.

enum Activation { TANH, RELU, RELU6, SOFTPLUS, SIGMOID, GELU, SILU, SILUT, LINEAR };

__device__ __forceinline__ REAL sigmoid(REAL z) { return (REAL) 0.5 * ((REAL) 1 + tanh((REAL) 0.5 * z)); }

// act(z) and act'(z). constant_u: for gelu sqrt(2/pi) and the cubic's coefficient; for silut the threshold,
// slope and value there (lmp_dp/engine/activation.py).
template <int activation>
__device__ __forceinline__ REAL activated(const double *__restrict__ constant_u, REAL z, REAL &slope)
{
  const REAL one = 1, half = 0.5;
  if constexpr (activation == TANH) {
    const REAL a = tanh(z);
    slope = one - a * a;
    return a;
  } else if constexpr (activation == RELU) {
    slope = z > 0 ? one : 0;
    return z > 0 ? z : 0;
  } else if constexpr (activation == RELU6) {
    slope = z > 0 && z < 6 ? one : 0;
    return min(max(z, (REAL) 0), (REAL) 6);
  } else if constexpr (activation == SOFTPLUS) {
    slope = sigmoid(z);
    return log1p(exp(-fabs(z))) + max(z, (REAL) 0);
  } else if constexpr (activation == SIGMOID) {
    const REAL a = sigmoid(z);
    slope = a * (one - a);
    return a;
  } else if constexpr (activation == GELU) {
    const REAL scale = (REAL) constant_u[0], cubic = (REAL) constant_u[1];
    const REAL a = tanh(scale * (z + cubic * z * z * z));
    slope = half * (one + a) + half * z * (one - a * a) * scale * (one + 3 * cubic * z * z);
    return half * z * (one + a);
  } else if constexpr (activation == SILU || activation == SILUT) {
    if (activation == SILUT && !(z < (REAL) constant_u[0])) {
      const REAL a = tanh((REAL) constant_u[1] * (z - (REAL) constant_u[0]));
      slope = (REAL) constant_u[1] * (one - a * a);
      return a + (REAL) constant_u[2];
    }
    const REAL a = sigmoid(z);
    slope = a * (one + z * (one - a));
    return z * a;
  } else {
    slope = one;
    return z;
  }
}

// Calls a function template of activations, so that a warp looks at its activation once.
#define WITH_ACTIVATION(activation, function, ...) \
  switch (activation) { \
    case TANH: function<TANH>(__VA_ARGS__); break; \
    case RELU: function<RELU>(__VA_ARGS__); break; \
    case RELU6: function<RELU6>(__VA_ARGS__); break; \
    case SOFTPLUS: function<SOFTPLUS>(__VA_ARGS__); break; \
    case SIGMOID: function<SIGMOID>(__VA_ARGS__); break; \
    case GELU: function<GELU>(__VA_ARGS__); break; \
    case SILU: function<SILU>(__VA_ARGS__); break; \
    case SILUT: function<SILUT>(__VA_ARGS__); break; \
    default: function<LINEAR>(__VA_ARGS__); \
  }

// What output o gets of a layer's input: nothing, x, or (x, x) (joins is 0, 1 or 2).
__device__ __forceinline__ REAL joined(const REAL *__restrict__ x, int o, int joins, int n_in)
{
  return joins ? x[o < n_in ? o : o - n_in] : (REAL) 0;
}

template <int activation>
__device__ __forceinline__ void fitting_forward(REAL *z, const REAL *x, int joins, int n_in, int width,
                                                const REAL *__restrict__ bias_o, const REAL *__restrict__ idt_o,
                                                const double *__restrict__ constant_u, REAL *slope)
{
  for (int o = this_lane(); o < width; o += WARP) {
    REAL d;
    const REAL y = activated<activation>(constant_u, z[o] + bias_o[o], d) * idt_o[o];
    z[o] = y + joined(x, o, joins, n_in);
    slope[o] = d * idt_o[o];
  }
}

// y = idt act(z + bias) [+ x | + (x, x)], in place of z; slope = idt act'.
KERNEL(8) fitting_layer(REAL *__restrict__ z_bo, const REAL *__restrict__ x_bi, int n_b, int joins, int n_in,
                        int width, const REAL *__restrict__ bias_o, const REAL *__restrict__ idt_o, int activation,
                        const double *__restrict__ constant_u, REAL *__restrict__ slope_bo)
{
  const int b = this_warp();
  if (b >= n_b) return;
  WITH_ACTIVATION(activation, fitting_forward, z_bo + (index_t) b * width, x_bi + (index_t) b * n_in, joins, n_in,
                  width, bias_o, idt_o, constant_u, slope_bo + (index_t) b * width)
}

template <int activation>
__device__ __forceinline__ void last_forward(REAL *z, const REAL *x, int joins, int n_in, int width,
                                             const REAL *__restrict__ bias_o, const REAL *__restrict__ idt_o,
                                             const double *__restrict__ constant_u,
                                             const REAL *__restrict__ last_o, double &energy)
{
  for (int o = this_lane(); o < width; o += WARP) {
    REAL d;
    const REAL y = activated<activation>(constant_u, z[o] + bias_o[o], d) * idt_o[o];
    energy += (double) (y + joined(x, o, joins, n_in)) * (double) last_o[o];
    z[o] = d * idt_o[o] * last_o[o];
  }
}

// The same for the last hidden layer, with what is behind it: E = y . last + constant, and dE/dz in place of z.
KERNEL(8) last_fitting_layer(REAL *__restrict__ z_bo, const REAL *__restrict__ x_bi, int n_b, int joins, int n_in,
                             int width, const REAL *__restrict__ bias_o, const REAL *__restrict__ idt_o,
                             int activation, const double *__restrict__ constant_u, const REAL *__restrict__ last_o,
                             double constant, const int *__restrict__ members_b, double *__restrict__ energies_a)
{
  const int b = this_warp();
  if (b >= n_b) return;
  double energy = 0.0;
  WITH_ACTIVATION(activation, last_forward, z_bo + (index_t) b * width, x_bi + (index_t) b * n_in, joins, n_in,
                  width, bias_o, idt_o, constant_u, last_o, energy)
  energy = warp_sum(energy);
  if (this_lane() == 0) energies_a[members_b[b]] = energy + constant;
}

// dE/dy = dx [+ dy of the layer behind, which joins its input], in place of dx if a layer in front needs it (keeps);
// dE/dz in place of the slope. joins is that of the layer behind; next_stride is the width of its dy, or 0 for the
// same row always.
KERNEL(8) fitting_layer_backward(REAL *__restrict__ dx_bo, const REAL *__restrict__ next_dy_bo, int next_stride,
                                 int joins, int keeps, int n_b, int width, REAL *__restrict__ slope_bo)
{
  const int b = this_warp();
  if (b >= n_b) return;
  REAL *dx = dx_bo + (index_t) b * width, *slope = slope_bo + (index_t) b * width;
  const REAL *behind = next_dy_bo + (index_t) b * next_stride;
  for (int o = this_lane(); o < width; o += WARP) {
    REAL dy = dx[o];
    for (int copy = 0; copy < joins; copy++) dy += behind[copy * width + o];
    if (keeps) dx[o] = dy;
    slope[o] *= dy;
  }
}

template <int activation>
__device__ __forceinline__ void embedding_forward(const REAL *z, const REAL *dz, const REAL *x, const REAL *dx,
                                                  int joins, int n_in, int width, const REAL *__restrict__ bias_o,
                                                  const REAL *__restrict__ idt_o,
                                                  const double *__restrict__ constant_u, REAL *y, REAL *dy)
{
  for (int o = this_lane(); o < width; o += WARP) {
    REAL d;
    const REAL h = activated<activation>(constant_u, z[o] + bias_o[o], d) * idt_o[o];
    y[o] = h + joined(x, o, joins, n_in);
    dy[o] = d * idt_o[o] * dz[o] + joined(dx, o, joins, n_in);
  }
}

// A layer of an embedding net: rows 0 .. n_p are values, n_p .. 2 n_p tangents along s.
// y = idt act(z + bias) [+ x | + (x, x)], y' = idt act' z' [+ x' | + (x', x')]; joins is 0, 1 or 2.
KERNEL(8) embedding_layer(const REAL *__restrict__ z_po, const REAL *__restrict__ x_pi, int joins, int n_in, int n_p,
                          int width, const REAL *__restrict__ bias_o, const REAL *__restrict__ idt_o, int activation,
                          const double *__restrict__ constant_u, REAL *__restrict__ y_po)
{
  const int p = this_warp();
  if (p >= n_p) return;
  const index_t value = p, tangent = (index_t) n_p + p;
  WITH_ACTIVATION(activation, embedding_forward, z_po + value * width, z_po + tangent * width, x_pi + value * n_in,
                  x_pi + tangent * n_in, joins, n_in, width, bias_o, idt_o, constant_u, y_po + value * width,
                  y_po + tangent * width)
}
