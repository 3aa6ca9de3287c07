"""What a Deep Potential is: plain frozen dataclasses of NumPy arrays, checked on construction.

Axis letters: ``_t`` element (model type), ``_k`` the four components of an environment row
(s, s x/r, s y/r, s z/r), ``_i``/``_o`` input and output of a layer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lmp_dp.errors import ModelFileError
from lmp_dp.model import bounds
from lmp_dp.model.network import Network
from lmp_dp.model.table import Table


@dataclass(frozen=True)
class Descriptor:
    """Smooth-edition descriptor se_e2_a (Zhang et al., NeurIPS 2018).

    Attributes
    ----------
    rcut, rcut_smth : float
        Cutoff and start of the switching function (Å). DeePMD-kit holds both as float32.
    sel_t : (n_types,) int array
        Neighbour slots per neighbour element; the nearest are kept.
    n_norm : int
        N in T = Rᵀ G / N: the sum of ``sel`` at training.
    axis_neuron : int
        Number of embedding channels of the second factor in D = Tᵀ T_<.
    davg_tk, dstd_tk : (n_types, 4) float64 arrays
        Mean and standard deviation of an environment row around a centre of element t;
        a padded slot is the row -davg/dstd, not zero.
    net_tt : (n_types, n_types) int array
        [centre, neighbour] -> index of the pair's net in `embeddings` and `tables`; -1 where the
        two do not see each other (``exclude_types``). Pairs may share a net.
    embeddings : tuple of Network
        The distinct embedding nets. Empty where a compressed model keeps only its tables.
    tables : tuple of Table
        The tabulated nets of a compressed model, in the same order; empty if not compressed.
    padding_tjm : (n_types, n_types, M) float64 array or None
        Of a compressed model, G(-davg/dstd) of the nets themselves: what padded slots embed to.
    """

    rcut: float
    rcut_smth: float
    sel_t: np.ndarray
    n_norm: int
    axis_neuron: int
    davg_tk: np.ndarray
    dstd_tk: np.ndarray
    net_tt: np.ndarray
    embeddings: tuple[Network, ...]
    tables: tuple[Table, ...] = ()
    padding_tjm: np.ndarray | None = None

    def __post_init__(self) -> None:
        n_types = len(self.sel_t)
        if not 0.0 <= self.rcut_smth < self.rcut:
            raise ModelFileError(
                f"need 0 <= rcut_smth < rcut, found {self.rcut_smth} and {self.rcut}"
            )
        bounds.check_number("rcut", self.rcut, bounds.MIN_RCUT, bounds.MAX_RCUT)
        if not np.float32(self.rcut_smth) < np.float32(self.rcut):
            raise ModelFileError(
                f"rcut_smth {self.rcut_smth} and rcut {self.rcut} are the same in float32"
            )
        self._check_slots()
        bounds.check("davg", self.davg_tk, (n_types, 4), bounds.MAX_MEAN)
        bounds.check("dstd", self.dstd_tk, (n_types, 4), bounds.MAX_DEVIATION)
        if not (self.dstd_tk >= bounds.MIN_DEVIATION).all():
            raise ModelFileError(
                f"dstd holds {float(self.dstd_tk.min())}, expected at least "
                f"{bounds.MIN_DEVIATION:g}"
            )
        self._check_nets(n_types)
        bounds.check_number("axis_neuron", self.axis_neuron, 1, self.n_channels)

    def _check_slots(self) -> None:
        if self.sel_t.ndim != 1 or self.sel_t.dtype.kind != "i":
            raise ModelFileError(
                f"sel has {self.sel_t.ndim} axes and type {self.sel_t.dtype}, expected one of ints"
            )
        for t, sel in enumerate(self.sel_t.tolist()):
            bounds.check_number(f"sel of element {t}", sel, 0, bounds.MAX_SLOTS)
        bounds.check_number("the sum of sel", int(self.sel_t.sum()), 1, bounds.MAX_SLOTS)
        bounds.check_number("n_norm", self.n_norm, 1, bounds.MAX_SLOTS)

    def _check_nets(self, n_types: int) -> None:
        n_nets = len(self._nets)
        if n_nets == 0:
            raise ModelFileError("the descriptor has neither embedding nets nor tables")
        if self.tables and len(self.tables) != n_nets:
            raise ModelFileError(f"{n_nets} embedding nets, but {len(self.tables)} tables")
        if self.net_tt.shape != (n_types, n_types) or self.net_tt.dtype.kind != "i":
            raise ModelFileError(
                f"net_tt has shape {self.net_tt.shape} and type {self.net_tt.dtype}, expected "
                f"integers of shape ({n_types}, {n_types})"
            )
        used = np.unique(self.net_tt[self.net_tt != -1])
        if not np.array_equal(used, np.arange(n_nets)):
            raise ModelFileError(
                f"net_tt must name each of {n_nets} embedding nets or be -1, found {len(used)} "
                f"numbers from {used.min(initial=0)} to {used.max(initial=0)}"
            )
        nets: dict[str, Network | Table] = {
            **{f"embedding net {n}": net for n, net in enumerate(self.embeddings)},
            **{f"table {n}": table for n, table in enumerate(self.tables)},
        }
        for name, net in nets.items():
            if net.n_channels != self.n_channels or net.dtype != self.dtype:
                raise ModelFileError(
                    f"{name} gives {net.n_channels} channels in {net.dtype}; "
                    f"expected {self.n_channels} in {self.dtype}"
                )
            if isinstance(net, Network) and net.n_in != 1:
                raise ModelFileError(f"{name} takes {net.n_in} values, expected 1")
        if self.tables:
            shape = (n_types, n_types, self.n_channels)
            if self.padding_tjm is None:
                raise ModelFileError(f"a compressed model needs padding of shape {shape}")
            bounds.check("padding", self.padding_tjm, shape, bounds.MAX_VALUE)

    def embedding(self, centre: int, neighbour: int) -> Network | None:
        """Embedding net of a pair; None if it is excluded or the model keeps only its tables."""
        n = self.net_tt[centre, neighbour]
        return self.embeddings[n] if self.embeddings and n >= 0 else None

    def table(self, centre: int, neighbour: int) -> Table | None:
        """Tabulated net of a pair; None if it is excluded or the model is not compressed."""
        n = self.net_tt[centre, neighbour]
        return self.tables[n] if self.tables and n >= 0 else None

    @property
    def excluded_tt(self) -> np.ndarray:
        """[centre, neighbour] pairs that do not see each other, (n_types, n_types) bool."""
        return self.net_tt < 0

    @property
    def type_one_side(self) -> bool:
        """Whether centres share nets, and a neighbour's net is the same for all of them."""
        pairs_nj = np.array([(self.net_tt == n).any(axis=0) for n in range(self.net_tt.max() + 1)])
        shared = len(pairs_nj) < (self.net_tt >= 0).sum()
        return bool(shared and (pairs_nj.sum(axis=0) <= 1).all())

    @property
    def _nets(self) -> tuple[Network | Table, ...]:
        return self.embeddings or self.tables

    @property
    def n_channels(self) -> int:
        """M: the width of the embedding nets' last layer."""
        return self._nets[0].n_channels

    @property
    def dtype(self) -> np.dtype:
        """Precision in which embedding and descriptor are evaluated."""
        return self._nets[0].dtype

    @property
    def n_out(self) -> int:
        """Length M * axis_neuron of the descriptor of one atom."""
        return self.n_channels * self.axis_neuron


