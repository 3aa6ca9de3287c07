"""Weights of attention from products q k, and back: of one centre's n rows, `first` and following.

The lines of its matrices are as long as n rounded up to whole vectors; `logits` and `soft` hold
those of all centres, this one's from `at` on.
"""

from __future__ import annotations

import numpy as np

from lmp_dp.engine.cpu.kernels.compiled import kernel
from lmp_dp.engine.cpu.kernels.exponential import exp
from lmp_dp.engine.cpu.kernels.simd import (
    add,
    fill,
    highest,
    larger,
    load,
    multiply,
    multiply_add,
    store,
    total,
)

#: Smooth logits fade to its negative.
SHIFT = 20.0
#: Below all logits.
_LOWEST = -1e30


@kernel
def weigh(n, first, at, options, unit_cp, fade_p, lanes, logits, soft, weight):
    """The softmax of lines of logits q k, and the weights of v."""
    vector = len(lanes)
    length = (n + vector - 1) // vector * vector
    lowest = soft.dtype.type(_LOWEST)
    scales = fill(options.scale)
    shift, back = fill(soft.dtype.type(SHIFT)), fill(soft.dtype.type(-SHIFT))
    for i in range(n):
        line, into = at + i * length, i * length
        fade = fill(fade_p[first + i])
        for v in range(0, length, vector):
            x = multiply(load(logits, line + v), scales)
            if options.smooth:
                f = multiply(fade, load(fade_p, first + v))
                x = multiply_add(add(x, shift), f, back)
            store(soft, line + v, x)
        for j in range(n, length):
            soft[line + j] = lowest
        _softmax(soft, line, length, options.n_slots - n if options.smooth else 0, lanes)
        x, y, z = _direction(unit_cp, first + i)
        for v in range(0, length, vector):
            w = load(soft, line + v)
            if options.smooth:
                w = multiply(w, multiply(fade, load(fade_p, first + v)))
            if options.dotr:
                w = multiply(w, _cosines(x, y, z, unit_cp, first + v))
            store(weight, into + v, w)
        if options.masks:
            weight[into + i] = 0


@kernel
def _direction(unit_cp, p):
    """The unit vector of a row, its components as vectors of equal numbers."""
    return fill(unit_cp[0, p]), fill(unit_cp[1, p]), fill(unit_cp[2, p])


@kernel
def _cosines(x, y, z, unit_cp, p):
    """Of the angles between a direction and those of rows p and following."""
    n_p = unit_cp.shape[1]
    cosines = multiply(x, load(unit_cp, p))
    cosines = multiply_add(y, load(unit_cp, n_p + p), cosines)
    return multiply_add(z, load(unit_cp, 2 * n_p + p), cosines)


@kernel
def _softmax(soft, line, length, missing, lanes):
    """In place of a line of logits; `missing` ones more are -SHIFT."""
    vector = len(lanes)
    one, lowest = soft.dtype.type(1.0), soft.dtype.type(_LOWEST)
    tops = fill(lowest)
    for v in range(0, length, vector):
        tops = larger(load(soft, line + v), tops)
    top = -soft.dtype.type(SHIFT) if missing > 0 else lowest
    top = max(top, highest(tops))
    down = fill(-top)
    sums = fill(one - one)
    for v in range(0, length, vector):
        e = exp(add(load(soft, line + v), down))
        sums = add(sums, e)
        store(soft, line + v, e)
    size = total(sums)
    if missing > 0:
        size += soft.dtype.type(missing * np.exp(-SHIFT - top))
    share = fill(one / size)
    for v in range(0, length, vector):
        store(soft, line + v, multiply(load(soft, line + v), share))


