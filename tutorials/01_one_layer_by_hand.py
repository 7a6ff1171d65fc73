# %% [markdown]
# # One layer by hand
#
# All of LRP is one equation, applied to one layer after the other:
#
# $$R_i = \sum_j \frac{z_{ij}}{z_j} R_j \qquad z_j = \sum_i z_{ij} \tag{1}$$
#
# An output $j$ has relevance $R_j$. It hands it to its inputs $i$ in proportion to what each of them brought, $z_{ij}$. Here we do
# that with a pencil, so to speak: in fractions, where what should be equal *is* equal.

# %%
from fractions import Fraction

import matplotlib.pyplot as plt
import numpy as np

from lrp_toolbox import AlphaBeta, Epsilon, Flat, Linear, Z, explain
from lrp_toolbox.rules import divide, share

F = np.vectorize(Fraction, otypes=[object])  # arrays of Fractions


def show(name, a):
    print(
        f"{name:>6} =",
        np.array2string(np.vectorize(str)(a), formatter={"str_kind": lambda s: f"{s:>5}"}).replace("\n", "\n" + " " * 9),
    )


# %% [markdown]
# Three inputs, two outputs. Row $i$ of $w$ holds the weights that leave input $i$.

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
# The matrix $z_{ij}$ of a layer of VGG-16 would have 10¹³ entries. Nobody needs it: write $s_j = R_j / z_j$, and the sum over $j$ is a
# product with the transposed weights. That is `share`, three lines:
#
#     z = apply(x, w);   s = divide(R, z);   R_in = x · apply_T(s, w)

# %%
layer = Linear(w)
s_j = divide(R_j, z_j)
show("s_j", s_j)
assert (x * (w @ s_j) == R_i).all()
assert (share(layer, [(x, w)], None, R_j) == R_i).all()
assert (layer.relprop_z(x, R_j) == R_i).all()  # the same, as a method

# %% [markdown]
# ## Where relevance is lost
#
# Equation 1 keeps the sum. Networks have what it does not have: a **bias** joins $z_j$, and what it brought, no input brought. So it
# keeps its share. **ε** (Eq. 2) makes denominators larger than they are, and keeps the difference. The ledger has both.

# %%
b = F([1, 2])
with_bias = Linear(w, b)
for rule in (Z(), Epsilon(Fraction(1, 2)), AlphaBeta(2), Flat()):
    e = explain(with_bias, x, target=None, start=R_j, composite=rule)
    page = e.ledger.entry("linear")
    print(
        f"{rule!s:<28} R_i = {[str(r) for r in e.R]!s:<34} bias {page.bias!s:<7} ε {page.eps!s:<6} together {e.R.sum() + page.absorbed}"
    )
    assert e.R.sum() + page.absorbed == R_j.sum()

# %% [markdown]
# ## A rule is a choice of $z_{ij}$
#
# αβ (Eq. 3 and 4) treats what speaks for an output and what speaks against it apart. By hand:

# %%
z_pos, z_neg = np.maximum(z_ij, 0), np.minimum(z_ij, 0)
R_ij_ab = (2 * z_pos / z_pos.sum(axis=0) - 1 * z_neg / z_neg.sum(axis=0)) * R_j
show("R_i", R_ij_ab.sum(axis=1))
assert (R_ij_ab.sum(axis=1) == layer.relprop_alphabeta(x, R_j, alpha=2)).all()

# %% [markdown]
# And ♭ (Sec. II-A) sets every $z_{ij}$ to 1: each input gets a third of each output, whatever it is.

# %%
assert (layer.relprop_flat(x, R_j) == R_j.sum() / Fraction(3)).all()

# %% [markdown]
# The three side by side. A line is what output $j$ hands to input $i$, red if positive, blue if negative, as wide as it is much. Under
# z the first input is given 4 and −4, and nothing stays: in deep networks, most of what z hands out cancels like that.

# %%
handed = {
    "z": R_ij,
    "α = 2, β = 1": R_ij_ab,
    "♭": np.broadcast_to(R_j / Fraction(3), z_ij.shape),
}
figure, panels = plt.subplots(1, 3, figsize=(10, 3), layout="constrained", sharex=True, sharey=True)
left, right = [2, 1, 0], [1.6, 0.4]  # how high inputs and outputs stand
for panel, (name, R) in zip(panels, handed.items(), strict=True):
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
# - Make $z_j$ zero: `x = F([1, 1, -2])` and the first column of `w` `(1, 3, 2)`. Who gets the 6? Look at `page.empty`.
# - Let `bias="distribute"`. What changes, and does the sum?
# - The same in floats: `layer.astype(float)`. By how much does the ledger's `rounding` differ from 0, and why?
