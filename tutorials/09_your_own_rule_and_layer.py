# %% [markdown]
# # Your own rule, and your own layer
#
# A rule is a choice of $z_{ij}$. A layer that mixes its inputs knows how they are connected. Neither knows about the other:
#
#     rule:   parts(x, w, b)          z_ij, as a formula
#     layer:  apply(x, w)             Σ_i x_i w_ij, for the weights that a rule asks for
#             apply_T(s, w, shape)    Σ_j w_ij s_j
#
# So a new rule works in every layer, and a new layer works under every rule. Both can be written outside the package, as here. To add
# one to the package, follow the recipes in CONTRIBUTING.md.
#
# (This tutorial needs `hypothesis`: `python3 -m pip install -e ".[tutorials]"` in a clone of the repository.)

# %%
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import matplotlib.pyplot as plt
import numpy as np

from lrp_toolbox import (
    Composite,
    Conv,
    Epsilon,
    Linear,
    LinearModule,
    Rule,
    Sequential,
    Z,
    explain,
    is_dense,
    load,
    lrp_cmp,
    read_photo,
)
from lrp_toolbox.backend import Array, namespace
from lrp_toolbox.render import montage, save_picture
from lrp_toolbox.terms import Part
from lrp_toolbox.testing import check_layer, check_rule

# %% [markdown]
# ## A rule
#
# αβ separates the contributions for a neuron from those against it. What if we ask only *how much* an input contributed, whatever the
# sign?
#
# $$R_i = \sum_j \frac{|z_{ij}|}{\sum_{i'} |z_{i'j}| + |b_j|} R_j$$
#
# A rule writes its $z_{ij}$ with x, w, and their parts `pos` and `neg`. Here $|x w| = x^+ |w| - x^- |w|$, and $|w| = w - 2 w^-$, so that
# $z_{ij} = x^+ (w - 2 w^-) + x^- (w - 2 w^+)$.


# %%
@dataclass(frozen=True, repr=False)
class Absolute(Rule):
    """R_i = Σ_j |z_ij| / (Σ_i |z_ij| + |b_j|) · R_j."""

    symbol: ClassVar[str] = "abs"
    formula: ClassVar[str] = "z_ij = |x_i w_ij|"
    bias: str = "absorb"

    def parts(self, x, w, b):
        return [Part(x.pos * (w - 2 * w.neg) + x.neg * (w - 2 * w.pos), b - 2 * b.neg)]


# %% [markdown]
# Is this correct? Write the formula a second time, on an explicit matrix, in fractions, where equal numbers are equal.

# %%
F = np.vectorize(Fraction, otypes=[object])
rng = np.random.default_rng(0)
x, w, b, R_j = (F(rng.integers(-5, 6, shape)) for shape in (4, (4, 3), 3, 3))

size = abs(x[:, None] * w)
by_hand = (size / (size.sum(axis=0) + abs(b)) * R_j).sum(axis=1)

e = explain(Linear(w, b), x, target=None, start=R_j, composite=Absolute())
print("by hand:", [str(r) for r in by_hand])
print("by rule:", [str(r) for r in e.R], "and", e.ledger.absorbed("bias"), "for the bias")
assert (by_hand == e.R).all()
assert e.ledger.rounding == 0

# %% [markdown]
# This is one example. `check_rule` draws many, in dense layers and in convolutions of all kinds, and looks for one in which a property does
# not hold that every rule has: the ledger closes, floats agree with fractions, a batch is a stack, R is linear, and more.

# %%
check_rule(Absolute())
print("Absolute: no counterexample")

# %% [markdown]
# And if it were wrong? Here the two parts of a rule have shares 2 and −1 as in α2β1, but the second was forgotten to be negative.


# %%
class Wrong(Absolute):
    def parts(self, x, w, b):
        return [Part(x.pos * w.pos + x.neg * w.neg, b.pos, share=2), Part(x.pos * w.neg + x.neg * w.pos, b.neg, share=1)]


try:
    check_rule(Wrong())
except AssertionError as error:
    print(error)

# %% [markdown]
# The rule works in composites like any other: here in the convolutions, with ε in the dense layers. What does it show for a digit?

