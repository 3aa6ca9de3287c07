"""se_atten (DPA-1) and se_atten_v2: neighbours of all elements, which attend to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from lmp_dp.errors import ModelFileError
from lmp_dp.model import bounds
from lmp_dp.model.arrays import Parameters
from lmp_dp.model.descriptors.environment import Environment
from lmp_dp.model.descriptors.of_nets import QuadraticOfNets
from lmp_dp.model.descriptors.registry import register
from lmp_dp.model.network import Network
from lmp_dp.model.typed_nets import TypedNets, check_type_embedding


@dataclass(frozen=True)
class AttentionLayer:
    """G <- LN(G + out(w v)), w = softmax(scale q kᵀ) [r̂ r̂ᵀ], LN(x) = (x - mean)/dev gamma + beta.

    q, k and v are vectors per slot of a centre. The softmax is over slots that hold a neighbour
    which the centre sees; w is 0 for all others. dev² is the mean square deviation, plus epsilon.

    Attributes
    ----------
    query, key, value, out : Network
        One linear layer each: M -> H, and back.
    gamma_m, beta_m : (M,) arrays
    """

    query: Network
    key: Network
    value: Network
    out: Network
    gamma_m: Parameters
    beta_m: Parameters

    def __post_init__(self) -> None:
        n_m, n_h = self.query.n_in, self.query.n_out
        for name in ("query", "key", "value", "out"):
            net: Network = getattr(self, name)
            expected = (n_h, n_m) if name == "out" else (n_m, n_h)
            if (net.n_in, net.n_out) != expected or net.dtype != self.query.dtype:
                raise ModelFileError(
                    f"attention: {name} is {net.n_in} -> {net.n_out} in {net.dtype}, expected "
                    f"{expected[0]} -> {expected[1]} in {self.query.dtype}"
                )
            layer = net.layers[0]
            if len(net.layers) > 1 or layer.activation != "linear" or layer.joins != "replace":
                raise ModelFileError(f"attention: {name} is more than one linear layer")
        bounds.check("gamma", self.gamma_m, (n_m,))
        bounds.check("beta", self.beta_m, (n_m,))


@dataclass(frozen=True)
class Attention:
    """Attention among the neighbours of a centre (Zhang et al., npj Comput. Mater. 10, 94).

    Attributes
    ----------
    layers : tuple of AttentionLayer
        At least one.
    dotr : bool
        Weights are multiplied by the cosines of the angles between neighbours.
    normalize : bool
        q, k and v are divided by their norms (as r̂ always is, not by less than 1e-6 in the TF
        family and 1e-12 in the other).
    scale : float
        Of q kᵀ: 1 in the TF family, else ``temperature`` or (H scaling_factor)^-1/2.
    epsilon : float
        Of the layer normalisation's variance.
    smooth : bool
        Weights fade out at the cutoff (``smooth_type_embedding``): with f of `SeAtten`, q kᵀ is
        (scale q kᵀ + 20) f_q f_k - 20, the softmax is over all slots, those too that hold nothing
        (f = 0), and is times f_q f_k.
    mask_diagonal : bool
        A neighbour does not attend to itself (``attn_mask``, TF family): its weight is 0 after the
        softmax.
    """

    layers: tuple[AttentionLayer, ...]
    dotr: bool
    normalize: bool
    scale: float
    epsilon: float
    smooth: bool
    mask_diagonal: bool = False

    def __post_init__(self) -> None:
        if not self.layers:
            raise ModelFileError("attention has no layers")
        bounds.check_number("scale of attention", self.scale, -bounds.MAX_VALUE, bounds.MAX_VALUE)
        bounds.check_number("epsilon of layer normalisation", self.epsilon, 1e-30, 1.0)


@register
@dataclass(frozen=True)
class SeAtten(QuadraticOfNets):
    """D_mx = sum_k T_km T_kx, T = Rᵀ G / N, with G after attention.

    Attributes
    ----------
    What is smooth fades out at the cutoff with f: 0 in slots that hold nothing, or what the centre
    does not see, else

    ======  =======================================================
    family  f
    ======  =======================================================
    TF      1 - (1 - fade_radius s)³ within 0 <= f <= 1, s = sw(r)/r
    DP      sw(r)
    ======  =======================================================

    Attributes
    ----------
    environment : Environment
        R and N; one block of slots for all elements, those that the centre does not see included:
        their rows are 0 (of empty slots -davg/dstd, as elsewhere).
    nets : TypedNets
        G before attention.
    attention : Attention or None
        None for no layers (``attn_layer`` = 0).
    axis_neuron : int
        x < axis_neuron.
    fade_radius : float or None
        rcut_smth (Å) as the model's script has it, which is not the environment's float32. Only
        smooth models of the TF family have it.
    """

    kind: ClassVar[str] = "se_atten"

    environment: Environment
    nets: TypedNets
    attention: Attention | None
    axis_neuron: int
    fade_radius: float | None = None

    def __post_init__(self) -> None:
        of, nets = self.environment, self.nets
        if not of.one_block:
            raise ModelFileError("se_atten has slots for all elements together, found one by one")
        check_type_embedding(of, nets)
        bounds.check_number("axis_neuron", self.axis_neuron, 1, self.n_channels)
        for layer in self.attention.layers if self.attention else ():
            if layer.query.n_in != self.n_channels or layer.query.dtype != self.dtype:
                raise ModelFileError(
                    f"attention is of {layer.query.n_in} channels in {layer.query.dtype}, the "
                    f"embedding net of {self.n_channels} in {self.dtype}"
                )
        fades = self.smooth and of.rules == "TF"
        if fades != (self.fade_radius is not None):
            raise ModelFileError(
                "fade_radius is for smooth models of the TF family, and only those"
            )
        if self.fade_radius is not None:
            bounds.check_number("fade_radius", self.fade_radius, 0.0, bounds.MAX_RCUT)
        self._check_empty_slots()

    def _check_empty_slots(self) -> None:
        """Refuse models whose source gives energies that are not a function of the atoms."""
        of, nets = self.environment, self.nets
        if not of.davg_tk.any():
            return
        if of.rules == "DP" and of.n_types > 1 and not nets.smooth:
            raise ModelFileError(
                "davg is not 0, and DeePMD-kit's empty slots take the type embedding of whichever "
                "atom comes first: energies depend on the order of atoms. Train with "
                "set_davg_zero, or with tebd_input_mode strip and smooth_type_embedding"
            )
        if of.rules == "TF" and self.smooth and of.excluded_tt.any():
            raise ModelFileError(
                "davg is not 0, and DeePMD-kit's rows of excluded pairs of a smooth model are "
                "davg along x, y and z: energies change on rotation. Train with set_davg_zero"
            )

    @property
    def smooth(self) -> bool:
        """Whether anything fades out at the cutoff (``smooth_type_embedding``)."""
        return self.nets.smooth or bool(self.attention and self.attention.smooth)

    def describe(self) -> dict[str, Any]:
        """What ``lmp-dp info`` says of it."""
        of = self.attention
        return {
            **self.nets.describe(),
            "axis_neuron": self.axis_neuron,
            "attention_layers": len(of.layers) if of else 0,
            "smooth": self.smooth,
        }
