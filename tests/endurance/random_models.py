"""Random models of every supported kind against DeePMD-kit: energies, forces, virials.

Half of them are made by DeePMD-kit's PyTorch backend with random architecture, options and
parameters, written as .dp, and evaluated by that backend as they are. The others are the TensorFlow
graphs of tests/models with random parameters in place of theirs: every weight, bias, time step and
energy, in every graph that is not compressed. Frames are drawn as in tests/models/make_models.py:
periodic, triclinic, smaller than the cutoff, open.

Tolerances are the model's own, as in tests/engine/test_random_models.py: what rounding does to it,
measured by the reference in float32 and in float64. Where that is not enough, DeePMD-kit tells its
own noise (attention divides by norms that may be next to nothing): how its result changes with
positions that are off by eight units of float64, which a handful of operations on coordinates of
ten Å leaves in a distance of one, or by one unit of float32, in which such models take the
environment matrix.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import os
import sys
import tempfile
import warnings
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from make_models import FRAMES, Frame, draw, make_frame, with_parameters
from specs import SPECS, Spec, cutoff, net
from test_random_models import KINKED, ROUNDING, SAFETY, TERMS, evaluated

from lmp_dp import Potential
from lmp_dp.errors import LmpDpError
from lmp_dp.model import DeepPotential, Layer
from lmp_dp.model.precision import cast

GRAPHS = Path(__file__).resolve().parents[1] / "models"
#: Not softplus, which PyTorch takes for x itself above 20: off by up to 2e-9.
ACTIVATIONS = (
    "tanh",
    "gelu",
    "gelu_tf",
    "silu",
    "sigmoid",
    "silut:1.5",
    "linear",
    "relu",
    "relu6",
)
ELEMENTS = (("Cu",), ("O", "H"), ("H", "C", "O"))
SHAKE = (ROUNDING["float32"], 8 * ROUNDING["float64"])
FRAMES_EACH = 2
QUANTITIES = ("energy", "atom_energies", "forces", "virial", "atom_virials")


# --------------------------------------------------------------------------- models of PyTorch
def widths(rng: np.random.Generator, largest: int) -> list[int]:
    found = [int(rng.integers(1, largest))]
    for _ in range(rng.integers(0, 3)):
        last = found[-1]
        choices = [last, 2 * last, int(rng.integers(1, largest))]
        found.append(min(choices[rng.integers(3)], 4 * largest))
    return found


def options(rng: np.random.Generator, **choices: Any) -> dict[str, Any]:
    """One value of each, by chance."""
    return {name: values[rng.integers(len(values))] for name, values in choices.items()}


def part(
    rng: np.random.Generator, n_types: int, precision: str, kinds: tuple[str, ...]
) -> dict[str, Any]:
    kind = kinds[rng.integers(len(kinds))]
    attention = kind.startswith("dpa1")
    rcut = float(rng.uniform(3.2, 5.0)) if kind != "se_e3" else float(rng.uniform(2.8, 3.6))
    sel: Any = [int(n) for n in rng.integers(18, 30, n_types)]
    neuron = widths(rng, 8)
    found = {
        "type": kind,
        **net(neuron, ACTIVATIONS[rng.integers(len(ACTIVATIONS))]),
        **cutoff(rcut, float(rng.uniform(0.3, rcut - 1.0)), int(sum(sel)) if attention else sel),
        **options(rng, resnet_dt=[False, True]),
        "precision": precision,
    }
    if kind in ("se_e2_a", "dpa1"):
        found["axis_neuron"] = int(rng.integers(1, min(neuron[-1], 4) + 1))
    if kind != "se_e3":
        found.update(options(rng, type_one_side=[False, True]))
    if n_types > 1 and rng.integers(3) == 0 and kind != "se_e3":
        pair = sorted(int(k) for k in rng.integers(0, n_types, 2))
        found["exclude_types"] = [pair]
    if attention:
        found.update(
            options(
                rng,
                tebd_dim=[2, 4, 8],
                attn=[3, 6],
                attn_layer=[0, 0, 1, 2],
                attn_dotr=[True, False],
                tebd_input_mode=["concat", "strip"],
                concat_output_tebd=[True, False],
                smooth_type_embedding=[True, False],
            ),
            set_davg_zero=True,
        )
    else:
        found.update(options(rng, env_protection=[0.0, 0.0, 0.01]))
    return found


def random_script(rng: np.random.Generator) -> tuple[Spec, dict[str, Any], dict[str, Any]]:
    types = ELEMENTS[rng.integers(len(ELEMENTS))]
    precision = "float32" if rng.integers(4) == 0 else "float64"
    kinds = ("se_e2_a", "se_e2_a", "se_e2_r", "se_e3", "dpa1")
    parts = [part(rng, len(types), precision, kinds) for _ in range(rng.choice([1, 1, 1, 2]))]
    fitting = {
        **net(widths(rng, 24), ACTIVATIONS[rng.integers(len(ACTIVATIONS))]),
        **options(rng, resnet_dt=[True, False], numb_fparam=[0, 0, 0, 2], numb_aparam=[0, 0, 0, 1]),
        "precision": precision,
    }
    more: dict[str, Any] = options(rng, out_bias=[True, False])
    if len(types) > 1 and rng.integers(6) == 0:
        more["atom_exclude_types"] = [int(rng.integers(len(types)))]
    if len(types) > 1 and rng.integers(6) == 0:
        more["pair_exclude_types"] = [[0, int(rng.integers(len(types)))]]
    descriptor = parts[0] if len(parts) == 1 else {"type": "hybrid", "list": parts}
    model = {key: value for key, value in more.items() if key.endswith("exclude_types")}
    spec = Spec(
        "random",
        types,
        descriptor,
        fitting,
        model=model,
        **({"min_distance": 2.0} if types == ("Cu",) else {}),
    )
    return (
        spec,
        {"type_map": list(types), "descriptor": descriptor, "fitting_net": fitting, **model},
        more,
    )


class PyTorch:
    """A random model of that backend, the file of it, and what it gives for a frame."""

    def __init__(self, rng: np.random.Generator, folder: Path) -> None:
        import torch
        from deepmd.pt.model.model import get_model
        from make_v3_models import randomize, write

        self.spec, script, more = random_script(rng)
        torch.manual_seed(int(rng.integers(2**31)))
        self.model = get_model(copy.deepcopy(script))
        randomize(self.model, rng, script, more)
        self.model.min_nbor_dist = torch.tensor(0.9, dtype=torch.float64)
        self.model.eval()
        self.path = folder / "random.dp"
        write(self.model, self.path, script)

    def evaluate(self, frame: Frame) -> dict[str, np.ndarray]:
        import torch

        def tensor(values: Any, *shape: int) -> Any:
            return (
                None
                if values is None
                else torch.tensor(np.ascontiguousarray(values).reshape(shape))
            )

        n = len(frame.types)
        found = self.model(
            tensor(frame.positions, 1, n, 3).requires_grad_(True),
            tensor(frame.types.astype(np.int64), 1, n),
            box=tensor(frame.cell, 1, 9),
            **{
                name: tensor(values, 1, *([n, -1] if name == "aparam" else [-1]))
                for name, values in frame.parameters.items()
            },
            do_atomic_virial=True,
        )
        shapes = {
            "energy": (),
            "atom_energies": (n,),
            "forces": (n, 3),
            "virial": (3, 3),
            "atom_virials": (n, 3, 3),
        }
        names = {"atom_energies": "atom_energy", "forces": "force", "atom_virials": "atom_virial"}
        return {
            name: found[names.get(name, name)].detach().double().numpy().reshape(shape)
            for name, shape in shapes.items()
        }


# --------------------------------------------------------------------------- graphs of TensorFlow
#: What of a graph is drawn anew: parameters of nets and energies, not geometry and options.
DRAWN = ("matrix", "bias", "idt", "bias_atom_e", "t_bias_atom_e")


class TensorFlow:
    """One of the graphs of tests/models with other parameters."""

    #: Not compressed ones, whose tables belong to their nets, nor float16, nor loc_frame: there
    #: DeePMD-kit ends the process where an atom lacks neighbours for its axes.
    SPECS = tuple(
        spec
        for spec in SPECS
        if not spec.compress
        and spec.name != "oh_mixed_precision"
        and spec.descriptor.get("type") != "loc_frame"
    )

    def __init__(self, rng: np.random.Generator, folder: Path) -> None:
        from deepmd.infer import DeepPot
        from deepmd.tf.env import tf
        from tensorflow import make_ndarray, make_tensor_proto

        self.spec = self.SPECS[rng.integers(len(self.SPECS))]
        graph = tf.GraphDef()
        graph.ParseFromString((GRAPHS / f"{self.spec.name}.pb").read_bytes())
        for node in graph.node:
            last = node.name.rpartition("/")[2]
            if node.op != "Const" or not last.startswith(DRAWN) or "atom_virial" in node.name:
                continue
            values = make_ndarray(node.attr["value"].tensor)
            if values.dtype.kind != "f" or not values.size:
                continue
            scale = max(float(np.abs(values).std()), 0.05)
            fresh = (values + rng.normal(0, scale, values.shape)).astype(values.dtype)
            node.attr["value"].tensor.CopyFrom(make_tensor_proto(fresh, shape=values.shape))
        self.path = folder / "random.pb"
        self.path.write_bytes(graph.SerializeToString())
        self.potential = DeepPot(str(self.path))

    def evaluate(self, frame: Frame) -> dict[str, np.ndarray]:
        from make_models import evaluate

        return evaluate(self.potential, frame)


# --------------------------------------------------------------------------- comparison
class CaseFrame:
    """A frame as test_random_models takes it."""

    def __init__(self, frame: Frame) -> None:
        self.positions, self.types, self.cell = frame.positions, frame.types, frame.cell
        self.fparam, self.aparam = (frame.parameters.get(name) for name in ("fparam", "aparam"))


def random_frame(spec: Spec, rng: np.random.Generator) -> Frame | None:
    names = [name for name in FRAMES[:4] if name not in spec.without]
    for name in rng.permutation(names):
        wanted = name in spec.overflow
        with contextlib.suppress(RuntimeError):  # no frame of that kind fits into the model's sel
            frame = draw(lambda rng: make_frame(spec, name, rng), rng, spec.environments, wanted)  # noqa: B023
            return with_parameters(spec, frame, rng)
    return None


def has_kinks(part: Any) -> bool:
    """Whether a layer anywhere in a model has an activation whose slope jumps."""
    if isinstance(part, Layer):
        return part.activation in KINKED
    if dataclasses.is_dataclass(part):
        return any(has_kinks(getattr(part, field.name)) for field in dataclasses.fields(part))
    return isinstance(part, tuple) and any(map(has_kinks, part))


def compare(model: DeepPotential, made: PyTorch | TensorFlow, frame: Frame) -> dict[str, float]:
    """Deviations in units of the tolerance without SAFETY."""
    expected, case = made.evaluate(frame), CaseFrame(frame)
    single, _ = evaluated(cast(model, "float32"), "reference", case)
    double, _ = evaluated(cast(model, "float64"), "reference", case)
    found, _ = evaluated(model, "cpu", case)
    precise = model.precision == "float64"
    unit, e = ROUNDING["float64" if precise else "float32"], ROUNDING["float32"]
    geometry = ROUNDING["float64"] * np.abs(double["atom_energies"]).sum()
    noise: dict[str, float] = {}
    worst = {}
    for name in QUANTITIES[:2] if not precise and has_kinks(model) else QUANTITIES:
        terms = TERMS[name]
        size = np.abs(double[terms]).max(initial=0.0)
        delta = max(np.abs(single[k] - double[k]).max(initial=0.0) for k in (name, terms))
        allowed = (delta + e * size) * unit / e + geometry
        off = np.abs(found[name] - expected[name]).max(initial=0.0)
        if off > SAFETY * allowed:
            noise = noise or noise_of(made, frame, SHAKE[precise], expected)
            allowed += noise[name]
        worst[name] = off / allowed
    return worst


def noise_of(
    made: PyTorch | TensorFlow, frame: Frame, by: float, expected: dict[str, np.ndarray]
) -> dict[str, float]:
    """How DeePMD-kit's result changes with positions that are off by so much of themselves."""
    rng, noise = np.random.default_rng(0), dict.fromkeys(QUANTITIES, 0.0)
    for _ in range(10):
        off = 1 + by * rng.uniform(-1, 1, frame.positions.shape)
        near = made.evaluate(replace(frame, positions=frame.positions * off))
        noise = {k: max(noise[k], np.abs(near[k] - expected[k]).max()) for k in QUANTITIES}
    return noise


