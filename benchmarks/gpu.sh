#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: the tests with CuPy, then the benchmark beside Zennit on the same card. One call, under
# ten minutes, and nothing is fetched: such machines often have no internet. Every stage that fails says so, and the next runs.
#
#     benchmarks/gpu.sh              what it finds goes to benchmarks/results, or to the folder OUT
#
# It uses what the machine's Python has: CuPy, PyTorch with torchvision, pytest and what the tests import. What it lacks may
# lie as wheels in wheels/, a folder beside benchmarks/ that git ignores. Where there is internet, for that machine's Python:
#
#     pip download --no-deps -d wheels --only-binary=:all: --python-version 3.12 --platform manylinux_2_28_x86_64 \
#         zennit array-api-strict pooch
#
# Tests whose imports are still missing are named as errors; the others run.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
out=$(realpath -m "${OUT:-benchmarks/results}")
python=${PYTHON:-python3}
mkdir -p "$out"
failed=0

stage() { # name, seconds at most, command: its output also goes to the folder
    local name=$1 seconds=$2 code
    shift 2
    printf '\n== %s\n' "$name"
    timeout --signal=INT --kill-after=10 "$seconds" "$@" 2>&1 | tee "$out/gpu-$name.log"
    code=${PIPESTATUS[0]}
    if [ "$code" -eq 124 ] || [ "$code" -eq 137 ]; then
        echo "== $name: FAILED, took more than $seconds s"
    elif [ "$code" -ne 0 ]; then
        echo "== $name: FAILED ($code)"
    fi
    [ "$code" -eq 0 ] || failed=1
}

if compgen -G "wheels/*.whl" >/dev/null; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    stage wheels 40 "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$site" wheels/*.whl
    export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
fi
export PYTHONUNBUFFERED=1

stage machine 20 "$python" -c "import sys, cupy; print(sys.version); cupy.show_config()"
stage kernels 70 "$python" -m pytest -p no:cacheprovider --backend cupy tests/core/test_gpu.py
stage tests 150 "$python" -m pytest -q -p no:cacheprovider --continue-on-collection-errors --backend cupy
stage benchmark 290 "$python" -m benchmarks --gpu --rounds 1 --out "$out"
exit "$failed"
