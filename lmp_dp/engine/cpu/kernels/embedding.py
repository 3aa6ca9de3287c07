"""Embedding nets of tanh layers, evaluated with their derivative along the one input.

Per layer, for a row and its tangent:  z = x W + b,  z' = x' W,  a = tanh z,
y = idt a [+ x | + (x, x)],  y' = idt (1 - a^2) z' [+ x' | + (x', x')].

A few rows go through all layers before the next ones, so that layers stay in the L1 cache. The
widths of layers are padded to whole vectors with zero weights: a padded column is zero all along.
"""

from __future__ import annotations

from lmp_dp.engine.cpu.kernels.compiled import kernel
from lmp_dp.engine.cpu.kernels.exponential import tanh
from lmp_dp.engine.cpu.kernels.simd import (
    add,
    add_product,
    fill,
    load,
    load_panel,
    multiply,
    multiply_add,
    store,
    store_panel,
)

#: Rows that go through the net together.
ROWS = 16
#: Vectors of columns that are done together: enough sums under way, and all in registers.
SMALLEST_PANEL, PANEL = 4, 7


@kernel
def _rows_times_panel(work, x_at, x_width, n_rows, n_in, parameters, weight, width, bias, panel, z):
    """`len(panel)` vectors of columns of x W + b and of x' W, for `n_rows` pairs of rows.

    Positions are flat indices: of x in `work`, of the panel in weight, bias and z.
    """
    for row in range(n_rows):
        at, tangent = x_at + 2 * row * x_width, x_at + (2 * row + 1) * x_width
        sums = load_panel(parameters, bias, panel)
        slopes = load_panel(parameters, 0, panel)  # zeros, see `embed`
        for i in range(n_in):
            of_i = weight + i * width
            sums = add_product(sums, work[at + i], parameters, of_i)
            slopes = add_product(slopes, work[tangent + i], parameters, of_i)
        store_panel(work, z + 2 * row * width, sums)
        store_panel(work, z + (2 * row + 1) * width, slopes)


@kernel
def embed(s_p, parameters, layers_lu, work, lanes, g_pm, dg_pm):
    """G and dG/ds of rows with inputs `s_p`.

    Parameters
    ----------
    parameters : flat array
        `PANEL` vectors of zeros, then weights, biases and idt of all layers, padded to whole
        vectors, at least `SMALLEST_PANEL`. Aligned.
    layers_lu : (n_layers, 6) integers
        Inputs; padded width; how many times the input is joined (0, 1 or 2); where weights, bias
        and idt start in `parameters`.
    work : flat array
        Room for three times 2 `ROWS` rows of the widest padded layer, and a vector. Aligned.
    lanes : tuple
        Its length is that of a vector.
    g_pm, dg_pm : (n_rows, M) arrays
        With a vector of slack behind their last elements.
    """
    vector = len(lanes)
    one = fill(parameters.dtype.type(1.0))
    zeros = fill(parameters.dtype.type(0.0))
    minus = fill(parameters.dtype.type(-1.0))
    n_layers = len(layers_lu)
    room, channels = (len(work) - vector) // 3, g_pm.shape[1]
    for first in range(0, len(s_p), ROWS):
        n_rows = min(ROWS, len(s_p) - first)
        x_at, y_at, x_width = 0, room, vector
        z_at = 2 * room
        for row in range(n_rows):
            store(work, 2 * row * vector, zeros)
            store(work, (2 * row + 1) * vector, zeros)
            work[2 * row * vector] = s_p[first + row]
            work[(2 * row + 1) * vector] = parameters.dtype.type(1.0)
        for layer in range(n_layers):
            n_in, width, joins = layers_lu[layer, 0], layers_lu[layer, 1], layers_lu[layer, 2]
            weight, bias, idt = layers_lu[layer, 3], layers_lu[layer, 4], layers_lu[layer, 5]
            # in panels of four to seven vectors
            start, rest = 0, width // vector
            while rest > 0:
                w, b, z = weight + start, bias + start, z_at + start
                if rest == 7 or rest > 10:
                    _rows_times_panel(
                        work, x_at, x_width, n_rows, n_in, parameters, w, width, b, (0,) * 7, z
                    )
                    taken = 7
                elif rest == 6 or rest == 10:
                    _rows_times_panel(
                        work, x_at, x_width, n_rows, n_in, parameters, w, width, b, (0,) * 6, z
                    )
                    taken = 6
                elif rest == 5 or rest == 9:
                    _rows_times_panel(
                        work, x_at, x_width, n_rows, n_in, parameters, w, width, b, (0,) * 5, z
                    )
                    taken = 5
                else:
                    _rows_times_panel(
                        work, x_at, x_width, n_rows, n_in, parameters, w, width, b, (0,) * 4, z
                    )
                    taken = 4
                start += taken * vector
                rest -= taken
            for row in range(n_rows):
                z, y = z_at + 2 * row * width, y_at + 2 * row * width
                for v in range(0, width, vector):
                    a = tanh(load(work, z + v))
                    scale = load(parameters, idt + v)
                    slope = multiply(multiply_add(multiply(a, minus), a, one), scale)
                    store(work, y + v, multiply(a, scale))
                    store(work, y + width + v, multiply(slope, load(work, z + width + v)))
                x = x_at + 2 * row * x_width
                for part in range(joins):
                    # the input's padding is zero: it may be added to what follows
                    for i in range(0, n_in, vector):
                        into = y + part * n_in + i
                        store(work, into, add(load(work, x + i), load(work, into)))
                        into += width
                        store(work, into, add(load(work, x + x_width + i), load(work, into)))
            x_at, y_at, x_width = y_at, x_at, width
        for row in range(n_rows):
            x = x_at + 2 * row * x_width
            into = (first + row) * channels
            # whole vectors: the next row overwrites what is beyond this one
            for m in range(0, channels, vector):
                store(g_pm, into + m, load(work, x + m))
                store(dg_pm, into + m, load(work, x + x_width + m))
