"""`lmp-dp run`: LAMMPS with pair style dp at hand, inside this Python process where that can be.

It takes every option of LAMMPS's own program and does what that does; that Python is already in the
process saves the plugin from looking for one. Where LAMMPS is a program without a shared library,
that program takes the place of this process.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from lmp_dp.errors import LmpDpError
from lmp_dp.lammps import libraries, strangers
from lmp_dp.lammps.installations import PLUGIN, Installation, chosen

OPTION = "--lammps"


class LaunchError(LmpDpError):
    """LAMMPS cannot be started: something is missing, or two things do not fit together."""


def main(argv: Sequence[str]) -> int:
    """Run LAMMPS.

    Parameters
    ----------
    argv : sequence of str
        Options of LAMMPS's program, without a program name. The first `--lammps PATH` among them
        is ours.

    Returns
    -------
    int
        Exit status: 0, 1 after an error that LAMMPS has printed, 2 if each of several processes
        would have run it alone.
        LAMMPS itself ends the process on `-h`, on `quit`, and where an error on one of several
        ranks ends all; a LAMMPS that is a program alone ends it in any case.

    Raises
    ------
    LaunchError, NoLammpsError
        LAMMPS cannot be started.
    """
    named, options = own_option(argv)
    lammps = chosen(named)
    return start(lammps, plugin_for(lammps), options)


def own_option(argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """What `--lammps` names (None without it), and the options of LAMMPS.

    Raises
    ------
    LaunchError
        It names nothing.
    """
    for place, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name == OPTION:
            rest = list(argv[place + 1 :])
            if not equals:
                value = rest.pop(0) if rest else ""
            if not value:
                raise LaunchError(f"{OPTION} names no LAMMPS: {OPTION} PATH")
            return value, [*argv[:place], *rest]
    return None, list(argv)


def plugin_for(lammps: Installation) -> Path:
    """The plugin that was made for this LAMMPS, else one that LAMMPS_PLUGIN_PATH names.

    Raises
    ------
    NoLammpsError
        There is none.
    """
    asked_for = (Path(folder, PLUGIN) for folder in _asked_for())
    found = lammps.plugin() or next((path for path in asked_for if path.is_file()), None)
    if found is None:
        raise lammps.without_plugin()
    return found


def start(lammps: Installation, plugin: Path, options: Sequence[str]) -> int:
    """Run a LAMMPS with a plugin; the exit status. Does not return where it is a program alone.

    Raises
    ------
    LaunchError, NoLammpsError
        It cannot be started.
    """
    lammps.check()
    # Only our plugin and what the user asks for: the hooks of the lammps package, which collect
    # those of every installed package, are not called here.
    folders = dict.fromkeys([str(plugin.parent), *_asked_for()])
    os.environ["LAMMPS_PLUGIN_PATH"] = ":".join(folders)
    # Python would note Ctrl-C and wait for LAMMPS to return; LAMMPS's program stops at once. What a
    # shell starts in the background ignores it, and goes on doing so.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if lammps.library is None:
        _become(lammps, options)
    loaded = load(lammps, plugin)
    loaded.lmp_dp_unfit.restype = ctypes.c_char_p
    command = f"lmp-dp run{lammps.option} ..."
    if wrong := loaded.lmp_dp_unfit().decode() or strangers.before_mpi(command):
        strangers.say("lmp-dp run: error", wrong)
        return 2

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
    def may_run(world_size: int) -> int:
        """What the plugin asks when MPI is there."""
        if wrong := strangers.refusal(world_size, command):
            strangers.say("lmp-dp run: error", wrong)
        return not wrong

    sys.stdout.flush()
    arguments = [b"lmp-dp run", *map(os.fsencode, options)]
    array = (ctypes.c_char_p * (len(arguments) + 1))(*arguments, None)
    return int(loaded.lmp_dp_main(len(arguments), array, may_run))


def load(lammps: Installation, plugin: Path) -> ctypes.CDLL:
    """Load MPI, LAMMPS and the plugin into this process.

    Returns
    -------
    ctypes.CDLL
        The plugin, which holds a LAMMPS main program.

    Raises
    ------
    LaunchError, NoLammpsError
        With what is missing and how to get it.
    """
    lammps.load()
    try:
        return ctypes.CDLL(str(plugin))
    except OSError as error:
        raise LaunchError(
            f"the plugin {plugin} cannot be loaded into {lammps} ({error}): compile it for this "
            f"LAMMPS, lmp-dp plugin build{lammps.option}"
        ) from None


def _become(lammps: Installation, options: Sequence[str]) -> None:
    """Put LAMMPS's program in the place of this process; it finds the plugin, and that Python."""
    os.environ["LMP_DP_PYTHON"] = sys.executable
    libpython = os.environ.setdefault("LMP_DP_LIBPYTHON", str(libraries.libpython() or ""))
    if not libpython:
        raise LaunchError(
            f"{lammps} is a program without a shared library, into which Python's has to be "
            f"loaded, but {sys.executable} has none: install lmp-dp in a Python that has "
            "(Debian's, conda's), name one in LMP_DP_LIBPYTHON, or build LAMMPS with "
            "-D BUILD_SHARED_LIBS=on"
        )
    if missing := lammps.missing_python():
        folders = [str(missing.parent), os.environ.get("LD_LIBRARY_PATH", "")]
        os.environ["LD_LIBRARY_PATH"] = ":".join(filter(None, folders))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # which Python ignores, and with it its children
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execv(lammps.file, [str(lammps.file), *options])
    except OSError as error:
        raise LaunchError(f"{lammps.file} cannot be started: {error.strerror}") from None


def _asked_for() -> list[str]:
    return [folder for folder in os.environ.get("LAMMPS_PLUGIN_PATH", "").split(":") if folder]
