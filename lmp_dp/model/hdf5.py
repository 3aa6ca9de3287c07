"""The model file: one HDF5 file per model, schema version 2 (documented in SCHEMA.md).

`save` writes a complete file or none (a temporary file is renamed at the end); `load` trusts
nothing: every group and dataset is checked, nothing is unpickled, and the message of a failure
says what was found and what was expected.

The HDF5 library is not safe on damaged files (a flipped bit can send it round in circles, or have
it ask for gigabytes), and a flipped bit in a weight is a valid number. So a file starts with a
block that HDF5 leaves to its users, which holds the SHA-256 of the rest; it is compared before HDF5
sees the file. Files without that block, as they were written at first, are read unchecked.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

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
from lmp_dp.model.network import Layer, Network
from lmp_dp.model.table import Table

FORMAT = "lmp_dp"
FORMAT_VERSION = 2
SEAL_BYTES = 512  # the smallest user block of HDF5
_SEAL = b"lmp_dp model: HDF5 from byte 512 on, of which the SHA-256 is "
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MAX_TYPES = 1024
#: Datasets of /fitting that only models with parameters have.
_PARAMETERS = ("fparam_avg_f", "fparam_istd_f", "aparam_avg_f", "aparam_istd_f")
_T = TypeVar("_T")


# --------------------------------------------------------------------------- writing
def save(model: DeepPotential, path: str | os.PathLike[str]) -> None:
    """Write `model` to `path`; an interrupted or failed write leaves no file behind.

    Raises
    ------
    ModelFileError
        The folder cannot be written.
    """
    path = Path(path)
    try:
        handle, temporary = tempfile.mkstemp(prefix=path.name, suffix=".part", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise ModelFileError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        with h5py.File(temporary, "w", userblock_size=SEAL_BYTES) as file:
            _write(file, model)
        seal(temporary)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp gives 0600
        os.replace(temporary, path)
    except OSError as error:
        raise ModelFileError(f"cannot write {path}: {error}") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def seal(path: str | os.PathLike[str]) -> None:
    """Write the checksum of a model file into it, after its content was changed on purpose.

    Parameters
    ----------
    path : path
        A file that `save` wrote.

    Raises
    ------
    OSError
        The file cannot be read and written.
    """
    with open(path, "r+b") as file:
        file.seek(SEAL_BYTES)
        text = _SEAL + hashlib.sha256(file.read()).hexdigest().encode()
        file.seek(0)
        file.write(text.ljust(SEAL_BYTES, b"\0"))


def _write(file: h5py.File, model: DeepPotential) -> None:
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
def load(path: str | os.PathLike[str]) -> DeepPotential:
    """Read and check a model file.

    Raises
    ------
    ModelFileError
        The file is missing, not HDF5, not a model of lmp_dp, of a newer format, truncated or
        inconsistent; the message names the file and the place in it.
    """
    path = Path(path)
    if not path.is_file():
        hint = "" if path.suffix != ".pb" else " (a frozen graph is converted with lmp-dp convert)"
        raise ModelFileError(f"model file {path} does not exist{hint}")
    try:
        _check_seal(path)
        with h5py.File(path, "r") as file:
            return _read(_Reader(file))
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
        # h5py reports damage inside a file by any of these
        raise ModelFileError(f"{path} is damaged or not a model file: {error}") from error


def _check_seal(path: Path) -> None:
    """Refuse a file whose content is not that which was written."""
    with open(path, "rb") as file:
        head = file.read(SEAL_BYTES)
        if head.startswith(_HDF5_SIGNATURE):
            return
        if not head.startswith(_SEAL):
            raise ModelFileError(
                "not a model file of lmp_dp, or damaged at its start; convert a frozen DeePMD-kit "
                f"model with 'lmp-dp convert {path} {path.stem}.h5' and use the .h5 file"
            )
        digest = hashlib.sha256(file.read()).hexdigest().encode()
    if head != (_SEAL + digest).ljust(SEAL_BYTES, b"\0"):
        raise ModelFileError(
            f"the file is damaged: its content has the SHA-256 {digest.decode()[:12]}..., and the "
            "file says otherwise. Copy or convert it again (if it was edited on purpose: "
            "lmp_dp.model.hdf5.seal)"
        )


class _Reader:
    """Typed access to one HDF5 group; every failure names the place."""

    def __init__(self, group: h5py.Group) -> None:
        self.group = group

    def _where(self, name: str) -> str:
        return f"{self.group.name.rstrip('/')}/{name}"

    def sub(self, name: str) -> _Reader:
        item = self.group.get(name)
        if not isinstance(item, h5py.Group):
            raise ModelFileError(f"group {self._where(name)} is missing")
        return _Reader(item)

    def count(self, name: str) -> int:
        """Number of members of a group; 0 if it is absent."""
        return len(self.sub(name).group) if self.has(name) else 0

    def has(self, name: str) -> bool:
        return name in self.group

    def attr(self, name: str, convert: Callable[[Any], _T]) -> _T:
        if name not in self.group.attrs:
            raise ModelFileError(f"attribute {self._where('@' + name)} is missing")
        value = self.group.attrs[name]
        try:
            return convert(value)
        except (TypeError, ValueError):
            raise ModelFileError(
                f"attribute {self._where('@' + name)} has the unusable value {value!r}"
            ) from None

    def _dataset(self, name: str) -> h5py.Dataset:
        item = self.group.get(name)
        if not isinstance(item, h5py.Dataset):
            raise ModelFileError(f"dataset {self._where(name)} is missing")
        size = item.file.id.get_filesize()
        if item.nbytes > size:  # not stored as a whole: reading it would invent the rest
            raise ModelFileError(
                f"dataset {self._where(name)} claims {item.nbytes} bytes in a file of {size}"
            )
        return item

    def array(self, name: str, kinds: str, ndim: int) -> np.ndarray:
        item = self._dataset(name)
        if item.dtype.kind not in kinds or item.ndim != ndim:
            raise ModelFileError(
                f"dataset {self._where(name)} has type {item.dtype} and {item.ndim} axes; "
                f"expected kind '{kinds}' and {ndim} axes"
            )
        return np.asarray(item[()], order="C")

    def text(self, name: str) -> str:
        item = self._dataset(name)
        if h5py.check_string_dtype(item.dtype) is None or item.ndim != 0:
            raise ModelFileError(f"dataset {self._where(name)} is not a string")
        return str(item.asstr()[()])

    def texts(self, name: str) -> tuple[str, ...]:
        item = self._dataset(name)
        if h5py.check_string_dtype(item.dtype) is None or item.ndim != 1:
            raise ModelFileError(f"dataset {self._where(name)} is not a list of strings")
        return tuple(str(value) for value in item.asstr()[()])


def _read(file: _Reader) -> DeepPotential:
    if "format" not in file.group.attrs or file.attr("format", str) != FORMAT:
        raise ModelFileError(f"not a model of lmp_dp (attribute 'format' is not '{FORMAT}')")
    version = file.attr("format_version", int)
    if not 1 <= version <= FORMAT_VERSION:
        raise ModelFileError(
            f"format version {version} found, this lmp_dp reads 1 to {FORMAT_VERSION}; "
            + ("update lmp-dp" if version > FORMAT_VERSION else "convert the model again")
        )
    if file.attr("model_type", str) != "energy":
        raise ModelFileError(f"model type {file.attr('model_type', str)!r}, expected 'energy'")
    type_map = file.texts("type_map")
    if not 0 < len(type_map) <= _MAX_TYPES:
        raise ModelFileError(f"type_map has {len(type_map)} elements")
    descriptor = _read_descriptor(file.sub("descriptor"), version)
    fitting = _read_fitting(file.sub("fitting"), len(type_map))
    return DeepPotential(
        type_map=type_map,
        descriptor=descriptor,
        fitting=fitting,
        provenance=_read_provenance(file.sub("provenance")),
        reference_frame=(
            _read_frame(file.sub("reference_frame"), len(type_map), fitting)
            if file.has("reference_frame")
            else None
        ),
    )


def _read_descriptor(group: _Reader, version: int) -> Descriptor:
    kind = group.attr("type", str)
    if kind != "se_e2_a":
        raise ModelFileError(f"descriptor '{kind}' found, expected 'se_e2_a'")
    if version == 1:
        net_tt, names = _nets_of_version_1(group)
    else:
        net_tt = group.array("net_tt", "i", 2)
        names = [f"net_{n}" for n in range(max(map(group.count, ("embedding", "table"))))]

    def nets(kind: str, read: Callable[[_Reader], _T]) -> tuple[_T, ...]:
        return tuple(read(group.sub(f"{kind}/{n}")) for n in names) if group.has(kind) else ()

    return Descriptor(
        rcut=group.attr("rcut", float),
        rcut_smth=group.attr("rcut_smth", float),
        sel_t=group.array("sel_t", "iu", 1),
        n_norm=group.attr("n_norm", int),
        axis_neuron=group.attr("axis_neuron", int),
        davg_tk=group.array("davg_tk", "f", 2),
        dstd_tk=group.array("dstd_tk", "f", 2),
        net_tt=net_tt,
        embeddings=nets("embedding", _read_network),
        tables=nets("table", _read_table),
        padding_tjm=group.array("padding_tjm", "f", 3) if group.has("padding_tjm") else None,
    )


def _nets_of_version_1(group: _Reader) -> tuple[np.ndarray, list[str]]:
    """`net_tt` and the nets' names: ``all_J`` if one-sided, else ``I_J``."""
    excluded_tt = group.array("excluded_tt", "b", 2)
    one_side = group.attr("type_one_side", bool)
    net_tt, names = np.full(excluded_tt.shape, -1), dict[str, int]()
    for i, j in np.argwhere(~excluded_tt).tolist():
        net_tt[i, j] = names.setdefault(f"all_{j}" if one_side else f"{i}_{j}", len(names))
    return net_tt, list(names)


