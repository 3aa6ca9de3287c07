"""DeePMD-kit's v3 formats: one tree of all, what is refused by name, and files that are bent."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from conftest import MODELS, V3, source_graph
from lmp_dp.errors import LmpDpError, ModelFileError, UnsupportedModelError
from lmp_dp.model import DeepPotential
from lmp_dp.model.mapped import replace_all
from lmp_dp.model.sources.any_source import read_source
from lmp_dp.model.sources.v3 import dp_file, torchscript, yaml_text
from lmp_dp.model.sources.v3.model import read_tree
from lmp_dp.model.sources.v3.tree import Tree

BY_FORMAT = {suffix: [n for n in V3 if source_graph(n).suffix == suffix]
             for suffix in (".pth", ".dp", ".yaml")}  # fmt: skip


def tree_of(name: str) -> dict[str, Any]:
    path = source_graph(name)
    readers = {".pth": torchscript.read, ".dp": dp_file.dp_tree, ".yaml": dp_file.yaml_tree}
    return readers[path.suffix](path)


def read(tree: dict[str, Any]) -> DeepPotential:
    return read_tree(tree, "test")


@pytest.mark.parametrize("name", V3)
def test_what_a_model_says_of_itself(name: str) -> None:
    """Against the training input that the model was made from."""
    model = read_source(source_graph(name))
    script = json.loads(model.provenance.training_script)
    script = script.get("model", script)
    assert list(model.type_map) == script["type_map"]
    assert model.provenance.min_nbor_dist == 0.9
    members = script["descriptor"].get("list", [script["descriptor"]])
    assert len(members) == len(model.descriptor.parts)
    for part, given in zip(model.descriptor.parts, members, strict=True):
        environment = part.environment
        assert (environment.rcut, environment.rcut_smth) == (given["rcut"], given["rcut_smth"])
        assert environment.n_slots == np.sum(given["sel"])
        assert environment.protection == given.get("env_protection", 0.0)
        excluded = {tuple(sorted(pair)) for pair in np.argwhere(environment.excluded_tt).tolist()}
        assert excluded == {tuple(sorted(pair)) for pair in given.get("exclude_types", [])}
        unseen = script.get("pair_exclude_types", [])
        assert (environment.unseen_tt is None) == (not unseen)
        assert part.dtype == given.get("precision", "float64")
        assert part.n_channels == given["neuron"][-1]
    fitting = script["fitting_net"]
    assert model.fitting.n_fparam == fitting.get("numb_fparam", 0)
    assert model.fitting.n_aparam == fitting.get("numb_aparam", 0)
    assert model.fitting.nets[0].widths[-len(fitting["neuron"]) - 1 :] == (*fitting["neuron"], 1)
    assert (model.fitting.silent_t is None) == ("atom_exclude_types" not in script)


def written_as_yaml(tree: dict[str, Any]) -> bytes:
    """As DeePMD-kit writes it, by PyYAML."""
    import yaml

    def arrays(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: arrays(item) for name, item in part.items()}
        if isinstance(part, list):
            return [arrays(item) for item in part]
        if not isinstance(part, np.ndarray):
            return part
        head = {"@class": "np.ndarray", "@is_variable": True, "@version": 1}
        return {**head, "dtype": part.dtype.name, "value": part.tolist()}

    return yaml.safe_dump(arrays(tree)).encode()


@pytest.mark.parametrize("name", BY_FORMAT[".dp"])
def test_text_and_hdf5_hold_the_same(name: str, tmp_path: Path) -> None:
    """Every number of a .dp model after a way through .yaml, bit for bit."""
    (tmp_path / "model.yaml").write_bytes(written_as_yaml(tree_of(name)))
    one = read_source(source_graph(name))
    two = read_source(tmp_path / "model.yaml")
    arrays: list[list[np.ndarray]] = [[], []]
    for model, found in zip((one, two), arrays, strict=True):
        replace_all(model, np.ndarray, lambda array, found=found: found.append(array) or array)
    assert len(arrays[0]) == len(arrays[1]) > 10
    for a, b in zip(*arrays, strict=True):
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes()


# ----------------------------------------------------------------------------- refused by name
def changed(name: str, place: str, value: Any) -> dict[str, Any]:
    tree = copy.deepcopy(tree_of(name))
    part = tree["model"]
    *way, last = place.split("/")
    for step in way:
        part = part[int(step)] if isinstance(part, list) else part[step]
    part[last] = value
    return tree


def one_dp(kind: str) -> str:
    return next(n for n in BY_FORMAT[".dp"] if n.startswith(f"v3_{kind}"))


REFUSED: dict[str, tuple[str, str, Any, str]] = {
    "linear": ("a", "type", "linear_ener", "a model of type 'linear_ener'"),
    "spin model": ("a", "type", "spin_ener", "a model of type 'spin_ener'"),
    "dpa2": ("a", "descriptor/type", "dpa2", "the descriptor 'dpa2'"),
    "dpa3": ("a", "descriptor/type", "dpa3", "the descriptor 'dpa3'"),
    "se_e3_tebd": ("a", "descriptor/type", "se_e3_tebd", "the descriptor 'se_e3_tebd'"),
    "dipole": ("a", "fitting/type", "dipole", "fitting nets of type 'dipole'"),
    "polar": ("a", "fitting/type", "polar", "fitting nets of type 'polar'"),
    "spin": ("a", "descriptor/spin", {"use_spin": [True]}, "descriptor/spin"),
    "compressed": ("a", "descriptor/compress", {"@variables": {}}, "the model is compressed"),
    "switch": ("a", "descriptor/env_mat", {"use_exp_switch": True}, "use_exp_switch"),
    "mask": ("a", "fitting/use_aparam_as_mask", True, "use_aparam_as_mask"),
    "case": ("a", "fitting/dim_case_embd", 3, "dim_case_embd"),
    "excluded in the nets": ("a", "fitting/exclude_types", [0], "exclude_types of fitting nets"),
    "heads": (
        "atten_sharp",
        "descriptor/attention_layers/attention_layers/0/attention_layer/num_heads",
        2,
        "attention with 2 heads",
    ),
    "electrons": (
        "atten",
        "descriptor/type_embedding/use_econf_tebd",
        True,
        "use_econf_tebd",
    ),
    "lmax": ("atten", "descriptor/lmax", 2, "lmax 2"),
    "mode": ("atten", "descriptor/tebd_input_mode", "other", "tebd_input_mode 'other'"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name: str) -> None:
    kind, place, value, message = REFUSED[name]
    with pytest.raises(UnsupportedModelError, match=message):
        read(changed(one_dp(kind), place, value))


def test_order_of_atoms_does_not_matter() -> None:
    """Empty slots of se_atten take te of the first atom, and count where davg is not zero."""
    tree = copy.deepcopy(tree_of(one_dp("atten")))
    tree["model"]["descriptor"]["@variables"]["davg"][:, :, 0] = 0.1
    with pytest.raises(UnsupportedModelError, match="depend on the order of atoms"):
        read(tree)


BROKEN: dict[str, tuple[str, Any, str]] = {
    "no descriptor": ("descriptor", None, "/model/descriptor is missing"),
    "descriptor of another kind": ("descriptor", [1], "/model/descriptor is of type list"),
    "text for a number": ("descriptor/rcut", "4.0", "/model/descriptor/rcut is of type str"),
    "sel": ("descriptor/sel", [-1, 4], "sel"),
    "huge sel": ("descriptor/sel", [2**60, 4], "sel"),
    "a net less": ("descriptor/embeddings/networks", [], "has 0 networks, expected"),
    "a net that is none": ("descriptor/embeddings/networks", [None] * 4, "is no object"),
    "ndim": ("descriptor/embeddings/ndim", 3, "ndim is 3"),
    "elements": ("type_map", ["O", 1], "something else than strings"),
    "element beyond": ("atom_exclude_types", [7], "names the element 7 of 2"),
    "pair beyond": ("pair_exclude_types", [[0, 2]], "names the elements 0 and 2"),
    "no pair": ("pair_exclude_types", [[0]], "something else than pairs"),
    "bias": ("fitting/@variables/bias_atom_e", np.zeros(3), "bias_atom_e has 3 numbers"),
    "statistics": ("descriptor/@variables/davg", np.zeros((2, 3, 4)), "davg has shape"),
    "text for an array": ("descriptor/@variables/davg", "x", "davg is no array"),
    "weights": (
        "fitting/nets/networks/0/layers/0/@variables/w",
        np.zeros((3, 24)),
        "takes 3 values",
    ),
    "not finite": (
        "fitting/nets/networks/0/layers/0/@variables/b",
        np.full(24, np.nan),
        "expected finite",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_trees(name: str) -> None:
    place, value, message = BROKEN[name]
    with pytest.raises(ModelFileError, match=message):
        read(changed("v3_a_two_sided", place, value))


def test_one_part_many_times() -> None:
    """A list of lists of one and the same net: 10^10 of them, if somebody counted."""
    layer = {"layers": [{}] * 100_000}
    nets = Tree({"networks": [layer] * 100_000})
    with pytest.raises(ModelFileError, match="more than 100000 parts"):
        [net.subs("layers") for net in nets.subs("networks")]


# ----------------------------------------------------------------------------- HDF5
def bent_dp(path: Path, bend: Callable[[h5py.File, dict[str, Any]], None]) -> Path:
    path.write_bytes(source_graph("v3_a_two_sided").read_bytes())
    with h5py.File(path, "r+") as file:
        tree = json.loads(file.attrs["json"])
        bend(file, tree)
        if "json" in file.attrs:
            file.attrs["json"] = json.dumps(tree)
    return path


def _elsewhere(file: h5py.File, tree: dict[str, Any]) -> None:
    del file["variable_0000"]
    file["variable_0000"] = h5py.ExternalLink("/etc/passwd", "/x")


def _virtual(file: h5py.File, tree: dict[str, Any]) -> None:
    del file["variable_0000"]
    layout = h5py.VirtualLayout(shape=(2,), dtype="f8")
    layout[:] = h5py.VirtualSource("other.h5", "x", shape=(2,))
    file.create_virtual_dataset("variable_0000", layout)


def _compressed(file: h5py.File, tree: dict[str, Any]) -> None:
    del file["variable_0000"]
    file.create_dataset("variable_0000", data=np.zeros(10_000_000), compression="gzip")


def _named(name: Any) -> Callable[[h5py.File, dict[str, Any]], None]:
    def bend(file: h5py.File, tree: dict[str, Any]) -> None:
        tree["model"]["@variables"]["out_bias"] = name

    return bend


BENT = {
    "a link": (_elsewhere, "link to another file"),
    "virtual": (_virtual, "is virtual"),
    "compressed": (_compressed, "is compressed"),
    "other name": (_named("/etc/passwd"), "a variable is named '/etc/passwd'"),
    "name that is missing": (_named("/variable_9999"), "dataset /variable_9999 is missing"),
    "no json": (lambda file, tree: file.attrs.pop("json"), "without the attribute 'json'"),
}


@pytest.mark.parametrize("name", BENT)
def test_bent_dp(name: str, tmp_path: Path) -> None:
    bend, message = BENT[name]
    with pytest.raises(ModelFileError, match=message):
        read_source(bent_dp(tmp_path / "model.dp", bend))


def test_json_that_is_deep(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "model.dp", "w") as file:
        file.attrs["json"] = "[" * 50_000
    with pytest.raises(ModelFileError, match="damaged or no DP model"):
        read_source(tmp_path / "model.dp")


# ----------------------------------------------------------------------------- YAML
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!!python/object/apply:os.system ['true']", "the tag"),
        ("a: !!python/name:os.system", "the tag"),
        ("a: !!binary aGVsbG8=", "the tag"),
        ("a: 1\n---\nb: 2", "2 YAML documents"),
        ("a: 1\na: 2", "a key twice"),
        ("1: 2", "keys that are no text"),
        ("[" * 1000, "nested deeper"),
        ("a: [1, 2", "no YAML as DP models have it"),
        ("a: *b", "no YAML as DP|no anchor"),
        ("", "0 YAML documents"),
        ("a: {'@class': np.ndarray, dtype: object, value: [1]}", "array of type object"),
        ("a: {'@class': np.ndarray, dtype: float64, value: [[1], 2]}", "no YAML as DP models"),
    ],
)
def test_yaml_that_is_no_model(text: str, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        yaml_text.read(text.encode())


def test_yaml_of_aliases() -> None:
    """Nine times nine times nine ...: what aliases repeat counts."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    start = time.monotonic()
    with pytest.raises(ModelFileError, match="repeat more than a model has"):
        yaml_text.read("\n".join(lines).encode())
    assert time.monotonic() - start < 5.0


