# %% [markdown]
# # Verify
#
# A wrong heatmap looks almost like a right one. How do we know that a program computes its formula? There are three tools, and
# each sees what the others cannot see:
#
# - **properties** that must hold for *any* network, and a program that looks for a network for which they do not hold
#   (`hypothesis`);
# - **exact arithmetic**, in which equal numbers are equal and no tolerance hides an error;
# - the **ledger**, which says *in which layer* relevance is missing.
#
# (This tutorial needs `hypothesis`: `python3 -m pip install -e ".[tutorials]"` in a clone of the repository.)

# %%
from fractions import Fraction

import matplotlib.pyplot as plt
import numpy as np
from hypothesis import find, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lrp_toolbox import (
    AlphaBeta,
    Conv,
    Epsilon,
    Flat,
    Flatten,
    Gamma,
    Linear,
    MaxPool,
    ReLU,
    Sequential,
    Z,
    explain,
    load,
    lrp_cmp,
    read_photo,
)
from lrp_toolbox.render import montage, save_picture
from lrp_toolbox.testing import check_layer

F = np.vectorize(Fraction, otypes=[object])  # arrays of Fractions
search = settings(max_examples=30, derandomize=True, database=None, deadline=None)  # the same search every time


def numbers(*shape):
    """Small integers, in fractions: zeros and ties, where programs go wrong, come up often."""
    return arrays(np.int64, shape, elements=st.integers(-3, 3), fill=st.nothing()).map(F)


# %% [markdown]
# ## "LRP conserves relevance"
#
# Does it? We write it as a property, $\sum_i R_i = f(x)$, and let a program look for the *simplest* network that breaks it.


# %%
@st.composite
def dense_nets(draw, bias):
    """A net of two dense layers with one output, and an input."""
    inputs, hidden = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    first = Linear(draw(numbers(inputs, hidden)), draw(numbers(hidden)) if bias else None)
    last = Linear(draw(numbers(hidden, 1)), draw(numbers(1)) if bias else None)
    return Sequential(first=first, relu=ReLU(), last=last), draw(numbers(inputs))


def conserves(net, x, rule):
    e = explain(net, x, target=0, composite=rule)
    return e.R.sum() == e.y[0]


for rule, bias in ((Z(), True), (Epsilon(1), False), (AlphaBeta(2), False)):
    net, x = find(dense_nets(bias), lambda drawn, rule=rule: not conserves(*drawn, rule), settings=search)
    e = explain(net, x, target=0, composite=rule)
    print(f"\n{rule}, {'with' if bias else 'without'} biases")
    print("  x =", *x, " first.w =", *net["first"].w.ravel(), " last.w =", *net["last"].w.ravel(), end="")
    print("  biases", *net["first"].b, "and", *net["last"].b) if bias else print()
    taken = {reason: e.ledger.absorbed(reason) for reason in ("bias", "eps", "zero_denominator")}
    print(f"  the output is {e.y[0]}, the relevance {e.R.sum()};", *(f"{k} took {v}" for k, v in taken.items() if v))

# %% [markdown]
# Three answers, each as simple as possible. A bias keeps its share. An ε keeps its share. And under LRP_αβ (α=2) there is a
# neuron without any negative contribution. Its β = −1 finds no input, and only α = 2 is left: the relevance doubles, in each of
# the two layers. What about z without biases? Here the search finds nothing.


# %%
@search
@given(dense_nets(bias=False))
def test_z_conserves_without_biases(drawn):
    assert conserves(*drawn, Z())


test_z_conserves_without_biases()
print("LRP_z without biases: no counterexample")

# %% [markdown]
# ## The property that does hold
#
# Conservation has exceptions, and the ledger names them. With them it is an equation, for every rule and any network. In
# fractions it holds with `==`.


# %%
@st.composite
def conv_nets(draw):
    """A net of a convolution, pooling and a dense layer with two outputs, and an input."""
    channels, stride = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    conv = Conv(draw(numbers(2, 2, 1, channels)), draw(numbers(channels)), stride, padding=1)
    front = Sequential(conv=conv, relu=ReLU(), pool=MaxPool(2, stride=1), flatten=Flatten())
    [features] = front.output_shape((3, 3, 1))
    fc = Linear(draw(numbers(features, 2)), draw(numbers(2)))
    return Sequential(**dict(front.items()), fc=fc), draw(numbers(3, 3, 1))


