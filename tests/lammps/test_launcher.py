"""`lmp-dp run` as a program: what starts it, and which signals end it."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from lammps_runs import BIN, environment, run_lammps, started, with_sigint

#: What a launcher leaves in the environment: name of the number of processes, and of the rank.
LAUNCHERS = [
    ("PMI_SIZE", "PMI_RANK"),
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
]


@pytest.mark.parametrize(("size", "rank"), LAUNCHERS)
def test_a_launcher_that_mpi_does_not_know_is_refused(size: str, rank: str, tmp_path: Path) -> None:
    """As under `srun --mpi=none`: N processes, each of them rank 0 of 1."""
    outputs = []
    for number in ("0", "2"):
        done = run_lammps("print ran", tmp_path, check=False, **{size: "3", rank: number})
        assert done.returncode == 2
        assert "ran" not in done.output.split()
        outputs.append(done.output)
    assert outputs[1] == ""  # said once
    assert f"3 processes were started together ({size} is 3)" in outputs[0]
    for remedy in ("mpirun -np 3 lmp-dp run", "srun --mpi=pmi2 lmp-dp run", f"env -u {size} lmp"):
        assert remedy in outputs[0]


@pytest.mark.parametrize("ranks", [1, 2])
def test_mpirun_inside_of_another_launcher(ranks: int, tmp_path: Path) -> None:
    """In a job step of several tasks, one of which calls mpirun; one rank of it is no stranger."""
    (tmp_path / "in.lammps").write_text("print ran")
    done = subprocess.run(
        [BIN / "mpirun", "-np", str(ranks), BIN / "lmp-dp", "run", "-in", "in.lammps"],
        env=environment(SLURM_STEP_NUM_TASKS="4", SLURM_PROCID="0"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split().count("ran") == 1


@pytest.mark.parametrize("ignored", [True, False])
def test_ctrl_c_ends_a_run_unless_in_the_background(ignored: bool, tmp_path: Path) -> None:
    """A shell has SIGINT ignored in what it starts in the background: Ctrl-C is for others."""
    with started(
        with_sigint("ignored" if ignored else "default", [BIN / "lmp-dp", "run", "-nonbuf"]),
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("print running\n")
        process.stdin.flush()
        while process.stdout.readline() != "running\n":
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        if ignored:
            assert "survived" in process.communicate("print survived\n", timeout=60)[0]
        assert process.wait(timeout=60) == (0 if ignored else -signal.SIGINT)