def test_yaml_values() -> None:
    import yaml

    values = {
        "numbers": [1, -2, 0.5, 1e-300, -1.5e20, 1e5, float("inf")],
        "words": [None, True, False, "null", "true", "1", "1.5", "", "~", "a b", "é"],
        "nested": [[1, [2]], {"a": {"b": []}}, {}],
        "shared": [[1, 2]] * 3,
    }
    values["shared again"] = values["shared"]  # type: ignore[assignment]
    text = yaml.safe_dump(values).encode()
    assert b"*id" in text
    assert yaml_text.read(text) == values


def test_bytes_that_are_flipped(tmp_path: Path) -> None:
    """Whatever is flipped in a .yaml, it is read or refused: nothing else."""
    original = source_graph(BY_FORMAT[".yaml"][0]).read_bytes()
    rng, path = np.random.default_rng(3), tmp_path / "model.yaml"
    for _ in range(20):
        data = bytearray(original)
        for place in rng.integers(0, len(data), 2).tolist():
            data[place] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(data)
        try:
            assert isinstance(read_source(path), DeepPotential)
        except LmpDpError:
            continue


def test_models_are_small() -> None:
    assert {path.name: path.stat().st_size for path in (MODELS / "v3").iterdir()
            if path.stat().st_size > 200_000} == {}  # fmt: skip
