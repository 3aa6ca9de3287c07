r"""The descriptor and the first fitting layer in fewer numbers: exact algebra, done once.

The moment T (4 x M) of a centre lies in the span of the basis functions' rows U of its tables
(`lmp_dp.model.Table`), stacked over the neighbour elements:

    T = B U / N,   B_kq = sum_j R_jk phi_q(s_j)        (+ padded slots)

U has rank R <= M. Write U / N = K P with P (R x M) of orthonormal rows whose first A columns
(A = axis_neuron) are non-zero in the first A rows only, and C = B K (4 x R). Then

    D_mx = sum_k T_km T_kx = sum_ab P_am P_bx S_ab,   S_ab = sum_k C_ka C_kb,   b < A

so that the first layer z = D W + bias needs only the *features* S_ab with b < A and b <= a < R:
R A - A (A - 1)/2 numbers in place of M A, with weights folded as

    W~_ab = sum_mx P_am P_bx W_mx (+ the same with a and b exchanged, where a != b and a < A)

An uncompressed net has K = 1/N and P = 1: its features are D without the symmetric duplicates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Reduction:
    """How a centre of one element goes from B to the first layer (float64).

    Attributes
    ----------
    k_qr : (Q, R) array
        K, including 1/N; Q counts the basis functions of all neighbour elements.
    n_axis : int
        min(A, R): features have b < n_axis.
    weight_io : (F, n_out) array
        W~; features are ordered by b, then a = b .. R - 1.
    """

    k_qr: np.ndarray
    n_axis: int
    weight_io: np.ndarray

    @property
    def rank(self) -> int:
        """R: columns of C."""
        return self.k_qr.shape[1]


def reduce(basis_qm: np.ndarray, n_norm: int, axis: int, weight_do: np.ndarray) -> Reduction:
    """Reduction for a centre with stacked basis rows U and first-layer weights W."""
    k_qr, p_rm = _factor(basis_qm / n_norm, axis)
    rank = len(p_rm)
    n_axis = min(axis, rank)
    weight_mxo = weight_do.astype(np.float64).reshape(p_rm.shape[1], axis, -1)
    half_rxo = np.einsum("am,mxo->axo", p_rm, weight_mxo)
    full_rro = np.einsum("bx,axo->abo", p_rm[:n_axis, :axis], half_rxo)
    folded = []
    for b in range(n_axis):
        block_ro = full_rro[b:, b].copy()
        block_ro[1 : n_axis - b] += full_rro[b, b + 1 : n_axis]
        folded.append(block_ro)
    return Reduction(k_qr, n_axis, np.concatenate(folded))


def unreduced(n_channels: int, axis: int, weight_do: np.ndarray) -> Reduction:
    """K = P = 1: the features are D without its symmetric duplicates; 1/N is done on B."""
    weight_mxo = weight_do.astype(np.float64).reshape(n_channels, axis, -1)
    blocks = []
    for b in range(axis):
        block_mo = weight_mxo[b:, b].copy()
        block_mo[1 : axis - b] += weight_mxo[b, b + 1 : axis]
        blocks.append(block_mo)
    return Reduction(np.eye(n_channels), axis, np.concatenate(blocks))


def _factor(u_qm: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """U = K P as the module says; rank is decided at 1e-13 of the largest singular value."""
    left, sizes, right_rm = np.linalg.svd(u_qm, full_matrices=False)
    rank = max(1, int((sizes > 1e-13 * sizes[0]).sum()))
    k_qr, p_rm = left[:, :rank] * sizes[:rank], right_rm[:rank]
    # a rotation that leaves the first `axis` columns of P in its first rows
    rotation_rr, _ = np.linalg.qr(p_rm[:, :axis], mode="complete")
    p_rm = rotation_rr.T @ p_rm
    p_rm[axis:, :axis] = 0.0
    return k_qr @ rotation_rr, p_rm