def _read_fitting(group: _Reader, n_types: int) -> Fitting:
    return Fitting(
        nets=tuple(_read_network(group.sub(f"net_{t}")) for t in range(n_types)),
        bias_atom_e_t=group.array("bias_atom_e_t", "f", 1),
        subtract_vacuum_t=group.array("subtract_vacuum_t", "b", 1),
        **{name: group.array(name, "f", 1) for name in _PARAMETERS if group.has(name)},
    )


def _layers(group: _Reader) -> Iterator[Layer]:
    for k in range(len(group.group)):
        sub = group.sub(f"layer_{k}")
        yield Layer(
            weight_io=sub.array("weight_io", "f", 2),
            bias_o=sub.array("bias_o", "f", 1),
            idt_o=sub.array("idt_o", "f", 1) if sub.has("idt_o") else None,
            activation=sub.attr("activation", str),
            joins=sub.attr("joins", str),  # type: ignore[arg-type]  # checked by Layer
        )


def _read_network(group: _Reader) -> Network:
    try:
        return Network(tuple(_layers(group)))
    except ModelFileError as error:
        raise ModelFileError(f"{group.group.name}: {error}") from None


def _read_table(group: _Reader) -> Table:
    try:
        return Table(
            lower=group.attr("lower", float),
            inner=group.attr("inner", float),
            cell_width=group.attr("cell_width", float),
            pieces_q=group.array("pieces_q", "iu", 1),
            coefficients_pkr=group.array("coefficients_pkr", "f", 3),
            basis_rm=group.array("basis_rm", "f", 2),
            dtype=group.attr("precision", np.dtype),
            error=group.attr("error", float),
            slope_error=group.attr("slope_error", float),
        )
    except ModelFileError as error:
        raise ModelFileError(f"{group.group.name}: {error}") from None


