# %% [markdown]
# # NumPy, CuPy, and where the time goes
#
# This toolbox has no switch for the GPU. The **arrays decide**: with NumPy arrays, NumPy computes; with CuPy arrays, a GPU
# computes. This works because the formulas use only the array API standard, which both support. First we show this. Then we
# look at the clock: how long does an explanation take, and what is the shortest time that it could take?
#
# (This tutorial needs `array_api_strict`: `python3 -m pip install -e ".[tutorials]"` in a clone of the repository.)

# %%
import math
import os
import time

import array_api_strict
import matplotlib.pyplot as plt
import numpy as np

from lrp_toolbox import AlphaBeta, Epsilon, explain, load, lrp_cmp, read_photo, to_numpy

modules = {"numpy": np, "array_api_strict": array_api_strict}
try:
    import cupy
except ImportError:
    print("CuPy is not installed: all of this runs on the CPU.")
else:
    if cupy.is_available():
        modules["cupy"] = cupy
        print("GPU:", cupy.cuda.runtime.getDeviceProperties(0)["name"].decode())
    else:
        print("CuPy is installed, but there is no GPU: all of this runs on the CPU.")

# %% [markdown]
# ## The data decides
#
# `net.to(module)` moves the parameters and `module.asarray(x)` the image; everything else stays the same. `array_api_strict` is
# NumPy without everything that is not in the standard. Code that runs on it runs on any module that follows the standard.

# %%
digits = load("lenet5-mnist", dtype=np.float64)
x = digits.prepare(read_photo(digits.example)).astype(np.float64)
found = {}
for name, module in modules.items():
    e = explain(digits.net.to(module), module.asarray(x), [2, 7], lrp_cmp())
    found[name] = to_numpy(e.R)
    print(
        f"{name:>16}: R is a {type(e.R).__module__}.{type(e.R).__qualname__}, of {e.R.dtype}, and adds up to {float(e.ledger.end[0]):.12f}"
    )
for R in found.values():
    np.testing.assert_allclose(R, found["numpy"], rtol=1e-9, atol=1e-9 * abs(R).max())

# %% [markdown]
# Nothing is moved without being asked. If the net is here and the image is there, this is an error: somebody would have to
# copy, and copying makes GPU programs slow.

# %%
try:
    digits.net(array_api_strict.asarray(x))
except TypeError as error:
    print("TypeError:", error)
else:
    raise AssertionError("mixed arrays were taken")

# %% [markdown]
# ## What is the least that it could take?
#
# Almost all of the work is multiplication and addition, and a BLAS library does both as fast as the processor can. So we count:
# a convolution needs 2 operations for each weight and each place of its output. Divide this by the speed of one large matrix
# product, and you get the time that no program can beat: the **pure BLAS time**. The network is the VGG-16 that comes with the
# toolbox.


# %%
def timed(f, times=1):
    """What f returns, and the seconds of the fastest of some runs: disturbances only make a run longer."""
    spent = []
    for _ in range(times):
        start = time.perf_counter()
        result = f()
        spent.append(time.perf_counter() - start)
    return result, min(spent)


a, b = np.random.default_rng(0).standard_normal((2, 1024, 1024)).astype(np.float32)
speed = 2 * 1024**3 / timed(lambda: a @ b, times=8)[1]
print(f"one large matrix product: {speed / 1e9:.0f} billion operations a second")

model = load("vgg16-voc")
x = model.prepare(read_photo(model.example))
composites = {"ε": Epsilon(1e-6), "αβ (α=1)": AlphaBeta(1), "αβ (α=2)": AlphaBeta(2), "CMP": lrp_cmp()}
table = composites["CMP"].resolve(model.net, x.shape)
operations = {
    info.name: 2 * info.module.w.size * math.prod(info.output_shape[:-1])
    for info in table.layers
    if getattr(info.module, "w", None) is not None
}
print(f"one forward pass: {sum(operations.values()) / 1e9:.1f} billion operations")

# %% [markdown]
# How many passes does a rule need? The forward pass is one. ε sends $s_j$ back with one product by the transposed weights: 2 in
# all. LRP_αβ (α=1) needs $z^+_j$ as well as $z_j$: 3. LRP_αβ (α=2) needs $z^+_j$ and $z^-_j$, whose sum is $z_j$, and sends
# both back: 4. LRP_CMP:α2+♭ is the same, except for the first convolution (♭ multiplies nothing) and the dense layers (ε).

# %%
passes = {"forward": 1, "ε": 2, "αβ (α=1)": 3, "αβ (α=2)": 4}
least = {name: n * sum(operations.values()) / speed for name, n in passes.items()}
saved = {info.name: {"♭": 3, "ε": 2}.get(rule.symbol, 0) for info, rule in zip(table.layers, table.rules, strict=True)}
least["CMP"] = least["αβ (α=2)"] - sum(n * saved[name] for name, n in operations.items()) / speed

logits, t = timed(lambda: model.net(x), times=2)
explained, spent = {}, {"forward": t}
for name, composite in composites.items():
    explained[name], spent[name] = timed(lambda composite=composite: explain(model, x, "cat", composite))
print(f"\n{'ms':>9}  {'pure BLAS':>9}  {'measured':>8}")
for name, t in spent.items():
    print(f"{name:>9}  {1e3 * least[name]:9.0f}  {1e3 * t:8.0f}   {t / least[name]:.1f} times the least")

