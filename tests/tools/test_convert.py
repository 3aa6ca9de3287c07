"""The converter: what it refuses, what it reads without a training script, and what it leaves."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from conftest import MODELS, needs_deepmd, recorded_frames
from lmp_dp import Potential, cli
from lmp_dp.errors import ModelFileError, UnsupportedModelError
from lmp_dp.model import DeepPotential, Network, load
from lmp_dp.model.sources.any_source import read_source
from lmp_dp.model.sources.tensorflow import graphdef
from lmp_dp.tools import convert as tool
from lmp_dp.tools import reference_frame
from lmp_dp.tools.convert import convert
from lmp_dp.tools.reference_frame import verify


class EditableGraph:
    """A frozen graph of the tests, changed by hand to look like another kind of model."""

    def __init__(self, name: str) -> None:
        self.graph = graphdef.parse((MODELS / f"{name}.pb").read_bytes(), text=False)

    def node(self, name: str):
        return next(node for node in self.graph.node if node.name == name)

    def add_const(self, name: str, value) -> None:
        self.graph.node.add(name=name, op="Const")
        self.set_const(name, value)

    def set_const(self, name: str, value) -> None:
        tensor, array = self.node(name).attr["value"].tensor, np.asarray(value)
        tensor.Clear()
        for length in array.shape:
            tensor.tensor_shape.dim.add(size=length)
        if isinstance(value, bytes):
            tensor.dtype = 7
            tensor.string_val.append(value)
        else:
            tensor.dtype = {"float32": 1, "float64": 2, "int32": 3}[array.dtype.name]
            tensor.tensor_content = array.tobytes()

    def const(self, name: str) -> np.ndarray:
        return graphdef.array_of(self.node(name).attr["value"].tensor)

    def remove(self, *prefixes: str) -> None:
        kept = [n for n in self.graph.node if not n.name.startswith(prefixes)]
        for node in kept:
            inputs = [i for i in node.input if not (i[0] == "^" and i[1:].startswith(prefixes))]
            node.input[:] = inputs
        del self.graph.node[:]
        self.graph.node.extend(kept)

    def rename(self, before: str, after: str) -> None:
        """Rename all nodes whose name begins with `before`, and what refers to them."""
        pattern = re.compile(rf"^(\^?){re.escape(before)}")
        for node in self.graph.node:
            node.name = pattern.sub(rf"\1{after}", node.name)
            node.input[:] = [pattern.sub(rf"\1{after}", name) for name in node.input]
            node.attr.pop("_class", None)  # colocation, by name

    def write_text(self, path: Path) -> Path:
        from google.protobuf import text_format

        path.write_text(text_format.MessageToString(self.graph))
        return path

    def script(self) -> dict:
        return json.loads(self.const("train_attr/training_script").item())

    def change_script(self, section: str, **values) -> None:
        script = self.script()
        target = script["model"][section] if section else script["model"]
        target.update(values)
        self.set_const("train_attr/training_script", json.dumps(script).encode())

    def write(self, path: Path) -> Path:
        path.write_bytes(self.graph.SerializeToString())
        return path


def modifier(g: EditableGraph) -> None:
    """DPLR: the dipole model lies in the same graph, with a descriptor of its own."""
    g.add_const("modifier_attr/type", b"dipole_charge")
    g.graph.node.add(name="dipole_charge/ProdEnvMatA", op="ProdEnvMatA")


def modifier_in_script(g: EditableGraph) -> None:
    g.change_script("", modifier={"type": "dipole_charge", "model_name": "dipole.pb"})


def linear(g: EditableGraph) -> None:
    g.change_script("", type="linear_ener", models=[{}, {}], weights="mean")
    g.graph.node.add(name="ProdEnvMatA_1", op="ProdEnvMatA")


def linear_without_script(g: EditableGraph) -> None:
    g.rename("descrpt_attr/", "descrpt_attr_model0/")
    g.remove("train_attr/")
    g.graph.node.add(name="ProdEnvMatA_1", op="ProdEnvMatA")


def dprc(g: EditableGraph) -> None:
    g.rename("descrpt_attr/", "descrpt_attr_qm/")
    g.graph.node.add(name="ProdEnvMatA_1", op="ProdEnvMatA")


def frozen(g: EditableGraph) -> None:
    g.rename("", "load/")
    g.add_const("model_attr/model_type", b"ener")


def mask(g: EditableGraph) -> None:
    g.node("ProdEnvMatA").op = "DescrptSeAMask"


def mask_in_script(g: EditableGraph) -> None:
    g.change_script("descriptor", type="se_a_mask")
    mask(g)


def old_type_embedding(g: EditableGraph) -> None:
    g.add_const("type_embed_layer_1/matrix", np.zeros((2, 8)))


def field(g: EditableGraph) -> None:
    g.node("ProdEnvMatA").op = "DescrptSeAEfPara"


def spin_in_graph(g: EditableGraph) -> None:
    g.add_const("spin_attr/ntypes_spin", np.int32(1))


def two_kinds(g: EditableGraph) -> None:
    g.add_const("filter_type_all/matrix_1_0_0", np.zeros((1, 4)))


def no_nets(g: EditableGraph) -> None:
    g.remove("filter_type_")


def dipole(g: EditableGraph) -> None:
    g.set_const("model_attr/model_type", b"dipole")


def mask_parameters(g: EditableGraph) -> None:
    g.change_script("fitting_net", use_aparam_as_mask=True)


def spin(g: EditableGraph) -> None:
    g.change_script("", spin={"use_spin": [True, False]})


def pair_table(g: EditableGraph) -> None:
    g.add_const("model_attr/t_tab_info", np.zeros(4))


def zero_total(g: EditableGraph) -> None:
    g.change_script("fitting_net", tot_ener_zero=True)


def slot_statistics(g: EditableGraph) -> None:
    values = g.const("descrpt_attr/t_avg").copy()
    values[0, 4] += 1.0
    g.set_const("descrpt_attr/t_avg", values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (modifier, "a model with modifier 'dipole_charge' is not supported"),
        (modifier_in_script, "a model with modifier 'dipole_charge' is not supported"),
        (linear, "model type 'linear_ener' is not supported"),
        (linear_without_script, "model type 'linear_ener' is not supported"),
        (dprc, "model type 'pairwise_dprc' is not supported"),
        (frozen, "model type 'frozen' is not supported"),
        (mask, "descriptor se_a_mask is not supported"),
        (mask_in_script, "descriptor se_a_mask is not supported"),
        (old_type_embedding, r"descriptor se_a_tpe \(type embedding\) is not supported"),
        (field, r"descriptor se_a_ef \(electric field\) is not supported"),
        (spin_in_graph, "models with spin are not supported"),
        (two_kinds, "ProdEnvMatA is not one kind, but se_e2_a and se_e3"),
        (no_nets, "ProdEnvMatA is not one kind, but none that lmp_dp knows"),
        (dipole, "model type 'dipole' is not supported"),
        (mask_parameters, "use_aparam_as_mask is not supported"),
        (spin, "models with spin are not supported"),
        (pair_table, "a short-range pair table"),
        (zero_total, "tot_ener_zero is not supported"),
        (slot_statistics, "t_avg differs between slots"),
    ],
)
def test_refuses_by_name_and_writes_nothing(change, message: str, tmp_path: Path, capsys) -> None:
    graph = EditableGraph("oh_two_sided")
    change(graph)
    source, destination = graph.write(tmp_path / "model.pb"), tmp_path / "model.h5"
    with pytest.raises(UnsupportedModelError, match=message):
        convert(source, destination)
    assert cli.main(["convert", str(source), str(destination)]) == 2
    assert "lmp-dp convert: error:" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pb"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.pb", b"\x00garbage", "is not a TensorFlow GraphDef"),
        ("model.pb", b"", "it has no nodes"),
        ("model.pb", b'node {\n  name: "a"', r"is a graph in text form; name it \.pbtxt"),
        ("model.pb", b"<!DOCTYPE html>", "is a web page; download the file itself"),
        ("model.pb", b"version https://git-lfs.github.com/spec/v1", "pointer of Git LFS"),
        ("model.pb", b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
        ("model.h5", b"lmp_dp model: HDF5 from", "is a model file of lmp_dp already"),
        ("model.pbtxt", b"node { nam: 3 }", "is not a TensorFlow GraphDef"),
        ("model.pbtxt", b"\n\x0c\n\x00\x01", r"is not text; name a graph in binary form \.pb"),
        ("model.pth", b"PK", "is no TorchScript archive: File is not a zip file"),
        ("model.pt", b"\x80\x02}", "is a PyTorch checkpoint; only frozen"),
        ("model.pt2", b"PK\x03\x04", r"is a PyTorch model \(exported\); only frozen"),
        ("model.dp", b"\x89HDF", "is damaged or no DP model"),
        ("model.dp", b"\x89HDF\r\n\x1a\n", "is damaged or no DP model"),
        ("model.yaml", b"model:\n", "/model is missing"),
        ("model.hlo", b"any", "is a JAX model"),
        ("model.json", b'{"base_code":{"magic":"pir"', "is the program of a Paddle model"),
        ("model.pdiparams", b"any", "is the parameters of a Paddle model"),
        ("model.pd", b"\x80\x02}", "is a Paddle checkpoint"),
        ("input.json", b'{"model": {}}', r"is a JSON file, no model.*--input"),
        ("saved_model.pb", b"\x08\x01\x12", "is the graph of a SavedModel directory"),
        ("model.ckpt.meta", b"\n\x05", "is part of a TensorFlow checkpoint; .*'dp freeze'"),
        ("model.ckpt.data-00000-of-00001", b"any", "is part of a TensorFlow checkpoint"),
        ("checkpoint", b'model_checkpoint_path: "model.ckpt"', "is part of a TensorFlow checkp"),
    ],
)
def test_unreadable_sources(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    source = tmp_path / name
    source.write_bytes(content)
    with pytest.raises((ModelFileError, UnsupportedModelError), match=message):
        convert(source, tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        ("code/__torch__.py", "the archive has no record data.pkl"),
        ("data.pkl", "is a PyTorch checkpoint; only frozen"),
        ("a.txt", "is a zip archive; only frozen"),
    ],
)
def test_archives_under_any_name(inside: str, message: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pb", "w") as archive:
        archive.writestr(f"model/{inside}", "")
        if inside.startswith("code"):
            archive.writestr("model/constants.pkl", "")
    with pytest.raises((ModelFileError, UnsupportedModelError), match=message):
        convert(tmp_path / "model.pb", tmp_path / "out.h5")


@pytest.mark.parametrize(
    ("name", "inside", "message"),
    [
        ("model.savedmodel", "saved_model.pb", "a SavedModel directory"),
        ("exported", "saved_model.pb", "a SavedModel directory"),
        ("model.savedmodeltf", "variables", "a SavedModel directory"),
        ("model.jax", "_METADATA", "a JAX model"),
        ("training", "checkpoint", "a directory with TensorFlow checkpoints.*dp freeze -c"),
        ("models", "a.txt", "a directory; only frozen TensorFlow graphs"),
    ],
)
def test_directories_are_named(name: str, inside: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / inside).write_text("")
    with pytest.raises(UnsupportedModelError, match=message):
        convert(tmp_path / name, tmp_path / "out.h5")


def test_sources_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.pb")
    for source in (tmp_path / "model.pb", Path("/dev/null")):
        with pytest.raises(ModelFileError, match="is no regular file"):
            convert(source, tmp_path / "out.h5")


def test_a_node_of_any_length_comes_first(tmp_path: Path) -> None:
    """A binary graph begins with a line feed and the length of its first node: "{" is 123."""
    graph = EditableGraph("cu_tiny")
    graph.graph.node[0].device = "".ljust(123 - graph.graph.node[0].ByteSize() - 2, "/")
    source = graph.write(tmp_path / "model.pb")
    assert source.read_bytes()[:2] == b"\n{"
    convert(source, tmp_path / "model.h5")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ({"model": [1]}, r"'model' of the training input is '\[1\]', expected an object"),
        ({"model": {"descriptor": []}}, "'descriptor' of the training input"),
        ({"model": {"descriptor": None}}, "'descriptor' of the training input"),
        ({"model": {"descriptor": {"type": 3}}}, "'descriptor/type' .* expected a string"),
        ({"model": {"descriptor": {"activation_function": 1}}}, "'descriptor/activation_function'"),
        ({"model": {"fitting_net": "ener"}}, "'fitting_net' .* expected an object"),
        ({"model": {"type_map": "OH"}}, "'type_map' .* expected a list"),
        ({"model": {"type_map": ["O", 1]}}, "'type_map' .* expected a list of strings"),
    ],
)
def test_training_inputs_of_another_shape(script: dict, message: str, tmp_path: Path) -> None:
    (tmp_path / "input.json").write_text(json.dumps(script))
    with pytest.raises(ModelFileError, match=message):
        convert(MODELS / "cu_tiny.pb", tmp_path / "a.h5", input_json=tmp_path / "input.json")


def test_training_scripts_that_are_no_objects(tmp_path: Path) -> None:
    graph = EditableGraph("cu_tiny")
    for script in (b"3", b"{", b"[" * 100_000):
        graph.set_const("train_attr/training_script", script)
        source = graph.write(tmp_path / "model.pb")
        with pytest.raises(ModelFileError, match="training script is no JSON object"):
            convert(source, tmp_path / "model.h5")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(ModelFileError, match="cannot read the training input"):
        convert(MODELS / "cu_tiny.pb", tmp_path / "a.h5", input_json=tmp_path / "deep.json")


def test_missing_source(capsys) -> None:
    assert cli.main(["convert", "nowhere.pb", "out.h5"]) == 2
    assert "model file nowhere.pb does not exist" in capsys.readouterr().err


def test_a_graph_of_something_else(tmp_path: Path) -> None:
    graph = EditableGraph("oh_two_sided")
    graph.remove("ProdEnvMatA")
    with pytest.raises(ModelFileError, match="no DeePMD-kit descriptor"):
        convert(graph.write(tmp_path / "model.pb"), tmp_path / "out.h5")


def energies(path: Path, model: str) -> list[float]:
    potential = Potential(path, backend="reference")
    return [potential.evaluate(f.positions, f.types, f.cell).energy for f in recorded_frames(model)]


def test_text_graph_is_the_same_model(tmp_path: Path, converted) -> None:
    source = EditableGraph("oh_one_sided").write_text(tmp_path / "model.pbtxt")
    model = convert(source.name, "model.h5")  # relative to the folder of the test
    assert bool(model.reference_frame) == bool(importlib.util.find_spec("deepmd"))
    assert energies(tmp_path / "model.h5", "oh_one_sided") == energies(
        converted("oh_one_sided"), "oh_one_sided"
    )


def make_old(graph: EditableGraph, version: str, shift: float = 0.0) -> dict:
    """Rewrite a graph to the layout of DeePMD-kit 1.3 (version "") or 2.0 ("1.0"), still runnable.

    No attributes of training, the bias of the elements (plus `shift`) inside the last layer, and
    in 1.3 another operator. Returns the training input.
    """
    script = graph.script()
    bias = graph.const("fitting_attr/t_bias_atom_e")
    for t, value in enumerate(bias):
        node = f"final_layer_type_{t}/bias"
        last = graph.const(node)
        graph.set_const(node, (last + value + shift).astype(last.dtype))
    graph.set_const("fitting_attr/t_bias_atom_e", np.zeros_like(bias))
    graph.rename("fitting_attr/t_bias_atom_e", "nothing/bias")
    graph.rename("model_attr/model_attr", "nothing")
    graph.remove("train_attr/", "descrpt_attr/sel", "descrpt_attr/original_sel", "model_type")
    if version:
        graph.set_const("model_attr/model_version", version.encode())
    else:
        graph.remove("model_attr/model_version")
        graph.node("ProdEnvMatA").op = "DescrptSeA"
        graph.rename("ProdEnvMatA", "DescrptSeA")
    return script


@pytest.mark.parametrize("name", ["hea_two_sided", "hea_one_sided"])
@pytest.mark.parametrize("version", ["", "1.0"])
def test_old_graphs(name: str, version: str, tmp_path: Path, converted) -> None:
    graph = EditableGraph(name)
    script = make_old(graph, version)
    source = graph.write(tmp_path / "model.pb")
    content = source.read_bytes()
    (tmp_path / "input.json").write_text(json.dumps(script))
    model = convert(source, tmp_path / "model.h5", input_json=tmp_path / "input.json")
    assert model.provenance.min_nbor_dist is None
    assert (model.fitting.bias_atom_e_t == 0.0).all()
    np.testing.assert_allclose(
        energies(tmp_path / "model.h5", name), energies(converted(name), name), rtol=1e-14
    )
    # deepmd-kit runs it only as its own convert-from has rewritten it: on a copy
    assert source.read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "input.json",
        "model.h5",
        "model.pb",
    ]
    if importlib.util.find_spec("deepmd"):
        assert model.reference_frame is not None
        assert verify(model)["passed"]


def make_012(graph: EditableGraph) -> dict:
    """Rewrite a graph to the layout of DeePMD-kit 0.12, as far as its convert-from goes back."""
    script = make_old(graph, "")
    graph.rename("filter_type_", "DS_layer_type_")
    for name in ("t_avg", "t_std"):
        graph.rename(f"descrpt_attr/{name}", name)
    for name in ("rcut", "ntypes"):
        graph.rename(f"descrpt_attr/{name}", f"t_{name}")
    for name in ("atom_energy", "atom_virial", "energy", "force", "virial"):
        graph.rename(f"o_{name}", f"{name}_test")
    graph.remove("fitting_attr/", "model_attr/")
    for node in graph.graph.node:
        node.op = re.sub("^(Descrpt|ProdForce|ProdVirial)SeA$", r"\1Norot", node.op)
    return script


@pytest.mark.parametrize("name", ["oh_two_sided", "hco_exclude_two_sided", "oh_float32"])
def test_graphs_of_deepmd_kit_012(name: str, tmp_path: Path, converted) -> None:
    """Nothing is told by name but the nets; the elements' names come from the training input."""
    graph = EditableGraph(name)
    script = make_012(graph)
    source = graph.write(tmp_path / "model.pb")
    if name != "oh_float32":  # of which only the input tells the activation function
        assert convert(source, tmp_path / "plain.h5").type_map[0] == "TYPE_0"
    (tmp_path / "input.json").write_text(json.dumps(script))
    model = convert(source, tmp_path / "model.h5", input_json=tmp_path / "input.json")
    assert model.type_map == load(converted(name)).type_map
    np.testing.assert_allclose(
        energies(tmp_path / "model.h5", name),
        energies(converted(name), name),
        # the energy of an element is in the last layer's bias there: rounded, and added rounded
        rtol=4 * np.finfo("f4").eps if name == "oh_float32" else 1e-14,
    )
    if importlib.util.find_spec("deepmd"):
        assert model.reference_frame is not None, model.provenance.notes
        assert verify(model)["passed"]


