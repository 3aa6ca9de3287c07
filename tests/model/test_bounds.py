"""Files with the right checksum whose numbers no engine can take: refused, with what is wrong.

What is inside of the bounds is evaluated by every backend, however odd.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from lmp_dp import cli
from lmp_dp.errors import ModelFileError
from lmp_dp.model import load, save
from lmp_dp.model.file.container import seal
from lmp_dp.model.network import canonical_activation
from small_model import full_model

Change = Callable[[h5py.File], None]
ENV, NETS, FIT = "descriptor/environment", "descriptor/nets", "fitting/nets/0"
NET, TABLE = f"{NETS}/embeddings/0", f"{NETS}/tables/0"


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sound") / "model.h5"
    save(full_model(), path)
    return path.read_bytes()


def changed(content: bytes, path: Path, *changes: Change) -> Path:
    path.write_bytes(content)
    with h5py.File(path, "r+") as file:
        for change in changes:
            change(file)
    seal(path)
    return path


def put(name: str, value: object, at: object = ...) -> Change:
    """Write numbers into a dataset."""
    return lambda file: file[name].__setitem__(at, value)


def replace(name: str, value: object) -> Change:
    """Another dataset in the place of one."""

    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = value

    return change


def attribute(name: str, value: object) -> Change:
    """``group@name``."""
    return lambda file: file[name.split("@")[0]].attrs.__setitem__(name.split("@")[1], value)


def wrap_round(file: h5py.File) -> None:
    """Four cells of 2^62 pieces more: in 64 bits the sum is what it was."""
    file[f"{TABLE}/pieces_h"][:4] += 2**62


def rank_zero(file: h5py.File) -> None:
    for name in ("coefficients_veq", "basis_qm"):
        old = file[f"{TABLE}/{name}"][()]
        replace(f"{TABLE}/{name}", old[:0] if name == "basis_qm" else old[:, :, :0])(file)


WRONG = {
    "descriptor": [
        (attribute(f"{ENV}@rcut", np.inf), "rcut is inf, expected 0.1 to 1000"),
        (attribute(f"{ENV}@rcut", np.nan), "found 0.5 and nan"),
        (attribute(f"{ENV}@rcut", 1e9), "rcut is 1000000000.0, expected"),
        (attribute(f"{ENV}@rcut_smth", np.nextafter(4.5, 0)), "the same in float32"),
        (attribute(f"{ENV}@rcut", "4.5"), "@rcut has the unusable value '4.5'"),
        (attribute(f"{ENV}@rcut", [4.5]), "@rcut is not a plain number"),
        (attribute(f"{ENV}@n_norm", 2**62), "n_norm is 4611686018427387904"),
        (attribute(f"{ENV}@n_norm", 0), "n_norm is 0"),
        (attribute(f"{ENV}@n_norm", 12.9), "@n_norm has the unusable value"),
        (attribute("descriptor@axis_neuron", 2**62), "axis_neuron is 4611686018427387904"),
        (attribute("descriptor@axis_neuron", -1), "axis_neuron is -1, expected 1 to 6"),
        (replace(f"{ENV}/sel_t", np.array([2**64 - 5, 9], np.uint64)), "sel_t holds 184467"),
        (put(f"{ENV}/sel_t", 2_000_000_000, 0), "sel of element 0 is 2000000000"),
        (put(f"{ENV}/sel_t", -1, 1), "sel of element 1 is -1"),
        (put(f"{ENV}/sel_t", 60_000), "the sum of sel is 120000"),
        (put(f"{ENV}/sel_t", 0), "the sum of sel is 0"),
        (replace(f"{ENV}/sel_t", np.array([4.0, 9.0])), "sel_t has type float64"),
        (replace(f"{NETS}/net_tt", np.array([[0, 2**64 - 1]] * 2, np.uint64)), "net_tt holds"),
        (put(f"{ENV}/davg_tk", np.nan, (0, 1)), "davg holds nan"),
        (put(f"{ENV}/davg_tk", 1e300, (0, 1)), "davg holds 1e.300"),
        (put(f"{ENV}/dstd_tk", np.nan, (0, 1)), "dstd holds nan"),
        (put(f"{ENV}/dstd_tk", 1e300, (1, 0)), "dstd holds 1e.300"),
        (put(f"{ENV}/dstd_tk", 1e-320, (1, 0)), "dstd holds 1e-320"),
        (put(f"{ENV}/dstd_tk", -0.1, (1, 0)), "dstd holds -0.1"),
        (put(f"{NETS}/padding_ttm", np.nan, (0, 0, 0)), "padding holds nan"),
        (put(f"{NETS}/padding_ttm", 1e300, (0, 1, 0)), "padding holds 1e.300"),
    ],
    "table": [
        (wrap_round, "tables/0: pieces of a cell is 46116860184273"),
        (put(f"{TABLE}/pieces_h", 0, 0), "pieces of a cell is 0"),
        (replace(f"{TABLE}/pieces_h", np.array([2**64 - 1], np.uint64)), "pieces_h holds 18446"),
        (replace(f"{TABLE}/pieces_h", np.zeros(0, np.int64)), "pieces must be one int"),
        (rank_zero, r"basis has shape \(0, 6\)"),
        (put(f"{TABLE}/basis_qm", np.nan, (0, 0)), "basis holds nan"),
        (put(f"{TABLE}/basis_qm", 1e300, (0, 0)), "basis holds 1e.300"),
        (put(f"{TABLE}/coefficients_veq", np.inf, (0, 0, 0)), "coefficients holds inf"),
        (attribute(f"{TABLE}@lower", np.nan), "lower is nan"),
        (attribute(f"{TABLE}@lower", 1e300), "lower is 1e.300"),
        (attribute(f"{TABLE}@inner", np.nan), "inner is nan"),
        (attribute(f"{TABLE}@inner", np.inf), "inner is inf"),
        (attribute(f"{TABLE}@inner", -1e9), "inner is -1000000000.0"),
        (attribute(f"{TABLE}@cell_width", np.nan), "cell_width is nan"),
        (attribute(f"{TABLE}@cell_width", 0.0), "cell_width is 0"),
        (attribute(f"{TABLE}@cell_width", 1e-300), "cell_width is 1e-300"),
        (attribute(f"{TABLE}@error", np.nan), "error is nan"),
        (attribute(f"{TABLE}@slope_error", -1.0), "slope_error is -1"),
        (attribute(f"{TABLE}@dtype", "float16"), "@dtype: 'float16' found, expected float32"),
        (attribute(f"{TABLE}@dtype", "O"), "@dtype: 'O' found"),
    ],
    "layer": [
        *[
            (attribute(f"{FIT}/layers/0@activation", name), f"/layers/0: activation '{kind}")
            for name, kind in (
                ("Tanh", "Tanh' is spelled 'tanh'"),
                (" tanh", " tanh' is spelled 'tanh'"),
                ("tanh\t", r"tanh.t' is spelled 'tanh'"),
                ("silut", "silut' is spelled 'silut:3.0'"),
                ("silut:1_0", "silut:1_0' is spelled 'silut:10.0'"),
                ("none", "none' is spelled 'linear'"),
                ("", "' is spelled 'linear'"),
            )
        ],
        (attribute(f"{FIT}/layers/0@activation", "silut:nan"), "the threshold is nan"),
        (attribute(f"{FIT}/layers/0@activation", "silut:inf"), "the threshold is inf"),
        (attribute(f"{FIT}/layers/0@activation", "silut:-1000.0"), "the threshold is -1000.0"),
        (attribute(f"{FIT}/layers/0@activation", "silut:x"), "'x' is not a number"),
        (attribute(f"{FIT}/layers/0@joins", 3), "@joins has the unusable value 3|int64.3"),
        (put(f"{FIT}/layers/1/weight_io", 1e308, (0, 0)), "nets/0/layers/1: weight holds 1e.308"),
        (put(f"{FIT}/layers/1/weight_io", -np.inf, (0, 0)), "nets/0/layers/1: weight holds -inf"),
        (put(f"{FIT}/layers/1/bias_o", np.nan, 0), "nets/0/layers/1: bias holds nan"),
        (put(f"{FIT}/layers/1/idt_o", 1e11, 0), "nets/0/layers/1: idt holds 1.*expected finite"),
        (replace(f"{NET}/layers/0/weight_io", np.zeros((1, 0))), r"weights have shape \(1, 0\)"),
        (replace(f"{NET}/layers/0/weight_io", np.zeros((0, 3))), r"weights have shape \(0, 3\)"),
        (replace(f"{NET}/layers/0/weight_io", np.zeros((1, 3), ">f8")), "weight_io has type >f8"),
        (replace(f"{NET}/layers/0/weight_io", np.zeros((1, 3), "f2")), "weight_io has type float1"),
        (replace(f"{NET}/layers/0/weight_io", np.zeros((1, 3), int)), "weight_io has type int64"),
        (replace(f"{NET}/layers/0/bias_o", np.zeros(3, np.float32)), "mixes precisions"),
    ],
    "fitting": [
        (put("fitting/bias_atom_e_t", np.nan, 0), "bias_atom_e holds nan"),
        (put("fitting/bias_atom_e_t", 1e300, 0), "bias_atom_e holds 1e.300"),
        (replace("fitting/bias_atom_e_t", np.zeros(2, "f2") + np.inf), "bias_atom_e holds inf"),
        (replace("fitting/subtract_vacuum_t", np.zeros(2, int)), "subtract_vacuum_t has type int"),
        (put("fitting/fparam_avg_f", np.nan), "istd of fparam must be finite.*found .nan. and .2"),
        (put("fitting/fparam_istd_f", 0.0), "istd of fparam must be finite.*found .0.5. and .0.0."),
        (put("fitting/aparam_istd_f", 1e300, 1), "istd of aparam must be finite.*1e.300"),
        (replace("fitting/aparam_avg_f", np.zeros(3)), "istd of aparam must be .* equally many"),
    ],
    "frame": [
        (put("reference_frame/positions_ac", np.nan, (0, 0)), "frame: positions_ac holds nan"),
        (put("reference_frame/cell_cc", np.inf, (0, 0)), "frame: cell_cc holds inf"),
        (put("reference_frame/forces_ac", np.nan, (0, 0)), "frame: forces_ac holds nan"),
        (put("reference_frame/virial_cc", np.nan, (0, 0)), "frame: virial_cc holds nan"),
        (attribute("reference_frame@energy", np.nan), "frame: the energy is nan"),
        (put("reference_frame/types_a", 2, 0), "a type is outside of the type_map"),
        (put("reference_frame/types_a", -2, 0), "a type is outside of the type_map"),
        (replace("reference_frame/types_a", np.zeros(0, int)), "types must be one int"),
        (put("reference_frame/fparam_f", np.nan), "frame: fparam holds nan"),
        (replace("reference_frame/aparam_af", np.zeros((2, 2))), "frame: aparam does not fit"),
        (lambda f: f.__delitem__("reference_frame/fparam_f"), "reference_frame/fparam_f is miss"),
    ],
    "names": [
        *[
            (replace("type_map", [name, "H"]), f"type_map: .*{message}")
            for name, message in (
                ("", "is no name"),
                ("O 1", "is no name"),
                ("O\N{NO-BREAK SPACE}", "is no name"),
                ("\x1b[31mO", r"'.x1b\[31mO' is no name"),
                ("O\N{RIGHT-TO-LEFT OVERRIDE}", "is no name"),
                ("O" * 33, "has 33 characters, expected at most 32"),
                ("NULL", "NULL stands for 'no element'"),
                ("H", "'H' is named twice"),
            )
        ],
        (attribute("provenance@min_nbor_dist", np.nan), "min_nbor_dist is nan"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(change, message, id=f"{kind}-{message[:40]}")
        for kind, cases in WRONG.items()
        for change, message in cases
    ],
)
def test_refused(content: bytes, tmp_path: Path, capsys, change: Change, message: str) -> None:
    path = changed(content, tmp_path / "model.h5", change)
    with pytest.raises(ModelFileError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 500
    assert cli.main(["info", str(path)]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "Traceback" not in output.err


def test_one_spelling_of_an_activation() -> None:
    """What converters read is spelled one way, and only that way is legal in a `Layer`."""
    for name in ("Tanh", " tanh ", None, "none", "silut", "silut:3"):
        spelled = canonical_activation(name)
        assert canonical_activation(spelled) == spelled != name


#: Loads a file, evaluates it by every backend, and says what came out.
EVALUATE = """
import sys, warnings
import numpy as np
from cuda_emulation.emulated_device import EmulatedDevice
from lmp_dp import Potential
from lmp_dp.engine.gpu import device as cuda_device
from lmp_dp.errors import ModelFileError, RangeError
from lmp_dp.model import load

