"""What can be known of the GPU's kernels without a GPU: their source compiles, and that same source, run on the CPU by the
code that drives it, gives the numbers of the plain path. On a card: `pytest --backend cupy`."""

import ctypes
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import ODD, rngs

import lrp_toolbox as lrp
from lrp_toolbox import kernels
from lrp_toolbox.composites import uniform
from lrp_toolbox.kernels import gpu, plain
from lrp_toolbox.kernels.windows import Windows
from lrp_toolbox.ledger import Recorder
from lrp_toolbox.weights import Given

# ---- a stand-in for CuPy ---------------------------------------------------------------------------------------------

LAUNCH = r"""
#include <cstddef>
#include <utility>
struct Dim { unsigned x, y, z; };
static Dim blockIdx, threadIdx, blockDim, gridDim;
#define __global__
%s
template <class... A, size_t... I> void call(void (*kernel)(A...), void** a, std::index_sequence<I...>)
{
    kernel(*(A*)a[I]...);
}
template <class... A> int launch(void (*kernel)(A...), const Dim& grid, const Dim& block, int count, void** a)
{
    if (count != sizeof...(A)) return 1;
    gridDim = grid, blockDim = block;
    for (blockIdx.z = 0; blockIdx.z < grid.z; blockIdx.z++)
    for (blockIdx.y = 0; blockIdx.y < grid.y; blockIdx.y++)
    for (blockIdx.x = 0; blockIdx.x < grid.x; blockIdx.x++)
    for (threadIdx.z = 0; threadIdx.z < block.z; threadIdx.z++)
    for (threadIdx.y = 0; threadIdx.y < block.y; threadIdx.y++)
    for (threadIdx.x = 0; threadIdx.x < block.x; threadIdx.x++)
        call(kernel, a, std::index_sequence_for<A...>());
    return 0;
}
"""


