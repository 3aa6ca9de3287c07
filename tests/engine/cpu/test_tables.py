"""Kernels of tables against plain NumPy: NumPy's own Horner on each row's piece."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from lmp_dp.engine.cpu.kernels import simd, tables
from lmp_dp.engine.cpu.packing import lanes_of

#: Functions, rounded up to whole vectors by `packing`; one, an odd and an even number of vectors.
WIDTHS = {"float64": (8, 16, 24, 40), "float32": (16, 32, 48)}
CASES = [(dtype, width) for dtype, widths in WIDTHS.items() for width in widths]
FIRST_B = np.array([3, 8, 8, 9, 20])  # rows of four centres, one of them without


def table(seed: int) -> SimpleNamespace:
    """Cells with different numbers of pieces, of smooth functions nowhere near each other."""
    rng = np.random.default_rng(seed)
    pieces_h = np.array([1, 4, 2, 8, 1])
    return SimpleNamespace(
        rng=rng,
        lower=-1.0,
        inner=0.7,
        cell_width=0.4,
        pieces_h=pieces_h,
        first_h=np.concatenate([[0], np.cumsum(pieces_h)]),
        n_pieces=int(pieces_h.sum()) + 2,
        slope_v=np.append(np.repeat(pieces_h, pieces_h) / 0.4, [1 / 0.4] * 2),
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_locate(dtype: str) -> None:
    """Inside, on both sides outside, and on every boundary of cells and pieces."""
    of = table(1)
    bounds_p = [
        of.lower + of.cell_width * (q + k / pieces)
        for q, pieces in enumerate(of.pieces_h)
        for k in range(pieces + 1)
    ]
    s_p = np.concatenate([of.rng.uniform(-2.0, 2.0, 200), bounds_p, [of.inner]]).astype(dtype)
    first, last = 5, len(s_p) - 1
    piece_p, x_p = np.full(len(s_p), -7, np.int32), np.full(len(s_p), np.nan, dtype)
    beyond = tables.locate(
        s_p, first, last, of.lower, of.inner, of.cell_width, of.pieces_h, of.first_h, piece_p, x_p
    )
    found = slice(first, last)
    assert beyond == (s_p[found].astype(np.float64) > of.inner).sum() > 0
    assert (np.delete(piece_p, np.arange(first, last)) == -7).all()
    assert np.isnan(np.delete(x_p, np.arange(first, last))).all()
    end = of.lower + of.cell_width * len(of.pieces_h)
    for s, piece, x in zip(s_p[found].astype(np.float64), piece_p[found], x_p[found], strict=True):
        if piece >= of.n_pieces - 2:  # the lines: from the ends, in units of a cell
            start, width = (end, of.lower)[piece - of.n_pieces + 2], of.cell_width
            assert (s >= end - 1e-12) if piece == of.n_pieces - 2 else (s < of.lower + 1e-12)
        else:
            cell = np.searchsorted(of.first_h, piece, side="right") - 1
            width = of.cell_width / of.pieces_h[cell]
            start = of.lower + cell * of.cell_width + (piece - of.first_h[cell]) * width
            assert -1e-6 <= x <= 1.0 + 1e-6
        # x is up to 3 and rounded once or a few times; so are the sums here
        assert start + float(x) * width == pytest.approx(s, abs=8 * float(np.finfo(dtype).eps))


def rows_of(of: SimpleNamespace, dtype: str, width: int) -> SimpleNamespace:
    """Rows on random pieces, in one of the last two as well, and coefficients."""
    n = int(FIRST_B[-1]) + 2
    piece_p = of.rng.integers(0, of.n_pieces, n).astype(np.int32)
    piece_p[4:6] = of.n_pieces - 2, of.n_pieces - 1
    coefficients = simd.aligned_copy(of.rng.normal(size=(of.n_pieces, 6, width)), dtype)
    return SimpleNamespace(
        rows_kp=of.rng.normal(size=(4, n)).astype(dtype),
        piece_p=piece_p,
        x_p=of.rng.uniform(0.0, 1.0, n).astype(dtype),
        coefficients=coefficients,
    )


def functions(c: SimpleNamespace) -> tuple[np.ndarray, np.ndarray]:
    """phi and dphi/dx of each row, (n, width), float64."""
    powers = c.x_p.astype(np.float64)[:, None] ** np.arange(6)
    slopes = np.zeros_like(powers)
    slopes[:, 1:] = powers[:, :-1] * np.arange(1, 6)
    own = c.coefficients.astype(np.float64)[c.piece_p]
    return np.einsum("pk,pkr->pr", powers, own), np.einsum("pk,pkr->pr", slopes, own)


@pytest.mark.parametrize(("dtype", "width"), CASES)
def test_moment(dtype: str, width: int) -> None:
    """Written, not added, to columns start..; others are left alone."""
    c = rows_of(table(2), dtype, width)
    start = 16
    b_bkq = simd.aligned_copy(np.full((4, 4, start + width + 16), 7.0), dtype)
    tables.moment(
        c.rows_kp, c.piece_p, c.x_p, c.coefficients, FIRST_B, start, lanes_of(b_bkq.dtype), b_bkq
    )
    phi_pr, _ = functions(c)
    exact = np.zeros((4, 4, width))
    for b in range(4):
        of_b = slice(FIRST_B[b], FIRST_B[b + 1])
        exact[b] = c.rows_kp[:, of_b].astype(np.float64) @ phi_pr[of_b]
    # up to 11 rows of six terms up to 4, times rows up to 3
    bound = 200 * np.finfo(dtype).eps
    np.testing.assert_allclose(b_bkq[:, :, start : start + width], exact, rtol=0, atol=bound)
    assert (b_bkq[:, :, :start] == 7.0).all()
    assert (b_bkq[:, :, start + width :] == 7.0).all()


@pytest.mark.parametrize(("dtype", "width"), CASES)
def test_gradients(dtype: str, width: int) -> None:
    of = table(3)
    c = rows_of(of, dtype, width)
    start, n = 16, len(c.piece_p)
    db_bkq = simd.aligned_copy(of.rng.normal(size=(4, 4, start + width)), dtype)
    drows_kp = np.full((4, n), np.nan, dtype)
    tables.gradients(
        c.rows_kp, c.piece_p, c.x_p, c.coefficients, of.slope_v.astype(dtype), FIRST_B, db_bkq,
        start, lanes_of(db_bkq.dtype), drows_kp,
    )  # fmt: skip
    phi_pr, dphi_pr = functions(c)
    exact = np.full((4, n), np.nan)
    for b in range(4):
        for p in range(FIRST_B[b], FIRST_B[b + 1]):
            db_kr = db_bkq[b, :, start:].astype(np.float64)
            exact[:, p] = db_kr @ phi_pr[p]
            along_r = c.rows_kp[:, p].astype(np.float64) @ db_kr
            exact[0, p] += of.slope_v[c.piece_p[p]] * (dphi_pr[p] @ along_r)
    # sums of `width` products of about 4 x 4 x 15, times a slope of up to 20
    bound = 5000 * width**0.5 * np.finfo(dtype).eps
    np.testing.assert_allclose(drows_kp[0], exact[0], rtol=0, atol=bound)
    np.testing.assert_allclose(drows_kp[1:], exact[1:], rtol=0, atol=bound / 50)