warnings.simplefilter("ignore")
np.seterr(all="ignore")
cuda_device.CudaDevice = lambda _index: EmulatedDevice()
positions = np.random.default_rng(0).uniform(0.0, 5.0, (12, 3))
types = np.arange(12) % 2
for path in sys.argv[1:]:
    try:
        model = load(path)
    except ModelFileError:
        print("refused")
        continue
    for backend in ("reference", "cpu", "gpu"):
        for precision in ("float64", "float32"):
            potential = Potential(model, backend, precision, threads=1)
            try:
                found = potential.evaluate(positions, types, fparam=0.4, aparam=[0.1, 0.2])
                assert np.isfinite([found.energy, *found.forces.ravel()]).all()
            except RangeError as error:
                print(error)
    print("evaluated")
"""


def evaluate(paths: list[Path]) -> list[str]:
    """In a process of its own: what is tested for is a crash."""
    run = subprocess.run(
        [sys.executable, "-c", EVALUATE, *map(str, paths)],
        capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout.split("\n")


EDGES: dict[str, Change] = {
    "dstd": put(f"{ENV}/dstd_tk", 1e-6),
    "large dstd": put(f"{ENV}/dstd_tk", 1e6),
    "davg": put(f"{ENV}/davg_tk", -1e6),
    "weights": put(f"{FIT}/layers/0/weight_io", -1e10),
    "embedding": put(f"{NET}/layers/0/weight_io", 1e10),
    "padding": put(f"{NETS}/padding_ttm", 1e30),
    "coefficients": put(f"{TABLE}/coefficients_veq", 1e30),
    "basis": put(f"{TABLE}/basis_qm", 0.0),
    "cell width": attribute(f"{TABLE}@cell_width", 1e20),
    "far lower": lambda file: file[TABLE].attrs.update(lower=-1e20, cell_width=1e20),
    "rcut": attribute(f"{ENV}@rcut", 1000.0),
    "sel": put(f"{ENV}/sel_t", [0, 1]),
    "norm": attribute(f"{ENV}@n_norm", 100_000),
    "axis": attribute("descriptor@axis_neuron", 2),
    "threshold": attribute(f"{NET}/layers/0@activation", "silut:-100.0"),
    "statistics": put("fitting/aparam_istd_f", 1e30),
    "energy": put("fitting/bias_atom_e_t", 1e10),
}


def test_what_is_accepted_can_be_evaluated(content: bytes, tmp_path: Path) -> None:
    def no_tables(file: h5py.File) -> None:
        del file[f"{NETS}/tables"], file[f"{NETS}/padding_ttm"]

    paths = [
        changed(content, tmp_path / f"{name}{len(more)}.h5", change, *more)
        for name, change in EDGES.items()
        for more in ((), (no_tables,))
        if not (more and name in ("padding", "coefficients", "basis", "cell width", "far lower"))
    ]
    outcomes = evaluate(paths)
    assert outcomes.count("evaluated") == len(paths), outcomes
    assert any("are not finite: atoms in one place, or a model" in line for line in outcomes)


def test_flipped_bits_are_refused_or_evaluated(content: bytes, tmp_path: Path) -> None:
    def flip(seed: int) -> Change:
        def change(file: h5py.File) -> None:
            rng, names = np.random.default_rng(seed), list[str]()
            file.visititems(lambda name, item: names.append(name) if has_numbers(item) else None)
            name = names[rng.integers(0, len(names))]
            values = np.atleast_1d(file[name][()])
            flat = values.reshape(-1)[rng.integers(0, values.size) :][:1].view(np.uint8)
            flat[-rng.integers(1, 3)] ^= np.uint8(1 << int(rng.integers(0, 8)))  # exponent, sign
            file[name][...] = values.reshape(file[name].shape)

        return change

    def has_numbers(item: object) -> bool:
        return isinstance(item, h5py.Dataset) and item.dtype.kind in "fiu" and item.size > 0

    paths = [changed(content, tmp_path / f"{seed}.h5", flip(seed)) for seed in range(120)]
    outcomes = evaluate(paths)
    refused, evaluated = outcomes.count("refused"), outcomes.count("evaluated")
    assert refused + evaluated == len(paths)
    assert min(refused, evaluated) >= 8, outcomes