class FakeCupy:
    """NumPy with the few functions of CuPy that the driving code calls, as strict as these, and its kernels run by g++.

    Memory is handed out full of NaN, with NaN before and after: what is not written, or read or written beside, is found.
    """

    __name__ = "numpy"  # whose arrays these are
    GUARD = 4096

    def __init__(self, folder):
        self.folder, self.libraries, self.given = Path(folder), {}, []
        self.most_blocks, self.launched = 1 << 31, []

    def library(self, source, *options):
        if (source, options) not in self.libraries:
            file = self.folder / f"{len(self.libraries)}.cpp"
            file.write_text(source)
            command = ["g++", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-sign-compare", "-shared", "-fPIC", *options]
            subprocess.run([*command, file, "-o", file.with_suffix(".so")], check=True)
            self.libraries[source, options] = ctypes.CDLL(str(file.with_suffix(".so")))
        return self.libraries[source, options]

    def empty(self, shape, dtype):
        size = int(np.prod(shape))
        memory = np.full(size + 2 * self.GUARD, np.nan, dtype)
        self.given.append(memory)
        return memory[self.GUARD : self.GUARD + size].reshape(shape)

    def ascontiguousarray(self, a):
        copy = self.empty(a.shape, a.dtype)
        copy[...] = a
        return copy

    def check(self):
        """Nobody wrote beside the memory that was asked for."""
        for memory in self.given:
            assert np.isnan(memory[: self.GUARD]).all()
            assert np.isnan(memory[-self.GUARD :]).all()
        self.given.clear()

    def dot(self, a, b, out=None):
        assert a.ndim == b.ndim == 2
        assert out is None or out.flags.c_contiguous
        return np.dot(a, b, out=out)

    def matmul(self, a, b, out):
        assert a.ndim == b.ndim == out.ndim == 3
        out[...] = np.matmul(a, b)

    def RawKernel(self, code, name, options):
        names = re.findall(r"__global__ void (\w+)\(", code)
        wrappers = (
            f'extern "C" int launch_{n}(const Dim& g, const Dim& b, int n, void** a) {{ return launch({n}, g, b, n, a); }}\n'
            for n in names
        )
        launch = self.library(LAUNCH % code + "".join(wrappers), *options)[f"launch_{name}"]

        def run(grid, block, args):
            assert 1 <= grid[0] < 1 << 31
            assert all(1 <= n < 1 << 16 for n in grid[1:])
            assert np.prod(block) <= 1024
            for a in args:
                assert isinstance(a, np.int32) or (a.flags.c_contiguous and f"=f{a.itemsize}" in REAL[options])
            grid = (grid[0], *(min(n, self.most_blocks) for n in grid[1:]))
            cells = [ctypes.c_int(a) if isinstance(a, np.int32) else ctypes.c_void_p(a.ctypes.data) for a in args]
            addresses = (ctypes.c_void_p * len(cells))(*(ctypes.addressof(cell) for cell in cells))
            dims = [(ctypes.c_uint * 3)(*dim) for dim in (grid, block)]
            assert launch(*dims, len(cells), addresses) == 0, "as many arguments as the kernel has"
            self.launched.append(name)

        return run

    def ElementwiseKernel(self, given, made, operation, name):
        parameters = [parameter.split() for parameter in given.split(", ")]
        kind, y = made.split()
        declared = ", ".join(f"const {k}* all_{n}" for k, n in parameters)
        read = " ".join(f"const {k} {n} = all_{n}[k];" for k, n in parameters)
        loop = f"for (long long k = 0; k < size; k++) {{ {read} {kind} {y}; {operation}; all_{y}[k] = {y}; }}"
        source = f'extern "C" void {name}(long long size, {declared}, {kind}* all_{y}) {{ {loop} }}'

        def run(*arguments):
            kinds = [(a, kind) for a, (kind, _) in zip(arguments, parameters, strict=True)]
            [dtype] = {a.dtype for a, kind in kinds if kind == "T" and isinstance(a, np.ndarray)}
            assert all(a.dtype == bool for a, kind in kinds if kind == "bool")
            arrays = np.broadcast_arrays(*(np.asarray(a, bool if kind == "bool" else dtype) for a, kind in kinds))
            arrays = [np.ascontiguousarray(a) for a in arrays]
            out = np.empty(arrays[0].shape, dtype)
            function = self.library(source, f"-DT={'float' if dtype.itemsize == 4 else 'double'}")[name]
            function(ctypes.c_longlong(out.size), *(ctypes.c_void_p(a.ctypes.data) for a in (*arrays, out)))
            self.launched.append(name)
            return out

        return run


REAL = {("-DREAL=float",): "=f4", ("-DREAL=double",): "=f8"}


@pytest.fixture(scope="module")
def cupy(tmp_path_factory):
    if shutil.which("g++") is None:
        pytest.skip("no g++ to run the kernels with")
    fake = FakeCupy(tmp_path_factory.mktemp("kernels"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "_cupy", lambda: fake)
        yield fake


@pytest.fixture
def by_kernels(cupy, monkeypatch):
    """NumPy's arrays go the way of CuPy's."""
    monkeypatch.setitem(kernels.FAST, "numpy", gpu)
    cupy.launched.clear()
    return cupy


# ---- the source compiles ---------------------------------------------------------------------------------------------


def elementwise_source(name):
    """The body of an elementwise kernel, as CuPy has it in a loop."""
    given, made, operation = (re.sub(r"\bT\b", "REAL", text) for text in gpu.ELEMENTWISE[name])
    return f'extern "C" __global__ void use_{name}({given}, REAL* out) {{ {made}; {operation}; *out = y; }}\n'


@pytest.mark.parametrize("architecture", ["compute_75", "compute_90"])
@pytest.mark.parametrize("real", ["float", "double"])
def test_nvrtc_compiles_the_kernels(architecture, real):
    """To PTX, for which no GPU is needed; CuPy compiles by the same library."""
    packages = importlib.util.find_spec("nvidia")
    folders = packages.submodule_search_locations if packages else ()
    files = [file for folder in folders for file in Path(folder).glob("*/lib/libnvrtc.so.*")]
    if not files:
        pytest.skip("no NVRTC: pip install nvidia-cuda-nvrtc-cu12")
    nvrtc = ctypes.CDLL(str(files[0]))
    source = gpu.SOURCE + "".join(map(elementwise_source, gpu.ELEMENTWISE))
    program = ctypes.c_void_p()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"lrp.cu", 0, None, None) == 0
    options = [f"--gpu-architecture={architecture}", f"-DREAL={real}"]
    failed = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*(o.encode() for o in options)))
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    assert (failed, log.value.decode()) == (0, ""), "and no warnings"
    nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size))
    ptx = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetPTX(program, ptx)
    for name in ("im2col", "col2im", "use_zero_unless", "use_quotient", "use_signed"):
        assert f".visible .entry {name}(" in ptx.value.decode()
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