def test_what_the_tensorflow_backend_does_not_heed_is_noted(tmp_path: Path) -> None:
    """It trains with these words and computes as without them."""
    graph = EditableGraph("oh_two_sided")
    graph.change_script("", pair_exclude_types=[[0, 1]])
    model = convert(graph.write(tmp_path / "model.pb"), tmp_path / "model.h5")
    assert any("pair_exclude_types" in note for note in model.provenance.notes)


def test_without_a_script_the_operations_decide(tmp_path: Path) -> None:
    graph = EditableGraph("hea_one_sided")  # tanh and sigmoid
    graph.remove("train_attr/")
    convert(graph.write(tmp_path / "model.pb"), tmp_path / "model.h5")
    model = load(tmp_path / "model.h5")
    assert model.descriptor.nets.embeddings[0].layers[0].activation == "tanh"
    assert model.fitting.nets[0].layers[0].activation == "sigmoid"

    graph = EditableGraph("oh_overflow")  # silut: made of several operations
    graph.remove("train_attr/")
    with pytest.raises(ModelFileError, match=r"give --input input\.json"):
        convert(graph.write(tmp_path / "two.pb"), tmp_path / "two.h5")


@needs_deepmd
def test_provenance_and_proof(converted) -> None:
    model = load(converted("hco_atom_ener"))
    source = model.provenance
    assert source.source_file == "hco_atom_ener.pb"
    assert len(source.source_sha256) == 64
    assert source.min_nbor_dist is not None
    assert 0.5 < source.min_nbor_dist < 2.0
    assert json.loads(source.training_script)["model"]["type_map"] == list(model.type_map)
    assert model.fitting.subtract_vacuum_t.tolist() == [True, False, True]
    frame = model.reference_frame
    assert frame is not None
    assert frame.evaluated_by.startswith("deepmd-kit 3")
    assert set(frame.types_a.tolist()) == {0, 1, 2}
    assert np.abs(frame.forces_ac).max() > 1e-3


