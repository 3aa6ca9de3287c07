"""What tests of backend gpu run: `run_on_device.py emulated|cuda CHUNK_BYTES PROGRAM [ARGUMENTS]`.

PROGRAM is a Python file, or "lmp-dp" with its arguments. CHUNK_BYTES is the engine's, or 0 for its
own choice. On "emulated" the process has one device, which is emulated. Needs no pytest.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from lmp_dp import cli
from lmp_dp.engine.gpu import device as cuda_device
from lmp_dp.engine.gpu import engine, self_test

device, chunk_bytes, program, *arguments = sys.argv[1:]
if device == "emulated":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from cuda_emulation.emulated_device import EmulatedDevice

    cuda_device.CudaDevice = lambda _index: EmulatedDevice()  # type: ignore[assignment, misc]
    cuda_device.device_count = lambda: 1
    cuda_device.device_name = lambda _index: "emulated"
    self_test.cache_folder = lambda _name: None  # each process tests its device
if int(chunk_bytes):
    engine.CHUNK_BYTES = int(chunk_bytes)
sys.argv = [program, *arguments]
if program == "lmp-dp":
    sys.exit(cli.main(arguments))
runpy.run_path(program, run_name="__main__")
