"""Make small random models in DeePMD-kit's v3 formats, and record what DeePMD-kit computes.

For every entry of `SPECS` a model of the PyTorch backend is made through its API, with random
parameters and statistics and without training, and written to `v3/<name>.pth`, `.dp` or `.yaml`.
Frames are those of `make_models.py`. `recorded_v3.h5` has its layout. A ``.pth`` is evaluated by
`deepmd.infer.DeepPot`. For ``.dp`` and ``.yaml`` DeepPot (NumPy) gives energies but no forces:
these come from the PyTorch backend, of the model that it makes of the file, and its energies must
be the same.

Environment: deepmd-kit 3.2.0 with its PyTorch backend, h5py. The tests do not run this script.

    python make_v3_models.py                       # all models
    python make_v3_models.py --only v3_atten_dp    # one again; the other records are kept

The text of the program's comments (``.debug_pkl``), half of a ``.pth``, is left out of all
archives but that of `AS_WRITTEN`.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import os
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import h5py
import make_models
import numpy as np
from specs import PAIRS, Spec, cutoff, net

FOLDER = make_models.HERE / "v3"
RECORD = make_models.HERE / "recorded_v3.h5"
AS_WRITTEN = "v3_a_one_sided"
OH, HCO = ("O", "H"), ("H", "C", "O")


def se_e2_a(neuron: list[int], activation: str, axis: int = 3, **more: Any) -> dict[str, Any]:
    named = {"type": "se_e2_a", "type_one_side": False}
    return {**named, **net(neuron, activation, axis_neuron=axis), **more}


def se_atten(neuron: list[int], activation: str, **more: Any) -> dict[str, Any]:
    """DPA-1; empty slots must not matter (`set_davg_zero`), see the package's reader."""
    options = {"tebd_dim": 4, "attn": 6, "attn_layer": 0, "attn_dotr": True, "axis_neuron": 3}
    return {"type": "dpa1", **net(neuron, activation), "set_davg_zero": True, **options, **more}


WIDE, TIGHT = cutoff(4.3, 1.8, [22, 24]), cutoff(4.0, 0.5, [18, 20])
THREE = cutoff(4.5, 1.0, [24, 18, 18])
ONE_BLOCK = cutoff(4.0, 0.5, 38)
SMALL_BLOCK = cutoff(3.6, 0.8, 30)

