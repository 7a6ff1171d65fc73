"""The same net, with its parameters in CuPy."""

from __future__ import annotations

import os

import cupy

from . import ours


def allow_tf32(allow):
    os.environ["CUPY_TF32"] = str(int(allow))  # read by CuPy at the first product


def build(shape, layers, folder, dtype):
    return ours.build(shape, layers, folder, dtype).to(cupy)


def runner(net, x, method, targets):
    compute = ours.runner(net, cupy.asarray(x), method, targets)

    def run():
        result = compute()
        cupy.cuda.Device().synchronize()
        return result

    return run


def to_numpy(result):
    return cupy.asnumpy(result)


def device_memory():
    free, total = cupy.cuda.runtime.memGetInfo()
    return cupy.get_default_memory_pool().total_bytes(), total - free  # the pool gives nothing back


def versions():
    card = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    return {**ours.versions(), "cupy": cupy.__version__, "card": card}