def kind_of(model: DeepPotential) -> str:
    parts = model.descriptor.parts
    rules = getattr(getattr(parts[0], "environment", None), "rules", "TF")
    return f"{rules} {'+'.join(part.kind for part in parts)} {model.precision}"


class Findings:
    """What was compared, by kind of model, and what was beyond the tolerance."""

    def __init__(self) -> None:
        self.frames: dict[str, int] = defaultdict(int)
        self.largest: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self.refused: dict[str, int] = defaultdict(int)
        self.faults = 0

    def take(self, number: int, seed: int, folder: Path) -> None:
        """One model and its frames."""
        rng = np.random.default_rng([seed, number])
        made = (TensorFlow if number % 2 else PyTorch)(rng, folder)
        try:
            potential = Potential(str(made.path), backend="reference", sel="ignore", table="ignore")
        except LmpDpError as error:
            self.refused[str(error).partition(": ")[2][:100]] += 1
            return
        kind = kind_of(potential.model)
        for _ in range(FRAMES_EACH):
            frame = random_frame(made.spec, rng)
            if frame is None:
                self.refused["no frame fits into sel"] += 1
                return
            self.frames[kind] += 1
            for name, ratio in compare(potential.model, made, frame).items():
                self.largest[kind][name] = max(self.largest[kind][name], ratio)
                if not ratio <= SAFETY:
                    self.faults += 1
                    of = f"model {number} ({made.spec.name}, {kind})"
                    print(f"{of}: {name} off by {ratio:.3g} tolerances", flush=True)

    def show(self) -> None:
        for kind, n in sorted(self.frames.items()):
            largest = ", ".join(f"{k} {value:.2g}" for k, value in self.largest[kind].items())
            print(f"{n:5d} {kind}: {largest}")
        for reason, n in sorted(self.refused.items()):
            print(f"{n:5d} left out: {reason}")
        print(
            f"{sum(self.frames.values())} frames, {self.faults} faults; "
            f"deviations in units of rounding, {SAFETY:.0f} allowed"
        )


def run(count: int, seed: int) -> int:
    for name in (
        "OMP_NUM_THREADS",
        "DP_INTRA_OP_PARALLELISM_THREADS",
        "DP_INTER_OP_PARALLELISM_THREADS",
    ):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.simplefilter("ignore")
    findings, number = Findings(), 0
    with tempfile.TemporaryDirectory() as folder:
        try:
            while sum(findings.frames.values()) < count:
                findings.take(number, seed, Path(folder))
                number += 1
                done = f"\r{sum(findings.frames.values())}, {findings.faults} faults"
                print(done, end="", file=sys.stderr, flush=True)
        finally:
            findings.show()
    return int(bool(findings.faults))