# %% [markdown]
# ## Layer by layer
#
# The rest of the time is for copying the windows of a convolution, for adding up what comes back, and for everything without a
# product: ReLU, pooling, division, the ledger. To see where it goes, we do the steps of `explain` by hand: forward, keeping a
# trace of each layer, and back, each layer by its rule.

# %%
net, rules = model.net, table.rules
y, nonneg, traces, there = x, False, [], []
for layer, rule in zip(net, rules, strict=True):
    start = time.perf_counter()
    traces.append(layer.trace(y, nonneg, rule))
    there.append(time.perf_counter() - start)
    y, nonneg = traces[-1].y, layer.output_is_nonnegative(nonneg)

cat = model.classes.index("cat")
R, back = np.where(np.arange(y.size) == cat, y, np.float32(0)), []
for layer, rule, trace in zip(reversed(list(net)), reversed(rules), reversed(traces), strict=True):
    start = time.perf_counter()
    R = layer.relprop(trace, R, rule)
    back.insert(0, time.perf_counter() - start)

expected = explained["CMP"].R
np.testing.assert_allclose(R, expected, rtol=1e-3, atol=1e-5 * abs(expected).max())

# %%
rows = {name: np.zeros(3) for name in (*(n for n in net.names if "conv" in n), "dense", "pooling", "ReLU and the rest")}
for name, layer, t, t_back in zip(net.names, net, there, back, strict=True):
    kind = {"Linear": "dense", "MaxPool": "pooling", "AvgPool": "pooling"}.get(type(layer).__name__, "ReLU and the rest")
    rows[name if name in rows else kind] += 1e3 * np.array([t, t_back, (4 - saved[name]) * operations.get(name, 0) / speed])

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", width_ratios=(1, 1.5))
places = np.arange(len(spent))
left.bar(places, [1e3 * t for t in spent.values()], color="#4c72b0", width=0.6)
left.plot(places, [1e3 * least[name] for name in spent], "_", color="black", markersize=26, label="pure BLAS")
left.set_xticks(places, list(spent))
left.set_ylabel("milliseconds")
left.legend(frameon=False)
left.set_title("VGG-16, one photograph", fontsize=10)

names = list(rows)[::-1]
t, t_back, limit = np.array([rows[name] for name in names]).T
right.barh(names, t, color="#4c72b0", label="forward")
right.barh(names, t_back, left=t, color="#dd8452", label="back")
right.plot(limit, names, "|", color="black", markersize=9, markeredgewidth=1.5, label="pure BLAS, both ways")
right.set_xlabel("milliseconds")
right.legend(frameon=False, loc="lower right")
right.set_title("LRP_CMP:α2+♭, layer by layer", fontsize=10)
for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
figure.savefig("speed.png", dpi=120)

# %% [markdown]
# ## Threads, batches, targets
#
# **Threads** work on tiles of a layer. `LRP_NUM_THREADS` sets their number; the default is one for each core. Relevance does
# not depend on it, except for rounding. **Targets** share the forward pass, and rules that look only at the input share their
# denominators, too. **Batches** help small nets, where Python itself takes much of the time.

# %%
cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
before = os.environ.get("LRP_NUM_THREADS")
for threads in sorted({1, cores}):
    os.environ["LRP_NUM_THREADS"] = str(threads)
    y, t = timed(lambda: model.net(x))
    print(f"VGG-16, forward, {threads} thread{'s' * (threads > 1)}: {1e3 * t:.0f} ms")
    np.testing.assert_allclose(y, logits, rtol=1e-4, atol=1e-4 * abs(logits).max())
if before is None:
    del os.environ["LRP_NUM_THREADS"]
else:
    os.environ["LRP_NUM_THREADS"] = before

# %%
digits = load("lenet5-mnist")
one = digits.prepare(read_photo(digits.example))
alone = explain(digits, one, 7).R
print("LeNet, LRP_CMP:α2+♭, milliseconds for each image and target")
print("            1 target   10 targets")
for images in (1, 8, 32):
    batch = np.stack([one] * images)
    e, t = timed(lambda batch=batch: explain(digits, batch, 7), times=2)
    e10, t10 = timed(lambda batch=batch: explain(digits, batch, list(range(10))), times=2)
    print(f"{images:>3} images {1e3 * t / images:>10.2f} {1e3 * t10 / images / 10:>12.2f}")
    for R in (e.R[-1], e10.R[-1, 7]):
        np.testing.assert_allclose(R, alone, rtol=1e-4, atol=1e-5 * abs(alone).max())

# %% [markdown]
# ## On a GPU
#
# The same lines with CuPy arrays. A GPU works in the background, so `synchronize` waits for it; without it, the clock would
# measure nothing.

# %%
if "cupy" in modules:
    net, X = model.net.to(cupy), cupy.asarray(x)

    def run(composite):
        R = explain(net, X, cat, composite).R
        cupy.cuda.Device().synchronize()
        return R

    for name, composite in composites.items():
        run(composite)  # kernels are compiled when they are first used
        R, t = timed(lambda composite=composite: run(composite), times=5)
        print(f"{name:>9} on the GPU: {1e3 * t:6.1f} ms, {spent[name] / t:.0f} times as fast as the CPU")
        here = explained[name].R
        np.testing.assert_allclose(float(R.sum()), here.sum(), rtol=1e-3, atol=abs(here).max())
else:
    print("no GPU here")

# %% [markdown]
# ## Try this
#
# - `load("vgg16-voc", dtype=np.float64)`: twice the bytes. Does it take twice the time?
# - Explain all 20 classes of VGG-16 at once. What does one more target cost, in passes?
# - Which layer is farthest from its pure BLAS time, and why? (Look at its shape.)