RULES = [Z(), Epsilon(Fraction(1, 3)), AlphaBeta(1), AlphaBeta(2), AlphaBeta(2, bias="distribute"), Gamma(1), Flat(), lrp_cmp()]


@search
@given(conv_nets(), st.sampled_from(RULES))
def test_every_unit_of_relevance_is_found_again(drawn, rule):
    net, x = drawn
    e = explain(net, x, target=0, composite=rule)
    absorbed = sum(e.ledger.absorbed(reason) for reason in ("bias", "eps", "zero_denominator", "padding"))
    assert e.R.sum() + absorbed == e.y[0]
    assert all(page.rounding == 0 for page in e.ledger)


test_every_unit_of_relevance_is_found_again()
print("the ledger closes: no counterexample")

# %% [markdown]
# A sum can be right although its terms are wrong. So write the formula a second time, as plainly as possible, and compare. You
# get the matrix of any layer by applying it to unit vectors; then Equation 1 is one line. (The toolbox's own tests do this in
# `tests/oracle.py`, for every rule and layer.)


# %%
@search
@given(st.integers(1, 2).flatmap(lambda c: st.tuples(numbers(2, 2, 1, c), numbers(3, 3, 1), numbers(2, 2, c))))
def test_z_is_equation_1(drawn):
    w, x, R_j = drawn
    layer = Conv(w)
    units = F(np.eye(9, dtype=int)).reshape(9, 3, 3, 1)
    z_ij = x.reshape(9, 1) * layer(units).reshape(9, -1)
    z_j = z_ij.sum(axis=0)
    by_hand = (z_ij * (R_j.ravel() / np.where(z_j == 0, 1, z_j) * (z_j != 0))).sum(axis=1)
    assert (layer.relprop_z(x, R_j).ravel() == by_hand).all()


test_z_is_equation_1()
print("LRP_z of a convolution is Equation 1: no counterexample")

# %% [markdown]
# ## Find the mistake
#
# Here is LeNet-5 with a mistake that is easy to make: on the way back through one convolution, all relevance is shifted by one
# pixel to the right. The forward pass is unchanged. Which of the two heatmaps is the right one?


# %%
class OffByOne(Conv):
    def apply_T(self, s, w, shape):
        return np.roll(super().apply_T(s, w, shape), 1, axis=-2)


model = load("lenet5-mnist")
photo = read_photo(model.example)
x = model.prepare(photo)
conv2 = model.net["conv2"]
wrong = Sequential([(name, layer if layer is not conv2 else OffByOne(conv2.w, conv2.b)) for name, layer in model.net.items()])

found = {"A": explain(wrong, x, 2, AlphaBeta(1)), "B": explain(model.net, x, 2, AlphaBeta(1))}
figure = montage(
    model.preprocessing.view(photo), [[e.R for e in found.values()]], rows=["LRP_αβ (α=1)"], columns=[f"{k}?" for k in found]
)
save_picture(figure, "which.png")
figure

# %% [markdown]
# You cannot see it. But the ledger can: what arrives at a layer must be what it passes on plus what it keeps. If the difference
# is larger than rounding, there is the mistake.

# %%
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
for k, (name, e) in enumerate(found.items()):
    pages = [page for page in e.ledger if page.rule not in ("=", "max")]
    off = [abs(float(page.rounding)) / abs(float(page.arriving)) for page in pages]
    axes.bar(np.arange(len(pages)) + 0.36 * (k - 0.5), np.maximum(off, 1e-9), width=0.34, label=name)
axes.axhline(np.finfo(np.float32).eps, color="black", linewidth=0.8, linestyle=":")
axes.text(4.5, 1.3 * np.finfo(np.float32).eps, "eps of float32", ha="right", fontsize=9)
axes.set_yscale("log")
axes.set_xticks(range(len(pages)), [page.name for page in pages])
axes.set_xlabel("from the output to the input")
axes.set_ylabel("left unexplained\n(share of what arrived)")
axes.legend(frameon=False)
axes.spines[["top", "right"]].set_visible(False)
figure.savefig("mistake.png", dpi=120)

