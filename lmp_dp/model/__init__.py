"""What a model is: dataclasses, the HDF5 format, converters. Nothing is evaluated here."""

from lmp_dp.model.deep_potential import (
    DeepPotential,
    Descriptor,
    Fitting,
    Provenance,
    ReferenceFrame,
)
from lmp_dp.model.hdf5 import load, save
from lmp_dp.model.network import Layer, Network

__all__ = [
    "DeepPotential",
    "Descriptor",
    "Fitting",
    "Layer",
    "Network",
    "Provenance",
    "ReferenceFrame",
    "load",
    "save",
]
