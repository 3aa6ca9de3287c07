"""A LAMMPS that was built from source, and how to start it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

BIN = Path(sys.executable).parent
SECONDS = 300  # a run takes some; one that waits for a rank that is gone would take for ever


@dataclass
class Done:
    """A finished process."""

    returncode: int | str
    output: str


@dataclass(frozen=True)
class Installation:
    """A build folder (or a prefix), its source tree, and the folder of our plugin for it."""

    folder: Path
    source: Path
    plugin: Path

    @property
    def program(self) -> Path:
        """The plain `lmp`."""
        return next(p for p in (self.folder / "lmp", self.folder / "bin" / "lmp") if p.exists())

    @cached_property
    def help(self) -> str:
        """What `lmp -h` prints: version, MPI, packages."""
        command = [self.program, "-h"]
        return subprocess.run(
            command, env=self.environment(), check=True, capture_output=True, text=True
        ).stdout

    @property
    def kokkos(self) -> bool:
        """Whether it has that package."""
        return "KOKKOS" in self.help.partition("Installed packages")[2].split()

    def environment(self) -> dict[str, str]:
        """The virtual environment is found by PATH, this LAMMPS's own Python module first."""
        libraries = [self.folder, self.folder / "lib", sysconfig.get_config_var("LIBDIR")]
        return {
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PYTHONPATH": str(self.source / "python"),
            "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
            "OMP_NUM_THREADS": "1",
        }

    def mpirun(self, ranks: int) -> list[str]:
        """What starts that many ranks with the MPI of this LAMMPS."""
        if ranks == 1:
            return []
        if "Open MPI" in self.help:
            options = ["--oversubscribe", "--allow-run-as-root"]
            return ["mpirun.openmpi", *options, "-np", str(ranks)]
        return ["mpirun.mpich", "-np", str(ranks)]

    def run(self, script: Path, ranks: int, kokkos: bool = False, plugin: bool = False) -> Done:
        """The plain `lmp`."""
        command = [*self.mpirun(ranks), self.program, *self._arguments(kokkos)]
        more = {}
        if plugin:
            more["LAMMPS_PLUGIN_PATH"] = str(self.plugin)
            more["LMP_DP_PYTHON"] = sys.executable
        return finished(
            [*command, "-nocite", "-in", script], {**self.environment(), **more}, script
        )

    def run_python(
        self,
        script: Path,
        model: Path,
        options: dict[str, object],
        ranks: int,
        kokkos: bool = False,
    ) -> Done:
        """Python that runs LAMMPS (see `mliap_script`)."""
        program = Path(__file__).with_name("mliap_script.py")
        command = [*self.mpirun(ranks), sys.executable, program, model, json.dumps(options), script]
        return finished([*command, *self._arguments(kokkos)], self.environment(), script)

    @staticmethod
    def _arguments(kokkos: bool) -> list[str]:
        return ["-k", "on", "-sf", "kk", "-pk", "kokkos", "newton", "on"] if kokkos else []


def finished(command: list[str | Path], environment: dict[str, str], script: Path) -> Done:
    """Run in the folder of `script`; a process that does not end is a result as well."""
    with subprocess.Popen(
        list(map(str, command)),
        cwd=script.parent,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=SECONDS)
            return Done(process.returncode, output)
        except subprocess.TimeoutExpired:
            process.terminate()  # mpirun ends its ranks
            output, _ = process.communicate()
            return Done(f"none within {SECONDS} s", output)
