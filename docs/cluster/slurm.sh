#!/usr/bin/env bash
# A run on several nodes of a Slurm cluster. It needs only Python 3.11 to 3.13 and a home directory that every node sees:
#
#   sbatch docs/cluster/slurm.sh --model best.pt --data coco --noise benchmark --device cuda --gpus 0.5
#
# Arguments after the script's name are passed to `robustbench run`. Shortly before the time limit, or when the job is
# cancelled, the run stops and keeps its results. Submitted again, or requeued by Slurm, it resumes.
# From a checkout: ROBUSTBENCH_PACKAGE="$PWD[ray]" sbatch ...
# Without GPUs leave out --gpus-per-node here, and --device and --gpus above.
#SBATCH --job-name=robustbench
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

env=${ROBUSTBENCH_ENV:-$HOME/.robustbench}
if [ ! -x "$env/bin/robustbench" ]; then
    python3 -m venv "$env"
    "$env/bin/pip" install --quiet "${ROBUSTBENCH_PACKAGE:-robustbench-sgdm[ray]}"
fi

nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes%%$'\n'*}
port=$((20000 + SLURM_JOB_ID % 20000))
cpus=${SLURM_CPUS_PER_TASK:-1}
export SRUN_CPUS_PER_TASK=$cpus # srun does not take sbatch's any more
gpus=${SLURM_GPUS_ON_NODE:-0}
# Whoever reaches Ray's ports can run code: on shared nodes this needs the job's token.
RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_MODE RAY_AUTH_TOKEN

start=("$env/bin/ray" start --block --num-cpus "$cpus" --num-gpus "$gpus")
srun --nodes=1 --ntasks=1 --overlap -w "$head" "${start[@]}" --head --port "$port" --include-dashboard=false &
for wait in {60..0}; do
    "$env/bin/ray" status --address "$head:$port" >/dev/null 2>&1 && break
    if [ "$wait" = 0 ] || [ -z "$(jobs -r)" ]; then
        echo "Ray's head did not start on $head" >&2
        kill $(jobs -p) 2>/dev/null || true
        exit 1
    fi
    sleep 2
done
if [ "$SLURM_NNODES" -gt 1 ]; then
    others=$((SLURM_NNODES - 1))
    srun --nodes="$others" --ntasks="$others" --overlap --exclude="$head" "${start[@]}" --address "$head:$port" &
fi

"$env/bin/robustbench" run "$@" --executor ray --address "$head:$port" &
run=$!
trap 'kill -TERM "$run"' TERM INT
code=0
wait "$run" || code=$?
if [ "$code" -gt 128 ]; then # the trap ended that wait: the run is still storing what it has
    code=0
    wait "$run" || code=$?
fi
kill $(jobs -p) 2>/dev/null || true
exit "$code"
