# %% [markdown]
# # Why LRP_z fails in deep nets
#
# LRP_z conserves relevance, and in a ReLU network it is equal to gradient × input (Sec. II-A). This sounds good, but it is the
# problem: the gradient of a deep ReLU network is *shattered* (Balduzzi et al. 2017). Two photographs that look the same to us
# have gradients that have little in common.
#
# Here we measure this in random networks of growing depth. How similar are the explanations of an image and of the same image
# with 5 % of noise?

# %%
import matplotlib.pyplot as plt
import numpy as np

from lrp_toolbox import AlphaBeta, Conv, Epsilon, Flatten, Gamma, Linear, ReLU, Sequential, Z, explain

DEPTHS = (1, 2, 4, 8, 16, 32)
NETS = 6


def network(depth, rng, channels=16, size=12):
    """Convolutions of 3×3 behind ReLUs, and one output. He's initialisation keeps the activations alive."""
    layers, n_in = [], 3
    for k in range(depth):
        w = rng.standard_normal((3, 3, n_in, channels)) * np.sqrt(2 / (9 * n_in))
        layers += [(f"conv{k}", Conv(w, padding=1)), (f"relu{k}", ReLU())]
        n_in = channels
    fc = Linear(rng.standard_normal((size * size * n_in, 1)) / size)
    return Sequential([*layers, ("flatten", Flatten()), ("fc", fc)])


# %% [markdown]
# First we check the claim: without biases, LRP_z *is* gradient × input, to rounding. (With biases, too, as long as they keep
# their share.)

# %%
rng = np.random.default_rng(0)
net, x = network(8, rng), rng.standard_normal((12, 12, 3))
R = explain(net, x, target=0, composite=Z()).R
gradient = net.gradient(net.trace(x), np.ones(1))
print("largest difference of LRP_z and gradient × input:", f"{abs(R - gradient * x).max():.1e}", "of", f"{abs(R).max():.2f}")
assert abs(R - gradient * x).max() < 1e-9 * abs(R).max()

# %% [markdown]
# Now the measurement. The likeness of two maps is the cosine of the angle between them: 1 means the same, 0 means nothing in
# common.

# %%
RULES = {"z": Z(), "ε = 0.1": Epsilon(0.1), "γ = 0.25": Gamma(0.25), "αβ (α=2)": AlphaBeta(2), "αβ (α=1)": AlphaBeta(1)}


def likeness(a, b):
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


measured = {name: np.zeros((len(DEPTHS), NETS)) for name in RULES}
for row, depth in enumerate(DEPTHS):
    for column in range(NETS):
        rng = np.random.default_rng([depth, column])
        net, x = network(depth, rng), rng.standard_normal((12, 12, 3))
        both = np.stack([x, x + 0.05 * rng.standard_normal(x.shape)])
        for name, rule in RULES.items():
            here, there = explain(net, both, target=0, composite=rule).R
            measured[name][row, column] = likeness(here, there)

# %%
figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for name, values in measured.items():
    [line] = axes.plot(DEPTHS, np.median(values, axis=1), marker="o", markersize=4, label=name)
    axes.fill_between(DEPTHS, values.min(axis=1), values.max(axis=1), color=line.get_color(), alpha=0.12, linewidth=0)
axes.set_xscale("log", base=2)
axes.set_xticks(DEPTHS, DEPTHS)
axes.set_xlabel("convolutions")
axes.set_ylabel("likeness of the two explanations")
axes.set_ylim(None, 1.02)
axes.legend(frameon=False)
axes.spines[["top", "right"]].set_visible(False)
figure.savefig("depth.png", dpi=120)

print("\nconvolutions   " + "".join(f"{d:>7}" for d in DEPTHS))
for name, values in measured.items():
    print(f"{name:<15}" + "".join(f"{v:7.2f}" for v in np.median(values, axis=1)))

# %% [markdown]
# In deep networks, the maps of LRP_z for two almost equal images have little in common. The problem are neurons whose sum is
# almost 0; an ε that is not small makes them quiet. αβ and γ add up numbers of (mostly) one sign, so nothing cancels. But
# LRP_αβ (α=1) pays for this: it gives almost the same map for every class (see tutorial 11). The composite LRP_CMP combines
# both: ε where the classes are told apart, αβ below.

# %%
z, calm = np.median(measured["z"], axis=1), np.median(measured["αβ (α=1)"], axis=1)
assert z[0] > 0.9  # a shallow net's gradient is fine
assert z[-1] < 0.6
assert calm.min() > 0.95

# %% [markdown]
# ## Try this
#
# - Give the convolutions biases. Do the curves change?
# - Use 20 % of noise instead of 5 %.
# - From which α on does αβ have the problem, too? Which ε is large enough, and how much of the output does it keep (see the
#   ledger)?
