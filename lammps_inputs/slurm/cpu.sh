#!/bin/bash
# LAMMPS with pair_style dp on CPU nodes, started by srun:
#
#     sbatch cpu.sh -in in.script                         other options of LAMMPS may follow
#     sbatch --ntasks-per-node=32 --cpus-per-task=1 cpu.sh -in in.script
#
# Submit it where the environment with lmp-dp is active: sbatch passes PATH on.
#
# Tasks per node times CPUs per task is the number of the node's cores. Ranks of one thread are the
# fastest as long as each has some hundred atoms; below that, fewer ranks with more threads.
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=2
#SBATCH --cpus-per-task=1
#SBATCH --hint=nomultithread
#SBATCH --time=01:00:00
set -euo pipefail

export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
# From Slurm 22.05 on srun does not take this over from sbatch, and binds each rank to one core.
export SRUN_CPUS_PER_TASK=$OMP_NUM_THREADS
# Kernels are compiled once: on a file system that all nodes see. (Your home is, on most clusters.)
export NUMBA_CACHE_DIR=${NUMBA_CACHE_DIR:-$HOME/.cache}

srun --mpi=pmi2 lmp-dp run "$@"
