#!/usr/bin/env bash
# Train by Slurm: tools/slurm_train.sh PARTITION JOB CONFIG [arguments of train.py]
#
# From the environment: GPUS (default 8) in all, GPUS_PER_NODE (8, or GPUS if
# that is less), CPUS_PER_TASK (8), SRUN_ARGS for further options of srun,
# PYTHON for another interpreter.
#
# REQUEUE=1 submits the same as a batch job (sbatch, with SBATCH_ARGS): NOTICE
# seconds (120) before its time is over Slurm signals the training, which saves,
# asks for the job again and goes on from there when it starts.
set -euo pipefail

if [[ $# -lt 3 ]]; then
    echo "usage: $(basename "$0") PARTITION JOB CONFIG [arguments of train.py]" >&2
    exit 2
fi
partition=$1
job=$2
config=$3
shift 3

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-8}
if ((per_node > gpus)); then per_node=$gpus; fi
if ((gpus % per_node)); then
    echo "error: GPUS=$gpus does not divide into machines of GPUS_PER_NODE=$per_node" >&2
    exit 2
fi
read -r -a extra <<<"${SRUN_ARGS:-}"

# The package beside this script is found without being installed.
if [[ -d $here/../msn_mm ]]; then
    PYTHONPATH="$(dirname -- "$here")${PYTHONPATH:+:$PYTHONPATH}"
    export PYTHONPATH
fi
resources=(--partition "$partition" --job-name "$job" --ntasks "$gpus"
    --ntasks-per-node "$per_node" --gres "gpu:$per_node"
    --cpus-per-task "${CPUS_PER_TASK:-8}")
training=("${PYTHON:-python}" -u "$here/train.py" "$config" --launcher slurm "$@")
if [[ ${REQUEUE:-0} != 1 ]]; then
    exec srun "${resources[@]}" --kill-on-bad-exit=1 "${extra[@]+"${extra[@]}"}" "${training[@]}"
fi
# Only a batch job can be queued again. Its script runs srun with what sbatch was given.
read -r -a extra_batch <<<"${SBATCH_ARGS:-}"
export MSN_MM_REQUEUE=1
printf -v step '%q ' srun --cpus-per-task "${CPUS_PER_TASK:-8}" --kill-on-bad-exit=1 \
    "${extra[@]+"${extra[@]}"}" "${training[@]}"
exec sbatch "${resources[@]}" --requeue --open-mode append --export ALL \
    --signal "USR1@${NOTICE:-120}" "${extra_batch[@]+"${extra_batch[@]}"}" --wrap "exec $step"