@dataclass(frozen=True)
class Fitting:
    """Per-element fitting nets: E_i = net_t(D_i, p_i) [- net_t(0, p_i)] + bias_atom_e_t.

    The parameters p_i, which most models do not have, are those of the frame and then those of the
    atom (``fparam``, ``aparam``; an electronic temperature, say), each as (value - avg) * istd.

    Attributes
    ----------
    nets : tuple of Network
        One per element; they take D and p, the last layer is linear with one output (eV).
    bias_atom_e_t : (n_types,) float64 array
        Energy per atom that is added after the net (eV).
    subtract_vacuum_t : (n_types,) bool array
        True where the net's value at D = 0 is subtracted (``atom_ener`` was given at training).
    fparam_avg_f, fparam_istd_f, aparam_avg_f, aparam_istd_f : (n,) float64 arrays
        Mean and inverse standard deviation of each parameter; empty without parameters.
    """

    nets: tuple[Network, ...]
    bias_atom_e_t: np.ndarray
    subtract_vacuum_t: np.ndarray
    fparam_avg_f: np.ndarray = field(default_factory=lambda: np.empty(0))
    fparam_istd_f: np.ndarray = field(default_factory=lambda: np.empty(0))
    aparam_avg_f: np.ndarray = field(default_factory=lambda: np.empty(0))
    aparam_istd_f: np.ndarray = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        n_types = len(self.nets)
        bounds.check("bias_atom_e", self.bias_atom_e_t, (n_types,))
        if self.subtract_vacuum_t.shape != (n_types,) or self.subtract_vacuum_t.dtype != bool:
            raise ModelFileError(f"subtract_vacuum must be bools of shape ({n_types},)")
        for t, net in enumerate(self.nets):
            if net.n_out != 1:
                raise ModelFileError(f"fitting net {t} gives {net.n_out} values, expected 1")
            if net.dtype != self.nets[0].dtype:
                raise ModelFileError("the fitting nets differ in precision")
        for name in ("fparam", "aparam"):
            avg_f, istd_f = getattr(self, f"{name}_avg_f"), getattr(self, f"{name}_istd_f")
            usable = (abs(avg_f) <= bounds.MAX_VALUE).all() and (istd_f <= bounds.MAX_VALUE).all()
            if avg_f.shape != istd_f.shape or not usable or not (istd_f > 0.0).all():
                raise ModelFileError(
                    f"avg and istd of {name} must be finite and equally many, istd above 0; found "
                    f"{avg_f[:4].tolist()} and {istd_f[:4].tolist()}"
                )

    @property
    def n_fparam(self) -> int:
        """Number of parameters of a frame that the nets take."""
        return len(self.fparam_avg_f)

    @property
    def n_aparam(self) -> int:
        """Number of parameters of each atom that the nets take."""
        return len(self.aparam_avg_f)

    @property
    def dtype(self) -> np.dtype:
        """Precision in which the fitting nets are evaluated."""
        return self.nets[0].dtype


