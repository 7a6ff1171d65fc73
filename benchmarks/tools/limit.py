"""What no NumPy program can beat: the products that a method needs at BLAS' best speed, and reading the dense weights."""

from __future__ import annotations

import time

import numpy as np

from ..nets import flops

# how often each convolution, and each dense layer, is gone through: forward, and back for each target
PASSES = {
    "forward": (1, 0),
    "epsilon": (1, 1),
    "alpha1beta0": (2, 1),  # y and z⁺; back
    "alpha2beta1": (2, 2),  # z⁺ and z⁻, whose sum is y; back from both
    "cmp_alpha1_flat": (2, 1),
    "cmp_alpha2_flat": (2, 2),
}


def build(shape, layers, folder, dtype):
    return flops(shape, layers), np.dtype(dtype)


def runner(net, x, method, targets):
    (convolutions, dense), dtype = net
    speed, bandwidth = _gemm(dtype), _read(dtype)
    there, back = PASSES[method]
    composite = method.startswith("cmp")
    first = convolutions[0] * (1 if composite else there + back * targets)
    rest = sum(convolutions[1:]) * (there + back * targets)
    dense_passes = 1 + (method != "forward") * targets
    seconds = len(x) * (first + rest) / speed + dense_passes * sum(dense) * dtype.itemsize / bandwidth
    return lambda: seconds


def best(f, seconds=1.5):
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return min(times)


def _gemm(dtype):
    """Operations a second of the largest product, with all threads."""
    a, b = (np.random.default_rng(i).standard_normal((2048, 2048)).astype(dtype) for i in (0, 1))
    out = np.empty_like(a)
    return 2 * 2048**3 / best(lambda: np.matmul(a, b, out=out))


def _read(dtype):
    """Bytes a second of a matrix–vector product from memory."""
    a, x = np.ones((8192, 8192), dtype), np.ones(8192, dtype)
    return a.nbytes / best(lambda: a @ x)


def versions():
    return {"numpy": np.__version__}
