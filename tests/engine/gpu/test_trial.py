"""The trial of a device finds what is wrong with it, one thing at a time."""

from __future__ import annotations

import numpy as np
import pytest

from cuda_emulation.emulated_device import EmulatedDevice
from lmp_dp.engine.gpu import trial

KERNEL, PRODUCTS = ["the kernel cells"], ["the product in float32", "the product in float64"]


class RunsNoKernel(EmulatedDevice):
    def launch(self, module, name, blocks, *args):
        pass


class WrongInFloat32(EmulatedDevice):
    def multiply(self, x_bi, w_io, out_bo):
        super().multiply(x_bi, w_io, out_bo)
        out_bo += out_bo.dtype == np.float32


class ReversesRows(EmulatedDevice):
    def multiply(self, x_bi, w_io, out_bo):
        super().multiply(x_bi[::-1].copy(), w_io, out_bo)


class SortsBackwards(EmulatedDevice):
    def __init__(self):
        super().__init__()
        argsort = self.xp.argsort
        self.xp.argsort = lambda of, kind: argsort(-of)


class LosesTheLastNumber(EmulatedDevice):
    def upload(self, array):
        uploaded = super().upload(array)
        uploaded[-1:] = 0
        return uploaded


def test_a_device_that_computes(gpu_device):
    assert trial.failures(gpu_device()) == []


@pytest.mark.parametrize(
    ("device", "wrong"),
    [
        (RunsNoKernel, KERNEL),
        (WrongInFloat32, PRODUCTS[:1]),
        (ReversesRows, PRODUCTS),
        (SortsBackwards, ["CuPy's sort"]),
        (LosesTheLastNumber, [*KERNEL, *PRODUCTS, "CuPy's sort", "CuPy's sum"]),
    ],
)
def test_what_is_wrong_is_named(device, wrong):
    assert trial.failures(device()) == wrong