#: name, format, type_map, descriptor (or a list: hybrid), fitting net, more of the model
MODELS: tuple[tuple[str, str, tuple[str, ...], Any, dict[str, Any], dict[str, Any]], ...] = (
    # equal widths from the first layer on: 24 -> 24 is joined in this family
    ("v3_a_one_sided", "pth", OH, {**se_e2_a([5, 10], "tanh", 2), **WIDE, "type_one_side": True},
     net([20, 20, 10], "tanh", resnet_dt=True), {}),
    ("v3_a_two_sided", "dp", OH, {**se_e2_a([4, 8], "gelu_tf"), **TIGHT},
     net([24, 24], "silu"), {"out_bias": True}),
    ("v3_a_exclude", "pth", HCO,
     {**se_e2_a([6], "softplus", exclude_types=[[0, 1], [2, 2]]), **THREE},
     net([10, 20], "gelu", resnet_dt=True), {"atom_exclude_types": [1]}),
    ("v3_a_exclude_dp", "dp", HCO,
     {**se_e2_a([5, 5], "sigmoid", 4, exclude_types=[[0, 2]], type_one_side=True), **THREE},
     net([8, 8], "relu6"), {"pair_exclude_types": [[1, 1], [0, 1]]}),
    ("v3_a_float32", "pth", OH, {**se_e2_a([4, 8], "silut", precision="float32"), **WIDE},
     net([10, 10], "tanh", precision="float32", resnet_dt=True), {}),
    ("v3_a_parameters", "yaml", OH, {**se_e2_a([4, 4], "tanh", type_one_side=True), **TIGHT},
     net([8, 8], "tanh", numb_fparam=2, numb_aparam=1, atom_ener=[-0.5, None]),
     {"out_bias": True}),
    ("v3_a_exclude_yaml", "yaml", HCO,
     {**se_e2_a([4, 8], "silu", exclude_types=[[0, 2]], precision="float32"), **THREE},
     net([8], "tanh", precision="float32"), {"out_bias": True}),
    ("v3_a_overflow", "pth", OH, {**se_e2_a([4, 8], "relu"), **cutoff(5.0, 0.5, [6, 8])},
     net([8, 8], "linear"), {"overflow": True}),
    ("v3_a_protection", "dp", OH, {**se_e2_a([4, 8], "silut:1.5"), **TIGHT, "env_protection": 0.02},
     net([8, 16], "softplus", numb_fparam=1), {}),
    ("v3_r", "pth", OH, {"type": "se_e2_r", **net([4, 8], "tanh"), **TIGHT},
     net([8, 8], "tanh", resnet_dt=True), {}),
    ("v3_r_exclude", "dp", HCO,
     {"type": "se_e2_r", **net([6, 6], "gelu", exclude_types=[[0, 1]], resnet_dt=True), **THREE},
     net([6, 12], "silu"), {"pair_exclude_types": [[2, 2]]}),
    ("v3_r_float32", "pth", OH, {"type": "se_e2_r", **net([5, 10], "silu"), **WIDE,
     "precision": "float32"}, net([8], "tanh", precision="float32"), {}),
    ("v3_e3", "pth", OH, {"type": "se_e3", **net([4, 8], "tanh"), **TIGHT},
     net([8, 8], "tanh", resnet_dt=True), {}),
    ("v3_e3_exclude", "dp", HCO, {"type": "se_e3", **net([5], "gelu"), **THREE},
     net([10, 10], "tanh"), {"pair_exclude_types": [[0, 1]], "out_bias": True}),
    ("v3_e3_float32", "pth", OH, {"type": "se_e3", **net([4, 4], "silu"), **WIDE,
     "precision": "float32"}, net([6], "tanh", precision="float32"), {}),
    ("v3_atten", "pth", OH, {**se_atten([4, 8], "tanh", attn_layer=2), **ONE_BLOCK},
     net([8, 8], "tanh", resnet_dt=True), {}),
    ("v3_atten_sharp", "dp", HCO,
     {**se_atten([6, 6], "gelu", attn_layer=2, smooth_type_embedding=False, ln_eps=1e-3,
                 temperature=0.7, type_one_side=True), **SMALL_BLOCK},
     net([31, 31], "tanh"), {"out_bias": True}),
    ("v3_atten_strip", "pth", HCO,
     {**se_atten([5, 10], "silu", attn_layer=1, tebd_input_mode="strip", attn_dotr=False,
                 exclude_types=[[0, 1]]), **SMALL_BLOCK},
     net([8, 8], "tanh"), {"atom_exclude_types": [2]}),
    ("v3_atten_none", "dp", OH, {**se_atten([4, 8], "tanh", exclude_types=[[1, 1]]), **ONE_BLOCK},
     net([8, 8], "tanh", numb_fparam=1), {}),
    ("v3_atten_none_strip", "yaml", OH,
     {**se_atten([4, 8], "tanh", tebd_input_mode="strip"), **SMALL_BLOCK}, net([6, 6], "tanh"), {}),
    ("v3_atten_none_sharp", "pth", HCO,
     {**se_atten([4, 8], "silut", tebd_input_mode="strip", smooth_type_embedding=False,
                 type_one_side=True), **SMALL_BLOCK},
     net([8], "tanh", atom_ener=[-0.5, None, None]), {}),
    ("v3_atten_v2", "pth", OH,
     {**se_atten([4, 8], "tanh", attn_layer=1), "type": "se_atten_v2", **SMALL_BLOCK},
     net([8, 8], "tanh", resnet_dt=True), {}),
    ("v3_atten_bare", "dp", OH,
     {**se_atten([4, 8], "tanh", concat_output_tebd=False, resnet_dt=True), **SMALL_BLOCK},
     net([8, 8], "tanh"), {"pair_exclude_types": [[0, 0]]}),
    ("v3_atten_one_element", "pth", ("Cu",),
     {**se_atten([4, 8], "tanh", attn_layer=1, set_davg_zero=False), **cutoff(5.0, 0.5, 40)},
     net([8, 8], "tanh"), {}),
    ("v3_atten_float32", "pth", OH,
     {**se_atten([4, 8], "tanh", attn_layer=2, precision="float32"), **SMALL_BLOCK},
     net([8, 8], "tanh", precision="float32"), {}),
    ("v3_hybrid", "pth", OH,
     [{**se_e2_a([4, 8], "tanh"), **TIGHT},
      {"type": "se_e2_r", **net([6], "gelu"), **cutoff(3.5, 1.0, [16, 18])},
      {"type": "se_e3", **net([4], "tanh"), **cutoff(3.0, 0.5, [12, 12])}],
     net([8, 8], "tanh", resnet_dt=True, numb_aparam=1), {}),
    ("v3_hybrid_atten", "pth", OH,
     [{**se_atten([4, 8], "tanh"), **ONE_BLOCK},
      {**se_atten([5], "gelu", tebd_input_mode="strip", attn_layer=1, axis_neuron=2),
       **cutoff(3.2, 0.5, 24)}],
     net([8, 8], "tanh", numb_fparam=1), {}),
    # 24 + 4 + 5 * 2 + 4: the first layer joins its input, which must be in the source's order
    ("v3_hybrid_joined", "dp", OH,
     [{**se_atten([4, 8], "tanh"), **ONE_BLOCK},
      {**se_atten([5], "gelu", axis_neuron=2), **cutoff(3.2, 0.5, 24)}],
     net([42, 8], "tanh"), {"out_bias": True}),
    ("v3_zbl", "pth", OH, {**se_atten([4, 8], "tanh", attn_layer=1), **SMALL_BLOCK},
     net([8, 8], "tanh", resnet_dt=True),
     {"pairs": {"smin_alpha": 0.12, "sw_rmin": 0.8, "sw_rmax": 1.9}, "out_bias": True,
      "members_out_bias": True}),
    ("v3_zbl_strip", "dp", HCO,
     {**se_atten([4, 8], "tanh", tebd_input_mode="strip"), **SMALL_BLOCK}, net([8], "gelu"),
     {"pairs": {"smin_alpha": 0.2, "sw_rmin": 1.0, "sw_rmax": 2.2}, "out_bias": True}),
    ("v3_zbl_float32", "pth", OH,
     {**se_atten([6], "silu", precision="float32", exclude_types=[[0, 1]]), **SMALL_BLOCK},
     net([8], "tanh", precision="float32"),
     {"pairs": {"smin_alpha": 0.1, "sw_rmin": 0.9, "sw_rmax": 1.7}}),
)  # fmt: skip


