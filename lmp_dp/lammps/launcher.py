"""`lmp-dp run`: the LAMMPS program inside this Python process, with pair style dp at hand.

It takes every option of LAMMPS's own program and does what that does; that Python is already in the
process saves the plugin from looking for one.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from importlib import metadata

from lmp_dp.errors import LmpDpError
from lmp_dp.lammps import libraries


class LaunchError(LmpDpError):
    """LAMMPS cannot be started: a library is missing, or two do not fit together."""


def load() -> ctypes.CDLL:
    """Load MPI, LAMMPS and the plugin into this process.

    Returns
    -------
    ctypes.CDLL
        The plugin, which holds a LAMMPS main program.

    Raises
    ------
    LaunchError
        With what is missing and how to get it.
    """
    if not libraries.load_libmpi():
        raise LaunchError("libmpi.so.12 is not found, which LAMMPS needs: pip install mpich")
    path = libraries.liblammps()
    if path is None:
        raise LaunchError("the LAMMPS library is not found: pip install lammps")
    if not libraries.PLUGIN.exists():
        raise LaunchError(
            f"the compiled plugin {libraries.PLUGIN} is missing: install lmp-dp again "
            f"(in a source tree: pip install -e .)"
        )
    cores = os.sched_getaffinity(0)
    try:
        # Global: the plugin is linked with nothing and finds LAMMPS and MPI in the process.
        ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        plugin = ctypes.CDLL(str(libraries.PLUGIN))
    except OSError as error:
        raise LaunchError(
            f"the LAMMPS library or the plugin cannot be loaded ({error}): are lammps and lmp-dp "
            f"installed in versions that fit? pip install --force-reinstall lmp-dp"
        ) from None
    # With OMP_PROC_BIND, LAMMPS's OpenMP library binds this thread to one core when it is loaded,
    # and with it every thread that the cpu backend starts later.
    os.sched_setaffinity(0, cores)
    plugin.lmp_dp_lammps_wheel.restype = ctypes.c_char_p
    built_for, installed = plugin.lmp_dp_lammps_wheel().decode(), metadata.version("lammps")
    if installed != built_for:
        raise LaunchError(
            f"lmp-dp was compiled for the lammps wheel {built_for}, but version {installed} is "
            f"installed: pip install lammps=={built_for}, or install lmp-dp again"
        )
    return plugin


def main(argv: Sequence[str]) -> int:
    """Run LAMMPS.

    Parameters
    ----------
    argv : sequence of str
        Options of LAMMPS's program, without a program name.

    Returns
    -------
    int
        Exit status: 0, 1 after an error that LAMMPS has printed, 2 if LAMMPS could not be started,
        or each of several processes would have run it alone.
        LAMMPS itself ends the process on `-h`, on `quit`, and where an error on one of several
        ranks ends all.
    """
    try:
        plugin = load()
    except LaunchError as error:
        print(f"lmp-dp run: error: {error}", file=sys.stderr)
        return 2
    # Only our plugins and what the user asks for: the hooks of the lammps package, which collect
    # those of every installed package, are not called here.
    asked_for = os.environ.get("LAMMPS_PLUGIN_PATH", "").split(":")
    directories = [str(libraries.PLUGIN_DIRECTORY), *asked_for]
    os.environ["LAMMPS_PLUGIN_PATH"] = ":".join(dict.fromkeys(filter(None, directories)))
    # Python would note Ctrl-C and wait for LAMMPS to return; LAMMPS's program stops at once. What a
    # shell starts in the background ignores it, and goes on doing so.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.stdout.flush()
    arguments = [b"lmp-dp run", *map(os.fsencode, argv)]
    array = (ctypes.c_char_p * (len(arguments) + 1))(*arguments, None)
    return int(plugin.lmp_dp_main(len(arguments), array))