# %%
model = load("lenet5-mnist")
photo = read_photo(model.example)
x = model.prepare(photo)
mine = Composite([(is_dense, Epsilon(1e-6)), (Conv, Absolute())], name="ε, then abs")
composites = [Z(), lrp_cmp(alpha=2, flat=0), lrp_cmp(alpha=1, flat=0), mine]
found = [explain(model, x, ["2", "3"], composite) for composite in composites]
figure = montage(
    model.preprocessing.view(photo),
    [[e.R[row] for e in found] for row in range(2)],
    rows=["2", "3"],
    columns=["LRP_z", "LRP_CMP:α2", "LRP_CMP:α1", "ε, then abs"],
)
save_picture(figure, "own_rule.png")
figure

# %%
print(found[-1].rules)
print()
print(found[-1].ledger[0])
assert abs(found[-1].ledger.rounding).max() < 1e-3 * abs(found[-1].ledger.start).max()

# %% [markdown]
# The ledger closes, so this is a proper rule. What does it show? In the convolutions it no longer separates "for" from "against": what is
# blue for the 3 became blue in the dense layers, under ε, and stays blue. The map looks much like LRP_CMP with α = 1, but more strokes
# that speak against a digit now seem to speak for it. A rule that one can write is not always useful; tutorial 07 measures that.
#
# ## A layer
#
# Relevance of *pixels* is not the only question. Which **spatial frequencies** does the network use? Any image is a sum of cosine waves,
# $y_p = \sum_k x_k \cos_k(p)$, each with an amplitude $x_k$. This is a layer that mixes its inputs. If we put it in front of the network,
# then the input is the amplitudes: LRP goes through one more layer, and explains them. (Vielhaben et al. 2024, Pattern Recognition 150,
# call this a virtual inspection layer.)
#
# A cosine transform takes the rows first, then the columns: $y = D^\top x\, A$. We never make the matrix of $z_{ij}$. The transpose is
# $x = D\, s\, A^\top$. A rule finds no weights here that it could split, so `effective_rule` says: in proportion, whatever rule is asked
# for. `magnitude` is the sum of $|z_{ij}|$: an output that is far smaller than its summands is only rounding, and counts as 0.


# %%
@dataclass(frozen=True, eq=False)
class Waves(LinearModule):
    """Amplitudes of cosine waves → the map that they add up to, (…, height, width, channel), channel by channel."""

    down: Array  # (height of frequencies, height)
    across: Array  # (width of frequencies, width)
    w = b = None

    axes: ClassVar[int] = 3

    def apply(self, x, w):
        return self._along_both(x, self.down.T, self.across)

    def apply_T(self, s, w, shape):
        return self._along_both(s, self.down, self.across.T)

    def effective_rule(self, rule):
        return rule if isinstance(rule, Epsilon) else Z()

    def magnitude(self, x, w):
        return self._along_both(abs(x), abs(self.down.T), abs(self.across))

    def output_shape(self, shape):
        if tuple(shape[-3:-1]) != (self.down.shape[0], self.across.shape[0]):
            raise ValueError(f"x: Waves expects {self.down.shape[0]} × {self.across.shape[0]} amplitudes, got shape {shape}")
        return (*shape[:-3], self.down.shape[1], self.across.shape[1], shape[-1])

    @staticmethod
    def _along_both(x, left, right):
        xp = namespace(x)
        return xp.moveaxis(left @ xp.moveaxis(x, -1, -3) @ right, -3, -1)


def cosines(n):
    """The orthonormal waves of the discrete cosine transform: (frequency, place)."""
    frequency, place = np.arange(n)[:, None], np.arange(n)[None, :]
    waves = np.cos(np.pi * frequency * (place + 0.5) / n) * np.sqrt(2 / n)
    waves[0] /= np.sqrt(2)
    return waves


# %% [markdown]
# What has to hold of a new layer? `apply_T` is the transpose of `apply` if $\langle \mathrm{apply}(x), s\rangle = \langle x,
# \mathrm{apply\_T}(s)\rangle$ for any $x$ and $s$. And a layer must work the same with leading axes, for samples and targets. `check_layer`
# checks both, and under every rule what holds of all layers. A small one will do.