def spec_of(name: str, types: tuple[str, ...], part: Any, fitting: dict, more: dict) -> Spec:
    """The entry of `MODELS` as the frames are made from it."""
    crowded = tuple(frame for frame in make_models.FRAMES if frame != "single")
    return Spec(
        name,
        types,
        part if isinstance(part, dict) else {"type": "hybrid", "list": part},
        fitting,
        model={key: value for key, value in more.items() if key.endswith("exclude_types")},
        overflow=crowded if more.get("overflow") else (),
        **({"min_distance": 2.0} if types == ("Cu",) else {}),
    )


def script_of(spec: Spec) -> dict[str, Any]:
    """The model section of an input.json."""
    found = {
        "type_map": list(spec.type_map),
        "descriptor": spec.descriptor,
        "fitting_net": spec.fitting,
        **spec.model,
    }
    return copy.deepcopy(found)


def randomize(model: Any, rng: np.random.Generator, script: dict[str, Any], more: dict) -> None:
    """Random statistics and energies; parameters are random from the start, but for some."""
    import torch

    def tensor(values: Any, like: Any) -> Any:
        return torch.tensor(np.broadcast_to(values, like.shape).copy(), dtype=like.dtype)

    whole = atomic = model.atomic_model
    if "pairs" in more:
        atomic, table = whole.models
        if more.get("members_out_bias"):
            for member in (atomic, table):
                member.out_bias = tensor(rng.uniform(-2, 2, (1, 2, 1)), member.out_bias)
    n_types = len(script["type_map"])
    descriptor = atomic.descriptor
    for part in getattr(descriptor, "descrpt_list", [descriptor]):
        mean, stddev = part.get_stat_mean_and_stddev()
        n_k = mean.shape[-1]
        blind = getattr(getattr(part, "se_atten", None), "set_davg_zero", False)
        mean_tk = np.zeros((n_types, 1, n_k))
        if not blind:
            mean_tk[:, 0, 0] = rng.uniform(0.02, 0.2, n_types)
        stddev_tk = rng.uniform(0.1, 0.3, (n_types, 1, n_k))
        if n_k == 4:
            stddev_tk[:, :, 2:] = stddev_tk[:, :, 1:2]
        part.set_stat_mean_and_stddev(tensor(mean_tk, mean), tensor(stddev_tk, stddev))
    fitting = atomic.fitting_net
    fitting.bias_atom_e = tensor(rng.uniform(-3, -1, (n_types, 1)), fitting.bias_atom_e)
    for name in ("fparam", "aparam"):
        if getattr(fitting, f"numb_{name}"):
            for part, low, high in (("avg", 1.0, 2.0), ("inv_std", 0.5, 1.5)):
                old = getattr(fitting, f"{name}_{part}")
                setattr(fitting, f"{name}_{part}", tensor(rng.uniform(low, high, old.shape), old))
    if more.get("out_bias"):
        whole.out_bias = tensor(rng.uniform(-2, 2, (1, n_types, 1)), whole.out_bias)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "layer_norm" in name:
                parameter += torch.tensor(rng.normal(0, 0.2, parameter.shape)).to(parameter.dtype)


