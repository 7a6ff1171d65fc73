#!/usr/bin/env bash
# Make an environment for each peer under .cache/peers: PyTorch with Zennit and Captum, and TensorFlow with iNNvestigate.
# Zennit 1.0.0 asks for Python 3.11.11 and for torchvision, which it uses for three class names: on an older patch release, or
# without torchvision, it gets neither, and three empty classes instead. iNNvestigate 2.1.2 needs Python < 3.12.
#
# benchmarks/setup.sh vision makes one more and nothing else, .cache/peers/vision: PyTorch with torchvision and Zennit, which
# export networks as ONNX files and explain them (export_torchvision, zennit_onnx, compare_onnx, networks). PyTorch's newer
# exporter takes onnxscript.
set -euo pipefail
cd "$(dirname "$0")/.."
peers=.cache/peers
python=${PEERS_PYTHON:-python3}
mkdir -p "$peers"

if [ "${1:-}" = vision ]; then
    "$python" -m venv "$peers/vision"
    "$peers/vision/bin/pip" install --quiet torch==2.14.1 torchvision==0.29.1 onnx onnxscript
    "$peers/vision/bin/pip" install --quiet --no-deps --ignore-requires-python zennit==1.0.0
    exit
fi

"$python" -m venv "$peers/torch"
"$peers/torch/bin/pip" install --quiet numpy pillow click "torch==${TORCH:-2.13.0}" captum==0.9.0
"$peers/torch/bin/pip" install --quiet --no-deps --ignore-requires-python zennit==1.0.0
site=$("$peers/torch/bin/python" -c "import sysconfig; print(sysconfig.get_paths()['purelib'])")
if ! "$peers/torch/bin/python" -c "import torchvision" 2>/dev/null; then
    mkdir -p "$site/torchvision/models"
    echo "from . import ops" >"$site/torchvision/__init__.py"
    echo "class FrozenBatchNorm2d: pass" >"$site/torchvision/ops.py"
    : >"$site/torchvision/models/__init__.py"
    printf 'class BasicBlock: pass\nclass Bottleneck: pass\nclass ResNet: pass\n' >"$site/torchvision/models/resnet.py"
    echo "class VGG: pass" >"$site/torchvision/models/vgg.py"
fi
"$peers/torch/bin/python" -c "import zennit.composites, captum.attr"

"$python" -m venv "$peers/tensorflow"
"$peers/tensorflow/bin/pip" install --quiet "numpy<2" tensorflow-cpu==2.14.1 innvestigate==2.1.2
"$peers/tensorflow/bin/python" -c "import innvestigate"
