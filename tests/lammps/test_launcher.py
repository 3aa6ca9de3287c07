"""`lmp-dp run` as a program: what starts it, and which signals end it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lammps_runs import BIN, PLUGIN, environment, run_lammps, started, with_sigint
from lmp_dp import child
from lmp_dp.lammps import libraries, strangers

#: What a launcher leaves in the environment: how many processes, which of them; and its name.
LAUNCHERS = [
    ("PMI_SIZE", "PMI_RANK", "the mpirun of MPICH"),
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "the mpirun of Open MPI"),
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "srun --mpi=none"),
]
#: With these alone MPICH ends the process in MPI_Init.
PMIX = {"PMIX_NAMESPACE": "slurm.pmix.1.0", "PMIX_RANK": "0", "PMIX_SERVER_URI2": "pmix;tcp4://::1"}


def assert_refused(text: str, size: str, launcher: str, command: str = "lmp-dp run ...") -> None:
    """The one sentence, with what to write."""
    assert f"3 processes were started together by {launcher} ({size} is 3)" in text
    assert "not as ranks of MPICH" in text
    for remedy in (f"/mpirun -np 3 {command}`", f"`srun --mpi=pmi2 -n 3 {command}`"):
        assert remedy in text
    assert f"`env -u {size} {command}`" in text


@pytest.mark.parametrize(("size", "rank", "launcher"), LAUNCHERS)
def test_a_launcher_that_mpi_does_not_know_is_refused(
    size: str, rank: str, launcher: str, tmp_path: Path
) -> None:
    """As under `srun --mpi=none`: N processes, each of them rank 0 of 1."""
    outputs = []
    for number in ("0", "2"):
        done = run_lammps("print ran", tmp_path, check=False, **{size: "3", rank: number})
        assert done.returncode == 2
        assert "ran" not in done.output.split()
        outputs.append(done.output)
    assert outputs[1] == ""  # said once
    assert_refused(outputs[0], size, launcher)


@pytest.mark.parametrize(
    ("size", "rank", "launcher"),
    [*LAUNCHERS[1:2], ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "srun --mpi=pmix")],
)
def test_a_launcher_that_mpi_would_not_start_under_is_refused_before(
    size: str, rank: str, launcher: str, tmp_path: Path
) -> None:
    """As under `srun --mpi=pmix`, and under Open MPI's mpirun."""
    for number in ("0", "2"):
        told = {**PMIX, size: "3", rank: number}
        done = run_lammps("print ran", tmp_path, check=False, **told)
        assert done.returncode == 2
        if number == "2":
            assert done.output == ""
        else:
            assert_refused(done.output, size, launcher)


@pytest.mark.parametrize("told", [{}, {"SLURM_STEP_NUM_TASKS": "1"}, {"SLURM_STEP_NUM_TASKS": ""}])
def test_one_process_runs_under_any_launcher(told: dict[str, str], tmp_path: Path) -> None:
    assert "ran" in run_lammps("print ran", tmp_path, **PMIX, **told).output.split()


@pytest.mark.parametrize("outer", [{}, PMIX])
@pytest.mark.parametrize("ranks", [1, 2])
def test_mpirun_inside_of_another_launcher(
    ranks: int, outer: dict[str, str], tmp_path: Path
) -> None:
    """In a job step of several tasks, one of which calls mpirun; one rank of it is no stranger."""
    (tmp_path / "in.lammps").write_text("print ran")
    done = subprocess.run(
        [BIN / "mpirun", "-np", str(ranks), BIN / "lmp-dp", "run", "-in", "in.lammps"],
        env=environment(SLURM_STEP_NUM_TASKS="4", SLURM_PROCID="0", **outer),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split().count("ran") == 1


@pytest.mark.parametrize("number", ["0", "2"])
def test_pair_style_refuses_strangers(number: str, cu_model: Path, tmp_path: Path) -> None:
    """In the plain program, which starts before it can be told."""
    library, libmpi = libraries.liblammps(), libraries.libmpi()
    assert library
    assert libmpi
    done = run_lammps(
        f"pair_style dp {cu_model}",
        tmp_path,
        program=(str(library.with_name("lmp")),),  # without the hooks of other plugins
        check=False,
        SLURM_STEP_NUM_TASKS="3",
        SLURM_PROCID=number,
        LD_LIBRARY_PATH=str(libmpi.parent),
        LAMMPS_PLUGIN_PATH=str(PLUGIN.parent),
        LMP_DP_PYTHON=sys.executable,
    )
    assert done.returncode == 1
    if number == "0":
        assert_refused(done.output, "SLURM_STEP_NUM_TASKS", "srun --mpi=none", "...")
    else:
        assert "3 processes were started together: see what the first one says" in done.output


@pytest.mark.parametrize("count", ["1", "3"])
def test_import_of_lammps_where_mpi_would_not_start(count: str) -> None:
    """The hook of the lammps package: says so, or makes it start, and never fails."""
    told = {**PMIX, "SLURM_STEP_NUM_TASKS": count, "SLURM_PROCID": "0"}
    done = subprocess.run(
        child.command(
            "from lmp_dp.lammps import libraries; print(libraries.plugin_directory())\n"
            "import os; print('PMIX_RANK' in os.environ)"
        ),
        env=environment(**told),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == str(count == "3")
    if count == "3":
        assert_refused(done.stderr, "SLURM_STEP_NUM_TASKS", "srun --mpi=pmix", "...")
    else:
        assert done.stderr == ""


@pytest.fixture
def open_mpi(monkeypatch: pytest.MonkeyPatch) -> str:
    """A process of a Slurm step that has Open MPI."""
    for name in [name for name in os.environ if name.startswith(("PMI", "OMPI", "SLURM"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(strangers, "_mpi_library", lambda: "Open MPI v4.1.4")
    for name, value in {"STEP_ID": "0", "PROCID": "0", "STEP_NUM_TASKS": "3"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    return "lmp-dp run ..."


def test_open_mpi_is_told_its_own_launchers(open_mpi: str) -> None:
    """Open MPI ends what srun has started without PMIx."""
    text = strangers.before_mpi(open_mpi)
    assert text == strangers.refusal(1, open_mpi)
    assert "3 processes were started together by srun --mpi=none" in text
    assert "`mpirun -np 3 lmp-dp run ...`, with the mpirun of Open MPI v4.1.4," in text
    assert "`srun --mpi=pmix -n 3 lmp-dp run ...`" in text
    assert strangers.refusal(3, open_mpi) == ""


@pytest.mark.parametrize("name", ["PMIX_NAMESPACE", "OMPI_COMM_WORLD_SIZE"])
def test_open_mpi_starts_under_its_own_launchers(
    name: str, open_mpi: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "3")
    assert strangers.before_mpi(open_mpi) == ""
    assert "SLURM_STEP_ID" in os.environ


def test_one_process_with_open_mpi_needs_no_launcher(
    open_mpi: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert strangers.before_mpi(open_mpi) == ""
    assert "SLURM_STEP_ID" not in os.environ


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