def make(name: str, script: dict[str, Any], more: dict) -> Any:
    """A model of the PyTorch backend."""
    import torch
    from deepmd.pt.model.model import get_model

    torch.manual_seed(zlib.crc32(name.encode()))
    with tempfile.TemporaryDirectory() as folder:
        wanted = copy.deepcopy(script)
        if "pairs" in more:
            make_models.write_pairs(Path(folder) / PAIRS, len(script["type_map"]))
            wanted.update(use_srtab=PAIRS, **more["pairs"])
        with contextlib.chdir(folder):  # the file's name goes into the model
            model = get_model(wanted)
    randomize(model, make_models.frame_rng(name, "parameters"), script, more)
    model.model_def_script = json.dumps(script)
    model.min_nbor_dist = torch.tensor(0.9, dtype=torch.float64)
    return model.eval()


def write(model: Any, path: Path, script: dict[str, Any]) -> None:
    """Write a model in the format that the suffix names."""
    import torch
    from deepmd.dpmodel.utils.serialization import save_dp_model

    if path.suffix == ".pth":
        with tempfile.TemporaryDirectory() as folder:
            written = Path(folder) / path.name
            torch.jit.save(torch.jit.script(model), str(written))
            without_comments(written, path)
        return
    tree = {"backend": "PyTorch", "model": model.serialize(), "model_def_script": script}
    save_dp_model(str(path), {**tree, "@variables": {"min_nbor_dist": 0.9}})


def without_comments(source: Path, target: Path) -> None:
    """Copy an archive without ``.debug_pkl``; record by record as PyTorch compresses them."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for record in old.infolist():
            if path_is_kept(record.filename, target):
                copied = zipfile.ZipInfo(record.filename)
                copied.compress_type = record.compress_type
                new.writestr(copied, old.read(record))


def path_is_kept(name: str, target: Path) -> bool:
    return target.stem == AS_WRITTEN or not name.endswith(".debug_pkl")


def as_torchscript(path: Path, folder: str) -> Path:
    """The model of a file for the PyTorch backend."""
    if path.suffix == ".pth":
        return path
    from deepmd.dpmodel.utils.serialization import load_dp_model
    from deepmd.pt.utils.serialization import deserialize_to_file

    made = Path(folder) / f"{path.stem}.pth"
    deserialize_to_file(str(made), load_dp_model(str(path)))
    return made


def record(out: h5py.File, name: str, path: Path, script: dict, frames: dict) -> None:
    """Evaluate the frames and write the group of one model.

    PyTorch's optimiser of programs fails on the second frame of a model with ``atom_ener``.
    """
    import torch
    from deepmd.infer import DeepPot

    with tempfile.TemporaryDirectory() as folder, torch.jit.optimized_execution(False):
        evaluated = as_torchscript(path, folder)
        make_models.record(out, name, evaluated, script, frames)
    if path.suffix == ".pth":
        return
    energies = DeepPot(str(path))
    precise = "float32" not in json.dumps(script)
    for label, frame in frames.items():
        cells = None if frame.cell is None else frame.cell.reshape(1, 9)
        parameters = {key: value.reshape(1, -1) for key, value in frame.parameters.items()}
        given = energies.eval(
            frame.positions.reshape(1, -1), cells, frame.types.tolist(), atomic=True, **parameters
        )
        found = given[3].ravel() - out[f"{name}/{label}/atom_energies"][:]
        if np.abs(found).max() > (1e-11 if precise else 1e-5):
            raise RuntimeError(f"{name}/{label}: the backends differ by {np.abs(found).max()} eV")


def make_all(only: list[str], out: h5py.File) -> None:
    import deepmd
    import torch

    out.attrs["deepmd_version"] = deepmd.__version__
    out.attrs["torch_version"] = str(torch.__version__)
    for name, suffix, types, part, fitting, more in MODELS:
        if only and name not in only:
            continue
        path = FOLDER / f"{name}.{suffix}"
        spec = spec_of(name, types, part, fitting, more)
        script = script_of(spec)
        write(make(name, script, more), path, script)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB", flush=True)
        record(out, name, path, script, make_models.small_model_frames(spec))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    options = parser.parse_args()
    for variable in ("OMP_NUM_THREADS", "DP_INTRA_OP_PARALLELISM_THREADS"):
        os.environ[variable] = "1"
    os.environ["DP_INTER_OP_PARALLELISM_THREADS"] = "1"
    FOLDER.mkdir(exist_ok=True)
    fresh = RECORD.with_suffix(".tmp")
    try:
        with h5py.File(fresh, "w", libver="latest") as out:
            if RECORD.exists():
                with h5py.File(RECORD) as old:
                    for name in old:
                        old.copy(name, out)
            make_all(options.only, out)
        fresh.replace(RECORD)
    finally:
        fresh.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