@needs_deepmd
def test_info_verifies_and_detects_a_changed_file(converted, tmp_path: Path, capsys) -> None:
    from lmp_dp.model import save

    path = converted("oh_two_sided")
    assert cli.main(["info", str(path), "--verify", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["verification"]["passed"] is True
    assert content["elements"] == ["O", "H"]
    model = load(path)
    shifted = dataclasses.replace(
        model,
        fitting=dataclasses.replace(
            model.fitting, bias_atom_e_t=model.fitting.bias_atom_e_t + 1e-8
        ),
    )
    save(shifted, tmp_path / "shifted.h5")
    assert cli.main(["info", str(tmp_path / "shifted.h5"), "--verify"]) == 1
    assert "DISAGREES" in capsys.readouterr().out


def test_without_deepmd_kit_the_file_says_that_it_is_unproven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "deepmd" else find_spec(name)
    )
    path = tmp_path / "model.h5"
    assert cli.main(["convert", str(MODELS / "cu_tiny.pb"), str(path)]) == 0
    assert "unproven" in capsys.readouterr().out
    assert load(path).reference_frame is None
    assert cli.main(["info", str(path), "--verify"]) == 2
    assert "no reference frame" in capsys.readouterr().err


@needs_deepmd
def test_what_deepmd_kit_cannot_run_is_converted_and_said(tmp_path: Path, capsys) -> None:
    graph = EditableGraph("cu_tiny")
    graph.remove("o_energy")
    source = graph.write(tmp_path / "model.pb")
    assert cli.main(["convert", str(source), "model.h5"]) == 0
    shown = capsys.readouterr()
    assert "unproven: deepmd-kit could not evaluate the source (" in " ".join(shown.err.split())
    assert "unproven" in shown.out
    assert load("model.h5").reference_frame is None


def without_a_bias(model: DeepPotential) -> DeepPotential:
    """As a converter would read it that overlooks the bias of the first element's net."""
    net = model.fitting.nets[0]
    last = dataclasses.replace(net.layers[-1], bias_o=np.zeros(1, dtype=net.dtype))
    nets = (Network((*net.layers[:-1], last)), *model.fitting.nets[1:])
    return dataclasses.replace(model, fitting=dataclasses.replace(model.fitting, nets=nets))


def with_another_slope(model: DeepPotential) -> DeepPotential:
    """The same energy at one place, other forces: the cutoff's switch begins elsewhere."""
    e = model.descriptor.environment
    e = dataclasses.replace(e, rcut_smth=e.rcut_smth + 1e-4)
    return dataclasses.replace(
        model, descriptor=dataclasses.replace(model.descriptor, environment=e)
    )


@needs_deepmd
@pytest.mark.parametrize("name", ["oh_two_sided", "oh_float32", "oh_mixed_precision"])
@pytest.mark.parametrize("destination", [None, b"kept"])
def test_a_model_that_differs_from_its_source_is_not_written(
    name: str, destination: bytes | None, tmp_path: Path, monkeypatch, capsys
) -> None:
    path = tmp_path / "model.h5"
    if destination:
        path.write_bytes(destination)
    monkeypatch.setattr(tool, "read_source", lambda *a, **k: without_a_bias(read_source(*a, **k)))
    assert cli.main(["convert", str(MODELS / f"{name}.pb"), str(path)]) == 2
    message = capsys.readouterr().err
    for part in ("does not evaluate as", "energy per atom", "(at most", "no file was written"):
        assert part in message
    assert (path.read_bytes() if path.exists() else None) == destination


@needs_deepmd
def test_forces_are_compared_too(tmp_path: Path, monkeypatch) -> None:
    slope = with_another_slope
    monkeypatch.setattr(tool, "read_source", lambda *a, **k: slope(read_source(*a, **k)))
    with pytest.raises(UnsupportedModelError, match=r"force \S+ eV/Å \(at most 1e-09\)"):
        convert(MODELS / "oh_two_sided.pb", tmp_path / "model.h5")
    assert not list(tmp_path.iterdir())


@needs_deepmd
def test_the_frame_leaves_no_choice_between_neighbours(tmp_path: Path, monkeypatch) -> None:
    """Images of an atom on its two sides are equally far, and `sel` has room for one of them."""
    graph = EditableGraph("hea_one_sided")
    graph.node("ProdEnvMatA").attr["rcut_r"].f = 9.0
    source = graph.write(tmp_path / "model.pb")
    for seed in (0, 6):  # whose first configurations are of this kind
        monkeypatch.setattr(reference_frame, "_SEED", seed)
        assert convert(source, tmp_path / "model.h5").reference_frame is not None


def test_mixed_precision_is_noted(converted) -> None:
    model = load(converted("oh_mixed_precision"))
    assert model.precision == "float32"
    assert any("half precision" in note for note in model.provenance.notes)
    if model.reference_frame is not None:  # float16 there, float32 here
        assert verify(model)["passed"]