leaks = {name: [page.name for page in e.ledger if abs(page.rounding) > 1e-4 * abs(page.arriving)] for name, e in found.items()}
print("more than rounding is missing in:", leaks)
assert leaks == {"A": ["conv2"], "B": []}

# %% [markdown]
# A was wrong. And hypothesis reduces the mistake to its core. `apply_T` must be the transpose of `apply`, $\langle
# \mathrm{apply}(x), s \rangle = \langle x, \mathrm{apply\_T}(s) \rangle$. This is the simplest input for which it is not:


# %%
def is_transpose(layer, x, s):
    return (layer.apply(x, layer.w) * s).sum() == (x * layer.apply_T(s, layer.w, x.shape)).sum()


w = F(np.ones((1, 2, 1, 1), int))
inputs = st.tuples(numbers(1, 3, 1), numbers(1, 2, 1))
x_min, s_min = find(inputs, lambda drawn: not is_transpose(OffByOne(w), *drawn), settings=search)
print("not the transpose for x =", *x_min.ravel(), " s =", *s_min.ravel())

# %% [markdown]
# `check_layer` looks for this and for all else that holds of every layer, and `check_rule` does so for rules. With them you verify a rule
# or a layer of your own in three lines, as in tutorial 09.

# %%
check_layer(Conv(w), shape=(1, 3, 1))
print("Conv: no counterexample")
try:
    check_layer(OffByOne(w), shape=(1, 3, 1))
except AssertionError as error:
    print(error)

# %% [markdown]
# ## How exact is a float?
#
# Real networks compute in floats, where `==` becomes "close". How close? A tolerance that was increased until the test passed
# says nothing. But we can derive one: $z_j$ is a sum of $n$ products and loses at most about $n$ roundings of $\sum_i
# |z_{ij}|$. This is divided by a $z_j$ in which much has cancelled:
#
# $$\text{relative error of } R_i \;\lesssim\; n \cdot \text{eps} \cdot \kappa, \qquad \kappa = \sum_i |z_{ij}| \,/\, |z_j|$$
#
# We measure this against fractions, which are exact, for neurons in which more and more cancels:

# %%
rng = np.random.default_rng(0)
n, measured = 16, {np.float32: [], np.float64: []}
for _ in range(300):
    x, w = rng.uniform(0.5, 1, n), rng.standard_normal(n)
    w[-1] = (10.0 ** -rng.uniform(-1, 5) - x[:-1] @ w[:-1]) / x[-1]  # so that z_j is small
    for dtype, points in measured.items():
        here, v = x.astype(dtype), w.astype(dtype)[:, None]
        z_ij = F(here) * F(v[:, 0])  # a float is a fraction, exactly
        R = z_ij / z_ij.sum()
        error = abs(F(Linear(v).relprop_z(here, np.ones(1, dtype))) - R) / abs(R)
        points.append((float(abs(z_ij).sum() / abs(z_ij.sum())), float(max(error))))

# %%
figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for dtype, points in measured.items():
    kappa, error = np.array(sorted(points)).T
    dots = axes.scatter(kappa, np.maximum(error, 1e-18), s=7, label=np.dtype(dtype).name)
    bound = (n + 2) * np.finfo(dtype).eps * kappa
    axes.plot(kappa, bound, color=dots.get_facecolor()[0], linewidth=1)
    print(f"{np.dtype(dtype).name}: the largest error is {max(error / bound):.2f} of the bound")
    assert (error <= bound).all()
axes.set(xscale="log", yscale="log", xlabel="κ: how much cancels in $z_j$", ylabel="relative error of R")
axes.legend(frameon=False, title="line: the bound")
axes.spines[["top", "right"]].set_visible(False)
figure.savefig("rounding.png", dpi=120)

# %% [markdown]
# In float32, a neuron in which everything cancels except for one part in a hundred thousand has a relevance with only two
# correct digits. This is why LRP_z and LRP_ε of a deep network in float32 differ between any two programs, and neither of them
# is "wrong". αβ and ♭ divide by sums of one sign: κ = 1.
#
# ## Try this
#
# - Give every tied maximum of a `MaxPool` window *all* of the relevance. Does the ledger see it? What does `find` come up with?
# - Leave the bias out of `by_hand` but not out of the layer. How small is the counterexample?
# - Repeat the last picture for `relprop_alphabeta`. Where are its points?
