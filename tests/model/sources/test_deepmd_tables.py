"""Tables of compressed DeePMD-kit models: what they say, against NumPy and against DeePMD-kit."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import MODELS, Frame, needs_deepmd, source_graph
from lmp_dp import Potential, cli
from lmp_dp.engine.table import forward
from lmp_dp.errors import InputError, ModelFileError, UnsupportedModelError
from lmp_dp.model import load
from lmp_dp.model.sources.deepmd_tables import taken_over, value_at
from lmp_dp.model.sources.tensorflow import graphdef
from lmp_dp.model.sources.tensorflow.graph import Graph
from lmp_dp.model.sources.tensorflow.model import read_graph
from lmp_dp.tools.compress import compress
from parity import FLOAT64, deviations, tolerances

COMPRESSED = sorted(path.stem for path in MODELS.glob("*_compressed*.pb"))
ORDER = np.arange(6)


def source(
    rng: np.random.Generator, info: list[float], n_channels: int, rank: int, both_sides: bool
) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Rows of polynomials, and where each begins and ends."""
    lower, upper, end, fine, coarse = info[:5]
    zones = [(lower, upper, fine), (upper, end, coarse)]
    if both_sides:
        zones.insert(0, (-end, lower, coarse))
    pieces = [
        (start + k * step, start + (k + 1) * step)
        for start, stop, step in zones
        for k in range(round((stop - start) / step))
    ]
    widths = np.array([b - a for a, b in pieces])
    coefficients = rng.normal(size=(len(pieces), 6, rank)) @ rng.normal(size=(rank, n_channels))
    coefficients /= (widths[:, None] ** ORDER)[:, :, None]
    return coefficients.transpose(0, 2, 1).reshape(len(pieces), -1), pieces


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("both_sides", [False, True])
@pytest.mark.parametrize("rank", [3, 7])
@pytest.mark.parametrize("info", [[-1, 3, 15, 0.01, 0.1, -1], [-2, 4, 8, 0.5, 1.0, -1]])
def test_every_piece_is_the_source_s(
    info: list[float], rank: int, both_sides: bool, dtype: str
) -> None:
    """In the middle of each piece.

    x is off by a few units in the last place of s over the width of a piece; coefficients are
    smaller than 10, and the sums of e and e (e - 1) are 15 and 40.
    """
    values, pieces = source(np.random.default_rng(rank), info, 7, rank, both_sides)
    values = values.astype(dtype)
    table = taken_over(values, np.array(info, dtype), both_sides=both_sides)
    assert table.rank == (rank if dtype == "float64" else 7)
    assert table.dtype == dtype
    s_p = np.array([(a + b) / 2 for a, b in pieces])
    dx_p = np.array([(b - a) / 2 for a, b in pieces])
    c_pme = values.astype(np.float64).reshape(len(pieces), 7, 6)
    g_pm, slope_pm = forward(table, s_p)
    powers_pe = dx_p[:, None] ** ORDER
    slopes_pe = ORDER[1:] * powers_pe[:, :-1]
    width = 2 * dx_p.min()
    off = 4 * np.finfo(float).eps * info[2] / width
    exact_pm = np.einsum("pme,pe->pm", c_pme, powers_pe)
    np.testing.assert_allclose(g_pm, exact_pm, rtol=0, atol=10 * 15 * off)
    exact_pm = np.einsum("pme,pe->pm", c_pme[:, :, 1:], slopes_pe)
    np.testing.assert_allclose(slope_pm, exact_pm, rtol=0, atol=10 * 40 * off / width)
    inside = info[0] + 0.3 * info[3]
    np.testing.assert_allclose(value_at(table, inside), forward(table, np.array([inside]))[0][0])


