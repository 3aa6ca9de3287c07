"""Model files of version 1, from before there were kinds of descriptors: read, never written.

All of the descriptor is in /descriptor, with nets named ``all_J`` (one-sided) or ``I_J``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from lmp_dp.errors import ModelFileError
from lmp_dp.model.deep_potential import DeepPotential
from lmp_dp.model.descriptors.environment import Environment
from lmp_dp.model.descriptors.se_e2_a import SeE2A
from lmp_dp.model.file.reader import Reader
from lmp_dp.model.fitting import Fitting
from lmp_dp.model.network import Layer, Network
from lmp_dp.model.pair_nets import PairNets
from lmp_dp.model.provenance import Provenance, ReferenceFrame
from lmp_dp.model.table import Table

#: Datasets of /fitting that only models with parameters have.
_PARAMETERS = ("fparam_avg_f", "fparam_istd_f", "aparam_avg_f", "aparam_istd_f")
_T = TypeVar("_T")


def read(file: Reader) -> DeepPotential:
    """The model in a file.

    Raises
    ------
    ModelFileError
        Something is missing, of another type, or beyond what a model may be; with its place.
    """
    _expect(file, "model_type", "energy")
    type_map = file.texts("type_map")
    fitting = _read_fitting(file.sub("fitting"), len(type_map))
    frame = None
    if file.has("reference_frame"):
        frame = _made(lambda group: _read_frame(group, fitting), file.sub("reference_frame"))
    return DeepPotential(
        type_map=type_map,
        descriptor=_read_descriptor(file.sub("descriptor")),
        fitting=fitting,
        provenance=_read_provenance(file.sub("provenance")),
        reference_frame=frame,
    )


def _expect(group: Reader, name: str, value: str) -> None:
    found = group.string(name)
    if found != value:
        raise ModelFileError(
            f"attribute {group.place}/@{name}: '{found[:40]}' found, expected '{value}'"
        )


def _read_descriptor(group: Reader) -> SeE2A:
    _expect(group, "type", "se_e2_a")
    net_tt, names = _nets(group)

    def nets(kind: str, make: Callable[[Reader], _T]) -> tuple[_T, ...]:
        if not group.has(kind):
            return ()
        return tuple(_made(make, group.sub(kind).sub(name)) for name in names)

    return SeE2A(
        environment=Environment(
            rules="TF",
            rcut=group.number("rcut"),
            rcut_smth=group.number("rcut_smth"),
            sel_t=group.integers("sel_t", 1),
            n_norm=group.integer("n_norm"),
            davg_tk=group.floats("davg_tk", 2),
            dstd_tk=group.floats("dstd_tk", 2),
            excluded_tt=group.flags("excluded_tt", 2),
        ),
        nets=PairNets(
            net_tt=net_tt,
            embeddings=nets("embedding", _read_network),
            tables=nets("table", _read_table),
            padding_ttm=group.floats("padding_tjm", 3) if group.has("padding_tjm") else None,
        ),
        axis_neuron=group.integer("axis_neuron"),
    )


def _nets(group: Reader) -> tuple[np.ndarray, list[str]]:
    """`net_tt` and the nets' names: ``all_J`` if one-sided, else ``I_J``."""
    excluded_tt, one_side = group.flags("excluded_tt", 2), group.flag("type_one_side")
    net_tt, names = np.full(excluded_tt.shape, -1), dict[str, int]()
    for i, j in np.argwhere(~excluded_tt).tolist():
        net_tt[i, j] = names.setdefault(f"all_{j}" if one_side else f"{i}_{j}", len(names))
    return net_tt, list(names)


def _read_fitting(group: Reader, n_types: int) -> Fitting:
    parameters: dict[str, Any] = {
        name: group.floats(name, 1) for name in _PARAMETERS if group.has(name)
    }
    return Fitting(
        nets=tuple(_made(_read_network, group.sub(f"net_{t}")) for t in range(n_types)),
        bias_atom_e_t=group.floats("bias_atom_e_t", 1),
        subtract_vacuum_t=group.flags("subtract_vacuum_t", 1),
        **parameters,
    )


def _made(make: Callable[[Reader], _T], group: Reader) -> _T:
    """What `make` makes of a group; where that is refused, with the group's place."""
    try:
        return make(group)
    except ModelFileError as error:
        text = str(error)
        raise ModelFileError(text if group.place in text else f"{group.place}: {text}") from None


def _read_network(group: Reader) -> Network:
    return Network(tuple(_made(_read_layer, group.sub(f"layer_{k}")) for k in range(len(group))))


def _read_layer(group: Reader) -> Layer:
    return Layer(
        weight_io=group.parameters("weight_io", 2),
        bias_o=group.parameters("bias_o", 1),
        idt_o=group.parameters("idt_o", 1) if group.has("idt_o") else None,
        activation=group.string("activation"),
        joins=group.string("joins"),  # type: ignore[arg-type]  # checked by Layer
    )


def _read_table(group: Reader) -> Table:
    precision = group.string("precision")
    if precision not in ("float32", "float64"):
        raise ModelFileError(f"@precision is '{precision[:40]}', expected float32 or float64")
    return Table(
        lower=group.number("lower"),
        inner=group.number("inner"),
        cell_width=group.number("cell_width"),
        pieces_h=group.integers("pieces_q", 1),
        coefficients_veq=group.floats("coefficients_pkr", 3),
        basis_qm=group.floats("basis_rm", 2),
        dtype=np.dtype(precision),
        error=group.number("error"),
        slope_error=group.number("slope_error"),
    )


def _read_provenance(group: Reader) -> Provenance:
    distance = float(group.floats("min_nbor_dist", 0)) if group.has("min_nbor_dist") else None
    return Provenance(
        source_file=group.text("source_file"),
        source_sha256=group.text("source_sha256"),
        source_format=group.text("source_format"),
        model_version=group.text("model_version"),
        converted_by=group.text("converted_by"),
        training_script=group.text("training_script"),
        notes=group.texts("notes"),
        min_nbor_dist=distance,
    )


def _read_frame(group: Reader, fitting: Fitting) -> ReferenceFrame:
    return ReferenceFrame(
        positions_ac=group.floats("positions_ac", 2),
        cell_cc=group.floats("cell_cc", 2),
        types_a=group.integers("types_a", 1),
        energy=float(group.floats("energy", 0)),
        forces_ac=group.floats("forces_ac", 2),
        virial_cc=group.floats("virial_cc", 2),
        evaluated_by=group.string("evaluated_by"),
        fparam_f=group.floats("fparam_f", 1) if fitting.n_fparam else None,
        aparam_af=group.floats("aparam_af", 2) if fitting.n_aparam else None,
    )
