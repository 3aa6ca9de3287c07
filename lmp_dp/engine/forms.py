r"""What models are lowered to: a few computational forms, neutral of any backend.

A form ends in *features*, the numbers that the first fitting layer takes; the layer's weights are
folded onto them (`lmp_dp.engine.lowering`). Arrays are float64 unless they are a net's own: a
backend casts, pads and uploads them as it likes.

    Moment    B_kq = sum_j R_jk phi_q(s_j) + sum_t empty_t padding_tkq,   C = B K / divisor,
              features S_ab = sum_k C_ka C_kb,   b < n_axis,  b <= a < rank

    Angular   features B_q = sum_{a <= b} w_ab sum_{j in a, k in b} e_jk phi^ab_q(e_jk),
              e_jk = R_j . R_k of the last three components, empty slots among j and k

    Radial    features B_q = sum_j phi_q(s_j) + sum_t (empty_t padding_tq + hidden_t hidden_tq)

    Attention B_km = sum_j R_jk G_jm + empty padding_km,   C = B / divisor, features as of Moment

R_j is the normalised environment row of neighbour j, s_j its first component, and empty_t counts
the empty slots of element t, or of all elements where they share their slots; hidden_t those that
neighbours take which the centre does not see.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from lmp_dp.engine.folded_fitting import FoldedFitting
from lmp_dp.engine.selection import Selection
from lmp_dp.model.descriptors.loc_frame import LocFrame
from lmp_dp.model.descriptors.se_atten import Attention as AttentionLayers
from lmp_dp.model.network import Network


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


#: The neighbour of a `Block` of empty slots that all elements share.
ALL = -1


class OfBlocks:
    """A form whose functions come in blocks, each of one neighbour element, or of two."""

    blocks: tuple[Any, ...]

    @property
    def tabulated(self) -> bool:
        """True if the functions are splines."""
        return any(isinstance(block.functions, Splines) for block in self.blocks)


@dataclass(frozen=True)
class Block:
    """What neighbours of one element add to B, and their empty slots.

    Attributes
    ----------
    neighbour : int
        Their element; `ALL` for the empty slots that all elements share.
    functions : Splines, Network or None
        phi: own columns of B for splines, all columns for a net. None: there are only empty slots.
    padding_kq : (4, n_functions) array
        What one empty slot adds: to own columns beside splines, to all beside nets.
    gate_m : (M,) array or None
        A net's functions are times 1 + gate, or 1 + gate f if it `fades`.
    fades : bool
        Of splines: as many columns more, of f phi. f is the neighbour's fade, see `Moment`.
    """

    neighbour: int
    functions: Splines | Network | None
    padding_kq: np.ndarray
    gate_m: np.ndarray | None = None
    fades: bool = False

    @property
    def n_columns(self) -> int:
        """Columns of B that are its own, beside splines."""
        if isinstance(self.functions, Splines):
            return (1 + self.fades) * self.functions.n_functions
        return self.padding_kq.shape[1]


@dataclass(frozen=True)
class Moment(OfBlocks):
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
    fade_radius : float or None
        The fade f of a neighbour is 1 - (1 - fade_radius s)^3 within 0 <= f <= 1, s = sw/r; sw
        without a radius.
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
    fade_radius: float | None = None

    @property
    def gated(self) -> bool:
        """Whether there are gates, or functions that fade."""
        return any(block.fades or block.gate_m is not None for block in self.blocks)

    @property
    def n_features(self) -> int:
        """Number of features S_ab, b < n_axis, b <= a < rank."""
        return self.rank * self.n_axis - self.n_axis * (self.n_axis - 1) // 2


@dataclass(frozen=True)
class AngularBlock:
    """What pairs of neighbours of two elements add to B.

    Attributes
    ----------
    neighbours : tuple of int
        Their elements a <= b.
    functions : Splines or Network
        phi of e: own features for splines, all features for a net.
    weight : float
        w_ab.
    """

    neighbours: tuple[int, int]
    functions: Splines | Network
    weight: float


@dataclass(frozen=True)
class Angular(OfBlocks):
    """The form of descriptors that are sums over pairs of neighbours.

    Attributes
    ----------
    selection : Selection
    davg_k, dstd_k : (4,) arrays
        Rows are normalised to (R - davg)/dstd.
    blocks : tuple of AngularBlock
        All splines, or all nets.
    n_features : int
        Functions of all blocks if they are splines, else those of one.
    dtype : numpy.dtype
        Precision of rows, e and B.
    """

    selection: Selection
    davg_k: np.ndarray
    dstd_k: np.ndarray
    blocks: tuple[AngularBlock, ...]
    n_features: int
    dtype: np.dtype


@dataclass(frozen=True)
class RadialBlock:
    """What neighbours of one element add to B.

    Attributes
    ----------
    neighbour : int
        Their element.
    functions : Splines or Network
        phi of s: own features for splines, all features for a net.
    padding_q, hidden_q : (n_functions,) arrays
        What one empty slot adds, and one of `Fate.HIDDEN`.
    """

    neighbour: int
    functions: Splines | Network
    padding_q: np.ndarray
    hidden_q: np.ndarray


@dataclass(frozen=True)
class Radial(OfBlocks):
    """The form of descriptors that are sums over neighbours.

    Attributes
    ----------
    selection : Selection
        With slots per element.
    davg_k, dstd_k : (4,) arrays
        Rows are normalised to (R - davg)/dstd.
    blocks : tuple of RadialBlock
        All splines, or all nets.
    n_features : int
        Functions of all blocks if they are splines, else those of one.
    dtype : numpy.dtype
        Precision of rows and B.
    """

    selection: Selection
    davg_k: np.ndarray
    dstd_k: np.ndarray
    blocks: tuple[RadialBlock, ...]
    n_features: int
    dtype: np.dtype


@dataclass(frozen=True)
class Attention:
    r"""Moments of what neighbours are embedded to once they have seen each other.

    `layers` have, with fades f (1 where weights are not smooth) and unit vectors r̂ of rows:

        q, k, v = G W + b [over their lengths],   L_jj' = (scale q_j k_j' + 20) f_j f_j' - 20
        w = softmax(L),   o_j = sum_j' w_jj' f_j f_j' [r̂_j r̂_j'] v_j',   G <- LN(G + o W + b)

    An empty slot has no o; where weights are smooth it adds exp(-20) to sums of the softmax.

    Attributes
    ----------
    selection : Selection
    davg_k, dstd_k : (4,) arrays
        Rows are normalised to (R - davg)/dstd.
    blocks : tuple of Block
        G before attention: nets, without empty slots.
    layers : lmp_dp.model.descriptors.se_atten.Attention
        In the precision of evaluation.
    fade_radius : float or None
        As in `Moment`.
    shortest : float
        The least that vectors' lengths are taken for.
    padding_km : (4, M) array
        What one empty slot adds.
    divisor : int
        Of B.
    n_axis : int
        Columns of C that are second factors of features.
    dtype : numpy.dtype
        Precision of rows, G, B and C.
    """

    selection: Selection
    davg_k: np.ndarray
    dstd_k: np.ndarray
    blocks: tuple[Block, ...]
    layers: AttentionLayers
    fade_radius: float | None
    shortest: float
    padding_km: np.ndarray
    divisor: int
    n_axis: int
    dtype: np.dtype
    tabulated: ClassVar[bool] = False

    @property
    def rank(self) -> int:
        """M: columns of C."""
        return self.padding_km.shape[1]

    @property
    def n_features(self) -> int:
        """Number of features S_ab, b < n_axis, b <= a < rank."""
        return self.rank * self.n_axis - self.n_axis * (self.n_axis - 1) // 2


@dataclass(frozen=True)
class LocalFrame:
    """The form of `lmp_dp.engine.local_frame`: features are D as it is, of centres `element`."""

    selection: Selection
    descriptor: LocFrame
    element: int
    tabulated: ClassVar[bool] = False

    @property
    def n_features(self) -> int:
        """Length of D."""
        return self.descriptor.n_out

    @property
    def dtype(self) -> np.dtype:
        """Precision of D."""
        return self.descriptor.dtype


Form = Moment | Angular | Radial | Attention | LocalFrame


@dataclass(frozen=True)
class PairTerm:
    """A model's pair table (`lmp_dp.model.pair_table`) around centres of one element.

    Attributes
    ----------
    selection, nearness : Selection
        Neighbours of E^pair and of sigma; the same object where they are the same.
    start, step, alpha, switch_start, switch_width : float
        Å.
    coefficients_tve : (n_types, n_pieces, 4) array
        By element of the neighbour.
    bias : float
        eV.
    share_of_centre : float
        What part of the virial of a pair's energy is the centre's; the neighbour has the rest.
    """

    selection: Selection
    nearness: Selection
    start: float
    step: float
    coefficients_tve: np.ndarray
    alpha: float
    switch_start: float
    switch_width: float
    bias: float
    share_of_centre: float


@dataclass(frozen=True)
class Element:
    """All that a backend needs of a model for centres of one element.

    Attributes
    ----------
    forms : tuple of Form
        Their features stand side by side.
    fitting : FoldedFitting
        The fitting net on the features; bias_atom_e included.
    pair_term : PairTerm or None
        What replaces the net's energy where neighbours are close.
    """

    forms: tuple[Form, ...]
    fitting: FoldedFitting
    pair_term: PairTerm | None = None

    @cached_property
    def n_features(self) -> int:
        """Number of features of all forms."""
        return sum(form.n_features for form in self.forms)
