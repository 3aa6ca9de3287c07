// Layers of the nets between the matrix products; one thread per element unless said otherwise.

enum Activation { TANH, RELU, RELU6, SOFTPLUS, SIGMOID, GELU, SILU, SILUT, LINEAR };

__device__ __forceinline__ REAL sigmoid(REAL z) { return (REAL) 0.5 * ((REAL) 1 + tanh((REAL) 0.5 * z)); }

// act(z) and act'(z). constant_u: for gelu sqrt(2/pi) and the cubic's coefficient; for silut the threshold,
// slope and value there (lmp_dp/engine/activation.py).
__device__ __forceinline__ REAL activated(int activation, const double *__restrict__ constant_u, REAL z, REAL &slope)
{
  const REAL one = 1, half = 0.5;
  switch (activation) {
    case TANH: {
      const REAL a = tanh(z);
      slope = one - a * a;
      return a;
    }
    case RELU:
      slope = z > 0 ? one : 0;
      return z > 0 ? z : 0;
    case RELU6:
      slope = z > 0 && z < 6 ? one : 0;
      return min(max(z, (REAL) 0), (REAL) 6);
    case SOFTPLUS:
      slope = sigmoid(z);
      return log1p(exp(-fabs(z))) + max(z, (REAL) 0);
    case SIGMOID: {
      const REAL a = sigmoid(z);
      slope = a * (one - a);
      return a;
    }
    case GELU: {
      const REAL scale = (REAL) constant_u[0], cubic = (REAL) constant_u[1];
      const REAL a = tanh(scale * (z + cubic * z * z * z));
      slope = half * (one + a) + half * z * (one - a * a) * scale * (one + 3 * cubic * z * z);
      return half * z * (one + a);
    }
    case SILUT:
      if (!(z < (REAL) constant_u[0])) {
        const REAL a = tanh((REAL) constant_u[1] * (z - (REAL) constant_u[0]));
        slope = (REAL) constant_u[1] * (one - a * a);
        return a + (REAL) constant_u[2];
      }  // below the threshold it is silu
    case SILU: {
      const REAL a = sigmoid(z);
      slope = a * (one + z * (one - a));
      return z * a;
    }
    default: slope = one; return z;
  }
}

// y = idt act(z + bias) [+ x | + (x, x)], in place of z; slope = idt act'. joins is 0, 1 or 2, of x's columns the
// first n_joined are meant. x may be z's array where joins is 0.
KERNEL fitting_layer(REAL *z_bo, const REAL *x_bi, int x_width, int joins, int n_joined, int width, index_t n,
                     const REAL *__restrict__ bias_o, const REAL *__restrict__ idt_o, int activation,
                     const double *__restrict__ constant_u, REAL *__restrict__ slope_bo)
{
  const index_t at = this_thread();
  if (at >= n) return;
  const int o = (int) (at % width);
  REAL slope;
  REAL y = activated(activation, constant_u, z_bo[at] + bias_o[o], slope) * idt_o[o];
  if (o < joins * n_joined) y += x_bi[at / width * x_width + o % n_joined];
  z_bo[at] = y;
  slope_bo[at] = slope * idt_o[o];
}

// dE/dz = dE/dy act', in place of the slope; dE/dy is the same row for all centres.
KERNEL last_layer_backward(const REAL *__restrict__ dy_o, int width, index_t n, REAL *__restrict__ slope_bo)
{
  const index_t at = this_thread();
  if (at < n) slope_bo[at] *= dy_o[at % width];
}

// dE/dy = dx [+ dy of the layer behind, which joins its input], in place of dx; dE/dz in place of the slope.
// joins and n_joined are those of the layer behind; next_stride is the width of its dy, or 0 for the same row always.
KERNEL fitting_layer_backward(REAL *__restrict__ dx_bo, const REAL *next_dy_bo, int next_stride, int joins,
                              int n_joined, int width, index_t n, REAL *__restrict__ slope_bo)
{
  const index_t at = this_thread();
  if (at >= n) return;
  const int o = (int) (at % width);
  REAL dy = dx_bo[at];
  if (o < n_joined)
    for (int copy = 0; copy < joins; copy++) dy += next_dy_bo[at / width * next_stride + copy * n_joined + o];
  dx_bo[at] = dy;
  slope_bo[at] *= dy;
}

// E = y . last + last_bias - vacuum + bias_atom_e; one warp per centre.
KERNEL energies(const REAL *__restrict__ y_bo, int n_b, int width, const REAL *__restrict__ last_o, double constant,
                const int *__restrict__ members_b, double *__restrict__ energies_a)
{
  const int b = this_warp();
  if (b >= n_b) return;
  double sum = 0.0;
  for (int o = this_lane(); o < width; o += WARP) sum += (double) y_bo[(index_t) b * width + o] * (double) last_o[o];
  sum = warp_sum(sum);
  if (this_lane() == 0) energies_a[members_b[b]] = sum + constant;
}

// A layer of an embedding net: rows 0 .. n_p are values, n_p .. 2 n_p tangents along s.
// y = idt act(z + bias) [+ x | + (x, x)], y' = idt act' z' [+ x' | + (x', x')]; joins is 0, 1 or 2.
KERNEL embedding_layer(const REAL *__restrict__ z_po, const REAL *__restrict__ x_pi, int joins, int n_in, int width,
                       index_t n, const REAL *__restrict__ bias_o, const REAL *__restrict__ idt_o, int activation,
                       const double *__restrict__ constant_u, REAL *__restrict__ y_po)
{
  const index_t at = this_thread();
  if (at >= n) return;
  const int o = (int) (at % width);
  const index_t p = at / width, n_p = n / width;
  REAL slope;
  REAL y = activated(activation, constant_u, z_po[at] + bias_o[o], slope) * idt_o[o];
  REAL dy = slope * idt_o[o] * z_po[n + at];
  if (joins) {
    y += x_pi[p * n_in + o % n_in];
    dy += x_pi[(n_p + p) * n_in + o % n_in];
  }
  y_po[at] = y;
  y_po[n + at] = dy;
}