@dataclass(frozen=True)
class ReferenceFrame:
    """A configuration with the values that the source model itself gave for it (metal units).

    `fparam_f` and `aparam_af` are what the model was given, None if it takes no parameters.
    All arrays are float64 but `types_a`.
    """

    positions_ac: np.ndarray
    cell_cc: np.ndarray
    types_a: np.ndarray
    energy: float
    forces_ac: np.ndarray
    virial_cc: np.ndarray
    evaluated_by: str
    fparam_f: np.ndarray | None = None
    aparam_af: np.ndarray | None = None

    def __post_init__(self) -> None:
        n = len(self.types_a)
        if n == 0 or self.types_a.ndim != 1 or self.types_a.dtype.kind != "i":
            raise ModelFileError("reference_frame: types must be one int for each atom")
        for name, shape in (
            ("positions_ac", (n, 3)),
            ("cell_cc", (3, 3)),
            ("forces_ac", (n, 3)),
            ("virial_cc", (3, 3)),
        ):
            bounds.check(f"reference_frame: {name}", getattr(self, name), shape, np.finfo("f8").max)
        if not np.isfinite(self.energy):
            raise ModelFileError(f"reference_frame: the energy is {self.energy}")


#: How the note on a source begins that computes its nets in half precision.
MIXED_PRECISION = "trained in mixed precision"


