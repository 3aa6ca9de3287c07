"""The converter: what it refuses, what it reads without a training script, and what it leaves."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from conftest import MODELS, needs_tensorflow, recorded_frames
from lmp_dp import Potential, cli
from lmp_dp.errors import ModelFileError, UnsupportedModelError
from lmp_dp.model import load
from lmp_dp.model.convert import convert

pytestmark = needs_tensorflow


class EditableGraph:
    """A frozen graph of the tests, changed by hand to look like another kind of model."""

    def __init__(self, name: str) -> None:
        from tensorflow.core.framework import graph_pb2

        self.graph = graph_pb2.GraphDef()
        self.graph.ParseFromString((MODELS / f"{name}.pb").read_bytes())

    def node(self, name: str):
        return next(node for node in self.graph.node if node.name == name)

    def add_const(self, name: str, value) -> None:
        from tensorflow.python.framework import tensor_util

        node = self.graph.node.add(name=name, op="Const")
        node.attr["value"].tensor.CopyFrom(tensor_util.make_tensor_proto(value))

    def set_const(self, name: str, value) -> None:
        from tensorflow.python.framework import tensor_util

        self.node(name).attr["value"].tensor.CopyFrom(tensor_util.make_tensor_proto(value))

    def const(self, name: str) -> np.ndarray:
        from tensorflow.python.framework import tensor_util

        return tensor_util.MakeNdarray(self.node(name).attr["value"].tensor)

    def remove(self, *prefixes: str) -> None:
        kept = [n for n in self.graph.node if not n.name.startswith(prefixes)]
        del self.graph.node[:]
        self.graph.node.extend(kept)

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


def compressed(g: EditableGraph) -> None:
    g.set_const("model_type", b"compressed_model")


def tabulated(g: EditableGraph) -> None:
    g.graph.node.add(name="filter_type_0/TabulateFusionSeA", op="TabulateFusionSeA")


def radial(g: EditableGraph) -> None:
    g.node("ProdEnvMatA").op = "ProdEnvMatR"


def attention(g: EditableGraph) -> None:
    g.node("ProdEnvMatA").op = "ProdEnvMatAMix"


def hybrid(g: EditableGraph) -> None:
    g.graph.node.add(name="ProdEnvMatA_1", op="ProdEnvMatA")


def three_body(g: EditableGraph) -> None:
    g.add_const("filter_type_all/matrix_1_0_0", np.zeros((1, 4)))


def type_embedding(g: EditableGraph) -> None:
    g.add_const("type_embed_net/matrix_1", np.zeros((2, 8)))


def dipole(g: EditableGraph) -> None:
    g.set_const("model_attr/model_type", b"dipole")


def mask_parameters(g: EditableGraph) -> None:
    g.change_script("fitting_net", use_aparam_as_mask=True)


def shared_layers(g: EditableGraph) -> None:
    g.remove("layer_0_type", "final_layer_type")
    g.add_const("share_a_type_0/matrix", np.zeros((2, 8)))


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
        (compressed, r"this model is compressed: convert the original .* 'lmp-dp compress'"),
        (tabulated, "this model is compressed"),
        (radial, "descriptor se_e2_r is not supported"),
        (attention, r"descriptor se_atten \(DPA-1\) is not supported"),
        (hybrid, "descriptor hybrid is not supported"),
        (three_body, "descriptor se_e3 is not supported"),
        (type_embedding, r"a type embedding \(se_e2_a_tebd\) is not supported"),
        (dipole, "model type 'dipole' is not supported"),
        (mask_parameters, "use_aparam_as_mask is not supported"),
        (shared_layers, r"shared fitting layers \(layer_name\) are not supported"),
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
        ("model.pbtxt", b"node { nam: 3 }", "is not a TensorFlow GraphDef"),
        ("model.pth", b"PK", "is a PyTorch model; only frozen TensorFlow graphs"),
        ("model.dp", b"\x89HDF", r"is a DP \(NumPy\) model"),
    ],
)
def test_unreadable_sources(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    source = tmp_path / name
    source.write_bytes(content)
    with pytest.raises((ModelFileError, UnsupportedModelError), match=message):
        convert(source, tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()


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
    from google.protobuf import text_format

    source = tmp_path / "model.pbtxt"
    source.write_text(text_format.MessageToString(EditableGraph("oh_one_sided").graph))
    convert(source, tmp_path / "model.h5")
    assert energies(tmp_path / "model.h5", "oh_one_sided") == energies(
        converted("oh_one_sided"), "oh_one_sided"
    )


@pytest.mark.parametrize("name", ["hea_two_sided", "hea_one_sided"])
def test_version_1_graph(name: str, tmp_path: Path, converted) -> None:
    """v1: other operator name, no attributes of training, bias inside the last layer."""
    graph = EditableGraph(name)
    bias = graph.const("fitting_attr/t_bias_atom_e")
    script = graph.script()
    graph.node("ProdEnvMatA").op = "DescrptSeA"
    for t, value in enumerate(bias):
        node = f"final_layer_type_{t}/bias"
        graph.set_const(node, graph.const(node) + value)
    graph.remove(
        "train_attr/",
        "fitting_attr/t_bias",
        "model_attr/model_attr",
        "model_attr/model_version",
        "descrpt_attr/sel",
        "descrpt_attr/original_sel",
        "model_type",
    )
    source = graph.write(tmp_path / "model.pb")
    (tmp_path / "input.json").write_text(json.dumps(script))
    convert(source, tmp_path / "model.h5", input_json=tmp_path / "input.json")
    model = load(tmp_path / "model.h5")
    assert model.provenance.min_nbor_dist is None
    assert (model.fitting.bias_atom_e_t == 0.0).all()
    np.testing.assert_allclose(
        energies(tmp_path / "model.h5", name), energies(converted(name), name), rtol=1e-14
    )


def test_without_a_script_the_operations_decide(tmp_path: Path) -> None:
    graph = EditableGraph("hea_one_sided")  # tanh and sigmoid
    graph.remove("train_attr/")
    convert(graph.write(tmp_path / "model.pb"), tmp_path / "model.h5")
    model = load(tmp_path / "model.h5")
    assert model.descriptor.embeddings[0].layers[0].activation == "tanh"
    assert model.fitting.nets[0].layers[0].activation == "sigmoid"

    graph = EditableGraph("oh_overflow")  # silut: made of several operations
    graph.remove("train_attr/")
    with pytest.raises(ModelFileError, match=r"give --input input\.json"):
        convert(graph.write(tmp_path / "two.pb"), tmp_path / "two.h5")


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


def test_info_verifies_and_detects_a_changed_file(converted, tmp_path: Path, capsys) -> None:
    import dataclasses

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


def test_mixed_precision_is_noted(converted) -> None:
    model = load(converted("oh_mixed_precision"))
    assert model.precision == "float32"
    assert any("half precision" in note for note in model.provenance.notes)
