"""A layer of attention among the rows of each centre, which are in its order (`arranged`).

Centre after centre, so that what is not kept for the way back stays in the cache. Matrices are
flat arrays. M and the width of q, k and v are padded with zeros to whole vectors. What there is for
each pair of a centre's n rows begins at at_b[b], in lines as long as n rounded up to whole vectors.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lmp_dp.engine.cpu.kernels.compiled import kernel
from lmp_dp.engine.cpu.kernels.products import product, transpose
from lmp_dp.engine.cpu.kernels.weights import weigh, weigh_back


class Layer(NamedTuple):
    """Parameters; q, k and v by one matrix. Matrices of the way back are transposed."""

    qkv: np.ndarray  # (M, 3 width)
    qkv_bias: np.ndarray
    qkv_back: np.ndarray
    out: np.ndarray  # (width, M)
    out_bias: np.ndarray
    out_back: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray
    zeros: np.ndarray  # as many as the longest line has numbers


class Options(NamedTuple):
    """What holds for all layers; numbers in the precision of evaluation."""

    dotr: bool
    normalize: bool
    smooth: bool
    masks: bool
    scale: np.floating
    shortest: np.floating
    epsilon: np.floating
    n_slots: int


class Kept(NamedTuple):
    """What the way back needs of a layer; `soft` may be `logits` where weights are not smooth."""

    qkv: np.ndarray  # (rows, 3 width)
    inverse: np.ndarray  # (rows, 3)
    logits: np.ndarray  # of pairs
    soft: np.ndarray  # of pairs
    normal: np.ndarray  # (rows, M)
    deviation: np.ndarray  # (rows,), inverse


class Work(NamedTuple):
    """Room for one centre."""

    turned: np.ndarray  # (width, line)
    weight: np.ndarray  # of pairs
    dweight: np.ndarray  # of pairs
    o: np.ndarray  # (n, width)
    dqkv: np.ndarray  # (n, 3 width)
    y: np.ndarray  # (n, M)


@kernel
def forward(first_b, at_b, layer, options, unit_cp, fade_p, kept, work, lanes, g):
    """G <- LN(G + o W_out + b_out) in place."""
    vector, channels = len(lanes), len(layer.gamma)
    stride, wide = len(layer.out_bias), len(layer.qkv_bias)
    width, zeros = wide // 3, layer.zeros
    of_width = width // vector
    for b in range(len(first_b) - 1):
        first, n = first_b[b], first_b[b + 1] - first_b[b]
        length = (n + vector - 1) // vector * vector
        q = first * wide
        v, at = q + 2 * width, at_b[b]
        product(
            g, first * stride, stride, 1, n, channels, layer.qkv, 0, wide, 3 * of_width, lanes,
            layer.qkv_bias, 0, 0, kept.qkv, q, wide,
        )  # fmt: skip
        if options.normalize:
            _normalise_heads(kept.qkv, kept.inverse, 3 * first, 3 * n, width, options.shortest)
        transpose(kept.qkv, q + width, wide, n, width, lanes, work.turned, 0, length)
        product(
            kept.qkv, q, wide, 1, n, width, work.turned, 0, length, length // vector, lanes,
            zeros, 0, 0, kept.logits, at, length,
        )  # fmt: skip
        weigh(n, first, at, options, unit_cp, fade_p, lanes, kept.logits, kept.soft, work.weight)
        product(
            work.weight, 0, length, 1, n, n, kept.qkv, v, wide, of_width, lanes, zeros, 0, 0,
            work.o, 0, width,
        )  # fmt: skip
        product(
            work.o, 0, width, 1, n, width, layer.out, 0, stride, stride // vector, lanes,
            layer.out_bias, 0, 0, work.y, 0, stride,
        )  # fmt: skip
        _normalise(g, work.y, first, n, stride, channels, layer, options.epsilon, kept)


@kernel
def backward(
    first_b, at_b, layer, options, unit_cp, fade_p, kept, work, lanes, dg, dunit_cp, dfade_p
):
    """dE/dG before the layer, in place of that behind it; adds to the other two gradients."""
    vector, channels = len(lanes), len(layer.gamma)
    stride, wide = len(layer.out_bias), len(layer.qkv_bias)
    width, zeros = wide // 3, layer.zeros
    of_width = width // vector
    for b in range(len(first_b) - 1):
        first, n = first_b[b], first_b[b + 1] - first_b[b]
        length = (n + vector - 1) // vector * vector
        q = first * wide
        k, v, at = q + width, q + 2 * width, at_b[b]
        _normalise_back(dg, work.y, first, n, stride, channels, layer, kept)
        product(
            work.y, 0, stride, 1, n, channels, layer.out_back, 0, width, of_width, lanes,
            zeros, 0, 0, work.o, 0, width,
        )  # fmt: skip
        transpose(kept.qkv, v, wide, n, width, lanes, work.turned, 0, length)
        product(
            work.o, 0, width, 1, n, width, work.turned, 0, length, length // vector, lanes,
            zeros, 0, 0, work.dweight, 0, length,
        )  # fmt: skip
        weigh_back(
            n, first, at, options, unit_cp, fade_p, lanes, kept.logits, kept.soft, work.weight,
            work.dweight, dunit_cp, dfade_p,
        )  # fmt: skip
        product(
            work.dweight, 0, length, 1, n, n, kept.qkv, k, wide, of_width, lanes, zeros, 0, 0,
            work.dqkv, 0, wide,
        )  # fmt: skip
        product(
            work.dweight, 0, 1, length, n, n, kept.qkv, q, wide, of_width, lanes, zeros, 0, 0,
            work.dqkv, width, wide,
        )  # fmt: skip
        product(
            work.weight, 0, 1, length, n, n, work.o, 0, width, of_width, lanes, zeros, 0, 0,
            work.dqkv, 2 * width, wide,
        )  # fmt: skip
        if options.normalize:
            _heads_back(kept, work.dqkv, 3 * first, 3 * n, width, options.shortest)
        product(
            work.dqkv, 0, wide, 1, n, wide, layer.qkv_back, 0, stride, stride // vector, lanes,
            work.y, 0, stride, dg, first * stride, stride,
        )  # fmt: skip


@kernel
def _normalise_heads(qkv, inverse, first, count, width, shortest):
    """Divide `count` vectors of `width` numbers by their lengths."""
    zero, one = qkv.dtype.type(0.0), qkv.dtype.type(1.0)
    for h in range(first, first + count):
        x_o = qkv[h * width : (h + 1) * width]
        size2 = zero
        for o in range(width):
            size2 += x_o[o] * x_o[o]
        scale = one / max(np.sqrt(size2), shortest)
        inverse[h] = scale
        for o in range(width):
            x_o[o] *= scale


@kernel
def _heads_back(kept, dqkv, first, count, width, shortest):
    """From gradients of vectors of length 1 to those before the division, in place."""
    zero = dqkv.dtype.type(0.0)
    longest = dqkv.dtype.type(1.0) / shortest
    for h in range(count):
        at = (first + h) * width
        unit_o, d_o = kept.qkv[at : at + width], dqkv[h * width : (h + 1) * width]
        scale = kept.inverse[first + h]
        along = zero
        if scale < longest:
            for o in range(width):
                along += unit_o[o] * d_o[o]
        for o in range(width):
            d_o[o] = scale * (d_o[o] - along * unit_o[o])


@kernel
def _normalise(g, y, first, n, stride, channels, layer, epsilon, kept):
    """G <- LN(G + y) of a centre's rows, with what the way back needs of it."""
    one, zero, count = g.dtype.type(1.0), g.dtype.type(0.0), g.dtype.type(channels)
    for p in range(n):
        at = (first + p) * stride
        g_m, y_m = g[at : at + channels], y[p * stride : p * stride + channels]
        normal_m = kept.normal[at : at + channels]
        mean = zero
        for m in range(channels):
            h = g_m[m] + y_m[m]
            normal_m[m] = h
            mean += h
        mean /= count
        variance = zero
        for m in range(channels):
            h = normal_m[m] - mean
            variance += h * h
        inverse = one / np.sqrt(variance / count + epsilon)
        kept.deviation[first + p] = inverse
        for m in range(channels):
            h = (normal_m[m] - mean) * inverse
            normal_m[m] = h
            g_m[m] = h * layer.gamma[m] + layer.beta[m]


@kernel
def _normalise_back(dg, dh, first, n, stride, channels, layer, kept):
    """dE/d(G + y) of a centre's rows from the gradient of what comes out."""
    zero, count = dg.dtype.type(0.0), dg.dtype.type(channels)
    for p in range(n):
        at = (first + p) * stride
        dg_m, normal_m = dg[at : at + channels], kept.normal[at : at + channels]
        dh_m = dh[p * stride : p * stride + channels]
        mean = along = zero
        for m in range(channels):
            d = dg_m[m] * layer.gamma[m]
            dh_m[m] = d
            mean += d
            along += d * normal_m[m]
        mean /= count
        along /= count
        inverse = kept.deviation[first + p]
        for m in range(channels):
            dh_m[m] = inverse * (dh_m[m] - mean - along * normal_m[m])