def test_numbers_that_are_no_table_are_refused() -> None:
    info = np.array([-1, 3, 15, 0.1, 1.0, -1])
    values, _ = source(np.random.default_rng(0), info.tolist(), 2, 2, False)
    taken_over(values, info)
    for change, message in (
        ({0: 3.0}, "expected lower < upper"),
        ({2: 2.0}, "expected lower < upper"),
        ({3: 0.0}, "steps above 0"),
        ({3: np.nan}, "expected six numbers"),
        ({2: 16.0}, r"a table has shape \(52, 12\) .*, expected floats of shape \(53, 12\)"),
    ):
        wrong = info.copy()
        for place, value in change.items():
            wrong[place] = value
        with pytest.raises(ModelFileError, match=message):
            taken_over(values, wrong)
    with pytest.raises(ModelFileError, match="expected six numbers"):
        taken_over(values, info[:5])
    with pytest.raises(ModelFileError, match="6 x channels"):
        taken_over(values[:, :11], info)
    values[5, 5] = np.inf
    with pytest.raises(ModelFileError, match="inf"):
        taken_over(values, info)
    uneven = np.array([-1, 3, 15, 0.03, 0.3, -1])
    with pytest.raises(UnsupportedModelError, match="a step that does not divide the range"):
        taken_over(values, uneven)


@pytest.mark.parametrize("name", COMPRESSED)
def test_info_says_so_and_compress_says_why_not(name: str, converted, capsys) -> None:
    path = converted(name)
    assert cli.main(["info", str(path)]) == 0
    assert "compressed by its source" in " ".join(capsys.readouterr().out.split())
    model = load(path)
    assert model.tables
    with pytest.raises(InputError, match="compressed by its source, which has no networks"):
        compress(model)


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_proof_is_held_to_the_bounds_of_one_and_the_same_function(name: str, converted) -> None:
    model = load(converted(name))
    if model.reference_frame is None:
        pytest.skip("deepmd-kit is not installed")
    from lmp_dp.tools.reference_frame import verify

    expected = 1e-9 if model.precision == "float64" else 1e-3
    assert verify(model, "cpu")["tolerance"]["force"] <= expected


@needs_deepmd
@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("name", [name for name in COMPRESSED if not name.endswith("float32")])
def test_close_and_crowded_atoms(name: str, backend: str, converted) -> None:
    """In the coarse part, beyond the table, and with no slot left empty: DeePMD-kit now.

    Forces between atoms d apart go as 1/d^2, and so does what rounding leaves of them.
    """
    from deepmd.infer import DeepPot

    potential = Potential(converted(name), backend=backend, sel="ignore", table="ignore")
    theirs = DeepPot(str(source_graph(name)))
    rng = np.random.default_rng(5)
    edge, n_types = 7.0, len(potential.type_map)
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1).reshape(-1, 3) / 4
    types = rng.integers(0, n_types, 64)
    for distance in (1.0, 0.5, 0.2, 0.05):
        positions = edge * grid + rng.uniform(-0.2, 0.2, (64, 3))
        for t in range(n_types):
            i, j = np.flatnonzero(types == t)[:2]
            positions[j] = positions[i] + distance * np.array([2.0, -1.0, 2.0]) / 3.0
        found = theirs.eval(positions[None], edge * np.eye(3)[None], types, atomic=True)
        energy, forces, virial, energies, virials = (np.asarray(value)[0] for value in found)
        frame = Frame(
            f"{distance} Å",
            positions,
            edge * np.eye(3),
            types,
            float(energy[0]),
            forces,
            virial.reshape(3, 3),
            energies.ravel(),
            virials.reshape(64, 3, 3),
        )
        differences = deviations(potential, frame)
        scale = max(1.0, distance**-2)
        assert all(differences[key] <= FLOAT64[key] * scale for key in FLOAT64), differences


def test_the_names_of_the_tests_models() -> None:
    assert len(COMPRESSED) >= 4
    assert tolerances(COMPRESSED[0], "float64") is FLOAT64


def test_what_lies_in_the_place_of_a_table() -> None:
    """A graph whose tables are not given rows, or are no constants."""
    for change, message in (
        (lambda node: node.input.append(node.input[0]), "expected a Slice of the rows"),
        (lambda node: [node.input.pop() for _ in range(3)], "has 1 inputs, expected 3 or more"),
        (lambda node: node.input.__setitem__(0, node.input[2]), "the graph has no constant"),
    ):
        content = graphdef.parse(source_graph("cu_compressed").read_bytes(), text=False)
        change(next(node for node in content.node if node.op == "TabulateFusionSeA"))
        with pytest.raises(ModelFileError, match=message):
            read_graph(Graph(content))
