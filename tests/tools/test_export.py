"""``lmp-dp export``: DeePMD-kit evaluates what is written as it evaluated the source."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from conftest import INPUTS, RANDOM, V3, Frame, needs_deepmd, recorded_frames, source_graph
from lmp_dp import Potential
from lmp_dp.cli import main
from lmp_dp.errors import (
    InputError,
    OutputError,
    RangeError,
    UnsupportedModelError,
)
from lmp_dp.model import DeepPotential, load, save
from lmp_dp.model.descriptors.se_e2_a import SeE2A
from lmp_dp.model.descriptors.se_e2_a_tebd import SeE2ATebd
from lmp_dp.model.exports import dp
from lmp_dp.model.fitting import Fitting
from lmp_dp.model.network import Layer, Network
from lmp_dp.model.provenance import Provenance
from lmp_dp.model.sources.any_source import read_source
from lmp_dp.model.typed_nets import TypedNets
from lmp_dp.tools.export import export
from parity import deviations, tolerances
from small_model import dense

#: How the names of models begin that the DP format has nothing like, and what is said of them.
REFUSED = {
    "atten_overflow": "attn_mask",
    "atten_smooth": "smooth_type_embedding",
    "atten_v2": "smooth_type_embedding",
    "atten": "empty slots",
    "cu_compressed": "compressed model",
    "hco_compressed": "compressed model",
    "oh_compressed": "compressed model",
    "cu_tiny": "gelu_tf",
    "oh_float64_float32": "gelu_tf",
    "er_exclude": "exclude_types",
    "er_float32": "type_one_side: false",
    "hybrid_atten_r": "type_one_side: false",
    "lf": "loc_frame",
    "oh_mixed_precision": "half precision",
    "srtab": "pair table",
    "v3_zbl": "pair table",
    "tebd_exclude_one_sided": "exclude_types",
    "tebd_strip": "strip",
}
EXPORTED = [name for name in (*RANDOM, *V3) if not name.startswith(tuple(REFUSED))]


@pytest.mark.parametrize("name", [name for name in (*RANDOM, *V3) if name not in EXPORTED])
def test_refuses_by_name(name: str) -> None:
    reason = next(words for start, words in REFUSED.items() if name.startswith(start))
    with pytest.raises(UnsupportedModelError, match=reason):
        dp.to_tree(read_source(source_graph(name)))


def frames_of(name: str, model: DeepPotential) -> list[Frame]:
    """Those in which no neighbour is left out: the families leave out different ones."""
    rules = {part.environment.rules for part in model.descriptor.parts}
    if rules == {"DP"}:
        return recorded_frames(name)
    potential = Potential(model, backend="reference", sel="error")
    frames = []
    for frame in recorded_frames(name):
        with suppress(RangeError):
            deviations(potential, frame)
            frames.append(frame)
    return frames


def exported(model: DeepPotential, folder: Path) -> Path:
    save(model, folder / "model.h5")
    export(folder / "model.h5", folder / "model.dp")
    return folder / "model.dp"


@pytest.mark.parametrize("name", EXPORTED)
def test_read_again_it_is_the_same(name: str, tmp_path: Path) -> None:
    """Forces and virials too, against what DeePMD-kit gave for the source."""
    model = read_source(source_graph(name))
    again = read_source(exported(model, tmp_path))
    potential = Potential(again, backend="reference", sel="ignore")
    frames = frames_of(name, model)
    assert frames
    allowed = tolerances(name, potential.precision)
    for frame in frames:
        found = deviations(potential, frame)
        assert all(found[key] <= allowed[key] for key in allowed), (frame.name, found)


@needs_deepmd
@pytest.mark.parametrize("name", EXPORTED)
def test_deepmd_gives_the_same_energies(name: str, tmp_path: Path) -> None:
    """Its NumPy backend, which gives no forces; against the record, atom by atom."""
    from deepmd.infer import DeepPot

    model = read_source(source_graph(name))
    frames = frames_of(name, model)
    potential = DeepPot(str(exported(model, tmp_path)))
    assert tuple(potential.get_type_map()) == model.type_map
    allowed = tolerances(name, model.precision)["atom_energies"]
    for frame in frames:
        parameters = {
            key: value.reshape(1, -1)
            for key in ("fparam", "aparam")
            if (value := getattr(frame, key)) is not None
        }
        cells = None if frame.cell is None else frame.cell[None]
        with np.errstate(invalid="ignore"):  # its softmax over no neighbours
            found = potential.eval(
                frame.positions[None], cells, frame.types, atomic=True, **parameters
            )
        assert np.abs(found[3].ravel() - frame.atom_energies).max() <= allowed, frame.name


def typed_model(one_side: bool, joins: str) -> DeepPotential:
    """se_e2_a with type embedding, a fitting net for all elements and time steps everywhere."""
    oh = read_source(source_graph("oh_two_sided"))
    (part,) = oh.descriptor.parts
    assert isinstance(part, SeE2A)
    rng = np.random.default_rng(8)
    te_to = rng.normal(size=(3, 2))
    n_in = 3 if one_side else 5
    first = Layer(
        rng.normal(size=(n_in, n_in)),
        rng.normal(size=n_in),
        rng.normal(size=n_in),
        "tanh",
        joins,  # type: ignore[arg-type]
    )
    nets = TypedNets(Network((first, dense(rng, n_in, 6))), None, te_to, one_side, False)
    environment = dataclasses.replace(part.environment, n_norm=part.environment.n_norm + 7)
    descriptor = SeE2ATebd(environment, nets, 2)
    fitting = Fitting(
        nets=(
            Network(
                (
                    dense(rng, descriptor.n_out + 2, 8),
                    dense(rng, 8, 8, "add", idt=True),
                    dense(rng, 8, 5, idt=True),
                    dense(rng, 5, 1, activation="linear"),
                )
            ),
        ),
        bias_atom_e_t=rng.normal(size=2),
        subtract_vacuum_t=np.array([True, False]),
        type_to=te_to[:2],
    )
    return DeepPotential(oh.type_map, descriptor, fitting, Provenance())


@pytest.mark.parametrize("joins", ["replace", "add"])
@pytest.mark.parametrize("one_side", [True, False])
def test_what_nets_are_told_is_folded(one_side: bool, joins: str, tmp_path: Path) -> None:
    model = typed_model(one_side, joins)
    again = read_source(exported(model, tmp_path))
    one, two = (Potential(m, backend="reference", sel="ignore") for m in (model, again))
    for frame in recorded_frames("oh_two_sided"):
        given = two.evaluate(frame.positions, frame.types, frame.cell)
        frame = dataclasses.replace(
            frame,
            energy=given.energy,
            forces=given.forces,
            virial=given.virial,
            atom_energies=given.atom_energies,
            atom_virials=given.atom_virials,
        )
        found = deviations(one, frame)
        allowed = tolerances("", "float64")
        assert all(found[key] <= allowed[key] for key in allowed), (frame.name, found)


# ----------------------------------------------------------------------------- refusals
def test_what_cannot_be_exported(tmp_path: Path, compressed_file) -> None:
    with pytest.raises(UnsupportedModelError, match="a compressed model cannot be exported"):
        export(compressed_file("cu"), tmp_path / "cu.dp")
    for name, message in (
        ("cu_tiny", "gelu_tf cannot be exported"),
        ("oh_mixed_precision", "half precision"),
    ):
        save(read_source(source_graph(name)), tmp_path / "model.h5")
        with pytest.raises(UnsupportedModelError, match=message):
            export(tmp_path / "model.h5", tmp_path / "model.dp")
    assert not list(tmp_path.glob("*.dp"))


def test_destinations(tmp_path: Path) -> None:
    source = INPUTS / "models" / "cu.h5"
    with pytest.raises(InputError, match=r"ends with \.dp"):
        export(source, tmp_path / "cu.pth")
    with pytest.raises(OutputError, match="there is no such folder"):
        export(source, tmp_path / "missing" / "cu.dp")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The shipped copper model, there and back: all parameters are as they were."""
    source, made = INPUTS / "models" / "cu.h5", tmp_path / "cu.dp"
    assert main(["export", str(source), str(made)]) == 0
    assert "convert-backend" in capsys.readouterr().out
    one, two = load(source), read_source(made)
    for a, b in zip(one.fitting.nets[0].layers, two.fitting.nets[0].layers, strict=True):
        assert a.weight_io.tobytes() == b.weight_io.tobytes()
    assert one.fitting.bias_atom_e_t.tolist() == two.fitting.bias_atom_e_t.tolist()
    assert one.provenance.min_nbor_dist == two.provenance.min_nbor_dist
