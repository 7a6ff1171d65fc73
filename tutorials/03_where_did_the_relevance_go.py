# %% [markdown]
# # Where did the relevance go?
#
# An explanation starts with the logit of a class and ends with a number for each pixel. Is the sum of these numbers the logit?
# For a layer without a bias, Equation 1 says yes. But real networks have biases, an ε, denominators that are zero, and padding.
# The **ledger** has an entry for every layer:
#
#     arriving = passed on + bias + ε + zero denominator + padding
#
# Here is a real network, LeNet-5, and a digit.

# %%
from fractions import Fraction

import matplotlib.pyplot as plt
import numpy as np

from lrp_toolbox import (
    AlphaBeta,
    Conv,
    Epsilon,
    Flatten,
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

model = load("lenet5-mnist")
x = model.prepare(read_photo(model.example))
e = explain(model, x, composite=lrp_cmp(alpha=2, flat=1))
print(f"The network says {e.labels}, with a logit of {e.y[e.target]:.3f}.\n")
print(e.ledger)

# %% [markdown]
# Read it from the top: the dense layers keep a little for their biases and pass on the rest, and so do the convolutions. ♭ in
# the first layer has no bias, so everything arrives at the pixels. The last
# column is the rounding of float32; without it, each row is an equation.

# %%
absorbed = {reason: float(e.ledger.absorbed(reason)) for reason in ("bias", "eps", "zero_denominator", "padding")}
total = float(e.R.sum(dtype=np.float64)) + sum(absorbed.values())
print(f"\npixels + absorbed = {total:.5f}, the logit is {e.y[e.target]:.5f}")
assert abs(total - e.y[e.target]) < 1e-4 * abs(e.y[e.target])

# %% [markdown]
# ## Who takes how much
#
# The same digit under five rules. The bars of each rule add up to the logit. The biases of this network keep little, and some
# of the amounts are negative: then the bias adds relevance. An ε of 1 keeps three quarters of the logit. The heatmap shows only
# the rest, and you cannot see this in the heatmap.

# %%
rules = {"z": Z(), "ε = 1": Epsilon(1.0), "αβ (α=1)": AlphaBeta(1), "αβ (α=2)": AlphaBeta(2), "CMP": lrp_cmp()}
ledgers = {name: explain(model, x, composite=rule).ledger for name, rule in rules.items()}
parts = {
    "on the pixels": [float(ledger.end) for ledger in ledgers.values()],
    "bias": [float(ledger.absorbed("bias")) for ledger in ledgers.values()],
    "ε": [float(ledger.absorbed("eps")) for ledger in ledgers.values()],
    "zero denominator": [float(ledger.absorbed("zero_denominator")) for ledger in ledgers.values()],
}
figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
places = np.arange(len(rules))
for k, (name, amounts) in enumerate(parts.items()):
    axes.bar(places + 0.2 * (k - 1.5), amounts, width=0.18, label=name)
axes.axhline(float(e.y[e.target]), color="black", linewidth=0.8, linestyle=":")
axes.text(len(rules) - 0.45, float(e.y[e.target]), "logit", va="center")
axes.axhline(0, color="black", linewidth=0.8)
axes.set_xticks(places, list(rules))
axes.set_ylabel("relevance")
axes.legend(frameon=False, ncols=4, loc="upper left", bbox_to_anchor=(0, 1.14))
axes.spines[["top", "right"]].set_visible(False)
figure.savefig("where_did_it_go.png", dpi=120)

for name, ledger in ledgers.items():
    assert abs(float(ledger.rounding)) < 1e-4 * abs(float(ledger.start)), name

# %% [markdown]
# ## In fractions there is no rounding
#
# Rounding hides small errors. Arrays of `Fraction` hide nothing. Here is a random network with a convolution, pooling and a
# dense layer. Under *every* rule, its ledger closes with `==`.

# %%
rng = np.random.default_rng(0)


def fractions(*shape):
    return np.vectorize(lambda n: Fraction(int(n), 4), otypes=[object])(rng.integers(-9, 10, shape))


net = Sequential(
    conv=Conv(fractions(3, 3, 1, 4), fractions(4), padding=1),
    relu=ReLU(),
    pool=MaxPool(2),
    flatten=Flatten(),
    fc=Linear(fractions(16, 3), fractions(3)),
)
digit = fractions(4, 4, 1)
for rule in (*rules.values(), AlphaBeta(2, bias="distribute"), AlphaBeta(2, renormalize=True)):
    found = explain(net, digit, target=0, composite=rule)
    assert found.ledger.rounding == 0
    assert found.R.sum() + sum(found.ledger.absorbed(reason) for reason in absorbed) == found.y[0]
print("all ledgers close, exactly")

# %% [markdown]
# ## Try this
#
# - `bias="distribute"` gives the share of the biases evenly to all inputs. Which column of the ledger is zero now, and what
#   does the heatmap gain?
# - Where does ε keep most: in the first layers or in the last? Why? (Look at the sizes of z.)
# - Make half of the digit black. When is the column of zero denominators no longer 0?
