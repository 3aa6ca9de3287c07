"""Files of version 1, the first ones that were shipped, are read as they always were."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from conftest import INPUTS, TRAINED
from lmp_dp.errors import ModelFileError
from lmp_dp.model import DeepPotential, Network, load
from lmp_dp.model.file import seal
from lmp_dp.model.table import Table
from lmp_dp.tools.compress import compress
from small_model import assert_same, full_model, small_model


def write_version_1(model: DeepPotential, path: Path, *, one_side: bool) -> None:
    """The layout of the first version, written out by hand."""
    d, text = model.descriptor, h5py.string_dtype()
    with h5py.File(path, "w", userblock_size=512) as file:
        file.attrs.update(format="lmp_dp", format_version=1, model_type="energy")
        file["type_map"] = np.array(model.type_map, dtype=text)
        for name, value in vars(model.provenance).items():
            if value is not None:
                file[f"provenance/{name}"] = (
                    np.array(value, dtype=text) if isinstance(value, tuple) else value
                )
        group, environment = file.create_group("descriptor"), vars(d.environment)
        group.attrs.update(type="se_e2_a", type_one_side=one_side, axis_neuron=d.axis_neuron)
        for name in ("rcut", "rcut_smth", "n_norm"):
            group.attrs[name] = environment[name]
        for name in ("sel_t", "davg_tk", "dstd_tk", "excluded_tt"):
            group[name] = environment[name]
        for (i, j), n in np.ndenumerate(d.nets.net_tt):
            name = f"all_{j}" if one_side else f"{i}_{j}"
            if n >= 0 and d.nets.embeddings and f"embedding/{name}" not in group:
                write_network(group.create_group(f"embedding/{name}"), d.nets.embeddings[n])
            if n >= 0 and d.nets.tables and f"table/{name}" not in group:
                write_table(group.create_group(f"table/{name}"), d.nets.tables[n])
        if d.nets.padding_ttm is not None:
            group["padding_tjm"] = d.nets.padding_ttm
        for name, value in vars(model.fitting).items():
            if name.endswith(("_t", "_f")) and value is not None and len(value):
                file[f"fitting/{name}"] = value
        for t, net in enumerate(model.fitting.nets):
            write_network(file.create_group(f"fitting/net_{t}"), net)
        if model.reference_frame is not None:
            group = file.create_group("reference_frame")
            for name, value in vars(model.reference_frame).items():
                if name == "evaluated_by":
                    group.attrs[name] = value
                elif value is not None:
                    group[name] = value
    seal(path)


def write_network(group: h5py.Group, net: Network) -> None:
    for k, layer in enumerate(net.layers):
        sub = group.create_group(f"layer_{k}")
        sub.attrs.update(activation=layer.activation, joins=layer.joins)
        for name in ("weight_io", "bias_o", "idt_o"):
            if getattr(layer, name) is not None:
                sub[name] = getattr(layer, name)


#: Datasets of a table by what is in them now.
TABLE_NAMES = {
    "pieces_h": "pieces_q",
    "coefficients_veq": "coefficients_pkr",
    "basis_qm": "basis_rm",
}


def write_table(group: h5py.Group, table: Table) -> None:
    for name, value in vars(table).items():
        if name == "dtype":
            group.attrs["precision"] = value.name
        elif isinstance(value, np.ndarray):
            group[TABLE_NAMES[name]] = value
        else:
            group.attrs[name] = value


@pytest.mark.parametrize("make", [small_model, full_model])
def test_version_1_is_read(make, tmp_path: Path) -> None:
    write_version_1(make(), tmp_path / "model.h5", one_side=False)
    assert_same(load(tmp_path / "model.h5"), make())


@pytest.mark.parametrize("name", ["hea_one_sided", "hco_exclude_one_sided"])
def test_version_1_shares_nets_by_name(name: str, converted, tmp_path: Path) -> None:
    model = compress(load(converted(name)), min_distance=0.8, tolerance=1e-3)
    assert model.descriptor.nets.shared_between_centres
    write_version_1(model, tmp_path / "model.h5", one_side=True)
    assert_same(load(tmp_path / "model.h5"), model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f["descriptor"].attrs.__setitem__("type", "se_e3"), "@type: 'se_e3' found"),
        (lambda f: f["descriptor"].attrs.__setitem__("rcut", "x"), "@rcut has the unusable value"),
        (lambda f: f["descriptor"].attrs.__setitem__("axis_neuron", 7), "axis_neuron is 7"),
        (lambda f: f.attrs.__setitem__("model_type", "dipole"), "@model_type: 'dipole' found"),
        (lambda f: f.__delitem__("descriptor/sel_t"), "dataset /descriptor/sel_t is missing"),
        (lambda f: f.__delitem__("descriptor/embedding/0_0"), "/embedding/0_0 is missing"),
        (lambda f: f.__delitem__("descriptor/table/1_1"), "/table/1_1 is missing"),
        (lambda f: f.__delitem__("fitting/net_1"), "group /fitting/net_1 is missing"),
        (lambda f: f.__delitem__("reference_frame/fparam_f"), "/fparam_f is missing"),
        (
            lambda f: f["fitting/net_0/layer_1"].attrs.__setitem__("joins", "double"),
            "/fitting/net_0/layer_1: a layer 5 -> 5 cannot join its input 'double'",
        ),
        (
            lambda f: f["fitting/net_0/layer_0/weight_io"].__setitem__((0, 0), np.nan),
            "/fitting/net_0/layer_0: weight holds nan, expected finite",
        ),
        (
            lambda f: f["descriptor/table/0_0"].attrs.__setitem__("precision", "float16"),
            "@precision is 'float16'",
        ),
        (
            lambda f: f["reference_frame/energy"].__setitem__((), np.inf),
            "/reference_frame: the energy is inf",
        ),
    ],
)
def test_inconsistent_files_are_refused(change, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    write_version_1(full_model(), path, one_side=False)
    with h5py.File(path, "r+") as file:
        change(file)
    seal(path)
    with pytest.raises(ModelFileError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", TRAINED)
def test_shipped_models_are_read_as_they_stand(name: str) -> None:
    """Every net of every pair, against the file's own datasets."""
    path = INPUTS / "models" / f"{name}.h5"
    nets = load(path).descriptor.nets
    with h5py.File(path) as file:
        assert file.attrs["format_version"] == 1
        group = file["descriptor/embedding"]
        assert len(group) == len(nets.embeddings)
        for i, j in np.ndindex(nets.net_tt.shape):
            net, layers = nets.embeddings[nets.net_tt[i, j]], group[f"{i}_{j}"]
            assert len(net.layers) == len(layers)
            for k, layer in enumerate(net.layers):
                for key in ("weight_io", "bias_o", "idt_o"):
                    if getattr(layer, key) is None:
                        assert key not in layers[f"layer_{k}"]
                    else:
                        expected = layers[f"layer_{k}"][key][()]
                        np.testing.assert_array_equal(getattr(layer, key), expected, strict=True)
