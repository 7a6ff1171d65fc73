#!/usr/bin/env bash
# The table of docs/conformance.md: conformance/run_peers.sh, after benchmarks/setup.sh. What is not there is left out.
# ORIGINAL is the folder `python` of sebastian-lapuschkin/lrp_toolbox.
set -euo pipefail
cd "$(dirname "$0")/adapters"
peers=${PEERS:-../../.cache/peers}
out=${OUT:-../../.cache/conformance}
mkdir -p "$out"
rm -f "$out"/*.json
python3 lrp_toolbox_adapter.py "$out/1-lrp_toolbox.json"
if [ -x "$peers/torch/bin/python" ]; then
    "$peers/torch/bin/python" zennit_adapter.py "$out/2-zennit.json"
    "$peers/torch/bin/python" -W ignore captum_adapter.py "$out/3-captum.json"
fi
if [ -x "$peers/tensorflow/bin/python" ]; then
    TF_CPP_MIN_LOG_LEVEL=3 "$peers/tensorflow/bin/python" -W ignore innvestigate_adapter.py "$out/4-innvestigate.json" 2> "$out/tensorflow.log"
fi
if [ -d "${ORIGINAL:-$peers/original}/modules" ]; then
    PYTHONPATH=${ORIGINAL:-$peers/original} python3 -W ignore original_adapter.py "$out/5-original.json"
fi
python3 ../compare.py "$out"/*.json "$@"
