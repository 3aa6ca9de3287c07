#!/bin/bash
# LAMMPS with pair_style dp on GPU nodes: one rank per GPU, of which Slurm gives each rank its own.
#
#     sbatch gpu.sh -in in.script
#     sbatch --ntasks-per-node=4 gpu.sh -in in.script     on nodes with four GPUs
#
# The log says which rank has which GPU, or, where pair_style dp runs on CPUs, why.
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=1
#SBATCH --time=01:00:00
set -euo pipefail

export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
export SRUN_CPUS_PER_TASK=$OMP_NUM_THREADS
# Where a device that has passed its self-test is remembered.
export NUMBA_CACHE_DIR=${NUMBA_CACHE_DIR:-$HOME/.cache}

srun --mpi=pmi2 lmp-dp run "$@"