# ---- the source, run -------------------------------------------------------------------------------------------------


@st.composite
def convolutions(draw):
    """Windows, a map, weights, relevances and groups, of small integers: all sums are exact, in float32, too."""
    rng = draw(rngs())
    kernel, stride, dilation = (draw(st.tuples(st.integers(1, 4), st.integers(1, 4))) for _ in range(3))
    padding = tuple((draw(st.integers(0, 4)), draw(st.integers(0, 4))) for _ in range(2))
    size = tuple(
        max(draw(st.integers(1, 20)), d * (k - 1) + 1 - sum(p)) for k, d, p in zip(kernel, dilation, padding, strict=True)
    )
    groups, per_in, per_out = draw(st.integers(1, 3)), draw(st.integers(1, 14)), draw(st.integers(1, 4))
    lead, dtype = draw(st.sampled_from([(), (2,), (2, 3)])), draw(st.sampled_from(["f4", "f8"]))
    windows = Windows(kernel, stride, padding, dilation)
    x, w, s = (
        rng.integers(-3, 4, shape).astype(dtype)
        for shape in (
            (*lead, *size, groups * per_in),
            (*kernel, per_in, groups * per_out),
            (*lead, *windows.counts(size), groups * per_out),
        )
    )
    return windows, x, w, s, groups