def _read_provenance(group: _Reader) -> Provenance:
    distance = None
    if group.has("min_nbor_dist"):
        distance = float(group.array("min_nbor_dist", "f", 0))
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


def _read_frame(group: _Reader, n_types: int, fitting: Fitting) -> ReferenceFrame:
    frame = ReferenceFrame(
        positions_ac=group.array("positions_ac", "f", 2),
        cell_cc=group.array("cell_cc", "f", 2),
        types_a=group.array("types_a", "iu", 1),
        energy=float(group.array("energy", "f", 0)),
        forces_ac=group.array("forces_ac", "f", 2),
        virial_cc=group.array("virial_cc", "f", 2),
        evaluated_by=group.attr("evaluated_by", str),
        fparam_f=group.array("fparam_f", "f", 1) if fitting.n_fparam else None,
        aparam_af=group.array("aparam_af", "f", 2) if fitting.n_aparam else None,
    )
    n_atoms = len(frame.types_a)
    if frame.fparam_f is not None and frame.fparam_f.shape != (fitting.n_fparam,):
        raise ModelFileError("reference_frame: fparam does not fit the model")
    if frame.aparam_af is not None and frame.aparam_af.shape != (n_atoms, fitting.n_aparam):
        raise ModelFileError("reference_frame: aparam does not fit the model and its types")
    if frame.positions_ac.shape != (n_atoms, 3) or frame.forces_ac.shape != (n_atoms, 3):
        raise ModelFileError("reference_frame: positions and forces do not fit its types")
    if frame.cell_cc.shape != (3, 3) or frame.virial_cc.shape != (3, 3):
        raise ModelFileError("reference_frame: cell and virial must be 3 x 3")
    if n_atoms and not (frame.types_a.min() >= 0 and frame.types_a.max() < n_types):
        raise ModelFileError("reference_frame: a type is outside of the type_map")
    return frame
