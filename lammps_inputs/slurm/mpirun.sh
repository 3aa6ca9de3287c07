#!/bin/bash
# As cpu.sh, where Slurm has no pmi2 (srun --mpi=list says what it has): MPICH's own mpirun, which is
# installed beside lmp-dp, asks Slurm for the nodes and starts the ranks there. It binds none to cores.
#
#     sbatch mpirun.sh -in in.script
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=2
#SBATCH --cpus-per-task=1
#SBATCH --hint=nomultithread
#SBATCH --time=01:00:00
set -euo pipefail

export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
# mpirun starts a helper on each node by srun, which would bind it, and with it all ranks, to one core.
export SLURM_CPU_BIND=none
export NUMBA_CACHE_DIR=${NUMBA_CACHE_DIR:-$HOME/.cache}

# Another MPI's mpirun may be the first on PATH.
"$(dirname "$(command -v lmp-dp)")/mpirun" -np "$SLURM_NTASKS" lmp-dp run "$@"