@given(convolutions(), st.sampled_from([1, 3000, 1 << 28]), st.sampled_from([1, 2, 1 << 31]))
def test_convolution_by_kernels_is_plain_convolution(cupy, case, scratch, most_blocks):
    windows, x, w, s, groups = case
    size = x.shape[-3:-1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "SCRATCH", scratch)
        patch.setattr(cupy, "most_blocks", most_blocks)
        y, back = gpu.correlate(x, Given(w), windows, groups), gpu.correlate_T(s, Given(w), windows, size, groups)
    cupy.check()
    for found, expected in (
        (y, plain.correlate(x, Given(w), windows, groups)),
        (back, plain.correlate_T(s, Given(w), windows, size, groups)),
    ):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == x.dtype


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kernel", [(1, 1), (1, 2)])
def test_windows_of_one_place_are_not_written_out(cupy, kernel, groups):
    rng, windows = np.random.default_rng(0), Windows(kernel)
    x, w = rng.integers(-3, 4, (2, 5, 4, 6)).astype("f4"), rng.integers(-3, 4, (*kernel, 6 // groups, 8)).astype("f4")
    cupy.launched.clear()
    y = gpu.correlate(x, Given(w), windows, groups)
    np.testing.assert_array_equal(y, plain.correlate(x, Given(w), windows, groups))
    np.testing.assert_array_equal(
        gpu.correlate_T(y, Given(w), windows, (5, 4), groups), plain.correlate_T(y, Given(w), windows, (5, 4), groups)
    )
    cupy.check()
    assert cupy.launched == ([] if kernel == (1, 1) else ["im2col", "col2im"])


def test_scratch_is_asked_for_once_and_bounded(cupy, monkeypatch):
    monkeypatch.setattr(gpu, "SCRATCH", 3 * 25 * 9 * 4 * 4)  # bytes of the windows of three samples
    cupy.launched.clear()
    windows = Windows((3, 3), padding=((1, 1), (1, 1)))
    gpu.correlate(np.ones((7, 5, 5, 4), "f4"), Given(np.ones((3, 3, 4, 2), "f4")), windows, 1)
    assert cupy.launched == ["im2col"] * 3
    assert sorted(memory.size - 2 * cupy.GUARD for memory in cupy.given) == [7 * 25 * 2, 7 * 25 * 4, 3 * 25 * 9 * 4]
    cupy.check()


def test_inputs_that_are_views_and_batches_of_none(cupy):
    rng = np.random.default_rng(0)
    windows, w = Windows((3, 3), padding=((1, 1), (1, 1))), rng.integers(-3, 4, (3, 3, 4, 5)).astype("f8")
    for x in (
        rng.integers(-3, 4, (9, 8, 8)).astype("f8")[::-1, :, ::2],
        np.broadcast_to(rng.integers(-3, 4, (1, 1, 4)).astype("f8"), (9, 8, 4)),
        rng.integers(-3, 4, (4, 9, 8)).astype("f8").transpose(1, 2, 0),
        np.empty((0, 9, 8, 4)),
    ):
        y = gpu.correlate(x, Given(w), windows, 1)
        np.testing.assert_array_equal(y, plain.correlate(x, Given(w), windows, 1))
        back = gpu.correlate_T(y[..., ::, ::-1, :], Given(w[..., :]), windows, (9, 8), 1)
        np.testing.assert_array_equal(back, plain.correlate_T(y[..., ::, ::-1, :], Given(w), windows, (9, 8), 1))
    cupy.check()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_elementwise_kernels_are_those_of_the_standard(by_kernels, dtype):
    with np.errstate(all="ignore"):
        a, b = (part.ravel() for part in np.meshgrid(np.asarray(ODD, dtype), np.asarray(ODD, dtype)))
        nothing = abs(b) < 1e-30
        A, B, N = (array_api_strict.asarray(v) for v in (a, b, nothing))
        for here, there in (
            (kernels.zero_unless(a, nothing), kernels.zero_unless(A, N)),
            (kernels.quotient(a, b, nothing), kernels.quotient(A, B, N)),
            (kernels.signed(0.1, b), kernels.signed(0.1, B)),
            (
                kernels.zero_unless(a.reshape(10, 10), nothing[:10]),
                kernels.zero_unless(array_api_strict.reshape(A, (10, 10)), N[:10]),
            ),
        ):
            assert here.dtype == dtype
            np.testing.assert_array_equal(here, lrp.to_numpy(there))
    assert by_kernels.launched == ["lrp_zero_unless", "lrp_quotient", "lrp_signed", "lrp_zero_unless"]


# ---- with --backend cupy, on a card -----------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("kernel", [1, 3])
def test_float32_keeps_its_digits_and_sums_do_not_change(xp, groups, kernel):
    """Every sum to some ulps of what it adds up, which TF32 would miss by a factor of a thousand; twice the same."""
    rng = np.random.default_rng(0)
    net = lrp.Conv(rng.standard_normal((kernel, kernel, 64 // groups, 48)).astype("f4"), padding=kernel // 2, groups=groups)
    x, s = rng.standard_normal((3, 33, 35, 64)).astype("f4"), rng.standard_normal((3, 33, 35, 48)).astype("f4")
    double, amounts, layer = net.astype(np.float64), net.astype(np.float64).map(abs), net.to(xp)
    X, S = xp.asarray(x), xp.asarray(s)
    trace, exact = layer.trace(X), double.trace(x.astype("f8"))
    for found, again, expected, amount in (
        (trace.y, layer.forward(X), exact.y, amounts.forward(abs(x.astype("f8")))),
        (*(layer.gradient(trace, S) for _ in "12"), double.gradient(exact, s), amounts.gradient(exact, abs(s))),
    ):
        assert (abs(lrp.to_numpy(found) - expected) < 1e-6 * amount).all()
        np.testing.assert_array_equal(lrp.to_numpy(found), lrp.to_numpy(again))


@pytest.mark.parametrize("lead", [(), (1,), (2, 3)])
def test_dense_layers_keep_theirs(xp, lead):
    rng = np.random.default_rng(0)
    w, x, s = (rng.standard_normal(shape).astype("f4") for shape in ((300, 70), (*lead, 300), (*lead, 70)))
    layer, X, S = lrp.Linear(xp.asarray(w)), xp.asarray(x), xp.asarray(s)
    for found, a, b in ((layer.forward(X), x, w), (layer.apply_T(S, layer.w, X.shape), s, w.T)):
        a, b = a.astype("f8"), b.astype("f8")
        assert (abs(lrp.to_numpy(found) - a @ b) < 1e-6 * (abs(a) @ abs(b))).all()


# ---- a whole relevance pass ------------------------------------------------------------------------------------------


def small_net(dtype="f8"):
    rng = np.random.default_rng(0)

    def weights(*shape):
        return rng.standard_normal(shape).astype(dtype)

    return lrp.Sequential(
        conv=lrp.Conv(weights(3, 3, 3, 4), weights(4), padding=1),
        relu1=lrp.ReLU(),
        pool=lrp.MaxPool(2),
        grouped=lrp.Conv(weights(3, 3, 2, 8), weights(8), groups=2, stride=2, padding=1),
        relu2=lrp.ReLU(),
        depthwise=lrp.Conv(weights(1, 1, 1, 8), groups=8),
        mean=lrp.AvgPool(2),
        flatten=lrp.Flatten(),
        fc=lrp.Linear(weights(32, 5), weights(5)),
    )


COMPOSITES = [lrp.lrp_cmp(), lrp.lrp_cmp(alpha=1, flat=0), lrp.AlphaBeta(2), lrp.Epsilon(0.1), lrp.Gamma(0.25), lrp.WSquare()]


@pytest.mark.parametrize("composite", COMPOSITES, ids=str)
def test_explanations_by_kernels(composite, request):
    net, x = small_net(), np.random.default_rng(1).standard_normal((3, 16, 16, 3))
    expected = lrp.explain(net, x, [[0, 1], [2, 3], [4, 0]], composite)
    cupy = request.getfixturevalue("by_kernels")
    found = lrp.explain(net, x, [[0, 1], [2, 3], [4, 0]], composite)
    np.testing.assert_allclose(found.R, expected.R, rtol=1e-9, atol=1e-12 * abs(expected.R).max())
    np.testing.assert_allclose(found.ledger.absorbed("bias"), expected.ledger.absorbed("bias"), rtol=1e-9, atol=1e-12)
    assert {"im2col", "col2im"} <= set(cupy.launched)
    assert ("lrp_quotient" in cupy.launched) == (not isinstance(composite, lrp.Epsilon))  # ε alone makes all denominators large


@pytest.mark.parametrize("composite", [*COMPOSITES, lrp.lrp_cmp(first=lrp.ZBox(-9, 9))], ids=str)
def test_a_relevance_pass_looks_into_no_array(composite, monkeypatch):
    """Each look would wait for the GPU. Only zᴮ has one, to check its box, and that in the first layer, at the very end."""
    xp, looks = array_api_strict, []
    net = small_net().to(xp)
    x = xp.asarray(np.random.default_rng(1).standard_normal((2, 1, 16, 16, 3)))
    table = (composite if isinstance(composite, lrp.Composite) else uniform(composite)).resolve(net, (16, 16, 3))
    for name in ("__bool__", "__float__", "__int__", "__index__", "__array__", "__dlpack__"):
        look = getattr(type(x), name)
        monkeypatch.setattr(type(x), name, lambda *a, _look=look, _name=name, **k: (looks.append(_name), _look(*a, **k))[1])
    trace = net.trace(x, context=table.context())
    recorder = Recorder(lead=2)
    R = net.relprop(trace, trace.y, table.context(recorder))
    ledger = recorder.ledger(trace.y, R)
    assert looks == (["__bool__"] if isinstance(table.rules[0], lrp.ZBox) else [])
    assert bool(xp.all(ledger.end == ledger.end))
    assert looks, "this is how a look is seen"
