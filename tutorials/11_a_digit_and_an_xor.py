# %% [markdown]
# # A digit, and an XOR
#
# Two small examples that we can look at as a whole: a network that reads digits, explained for several classes at once; and a
# network of two neurons, whose explanation fits on a blackboard.

# %%
from fractions import Fraction

import numpy as np

from lrp_toolbox import AlphaBeta, Linear, ReLU, Sequential, Z, explain, load, lrp_cmp, read_photo
from lrp_toolbox.render import montage, save_picture

model = load("lenet5-mnist")
photo = read_photo(model.example)
x = model.prepare(photo)
order = np.argsort(-model.net(x))
print("logits:", {model.classes[k]: round(float(model.net(x)[k]), 1) for k in order[:4]})

# %% [markdown]
# Why this digit, and why not the next one? All targets share one forward pass; each has its own way back. What speaks for one
# digit speaks against another.

# %%
targets = [int(k) for k in order[:3]]
composites = [Z(), AlphaBeta(1), lrp_cmp(alpha=2, flat=0)]
found = [explain(model, x, targets, composite) for composite in composites]
figure = montage(
    model.preprocessing.view(photo),
    [[e.R[row] for e in found] for row in range(len(targets))],
    rows=[f"{model.classes[t]} ({float(e.y[t]):.1f})" for e, t in zip(found[:1] * 3, targets, strict=True)],
    columns=["LRP_z", "LRP_αβ (α=1)", "LRP_CMP:α2"],
)
save_picture(figure, "digit.png")
figure


# %%
def likeness(a, b):
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


for name, e in zip(("z", "α1", "CMP:α2"), found, strict=True):
    print(f"{name:<7} likeness of the maps of the first two classes: {likeness(*e.heatmap[:2]):+.2f}")

# %% [markdown]
# LRP_αβ (α=1) passes on only what speaks *for* a class, so its maps for different classes are almost the same. The composite
# begins with ε in the dense layers, where the classes are told apart.

# %%
likes = [likeness(*e.heatmap[:2]) for e in found]
assert likes[1] > likes[2]

# %% [markdown]
# ## XOR by hand
#
# Two hidden neurons, $h_1 = \max(x_1 - x_2, 0)$ and $h_2 = \max(x_2 - x_1, 0)$, and $y = h_1 + h_2$: 1 where the inputs differ.

# %%
F = np.vectorize(Fraction, otypes=[object])
xor = Sequential(hidden=Linear(F([[1, -1], [-1, 1]])), relu=ReLU(), output=Linear(F([[1], [1]])))
for inputs in ([0, 0], [0, 1], [1, 0], [1, 1]):
    e = explain(xor, F(inputs), target=0, composite=Z())
    print(inputs, "y =", e.y[0], "  R =", [str(r) for r in e.R])
    assert e.y[0] == inputs[0] ^ inputs[1]
    assert e.R.sum() == e.y[0]

# %% [markdown]
# The input that is 1 gets all of the relevance. The input that is 0 gets none, although it is just as much a part of the
# reason: $y$ is 1 *because* $x_2$ is 0. A product with $x_i = 0$ is 0. So LRP_z (which is gradient × input here) says what *is*
# there, and not what is missing.
#
# If we move the origin, the zeros get relevance, too. With inputs −1 and 1 the same function is $y = \tfrac12 (h_1 + h_2)$.

# %%
signed = Sequential(
    hidden=Linear(F([[1, -1], [-1, 1]])), relu=ReLU(), output=Linear(np.full((2, 1), Fraction(1, 2), dtype=object))
)
e = explain(signed, F([-1, 1]), target=0, composite=Z())
print([-1, 1], "y =", e.y[0], "  R =", [str(r) for r in e.R])
assert list(e.R) == [Fraction(1, 2), Fraction(1, 2)]

# %% [markdown]
# ## Try this
#
# - What does ♭ say about the XOR? Is it useful there?
# - Explain a digit for a class with a *negative* logit. What do red and blue mean now?
# - Train an XOR with biases. Which part of the output do they keep?
