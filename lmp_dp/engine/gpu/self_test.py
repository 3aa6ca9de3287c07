"""Whether a device computes as the reference does: asked once per device, driver and version.

Small random models, with nets and with tables, in both precisions; three steps on one neighbour
list, of which the second is recorded and the third replayed. A device that has passed is remembered
(`cache_folder`); one that has not is tried again by the next process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress

import numpy as np

from lmp_dp import __version__, files
from lmp_dp.engine import periodic
from lmp_dp.engine.cache_folder import cache_folder, digest_of_sources
from lmp_dp.engine.compression import compress
from lmp_dp.engine.gpu import device as cuda_device
from lmp_dp.engine.gpu.device import Device
from lmp_dp.engine.gpu.engine import GpuEngine
from lmp_dp.engine.neighbourhood import Outputs, Result
from lmp_dp.engine.reference import ReferenceEngine
from lmp_dp.errors import OutputError
from lmp_dp.model import DeepPotential, Environment, Fitting, Layer, Network, PairNets
from lmp_dp.model.descriptors.se_e2_a import SeE2A
from lmp_dp.model.network import Join
from lmp_dp.model.precision import cast

FOLDER = "lmp_dp-devices"
_RCUT, _SKIN, _EDGE, _N_ATOMS, _STEPS = 3.5, 0.5, 7.0, 24, 3
#: Relative to the largest value of the reference: 10^4 units in the last place of
#: float64, whose codes differ in the order of sums only; 10^3 of float32, whose nets do as well.
_TOLERANCE = {"float64": 1e4 * 2.0**-53, "float32": 1e3 * 2.0**-24}


#: What was found in this process, of devices by all that decides it.
_found: dict[str, str] = {}


def failure(index: int) -> str:
    """Why device `index` cannot be used; empty if it has passed, now or at an earlier start."""
    try:
        device = cuda_device.CudaDevice(index)
        return _failure(device)
    except Exception as error:
        # whatever goes wrong in libraries and drivers: the caller has another backend, and is told
        return f"{type(error).__name__}: {error}"


def _failure(device: Device) -> str:
    folder = cache_folder(FOLDER)
    facts = f"{device.identity}, lmp_dp {__version__}"
    sources = digest_of_sources("engine", "model")
    key = hashlib.sha256(f"{facts} {sources}".encode()).hexdigest()[:32]
    entry = folder and folder / key
    if key not in _found:
        passed = entry is not None and entry.exists()
        _found[key] = "" if passed else next(_failures(device), "")
        if entry and not passed and not _found[key]:
            with suppress(OutputError):  # a full disk, say: the next start tests again
                files.write(entry, f"passed: {facts}\n".encode())
    return _found[key]


def _failures(device: Device) -> Iterator[str]:
    """What differs from the reference, in words."""
    nets = _model(np.random.default_rng(7))
    for what, model in (("nets", nets), ("tables", compress(nets, min_distance=0.9))):
        for precision, tolerance in _TOLERANCE.items():
            yield from _deviations(device, cast(model, precision), tolerance, what)


def _deviations(device: Device, model: DeepPotential, tolerance: float, what: str) -> Iterator[str]:
    rng = np.random.default_rng(8)
    places = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 3)
    positions_ac = (places[:_N_ATOMS] + rng.uniform(-0.15, 0.15, (_N_ATOMS, 3))) * _EDGE / 3
    images = periodic.build(
        positions_ac, np.arange(_N_ATOMS, dtype=np.int32) % 2, np.eye(3) * _EDGE, _RCUT + _SKIN
    ).neighbourhood
    images.build, images.skin = 1, _SKIN
    engine, reference = GpuEngine(model, device), ReferenceEngine(model)
    wanted = Outputs(virial=True, atom_energies=True, atom_virials=True)
    try:
        for step in range(_STEPS):
            # less than the skin; ghosts as well, which need not be images here
            images.positions_ac = images.positions_ac + rng.uniform(-0.05, 0.05, (1, 3))
            images.positions_ac[:_N_ATOMS] += rng.uniform(-0.05, 0.05, (_N_ATOMS, 3))
            expected, found = (one.compute(images, wanted) for one in (reference, engine))
            for name, off in _differences(found, expected):
                if not off <= tolerance:
                    yield (
                        f"{name} of {what} in {model.precision} differ from the reference "
                        f"by {off:.1e} of their size in step {step + 1}, expected {tolerance:.0e}"
                    )
    finally:
        engine.close()


def _differences(found: Result, expected: Result) -> Iterator[tuple[str, float]]:
    pairs = (
        ("energies", found.atom_energies_a, expected.atom_energies_a),
        ("forces", found.forces_ac, expected.forces_ac),
        ("virials", found.virial_cc, expected.virial_cc),
        ("virials of atoms", found.atom_virials_acc, expected.atom_virials_acc),
    )
    for name, ours, theirs in pairs:
        assert ours is not None
        assert theirs is not None
        # NaN is no agreement
        yield name, float(np.abs(ours - theirs).max()) / float(np.abs(theirs).max())


def _model(rng: np.random.Generator) -> DeepPotential:
    """se_e2_a with two elements, another net for each pair of them."""

    def network(*layers: tuple[int, int, Join]) -> Network:
        *hidden, (n_in, n_out, _) = layers
        made = [_layer(rng, *layer, "tanh") for layer in hidden]
        return Network((*made, _layer(rng, n_in, n_out, "replace", "linear")))

    embeddings = tuple(
        Network((_layer(rng, 1, 4, "replace", "tanh"), _layer(rng, 4, 8, "double", "tanh")))
        for _ in range(4)
    )
    n_sel = 40
    descriptor = SeE2A(
        environment=Environment(
            rules="TF",
            rcut=_RCUT,
            rcut_smth=1.0,
            sel_t=np.array([n_sel, n_sel]),
            n_norm=2 * n_sel,
            davg_tk=np.tile([0.1, 0.0, 0.0, 0.0], (2, 1)),
            dstd_tk=rng.uniform(0.2, 0.4, (2, 4)),
            excluded_tt=np.zeros((2, 2), bool),
        ),
        nets=PairNets(np.arange(4).reshape(2, 2), embeddings),
        axis_neuron=3,
    )
    nets = tuple(
        network((24, 10, "replace"), (10, 10, "add"), (10, 1, "replace")) for _ in range(2)
    )
    return DeepPotential(
        ("A", "B"), descriptor, Fitting(nets, np.array([-1.0, 2.0]), np.array([False, False]))
    )


def _layer(rng: np.random.Generator, n_in: int, n_out: int, joins: Join, activation: str) -> Layer:
    weight_io = rng.normal(size=(n_in, n_out))
    return Layer(weight_io, rng.normal(size=n_out) / 4, None, activation, joins)
