# %% [markdown]
# # One layer by hand
#
# LRP is one equation, applied to one layer after the other:
#
# $$R_i = \sum_j \frac{z_{ij}}{z_j} R_j \qquad z_j = \sum_i z_{ij} \tag{1}$$
#
# An output $j$ has relevance $R_j$. Each input $i$ gets a part of it, in proportion to its contribution $z_{ij}$. Here we do
# this by hand, in fractions: there is no rounding, and two numbers that should be equal *are* equal.

# %%
from fractions import Fraction

import matplotlib.pyplot as plt
import numpy as np

from lrp_toolbox import AlphaBeta, Epsilon, Flat, Linear, Z, explain
from lrp_toolbox.kernels import divide
from lrp_toolbox.rules import relprop

F = np.vectorize(Fraction, otypes=[object])  # arrays of Fractions


def show(name, a):
    print(
        f"{name:>6} =",
        np.array2string(np.vectorize(str)(a), formatter={"str_kind": lambda s: f"{s:>5}"}).replace("\n", "\n" + " " * 9),
    )


# %% [markdown]
# Three inputs, two outputs. Row $i$ of $w$ holds the weights from input $i$ to the outputs.

# %%
x = F([2, 1, -1])
w = F([[1, -1], [3, 1], [2, 1]])
z_ij = x[:, None] * w
z_j = z_ij.sum(axis=0)
show("z_ij", z_ij)
show("z_j", z_j)

# %% [markdown]
# Suppose the outputs have relevance 6 and −4. What does each input get? Divide every column by its sum, multiply by $R_j$, add up rows.

# %%
R_j = F([6, -4])
R_ij = z_ij / z_j * R_j
R_i = R_ij.sum(axis=1)
show("R_ij", R_ij)
show("R_i", R_i)
print("what arrives:", R_j.sum(), "  what is passed on:", R_i.sum())
assert R_i.sum() == R_j.sum()

# %% [markdown]
# The matrix $z_{ij}$ of a layer of VGG-16 would have 10¹³ entries. We do not need it: with $s_j = R_j / z_j$, the sum over $j$ is a
# product with the transposed weights. This is what `relprop` on the page `rules.py` does, in three lines for each part of a rule:
#
#     z = apply(x, w);   s = divide(R, z);   R_in = x · apply_T(s, w)

# %%
layer = Linear(w)
s_j = divide(R_j, z_j)
show("s_j", s_j)
assert (x * (w @ s_j) == R_i).all()
assert (relprop(Z(), layer, x, R_j) == R_i).all()
assert (layer.relprop_z(x, R_j) == R_i).all()  # the same numbers, by the fast evaluation

# %% [markdown]
# ## Where relevance is lost
#
# Equation 1 keeps the sum. But networks have a **bias**, which joins $z_j$. No input made this contribution, so the bias keeps
# its part of the relevance. **ε** (Eq. 2) makes denominators larger, and absorbs the difference. The ledger records both.

# %%
b = F([1, 2])
with_bias = Linear(w, b)
for rule in (Z(), Epsilon(Fraction(1, 2)), AlphaBeta(2), Flat()):
    e = explain(with_bias, x, target=None, start=R_j, composite=rule)
    entry = e.ledger.entry("linear")
    print(
        f"{rule!s:<28} R_i = {[str(r) for r in e.R]!s:<34} bias {entry.bias!s:<7} ε {entry.eps!s:<6} together {e.R.sum() + entry.absorbed}"
    )
    assert e.R.sum() + entry.absorbed == R_j.sum()

# %% [markdown]
# ## A rule is a choice of $z_{ij}$
#
# αβ (Eq. 3 and 4) treats the contributions for an output and those against it separately. By hand:

# %%
z_pos, z_neg = np.maximum(z_ij, 0), np.minimum(z_ij, 0)
R_ij_ab = (2 * z_pos / z_pos.sum(axis=0) - 1 * z_neg / z_neg.sum(axis=0)) * R_j
show("R_i", R_ij_ab.sum(axis=1))
assert (R_ij_ab.sum(axis=1) == layer.relprop_alphabeta(x, R_j, alpha=2)).all()

# %% [markdown]
# And ♭ (Sec. II-A) sets every $z_{ij}$ to 1: each input gets a third of the relevance of each output, whatever its value.

# %%
assert (layer.relprop_flat(x, R_j) == R_j.sum() / Fraction(3)).all()

# %% [markdown]
# The three rules side by side. A line is what input $i$ gets from output $j$: red if positive, blue if negative, wide if it is much.
# Under z the first input gets 4 and −4, and the sum is 0. In deep networks most of the relevance under z cancels like this.

# %%
given = {
    "z": R_ij,
    "α = 2, β = 1": R_ij_ab,
    "♭": np.broadcast_to(R_j / Fraction(3), z_ij.shape),
}
figure, panels = plt.subplots(1, 3, figsize=(10, 3), layout="constrained", sharex=True, sharey=True)
left, right = [2, 1, 0], [1.6, 0.4]  # how high inputs and outputs stand
for panel, (name, R) in zip(panels, given.items(), strict=True):
    assert R.sum() == R_j.sum()
    for (i, j), amount in np.ndenumerate(R):
        panel.plot([0, 1], [left[i], right[j]], color="C3" if amount > 0 else "C0", linewidth=abs(float(amount)), alpha=0.6)
    for i, amount in enumerate(R.sum(axis=1)):
        panel.text(-0.08, left[i], f"$x_{i + 1}$ = {x[i]}\nR = {amount}", ha="right", va="center")
    for j, amount in enumerate(R_j):
        panel.text(1.08, right[j], f"R = {amount}", ha="left", va="center")
    panel.scatter([0] * 3 + [1] * 2, left + right, s=120, color="white", edgecolor="black", zorder=3)
    panel.set(title=name, xlim=(-0.75, 1.6), ylim=(-0.4, 2.4))
    panel.axis("off")
figure.savefig("one_layer.png", dpi=120)

# %% [markdown]
# ## Try this
#
# - Make $z_j$ zero: `x = F([1, 1, -2])` and the first column of `w` `(1, 3, 2)`. Who gets the 6? Look at `entry.zero_denominator`.
# - Let `bias="distribute"`. What changes, and does the sum?
# - The same in floats: `layer.astype(float)`. By how much does the ledger's `rounding` differ from 0, and why?
