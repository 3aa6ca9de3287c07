"""The models that `make_models.py` makes: entries of their inputs, and what frames must show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: rcut, and slots per type or (a number) of all types together.
Environment = tuple[float, list[int] | int]


def slots(descriptor: dict[str, Any]) -> list[int] | int:
    """Slots of a descriptor; loc_frame has angular and radial ones."""
    if "sel" in descriptor:
        return descriptor["sel"]
    return [a + r for a, r in zip(descriptor["sel_a"], descriptor["sel_r"], strict=True)]


@dataclass(frozen=True)
class Spec:
    """One model: what goes into input.json, and what the frames must look like.

    Parameters
    ----------
    descriptor, fitting
        Entries of the two sections of input.json that differ from the defaults in `make_input`.
    model
        Further entries of the section `model`.
    training
        Further entries of the section `training`.
    min_distance
        Smallest distance of two atoms in data and frames, in A.
    volume
        Volume per atom in data and frames, in A^3.
    absent
        Types that the training data lack.
    overflow
        Names of the frames in which a type has more neighbours than `sel`: these and no others.
    without
        Names of frames that the model cannot evaluate.
    compress
        Arguments of `dp compress`, if the frozen model is compressed.
    """

    name: str
    type_map: tuple[str, ...]
    descriptor: dict[str, Any]
    fitting: dict[str, Any]
    model: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    min_distance: float = 0.95
    volume: float = 16.0
    absent: tuple[int, ...] = ()
    overflow: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    compress: tuple[str, ...] = ()

    @property
    def members(self) -> list[tuple[str, dict[str, Any]]]:
        """Suffixes of the name scopes, and entries of the descriptors: several in a hybrid."""
        if "list" in self.descriptor:
            return [(f"_{n}", member) for n, member in enumerate(self.descriptor["list"])]
        return [("", self.descriptor)]

    @property
    def environments(self) -> list[Environment]:
        return [(member["rcut"], slots(member)) for _, member in self.members]

    @property
    def rcut(self) -> float:
        return max(rcut for rcut, _ in self.environments)


def net(neuron: list[int], activation: str, **more: Any) -> dict[str, Any]:
    """Return the entries that descriptor and fitting net have in common."""
    return {"neuron": neuron, "activation_function": activation, **more}


def cutoff(rcut: float, rcut_smth: float, sel: list[int] | int) -> dict[str, Any]:
    return {"rcut": rcut, "rcut_smth": rcut_smth, "sel": sel}


SE_E2_A = (
    Spec(
        "cu_tiny",
        ("Cu",),
        {
            **cutoff(5.0, 0.5, [40]),
            **net([4, 8, 16], "gelu_tf", axis_neuron=4),
        },
        net([10, 10, 10], "silut", resnet_dt=True),
        min_distance=2.0,
    ),
    Spec(
        "oh_two_sided",
        ("O", "H"),
        {
            **cutoff(4.3, 1.8, [22, 24]),
            **net([5, 7, 14], "relu", axis_neuron=2, resnet_dt=True),
        },
        net([8, 12], "tanh"),
    ),
    Spec(
        "oh_one_sided",
        ("O", "H"),
        {
            **cutoff(4.0, 0.5, [18, 20]),
            **net([6, 6, 6], "silu", axis_neuron=6, resnet_dt=True, type_one_side=True),
        },
        net([12, 12, 12], "softplus"),
    ),
    Spec(
        "hco_exclude_two_sided",
        ("H", "C", "O"),
        {
            **cutoff(4.5, 1.0, [24, 18, 18]),
            **net([7], "gelu", axis_neuron=3, exclude_types=[[0, 1], [2, 2]]),
        },
        net([10], "relu6"),
    ),
    Spec(
        "hco_exclude_one_sided",
        ("H", "C", "O"),
        {
            **cutoff(4.5, 1.0, [24, 18, 18]),
            **net([5, 5], "sigmoid", axis_neuron=4, exclude_types=[[0, 2], [1, 1]]),
            "type_one_side": True,
        },
        net([8, 8], "gelu", resnet_dt=True),
    ),
    Spec(
        "oh_exclude_all",
        ("O", "H"),
        {
            **cutoff(4.0, 0.5, [18, 20]),
            **net([4, 8], "softplus", axis_neuron=2, exclude_types=[[1, 0], [1, 1]]),
        },
        net([6, 6], "silu", resnet_dt=True),
    ),
    Spec(
        "hea_two_sided",
        ("Ta", "Nb", "W", "Mo"),
        {
            **cutoff(4.6, 2.0, [12, 11, 10, 12]),
            **net([7], "tanh", axis_neuron=3),
        },
        net([8], "linear"),
        min_distance=2.0,
    ),
    Spec(
        "hea_one_sided",
        ("Ta", "Nb", "W", "Mo", "V", "Al"),
        {
            **cutoff(5.0, 2.0, [10, 10, 10, 10, 10, 12]),
            **net([4, 8], "tanh", axis_neuron=3, type_one_side=True),
        },
        net([7], "sigmoid"),
        min_distance=2.0,
    ),
    Spec(
        "oh_float32",
        ("O", "H"),
        {
            **cutoff(4.3, 1.8, [22, 24]),
            **net([4, 8], "silut", axis_neuron=4, precision="float32"),
        },
        net([10, 10], "tanh", resnet_dt=True, precision="float32"),
    ),
    Spec(
        "oh_float64_float32",
        ("O", "H"),
        {
            **cutoff(4.0, 0.5, [18, 20]),
            **net([5, 10], "tanh", axis_neuron=4, precision="float64"),
        },
        net([8, 8], "gelu_tf", resnet_dt=True, precision="float32"),
    ),
    Spec(
        "oh_float32_float64",
        ("O", "H"),
        {
            **cutoff(4.0, 0.5, [18, 20]),
            **net([5, 10], "gelu", axis_neuron=4, precision="float32", type_one_side=True),
        },
        net([8, 8, 8], "silut:0.7", resnet_dt=True, precision="float64"),
    ),
    Spec(
        "oh_mixed_precision",
        ("O", "H"),
        {
            **cutoff(4.0, 0.5, [18, 20]),
            **net([6, 6], "tanh", axis_neuron=4, precision="float32", resnet_dt=True),
        },
        net([8, 8], "silu", resnet_dt=True, precision="float32"),
        training={"mixed_precision": {"output_prec": "float32", "compute_prec": "float16"}},
    ),
    Spec(
        "hco_atom_ener",
        ("H", "C", "O"),
        {
            **cutoff(4.0, 0.5, [40, 36, 36]),
            **net([6, 12], "relu6", axis_neuron=5, set_davg_zero=True, type_one_side=True),
        },
        net([8, 8], "tanh", resnet_dt=True, atom_ener=[-0.5, None, -3.25]),
    ),
    Spec(
        "oh_overflow",
        ("O", "H"),
        {
            **cutoff(5.0, 0.5, [6, 8]),
            **net([5, 10], "silut:1.5", axis_neuron=4, resnet_dt=True),
        },
        net([8, 8], "relu", resnet_dt=True),
        overflow=("periodic", "triclinic", "small", "open", "single_periodic"),
    ),
    Spec(
        "oh_absent_type",
        ("O", "H", "N"),
        {
            **cutoff(4.0, 0.5, [16, 16, 14]),
            **net([4, 8], "none", axis_neuron=3, type_one_side=True),
        },
        net([8, 10], "softplus"),
        absent=(2,),
    ),
    Spec(
        "oh_fparam",
        ("O", "H"),
        {
            **cutoff(4.0, 0.5, [18, 20]),
            **net([4, 8], "tanh", axis_neuron=4, type_one_side=True),
        },
        net([8, 8], "tanh", resnet_dt=True, numb_fparam=1, atom_ener=[-0.5, None]),
    ),
    Spec(
        "oh_aparam",
        ("O", "H"),
        {
            **cutoff(4.0, 0.5, [18, 20]),
            **net([4, 8], "gelu", axis_neuron=4, precision="float32", type_one_side=True),
        },
        net([8, 10], "tanh", precision="float32", numb_aparam=2),
    ),
    Spec(
        "oh_fparam_aparam",
        ("O", "H"),
        {
            **cutoff(4.0, 0.5, [18, 20]),
            **net([4, 8], "tanh", axis_neuron=3),
        },
        net([8, 8], "silu", numb_fparam=2, numb_aparam=1, atom_ener=[None, -1.25]),
    ),
    Spec(
        "oh_davg_zero",
        ("O", "H"),
        {
            **cutoff(6.0, 1.8, [50, 50]),
            **net([7, 7], "linear", axis_neuron=7, set_davg_zero=True),
        },
        net([9, 9, 7], "none", resnet_dt=True),
    ),
)

SE_E2_R = (
    Spec(
        "er_exclude_two_sided",
        ("O", "H"),
        {
            "type": "se_e2_r",
            **cutoff(4.3, 1.8, [22, 24]),
            **net([5, 7, 14], "gelu", exclude_types=[[0, 1]]),
        },
        net([8], "tanh"),
    ),
    Spec(
        "er_exclude_one_sided",
        ("H", "C", "O"),
        {
            "type": "se_e2_r",
            **cutoff(4.5, 1.0, [24, 18, 18]),
            **net([4, 8], "tanh", type_one_side=True, exclude_types=[[0, 2], [1, 1]]),
        },
        net([6, 6], "tanh", resnet_dt=True),
    ),
    Spec(
        "er_float32",
        ("O", "H"),
        {
            "type": "se_e2_r",
            **cutoff(4.0, 0.5, [18, 20]),
            **net([6, 6], "silu", resnet_dt=True, precision="float32"),
        },
        net([10], "tanh", precision="float32"),
    ),
)

SE_E3 = (
    Spec(
        "e3_two",
        ("O", "H"),
        {"type": "se_e3", **cutoff(4.0, 0.5, [18, 20]), **net([2, 4, 8], "tanh")},
        net([8], "tanh"),
    ),
    Spec(
        "e3_three_overflow",
        ("H", "C", "O"),
        {
            "type": "se_e3",
            **cutoff(4.0, 1.8, [5, 4, 6]),
            **net([5, 5], "gelu", resnet_dt=True, set_davg_zero=True),
        },
        net([6, 6], "tanh", resnet_dt=True),
        overflow=("periodic", "triclinic", "small", "open", "single_periodic"),
    ),
    Spec(
        "e3_float32",
        ("Cu",),
        {"type": "se_e3", **cutoff(5.0, 0.5, [40]), **net([7], "silu", precision="float32")},
        net([8], "tanh", precision="float32"),
        min_distance=2.0,
    ),
)

HYBRID = (
    Spec(
        "hybrid_a_r",
        ("O", "H"),
        {
            "list": [
                {
                    **cutoff(4.0, 0.5, [18, 20]),
                    **net([4, 8], "tanh", axis_neuron=3, exclude_types=[[1, 1]]),
                },
                {
                    "type": "se_e2_r",
                    **cutoff(5.0, 1.8, [34, 36]),
                    **net([5], "gelu", type_one_side=True),
                },
            ]
        },
        net([8, 8], "tanh", resnet_dt=True),
    ),
    Spec(
        "hybrid_e3_a",
        ("O", "H"),
        {
            "list": [
                {"type": "se_e3", **cutoff(4.0, 0.5, [18, 20]), **net([2, 4], "tanh")},
                {
                    **cutoff(4.5, 0.5, [24, 26]),
                    **net([5, 5], "tanh", axis_neuron=4, type_one_side=True),
                },
            ]
        },
        net([7], "silu"),
    ),
    Spec(
        "hybrid_r_a_float32",
        ("Cu",),
        {
            "list": [
                {
                    "type": "se_e2_r",
                    **cutoff(5.0, 0.5, [40]),
                    **net([4], "tanh", precision="float32"),
                },
                {
                    **cutoff(4.0, 2.0, [24]),
                    **net([4, 8], "tanh", axis_neuron=4, precision="float32"),
                },
            ]
        },
        net([10], "tanh", precision="float32"),
        min_distance=2.0,
    ),
    Spec(
        "hybrid_atten_r",
        ("O", "H"),
        {
            "list": [
                {
                    "type": "se_atten",
                    **cutoff(4.0, 0.5, 40),
                    **net([4, 8], "tanh", axis_neuron=4, attn=6, attn_layer=1),
                },
                {"type": "se_e2_r", **cutoff(5.0, 0.5, [34, 36]), **net([5], "tanh")},
            ]
        },
        net([8], "tanh"),
    ),
)

TYPE_EMBEDDING = (
    Spec(
        "tebd_two_sided",
        ("O", "H"),
        {**cutoff(4.0, 0.5, [18, 20]), **net([5, 10], "tanh", axis_neuron=3)},
        net([8, 8], "tanh", resnet_dt=True),
        model={"type_embedding": net([4], "tanh")},
    ),
    Spec(
        "tebd_exclude_one_sided",
        ("H", "C", "O"),
        {
            **cutoff(4.5, 1.0, [24, 18, 18]),
            **net([4, 8], "gelu", axis_neuron=4, type_one_side=True, exclude_types=[[0, 2]]),
        },
        net([6], "tanh", numb_fparam=1, atom_ener=[-0.5, None, 0.25]),
        model={"type_embedding": net([3, 6], "tanh", resnet_dt=True)},
    ),
    Spec(
        "tebd_strip",
        ("O", "H"),
        {
            "type": "se_a_tpe_v2",
            **cutoff(4.3, 1.8, [22, 24]),
            **net([5, 5], "tanh", axis_neuron=2, resnet_dt=True),
        },
        net([8], "silu"),
        model={"type_embedding": net([5], "sigmoid")},
    ),
    Spec(
        "tebd_strip_float32",
        ("O", "H"),
        {
            "type": "se_a_tpe_v2",
            **cutoff(4.0, 0.5, [18, 20]),
            **net([4, 8], "tanh", axis_neuron=4, type_one_side=True, precision="float32"),
        },
        net([8], "tanh", precision="float32"),
        model={"type_embedding": net([3], "linear", precision="float32")},
    ),
)

SE_ATTEN = (
    Spec(
        "atten_two_layers",
        ("O", "H"),
        {
            "type": "se_atten",
            **cutoff(4.0, 0.5, 40),
            **net([4, 8], "tanh", axis_neuron=4, set_davg_zero=False),
            **{"attn": 6, "attn_layer": 2, "attn_dotr": True},
        },
        net([8, 8], "tanh", resnet_dt=True),
    ),
    Spec(
        "atten_no_layers",
        ("H", "C", "O"),
        {
            "type": "se_atten",
            **cutoff(4.5, 1.0, 60),
            **net([5, 10], "gelu", axis_neuron=3, set_davg_zero=False, type_one_side=True),
            **{"attn_layer": 0, "exclude_types": [[0, 2], [1, 1]]},
        },
        net([6], "tanh", atom_ener=[-0.5, None, 0.25]),
        model={"type_embedding": net([4], "tanh")},
    ),
    Spec(
        "atten_exclude",
        ("O", "H"),
        {
            "type": "se_atten",
            **cutoff(4.0, 0.5, 40),
            **net([6], "tanh", axis_neuron=2, set_davg_zero=False, ln_eps=0.01),
            **{"attn": 4, "attn_layer": 1, "attn_dotr": False, "exclude_types": [[0, 1]]},
        },
        net([8], "silu"),
    ),
    Spec(
        "atten_overflow",
        ("O", "H"),
        {
            "type": "se_atten",
            **cutoff(5.0, 0.5, 8),
            **net([4, 8], "tanh", axis_neuron=3, attn=5, attn_layer=1, attn_mask=True),
        },
        net([8], "tanh"),
        overflow=("periodic", "triclinic", "small", "open", "single_periodic"),
    ),
    Spec(
        "atten_smooth",
        ("O", "H"),
        {
            "type": "se_atten",
            **cutoff(4.3, 1.8, 46),
            **net([5, 5], "tanh", axis_neuron=4, resnet_dt=True, exclude_types=[[1, 1]]),
            **{"attn": 6, "attn_layer": 1, "smooth_type_embedding": True},
        },
        net([8], "tanh"),
    ),
    Spec(
        "atten_strip",
        ("H", "C", "O"),
        {
            "type": "se_atten",
            **cutoff(4.5, 1.0, 60),
            **net([4, 8], "tanh", axis_neuron=4, set_davg_zero=False, tebd_input_mode="strip"),
            "attn_layer": 0,
        },
        net([6, 6], "tanh", resnet_dt=True),
    ),
    Spec(
        "atten_float32",
        ("O", "H"),
        {
            "type": "se_atten",
            **cutoff(4.0, 0.5, 40),
            **net([4, 8], "tanh", axis_neuron=4, tebd_input_mode="strip", precision="float32"),
            **{"attn": 8, "attn_layer": 1, "set_davg_zero": False},
        },
        net([8], "tanh", precision="float32"),
        model={"type_embedding": net([4], "tanh", precision="float32")},
    ),
)

SE_ATTEN_V2 = (
    Spec(
        "atten_v2_layers",
        ("O", "H"),
        {
            "type": "se_atten_v2",
            **cutoff(4.3, 1.8, 46),
            **net([4, 8], "tanh", axis_neuron=4, attn=6, attn_layer=1),
        },
        net([8, 8], "tanh", resnet_dt=True),
    ),
    Spec(
        "atten_v2_exclude",
        ("H", "C", "O"),
        {
            "type": "se_atten_v2",
            **cutoff(4.5, 1.0, 60),
            **net([5, 10], "gelu", axis_neuron=3, set_davg_zero=True),
            **{"attn_layer": 0, "exclude_types": [[0, 2]]},
        },
        net([6], "tanh"),
    ),
    Spec(
        "atten_v2_float32",
        ("O", "H"),
        {
            "type": "se_atten_v2",
            **cutoff(4.0, 0.5, 40),
            **net([6], "tanh", axis_neuron=3, attn_layer=0, precision="float32"),
        },
        net([8], "tanh", precision="float32"),
        model={"type_embedding": net([4], "tanh", precision="float32")},
    ),
)

#: Fitting layers of a name (``layer_name``); two of one net are the same where it is the same.
SHARED = (
    Spec(
        "oh_shared_layers",
        ("O", "H"),
        {**cutoff(4.0, 0.5, [18, 20]), **net([4], "tanh", axis_neuron=2)},
        net([6, 6, 6], "tanh", resnet_dt=True, layer_name=["a", "b", "b", "c"]),
    ),
    Spec(
        "tebd_shared_layers",
        ("O", "H"),
        {**cutoff(4.0, 0.5, [18, 20]), **net([4], "tanh", axis_neuron=2)},
        net([6, 6, 6], "tanh", layer_name=["a", "b", "b", "c"]),
        model={"type_embedding": net([4], "tanh")},
    ),
)

#: A range correction: QM atoms H and O in MM atoms OW, which do not see each other.
DPRC = (
    Spec(
        "dprc",
        ("H", "O", "OW"),
        {
            "list": [
                {
                    **cutoff(3.2, 0.5, [14, 14, 14]),
                    **net([3, 6], "tanh", axis_neuron=3, type_one_side=True),
                    "exclude_types": [[0, 2], [1, 2], [2, 2]],
                },
                {
                    **cutoff(4.0, 0.5, [20, 20, 20]),
                    **net([4], "tanh", axis_neuron=2, type_one_side=True),
                    "exclude_types": [[0, 0], [0, 1], [1, 1], [2, 2]],
                },
            ]
        },
        net([7, 7], "tanh", resnet_dt=True, atom_ener=[None, None, -0.4]),
    ),
)

#: The file of energies of pairs that `make_models.write_pairs` writes.
PAIRS = "pairs.txt"

PAIR_TABLE = (
    Spec(
        "srtab_two_sided",
        ("O", "H"),
        {**cutoff(4.0, 1.0, [20, 24]), **net([4, 8], "tanh", axis_neuron=2)},
        net([6, 6], "tanh"),
        model={"use_srtab": PAIRS, "smin_alpha": 0.12, "sw_rmin": 0.8, "sw_rmax": 1.9},
    ),
    Spec(
        "srtab_without_bias_float32",
        ("H", "C", "O"),
        {
            **cutoff(4.2, 0.5, [14, 14, 14]),
            **net([6], "tanh", axis_neuron=3, exclude_types=[[0, 2]], precision="float32"),
        },
        net([8], "tanh", precision="float32"),
        model={
            "use_srtab": PAIRS,
            "smin_alpha": 0.2,
            "sw_rmin": 1.0,
            "sw_rmax": 2.2,
            "srtab_add_bias": False,
        },
    ),
    Spec(
        "srtab_hybrid",
        ("O", "H"),
        {
            "list": [
                {**cutoff(3.6, 0.5, [18, 20]), **net([4], "tanh", axis_neuron=3)},
                {"type": "se_e2_r", **cutoff(4.4, 1.0, [26, 28]), **net([5], "tanh")},
            ]
        },
        net([7, 7], "tanh", resnet_dt=True),
        model={"use_srtab": PAIRS, "smin_alpha": 0.1, "sw_rmin": 0.9, "sw_rmax": 1.7},
    ),
)

#: D lists neighbours by distance: two images of one atom that tie have no order of their own.
LOC_FRAME = (
    Spec(
        "lf_cu",
        ("Cu",),
        {"type": "loc_frame", "rcut": 5.0, "sel_a": [40], "sel_r": [0], "axis_rule": []},
        net([8, 8], "tanh", resnet_dt=True),
        min_distance=2.0,
        without=("small", "single", "single_periodic"),
    ),
    Spec(
        "lf_any_axes",
        ("O", "H"),
        {
            "type": "loc_frame",
            **{"rcut": 4.0, "sel_a": [18, 20], "sel_r": [0, 0]},
            "axis_rule": [0, -9, 0, 0, -9, 1, 0, -9, 1, 0, -9, 0],
        },
        net([7], "tanh", precision="float32"),
        without=("small", "single", "single_periodic"),
    ),
    Spec(
        "lf_radial",
        ("O", "H"),
        {
            "type": "loc_frame",
            **{"rcut": 4.0, "sel_a": [0, 0], "sel_r": [18, 20]},
            "axis_rule": [1, -9, 0, 1, -9, 1, 1, -9, 0, 1, -9, 1],
        },
        net([6, 6], "tanh", atom_ener=[-0.5, None]),
        without=("single", "single_periodic"),
    ),
)

#: Wide steps, and few of them beyond the fine part: small files.
SHORT = ("--step", "0.1", "--extrapolate", "2")

#: Tables in place of nets, made by DeePMD-kit.
COMPRESSED = (
    Spec(
        "cu_compressed",
        ("Cu",),
        {**cutoff(5.0, 0.5, [40]), **net([4, 8, 16], "gelu_tf", axis_neuron=4)},
        net([10, 10, 10], "tanh", resnet_dt=True),
        min_distance=2.0,
        compress=("--step", "0.1"),
    ),
    Spec(
        "hco_compressed_two_sided",
        ("H", "C", "O"),
        {
            **cutoff(4.5, 1.0, [24, 18, 18]),
            **net([2, 2], "tanh", axis_neuron=2, exclude_types=[[0, 1], [0, 2], [2, 2]]),
        },
        net([10], "tanh"),
        min_distance=1.5,
        compress=SHORT,
    ),
    Spec(
        "hco_compressed_one_sided",
        ("H", "C", "O"),
        {
            **cutoff(4.5, 1.0, [24, 18, 18]),
            **net([3, 6], "softplus", axis_neuron=4, exclude_types=[[0, 2], [1, 1]]),
            "type_one_side": True,
        },
        net([8, 8], "tanh", resnet_dt=True, atom_ener=[-0.5, None, -3.25]),
        min_distance=1.5,
        compress=SHORT,
    ),
    Spec(
        "oh_compressed_float32",
        ("O", "H"),
        {
            **cutoff(4.0, 0.5, [18, 20]),
            **net([4, 8], "tanh", axis_neuron=4, precision="float32", type_one_side=True),
        },
        net([10, 10], "tanh", resnet_dt=True, precision="float32"),
        compress=("--step", "0.1"),
    ),
    Spec(
        "cu_compressed_hybrid",
        ("Cu",),
        {
            "list": [
                {"type": "se_e3", **cutoff(4.0, 1.0, [20]), **net([2, 2], "tanh")},
                {"type": "se_e2_r", **cutoff(5.0, 0.5, [40]), **net([2, 4], "sigmoid")},
            ]
        },
        net([8, 8], "tanh", resnet_dt=True),
        min_distance=2.0,
        compress=("--step", "0.02", "--extrapolate", "3"),  # of se_e3, 0.2 and 2
    ),
    Spec(
        "hco_compressed_atten",
        ("H", "C", "O"),
        {
            "type": "se_atten",
            **cutoff(4.5, 1.0, 60),
            **net([4, 8], "tanh", axis_neuron=4, set_davg_zero=False, tebd_input_mode="strip"),
            "attn_layer": 0,
        },
        net([6, 6], "tanh", resnet_dt=True),
        min_distance=1.5,
        compress=SHORT,
    ),
    Spec(
        "oh_compressed_r",
        ("O", "H"),
        {
            "type": "se_e2_r",
            **cutoff(4.0, 0.5, [18, 20]),
            **net([3, 6], "tanh", exclude_types=[[0, 1]]),
        },
        net([8, 8], "tanh", resnet_dt=True),
        compress=SHORT,
    ),
)

SPECS = (
    *SE_E2_A,
    *SE_E2_R,
    *SE_E3,
    *HYBRID,
    *TYPE_EMBEDDING,
    *SE_ATTEN,
    *SE_ATTEN_V2,
    *SHARED,
    *DPRC,
    *PAIR_TABLE,
    *LOC_FRAME,
    *COMPRESSED,
)