@dataclass(frozen=True)
class Provenance:
    """Where a model comes from; strings are empty and numbers None where the source is silent."""

    source_file: str = ""
    source_sha256: str = ""
    source_format: str = ""
    model_version: str = ""
    converted_by: str = ""
    min_nbor_dist: float | None = None
    training_script: str = ""
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.min_nbor_dist is not None and not np.isfinite(self.min_nbor_dist):
            raise ModelFileError(f"min_nbor_dist is {self.min_nbor_dist}, expected a distance (Å)")

    @property
    def half_precision(self) -> bool:
        """True if the source computes its nets in float16 or bfloat16 (a note says so)."""
        return any(note.startswith(MIXED_PRECISION) for note in self.notes)


@dataclass(frozen=True)
class DeepPotential:
    """A complete model: elements, descriptor, fitting nets, and where it came from.

    Names in `type_map` are distinct, printable, without blanks, of at most 32 characters, and not
    NULL, which LAMMPS scripts use for types that the model does not see.
    """

    type_map: tuple[str, ...]
    descriptor: Descriptor
    fitting: Fitting
    provenance: Provenance = Provenance()
    reference_frame: ReferenceFrame | None = None

    def __post_init__(self) -> None:
        n_types = len(self.type_map)
        if n_types == 0:
            raise ModelFileError("type_map is empty, expected the names of the elements")
        for t, name in enumerate(self.type_map):
            _check_element(name, self.type_map[:t])
        if len(self.descriptor.sel_t) != n_types or len(self.fitting.nets) != n_types:
            raise ModelFileError(
                f"type_map has {n_types} elements, the descriptor {len(self.descriptor.sel_t)}, "
                f"the fitting nets {len(self.fitting.nets)}"
            )
        n_parameters = self.fitting.n_fparam + self.fitting.n_aparam
        for t, net in enumerate(self.fitting.nets):
            if net.n_in != self.descriptor.n_out + n_parameters:
                raise ModelFileError(
                    f"fitting net {t} takes {net.n_in} values, the descriptor gives "
                    f"{self.descriptor.n_out} and there are {n_parameters} parameters"
                )
        if self.reference_frame is not None:
            self._check_frame(self.reference_frame)

    def _check_frame(self, frame: ReferenceFrame) -> None:
        if not 0 <= frame.types_a.min() <= frame.types_a.max() < len(self.type_map):
            raise ModelFileError("reference_frame: a type is outside of the type_map")
        n_f, n_a = self.fitting.n_fparam, self.fitting.n_aparam
        for name, values, count, shape in (
            ("fparam", frame.fparam_f, n_f, (n_f,)),
            ("aparam", frame.aparam_af, n_a, (len(frame.types_a), n_a)),
        ):
            found, expected = getattr(values, "shape", None), shape if count else None
            if found != expected:
                raise ModelFileError(
                    f"reference_frame: {name} does not fit the model: it has shape {found}, "
                    f"expected {expected}"
                )
            if values is not None:
                bounds.check(f"reference_frame: {name}", values, shape, np.finfo("f8").max)

    @property
    def precision(self) -> str:
        """ "float64", "float32", or "descriptor/fitting" where the two differ."""
        one, two = self.descriptor.dtype.name, self.fitting.dtype.name
        return one if one == two else f"{one}/{two}"


#: Longer than any name of an element or a site; lists of elements stay readable, and quotable.
_MAX_NAME = 32


def _check_element(name: str, others: tuple[str, ...]) -> None:
    """Refuse a name that a LAMMPS script or a terminal cannot show as it is."""
    if not isinstance(name, str):
        raise ModelFileError(f"type_map: {name!r} is no name, expected text")
    shown = repr(name[:_MAX_NAME])
    if not name or not name.isprintable() or any(letter.isspace() for letter in name):
        raise ModelFileError(
            f"type_map: {shown} is no name, expected printable text without blanks"
        )
    if len(name) > _MAX_NAME:
        raise ModelFileError(
            f"type_map: {shown}... has {len(name)} characters, expected at most {_MAX_NAME}"
        )
    if name == "NULL":
        raise ModelFileError("type_map: NULL stands for 'no element' in LAMMPS scripts")
    if name in others:
        raise ModelFileError(f"type_map: {shown} is named twice")
