"""What a model is: dataclasses, the HDF5 format, converters. Nothing is evaluated here."""

from lmp_dp.model.deep_potential import DeepPotential
from lmp_dp.model.descriptors.environment import Environment
from lmp_dp.model.file import load, save
from lmp_dp.model.fitting import Fitting
from lmp_dp.model.network import Layer, Network
from lmp_dp.model.pair_nets import PairNets
from lmp_dp.model.provenance import Provenance, ReferenceFrame

__all__ = [
    "DeepPotential",
    "Environment",
    "Fitting",
    "Layer",
    "Network",
    "PairNets",
    "Provenance",
    "ReferenceFrame",
    "load",
    "save",
]
