#!/bin/bash
# A run that is longer than a job may be: LAMMPS stops before the job's time is over and writes where
# it is, the job goes back to the queue, and the next one continues.
#
#     sbatch restart.sh -in in.water_restart
#
# in.water_restart shows what the input script has to do: `timer timeout` stops the run, `write_restart`
# keeps it, and `quit 85` says that it is not at its end. After a node has failed Slurm starts the job
# again by itself (--requeue), from where the last one ended.
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=2
#SBATCH --cpus-per-task=1
#SBATCH --time=01:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

timeout=${TIMEOUT:-0:55:00}    # less than --time, by what starting and writing take
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
export SRUN_CPUS_PER_TASK=$OMP_NUM_THREADS
export NUMBA_CACHE_DIR=${NUMBA_CACHE_DIR:-$HOME/.cache}

status=0
srun --mpi=pmi2 lmp-dp run -var timeout "$timeout" -log "log.${SLURM_RESTART_COUNT:-0}" "$@" || status=$?
if [[ $status == 85 ]]; then
  scontrol requeue "$SLURM_JOB_ID"
else
  exit "$status"
fi