@kernel
def weigh_back(
    n, first, at, options, unit_cp, fade_p, lanes, logits, soft, weight, dweight, dunit_cp, dfade_p
):
    """Gradients of products q k, in place of those of weights; the weights are made again.

    Gradients of directions and fades are added.
    """
    vector = len(lanes)
    length = (n + vector - 1) // vector * vector
    zero = soft.dtype.type(0.0)
    one = fill(soft.dtype.type(1.0))
    for i in range(n):
        line, into = at + i * length, i * length
        fade = fill(fade_p[first + i])
        x, y, z = _direction(unit_cp, first + i)
        if options.masks:
            dweight[into + i] = zero
        sums = fill(zero)
        for v in range(0, length, vector):
            w = load(soft, line + v)
            if options.dotr:
                w = multiply(w, _cosines(x, y, z, unit_cp, first + v))
            if options.smooth:
                w = multiply(w, multiply(fade, load(fade_p, first + v)))
            store(weight, into + v, w)
            sums = multiply_add(w, load(dweight, into + v), sums)
        if options.masks:
            weight[into + i] = zero
        mean = fill(-total(sums))
        if options.smooth:
            _smooth_back(
                n, i, first, line, mean, options, unit_cp, fade_p, lanes, logits, soft, weight,
                dweight, dfade_p,
            )  # fmt: skip
        if options.dotr:
            _cosines_back(
                n, i, first, line, options.smooth, unit_cp, fade_p, lanes, soft, dweight, dunit_cp
            )
        scales = fill(options.scale)
        for v in range(0, length, vector):
            d = multiply(load(weight, into + v), load(dweight, into + v))
            d = multiply_add(load(soft, line + v), mean, d)
            f = multiply(fade, load(fade_p, first + v)) if options.smooth else one
            store(dweight, into + v, multiply(multiply(d, f), scales))


@kernel
def _smooth_back(
    n, i, first, line, mean, options, unit_cp, fade_p, lanes, logits, soft, weight, dweight, dfade_p
):
    """What line i adds to gradients of fades, through logits and behind the softmax."""
    vector = len(lanes)
    length = (n + vector - 1) // vector * vector
    into = i * length
    fade = fill(fade_p[first + i])
    scales, shift = fill(options.scale), fill(soft.dtype.type(SHIFT))
    x, y, z = _direction(unit_cp, first + i)
    own = fill(soft.dtype.type(0.0))
    for v in range(0, length, vector):
        w, d = load(soft, line + v), load(dweight, into + v)
        dlogit = multiply_add(w, mean, multiply(load(weight, into + v), d))
        of_both = multiply(dlogit, multiply_add(load(logits, line + v), scales, shift))
        behind = multiply(w, d)
        if options.dotr:
            behind = multiply(behind, _cosines(x, y, z, unit_cp, first + v))
        of_both = add(of_both, behind)
        own = multiply_add(of_both, load(fade_p, first + v), own)
        store(dfade_p, first + v, multiply_add(of_both, fade, load(dfade_p, first + v)))
    dfade_p[first + i] += total(own)


@kernel
def _cosines_back(n, i, first, line, smooth, unit_cp, fade_p, lanes, soft, dweight, dunit_cp):
    """What line i adds to gradients of directions."""
    vector, n_p = len(lanes), unit_cp.shape[1]
    length = (n + vector - 1) // vector * vector
    fade = fill(fade_p[first + i])
    x, y, z = _direction(unit_cp, first + i)
    zero = fill(soft.dtype.type(0.0))
    dx, dy, dz = zero, zero, zero
    for v in range(0, length, vector):
        d = multiply(load(soft, line + v), load(dweight, i * length + v))
        if smooth:
            d = multiply(d, multiply(fade, load(fade_p, first + v)))
        p = first + v
        dx = multiply_add(d, load(unit_cp, p), dx)
        store(dunit_cp, p, multiply_add(d, x, load(dunit_cp, p)))
        p += n_p
        dy = multiply_add(d, load(unit_cp, p), dy)
        store(dunit_cp, p, multiply_add(d, y, load(dunit_cp, p)))
        p += n_p
        dz = multiply_add(d, load(unit_cp, p), dz)
        store(dunit_cp, p, multiply_add(d, z, load(dunit_cp, p)))
    dunit_cp[0, first + i] += total(dx)
    dunit_cp[1, first + i] += total(dy)
    dunit_cp[2, first + i] += total(dz)
