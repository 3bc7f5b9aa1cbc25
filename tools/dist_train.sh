#!/usr/bin/env bash
# Train on several processes by torchrun: tools/dist_train.sh CONFIG NPROC [arguments of train.py]
#
# NPROC processes start on this machine. For several machines set in the
# environment: NNODES (default 1), NODE_RANK (0), MASTER_ADDR and MASTER_PORT
# (29500) of the first machine. PYTHON names another interpreter.
#
# With MAX_RESTARTS=n (or --max-restarts n) the processes start again, up to n
# times, after one of them died, and go on from the newest whole checkpoint of
# the run. Several machines then find each other through the first one's port,
# and NODE_RANK is not read.
set -euo pipefail

if [[ $# -lt 2 || ! $2 =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: $(basename "$0") CONFIG NPROC [arguments of train.py]" >&2
    exit 2
fi
config=$1
nproc=$2
shift 2
restarts=${MAX_RESTARTS:-0}
arguments=()
while (($#)); do
    case $1 in
        --max-restarts=*) restarts=${1#*=} ;;
        --max-restarts)
            restarts=${2:-}
            if (($# > 1)); then shift; fi
            ;;
        *) arguments+=("$1") ;;
    esac
    shift
done
if [[ ! $restarts =~ ^[0-9]+$ ]]; then
    echo "error: MAX_RESTARTS or --max-restarts must be a whole number, not '$restarts'" >&2
    exit 2
fi

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
nnodes=${NNODES:-1}
if [[ $nnodes -eq 1 ]]; then
    # Its own rendezvous on a free port: two runs on a machine do not meet.
    rendezvous=(--standalone)
else
    if [[ -z ${MASTER_ADDR:-} ]]; then
        echo "error: NNODES=$nnodes needs MASTER_ADDR, the address of the first machine" >&2
        exit 2
    fi
    if ((restarts > 0)); then
        # torchrun's static meeting cannot be held a second time.
        rendezvous=(--nnodes "$nnodes" --rdzv-backend c10d --rdzv-id "${RDZV_ID:-msn_mm}"
            --rdzv-endpoint "$MASTER_ADDR:${MASTER_PORT:-29500}")
    else
        rendezvous=(--nnodes "$nnodes" --node-rank "${NODE_RANK:-0}"
            --master-addr "$MASTER_ADDR" --master-port "${MASTER_PORT:-29500}")
    fi
fi

# The package beside this script is found without being installed.
if [[ -d $here/../msn_mm ]]; then
    PYTHONPATH="$(dirname -- "$here")${PYTHONPATH:+:$PYTHONPATH}"
    export PYTHONPATH
fi
exec "${PYTHON:-python}" -m msn_mm.utils.torchrun "${rendezvous[@]}" --nproc-per-node "$nproc" \
    --max-restarts "$restarts" "$here/train.py" "$config" --launcher pytorch \
    "${arguments[@]+"${arguments[@]}"}"