# %%
check_layer(Waves(cosines(4), cosines(3)), shape=(4, 3, 2))
print("Waves: no counterexample")
waves = Waves(cosines(28), cosines(28))

# %% [markdown]
# Now we write the digit as amplitudes (the waves are orthonormal, so the transpose is the inverse), and put the layer before the network.

# %%
digits = model.net.astype(np.float64)
x64 = x.astype(np.float64)
net = Sequential(waves=waves, **dict(digits.items()))
amplitudes = waves.apply_T(x64, None, x64.shape)
assert np.allclose(net(amplitudes), digits(x64))

e = explain(net, amplitudes, 2, lrp_cmp(alpha=1, flat=0), keep=["waves"])
print(e.ledger)
pixels, R = e.layers["waves"][..., 0], e.R[..., 0]
assert abs(e.ledger.rounding) < 1e-9 * abs(e.ledger.start)
assert np.isclose(pixels.sum(), R.sum())

# %% [markdown]
# The same relevance is now distributed over the pixels, and over the waves. Is the second useful? A test: keep only the $k$ waves that
# have the most relevance, and see what the network still says about the 2. For comparison: the $k$ largest amplitudes, and $k$ random ones.

# %%
counts = [1, 2, 4, 8, 16, 32, 64, 128, 256, 784]
orders = {"most relevance": -R.ravel(), "largest amplitude": -abs(amplitudes).ravel(), "at random": rng.random(784)}
margins = {}
for name, score in orders.items():
    rank = np.argsort(np.argsort(score)).reshape(28, 28, 1)
    y = net(np.stack([amplitudes * (rank < k) for k in counts]))
    margins[name] = y[:, 2] - np.delete(y, 2, axis=1).max(axis=1)
    print(f"{name:>18}: " + "  ".join(f"{k}: {m:+.1f}" for k, m in zip(counts, margins[name], strict=True)))

figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained", width_ratios=(1, 1, 1.5))
for ax, values, title in (
    (axes[0], pixels, "relevance of pixels"),
    (axes[1], R[:14, :14], "relevance of waves, coarse to fine"),
):
    largest = abs(values).max()
    ax.imshow(values, cmap="RdBu_r", vmin=-largest, vmax=largest)
    ax.set_title(title, fontsize=10)
axes[0].set(xticks=[], yticks=[])
axes[1].set(xticks=range(0, 14, 2), yticks=range(0, 14, 2), xlabel="half waves across", ylabel="half waves down")
for name, margin in margins.items():
    axes[2].plot(counts, margin, marker="o", markersize=3.5, label=name)
axes[2].axhline(0, color="black", linewidth=0.8)
axes[2].set_xscale("log", base=2)
axes[2].set_xticks(counts[::3], counts[::3])
axes[2].set_xlabel("waves that are kept")
axes[2].set_ylabel("logit of 2 above the next best")
axes[2].legend(frameon=False)
axes[2].spines[["top", "right"]].set_visible(False)
figure.savefig("own_layer.png", dpi=120)

# %% [markdown]
# Thirty-two of 784 waves are enough to read the digit, if they are the right ones, and relevance finds them. The amplitudes find them just
# as well: relevance is $x_k$ times something, and large waves dominate it. So the explanation makes sense; the test shows no more.

# %%
assert margins["most relevance"][counts.index(64)] > 0 > margins["at random"][counts.index(64)]

# %% [markdown]
# ## Try this
#
# - `AlphaBeta(2)` for the whole network: which rule do the waves follow, and why is that the only choice? (Print `e.rules`.)
# - Give `Waves` a real matrix instead: `Linear(np.kron(...))` on flattened amplitudes. What does α2β1 say *there*?
# - A rule of your own: $z_{ij} = x_i w_{ij}^2$? $z_{ij} = x_i |w_{ij}|$? Which of them conserve, and which can divide by zero?
# - An activation: derive from `lrp_toolbox.modules.base.PassingLayer`, with `forward` and `gradient`. Check the gradient by finite differences.
