"""What stands where in a model file: a `DeepPotential` to and from HDF5 (SCHEMA.md, version 2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import h5py
import numpy as np

from lmp_dp.errors import ModelFileError
from lmp_dp.model.deep_potential import (
    DeepPotential,
    Descriptor,
    Fitting,
    Provenance,
    ReferenceFrame,
)
from lmp_dp.model.hdf5_reader import Reader
from lmp_dp.model.network import Layer, Network
from lmp_dp.model.table import Table

FORMAT = "lmp_dp"
FORMAT_VERSION = 2
_MAX_TYPES = 1024
#: Datasets of /fitting that only models with parameters have.
_PARAMETERS = ("fparam_avg_f", "fparam_istd_f", "aparam_avg_f", "aparam_istd_f")
_T = TypeVar("_T")


# --------------------------------------------------------------------------- writing
def write(file: h5py.File, model: DeepPotential) -> None:
    """Fill an empty file."""
    file.attrs["format"] = FORMAT
    file.attrs["format_version"] = FORMAT_VERSION
    file.attrs["model_type"] = "energy"
    file["type_map"] = np.array(model.type_map, dtype=h5py.string_dtype())

    provenance = file.create_group("provenance")
    source = model.provenance
    for name in (
        "source_file",
        "source_sha256",
        "source_format",
        "model_version",
        "converted_by",
        "training_script",
    ):
        provenance[name] = getattr(source, name)
    provenance["notes"] = np.array(source.notes, dtype=h5py.string_dtype())
    if source.min_nbor_dist is not None:
        provenance["min_nbor_dist"] = source.min_nbor_dist

    d = model.descriptor
    group = file.create_group("descriptor")
    group.attrs["type"] = "se_e2_a"
    group.attrs["rcut"] = d.rcut
    group.attrs["rcut_smth"] = d.rcut_smth
    group.attrs["n_norm"] = d.n_norm
    group.attrs["axis_neuron"] = d.axis_neuron
    group["sel_t"] = np.asarray(d.sel_t, dtype=np.int64)
    group["davg_tk"] = d.davg_tk
    group["dstd_tk"] = d.dstd_tk
    group["net_tt"] = np.asarray(d.net_tt, dtype=np.int64)
    for n, net in enumerate(d.embeddings):
        _write_network(group.create_group(f"embedding/net_{n}"), net)
    for n, table in enumerate(d.tables):
        _write_table(group.create_group(f"table/net_{n}"), table)
    if d.padding_tjm is not None:
        group["padding_tjm"] = d.padding_tjm

    group = file.create_group("fitting")
    group["bias_atom_e_t"] = model.fitting.bias_atom_e_t
    group["subtract_vacuum_t"] = model.fitting.subtract_vacuum_t
    for name in _PARAMETERS:
        if len(values_f := getattr(model.fitting, name)):
            group[name] = values_f
    for t, net in enumerate(model.fitting.nets):
        _write_network(group.create_group(f"net_{t}"), net)

    frame = model.reference_frame
    if frame is not None:
        group = file.create_group("reference_frame")
        group.attrs["evaluated_by"] = frame.evaluated_by
        for name in ("positions_ac", "cell_cc", "types_a", "energy", "forces_ac", "virial_cc"):
            group[name] = getattr(frame, name)
        for name in ("fparam_f", "aparam_af"):
            if (values := getattr(frame, name)) is not None:
                group[name] = values


def _write_table(group: h5py.Group, table: Table) -> None:
    for name in ("lower", "inner", "cell_width", "error", "slope_error"):
        group.attrs[name] = getattr(table, name)
    group.attrs["precision"] = table.dtype.name
    for name in ("pieces_q", "coefficients_pkr", "basis_rm"):
        group[name] = getattr(table, name)


def _write_network(group: h5py.Group, net: Network) -> None:
    for k, layer in enumerate(net.layers):
        sub = group.create_group(f"layer_{k}")
        sub.attrs["activation"] = layer.activation
        sub.attrs["joins"] = layer.joins
        sub["weight_io"] = layer.weight_io
        sub["bias_o"] = layer.bias_o
        if layer.idt_o is not None:
            sub["idt_o"] = layer.idt_o


# --------------------------------------------------------------------------- reading
def read(file: Reader) -> DeepPotential:
    """The model in a file.

    Raises
    ------
    ModelFileError
        Something is missing, of another type, or beyond what a model may be; with its place.
    """
    if not file.has_attribute("format") or file.string("format") != FORMAT:
        raise ModelFileError(f"not a model of lmp_dp (attribute 'format' is not '{FORMAT}')")
    version = file.integer("format_version")
    if not 1 <= version <= FORMAT_VERSION:
        raise ModelFileError(
            f"format version {version} found, this lmp_dp reads 1 to {FORMAT_VERSION}; "
            + ("update lmp-dp" if version > FORMAT_VERSION else "convert the model again")
        )
    _expect(file, "model_type", "energy")
    type_map = file.texts("type_map")
    if not 0 < len(type_map) <= _MAX_TYPES:
        raise ModelFileError(f"type_map has {len(type_map)} elements, expected 1 to {_MAX_TYPES}")
    fitting = _read_fitting(file.sub("fitting"), len(type_map))
    frame = None
    if file.has("reference_frame"):
        frame = _read_frame(file.sub("reference_frame"), fitting)
    return DeepPotential(
        type_map=type_map,
        descriptor=_read_descriptor(file.sub("descriptor"), version),
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


def _read_descriptor(group: Reader, version: int) -> Descriptor:
    _expect(group, "type", "se_e2_a")
    if version == 1:
        net_tt, names = _nets_of_version_1(group)
    else:
        net_tt = group.integers("net_tt", 2)
        counts = [len(group.sub(kind)) for kind in ("embedding", "table") if group.has(kind)]
        names = [f"net_{n}" for n in range(max(counts, default=0))]

    def nets(kind: str, make: Callable[[Reader], _T]) -> tuple[_T, ...]:
        if not group.has(kind):
            return ()
        return tuple(_made(make, group.sub(kind).sub(name)) for name in names)

    return Descriptor(
        rcut=group.number("rcut"),
        rcut_smth=group.number("rcut_smth"),
        sel_t=group.integers("sel_t", 1),
        n_norm=group.integer("n_norm"),
        axis_neuron=group.integer("axis_neuron"),
        davg_tk=group.floats("davg_tk", 2),
        dstd_tk=group.floats("dstd_tk", 2),
        net_tt=net_tt,
        embeddings=nets("embedding", _read_network),
        tables=nets("table", _read_table),
        padding_tjm=group.floats("padding_tjm", 3) if group.has("padding_tjm") else None,
    )


def _nets_of_version_1(group: Reader) -> tuple[np.ndarray, list[str]]:
    """`net_tt` and the nets' names: ``all_J`` if one-sided, else ``I_J``."""
    excluded_tt, one_side = group.flags("excluded_tt", 2), group.flag("type_one_side")
    net_tt, names = np.full(excluded_tt.shape, -1), dict[str, int]()
    for i, j in np.argwhere(~excluded_tt).tolist():
        net_tt[i, j] = names.setdefault(f"all_{j}" if one_side else f"{i}_{j}", len(names))
    return net_tt, list(names)


def _read_fitting(group: Reader, n_types: int) -> Fitting:
    return Fitting(
        nets=tuple(_made(_read_network, group.sub(f"net_{t}")) for t in range(n_types)),
        bias_atom_e_t=group.floats("bias_atom_e_t", 1),
        subtract_vacuum_t=group.flags("subtract_vacuum_t", 1),
        **{name: group.floats(name, 1) for name in _PARAMETERS if group.has(name)},
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
        pieces_q=group.integers("pieces_q", 1),
        coefficients_pkr=group.floats("coefficients_pkr", 3),
        basis_rm=group.floats("basis_rm", 2),
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
