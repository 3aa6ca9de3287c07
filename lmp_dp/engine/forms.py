r"""What models are lowered to: a few computational forms, neutral of any backend.

A form ends in *features*, the numbers that the first fitting layer takes; the layer's weights are
folded onto them (`lmp_dp.engine.lowering`). Arrays are float64 unless they are a net's own: a
backend casts, pads and uploads them as it likes.

    Moment    B_kq = sum_j R_jk phi_q(s_j) + sum_t missing_t padding_tkq,   C = B K / divisor,
              features S_ab = sum_k C_ka C_kb,   b < n_axis,  b <= a < rank

R_j is the normalised environment row of neighbour j, s_j its first component, and missing_t counts
the empty slots of element t.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lmp_dp.engine.folded_fitting import FoldedFitting
from lmp_dp.model.network import Network


@dataclass(frozen=True)
class Selection:
    """Which neighbours of a centre get a slot, and the switching function of their rows.

    Attributes
    ----------
    rcut, rcut_smth, width : float
        Cutoff, start of the switching function, and their difference as the model's family
        subtracts it (Å).
    sel_t : (n_types,) int64
        Slots per element of the neighbour; the nearest are kept.
    excluded_t : (n_types,) bool
        Elements that this centre does not see.
    """

    rcut: float
    rcut_smth: float
    width: float
    sel_t: np.ndarray
    excluded_t: np.ndarray


@dataclass(frozen=True)
class Splines:
    """Basis functions of s by quintic polynomials on pieces (`lmp_dp.model.table`).

    Attributes
    ----------
    lower, inner, cell_width : float
        As those of the table.
    pieces_h : (n_cells,) int64
        Pieces per cell.
    coefficients_veq : (n_pieces + 2, 6, n_functions) array
        Of x^e; the last two pieces are the straight lines beyond both ends.
    """

    lower: float
    inner: float
    cell_width: float
    pieces_h: np.ndarray
    coefficients_veq: np.ndarray

    @property
    def n_functions(self) -> int:
        """How many functions there are."""
        return self.coefficients_veq.shape[2]

    @property
    def first_h(self) -> np.ndarray:
        """First piece of each cell, and behind them the number of pieces."""
        return np.concatenate([[0], np.cumsum(self.pieces_h)])

    @property
    def slope_v(self) -> np.ndarray:
        """dx/ds on each piece."""
        of_pieces_v = np.repeat(self.pieces_h, self.pieces_h) / self.cell_width
        return np.concatenate([of_pieces_v, [1.0 / self.cell_width] * 2])


@dataclass(frozen=True)
class Block:
    """What neighbours of one element add to B.

    Attributes
    ----------
    neighbour : int
        Their element.
    functions : Splines or Network
        phi: own columns of B for splines, all columns for a net.
    padding_kq : (4, n_functions) array
        What one empty slot adds.
    """

    neighbour: int
    functions: Splines | Network
    padding_kq: np.ndarray


@dataclass(frozen=True)
class Moment:
    """The form of descriptors that are quadratic in moments of the environment.

    Attributes
    ----------
    selection : Selection
    davg_k, dstd_k : (4,) arrays
        Rows are normalised to (R - davg)/dstd.
    blocks : tuple of Block
        One per element that the centre sees and has slots for; all splines, or all nets.
    k_qr : (n_functions of all blocks, rank) array or None
        K; None for K = 1.
    divisor : int
        Of B, where K does not hold it already.
    rank, n_axis : int
        Columns of C, and how many of them are second factors of features.
    dtype : numpy.dtype
        Precision of rows, B and C.
    """

    selection: Selection
    davg_k: np.ndarray
    dstd_k: np.ndarray
    blocks: tuple[Block, ...]
    k_qr: np.ndarray | None
    divisor: int
    rank: int
    n_axis: int
    dtype: np.dtype

    @property
    def tabulated(self) -> bool:
        """True if the functions are splines."""
        return any(isinstance(block.functions, Splines) for block in self.blocks)

    @property
    def n_features(self) -> int:
        """Number of features S_ab, b < n_axis, b <= a < rank."""
        return self.rank * self.n_axis - self.n_axis * (self.n_axis - 1) // 2


Form = Moment


@dataclass(frozen=True)
class Element:
    """All that a backend needs of a model for centres of one element.

    Attributes
    ----------
    forms : tuple of Form
        Their features stand side by side.
    fitting : FoldedFitting
        The fitting net on the features; bias_atom_e included.
    """

    forms: tuple[Form, ...]
    fitting: FoldedFitting

    @cached_property
    def n_features(self) -> int:
        """Number of features of all forms."""
        return sum(form.n_features for form in self.forms)
