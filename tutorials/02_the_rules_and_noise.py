# %% [markdown]
# # The rules, and what each does to noise
#
# A neuron has many inputs. Some contributions are positive and some negative, and most of them cancel. LRP_z (Eq. 1) gives each
# input $R_i = z_{ij} / z_j \cdot R_j$. The sum is right: $\sum_i R_i = R_j$. But if $z_j$ is small, every single share is
# large, some positive and some negative. This is where the noise in heatmaps comes from, and we can measure it: how much
# relevance of both signs is there for each unit that is passed on?
#
# $$A_j = \frac{\sum_i |R_{i \leftarrow j}|}{|R_j|}$$
#
# We call this the *amplification*. If it is 1, nothing cancels. The rules of LRP are ways to keep it small.

# %%
import matplotlib.pyplot as plt
import numpy as np

from lrp_toolbox import AlphaBeta, Conv, Epsilon, Flat, Gamma, Linear, Z, explain, load, read_photo
from lrp_toolbox.render import heatmap

RULES = {
    "z": Z(),
    "ε = 0.1": Epsilon(0.1),
    "γ = 0.25": Gamma(0.25),
    "αβ (α=2)": AlphaBeta(2),
    "αβ (α=1)": AlphaBeta(1),
    "♭": Flat(),
}


def amplification(neuron, x, rule):
    """A of a neuron, for each x: the relevance of its output is 1."""
    return abs(explain(neuron, x, target=0, composite=rule, start="one").R).sum(axis=-1)


# %% [markdown]
# ## One neuron
#
# One input contributes 1, the other contributes $-q$, so $z_j = 1 - q$. What happens if $q$ is close to 1?

# %%
q = np.linspace(0.01, 1.99, 400)  # not exactly 1: there z_j = 0, and the inputs get no relevance
neuron = Linear(np.array([[1.0], [-1.0]]))
opposed = {name: amplification(neuron, np.stack([np.ones(400), q], axis=1), rule) for name, rule in RULES.items()}

assert np.allclose(opposed["z"], (1 + q) / abs(1 - q))  # no bound
assert np.allclose(opposed["ε = 0.1"], (1 + q) / (abs(1 - q) + 0.1))  # no more than Σ|z_ij| / ε
assert opposed["γ = 0.25"].max() <= 1 + 2 / 0.25
assert np.allclose(opposed["αβ (α=2)"], 3)  # α + |β|, whatever q
assert np.allclose(opposed["αβ (α=1)"], 1)
assert np.allclose(opposed["♭"], 1)

# %% [markdown]
# ## Many neurons
#
# How often does this happen? Here are 20,000 neurons. Each has a hundred contributions with random signs.

# %%
rng = np.random.default_rng(0)
w = rng.standard_normal((100, 1))
w -= w.mean()  # positive and negative weights have the same sum
x = abs(rng.standard_normal((20_000, 100)))
many = {name: np.sort(amplification(Linear(w), x, rule)) for name, rule in RULES.items()}

print(f"{'amplification':<15}{'median':>9}{'90 %':>9}{'99 %':>9}{'largest':>11}")
for name, found in many.items():
    print(f"{name:<15}" + "".join(f"{a:9.1f}" for a in np.quantile(found, (0.5, 0.9, 0.99))) + f"{found[-1]:11.1f}")

figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.5), layout="constrained")
share = 1 - np.arange(len(x)) / len(x)
for name in RULES:
    style = {"linestyle": "--", "color": "black", "linewidth": 1.2} if name == "♭" else {}  # lies on αβ (α=1)
    left.plot(q, opposed[name], label=name, **style)
    right.plot(many[name], share, label=name, **style)
left.set(
    yscale="log", ylim=(0.8, 500), xlabel="q: the negative contribution, beside a positive one of 1", ylabel="amplification"
)
right.set(xscale="log", yscale="log", xlabel="amplification", ylabel="share of neurons above it", xlim=(0.8, 1e5))
left.legend(frameon=False, ncols=2, fontsize=8)
for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
figure.savefig("amplification.png", dpi=120)

# %% [markdown]
# On the right, the curve of LRP_z is a straight line: an amplification that is ten times as large is only ten times as rare.
# Such a distribution has no mean. Here one neuron in a hundred makes half of the noise of all neurons. ε removes the largest
# values, because it is larger than the smallest $z_j$; it hardly changes the median. γ, αβ and ♭ have a bound that holds for
# every neuron:
#
# | rule | how it keeps noise small | $A_j$ |
# |---|---|---|
# | z | | no bound |
# | ε | keeps $z_j$ away from 0 | $\le \sum_i \lvert z_{ij} \rvert / \varepsilon$ |
# | γ | favours the sign of the sum | $\le 1 + 2 / \gamma$ |
# | αβ | separates positive and negative | $\le \alpha + \lvert\beta\rvert$ |
# | ♭, w², zᴮ | have one sign only | $\le 1$ |

# %%
assert many["z"][-200:].sum() > 0.4 * many["z"].sum()
tail = np.quantile(many["z"], (0.9, 0.99))
assert 7 < tail[1] / tail[0] < 14  # 1 / A: ten times as rare, ten times as large
assert many["γ = 0.25"][-1] <= 1 + 2 / 0.25
assert np.allclose(many["αβ (α=2)"], 3)
assert np.allclose(many["αβ (α=1)"], 1)

# %% [markdown]
# ## A real network
#
# In a network, one layer follows another. How much relevance of both signs is there at each depth of VGG-16, for each unit of
# the logit? And is it noise? To find out, we add 5 % of noise to the photograph, which nobody would notice, and explain it
# again.

# %%
model = load("vgg16-voc")
x = model.prepare(read_photo(model.example))
noisy = x + 0.05 * x.std() * rng.standard_normal(x.shape, dtype=np.float32)
both = np.stack([x, np.clip(noisy, *model.bounds)])  # black stays black, and white stays white

DEEP = {"z": Z(), "ε = 1": Epsilon(1.0), "γ = 0.25": Gamma(0.25), "αβ (α=2)": AlphaBeta(2), "αβ (α=1)": AlphaBeta(1)}
weighted = [name for name, layer in model.net.items() if isinstance(layer, (Conv, Linear))]
found = {name: explain(model, both, target="cat", composite=rule, keep=weighted) for name, rule in DEEP.items()}


def likeness(a, b):
    return float((a * b).sum(dtype=float) / np.sqrt((a * a).sum(dtype=float) * (b * b).sum(dtype=float)))


gross = {}
for name, e in found.items():
    on_the_way = [*(e.layers[layer][0] for layer in reversed(weighted)), e.R[0]]
    gross[name] = np.array([abs(R).sum(dtype=float) for R in on_the_way]) / float(e.ledger.start[0])
alike = {name: likeness(*e.heatmap) for name, e in found.items()}

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.7), layout="constrained", width_ratios=(2, 1))
for name, values in gross.items():
    left.plot(values, marker="o", markersize=3, label=name)
places = [*reversed(weighted), "pixels"]
left.set_xticks(range(len(places)), places, rotation=60, ha="right", fontsize=7)
left.set(yscale="log", ylabel="Σ|R|, for each unit of the logit")
left.legend(frameon=False)
for k, (name, value) in enumerate(alike.items()):
    right.barh(name, value, color=f"C{k}")
    right.text(value - 0.02, k, f"{value:.3f}", ha="right", va="center", color="white")
right.invert_yaxis()
right.set(xlim=(0, 1), xlabel="likeness of the maps with and without noise")
for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
figure.savefig("noise_in_vgg16.png", dpi=120)

for name in gross:
    print(f"{name:<10} Σ|R| on the pixels: {gross[name][-1]:6.1f} × logit;  likeness after 5 % of noise: {alike[name]:.3f}")

# %% [markdown]
# Under LRP_z, the amount of relevance of both signs grows with depth, and the heatmap is the difference of large numbers. The
# bounds for one neuron hold for a layer, too: under αβ, no layer makes more than $\alpha + |\beta|$ times the relevance that it
# gets. In fact αβ stays far below $3^{15}$: positive and negative relevance meet again in the layer below, and cancel there
# *before* the division. (Biases have a share, too, so a sum can be less than 1.)

# %%
for name, bound in {"αβ (α=2)": 3, "αβ (α=1)": 1, "γ = 0.25": 9}.items():
    assert (gross[name][1:] <= bound * gross[name][:-1] * (1 + 1e-4)).all(), name
assert gross["z"][-1] > 10 * gross["γ = 0.25"][-1]
assert alike["z"] < alike["ε = 1"] < min(alike["γ = 0.25"], alike["αβ (α=2)"], alike["αβ (α=1)"])

# %% [markdown]
# ## The first layer
#
# The pixels come last. The first convolution sees edges and colours, and $x_i w_{ij}$ changes from pixel to pixel with the
# picture: a pixel of the mean colour has $x_i = 0$ and gets no relevance. The rules for the first layer either ignore $x_i$ (♭,
# w²) or measure it from the ends of its range (zᴮ). The next picture shows what each rule makes of the same relevance, that of
# LRP_αβ (α=2) above the first convolution, around one eye of the cat.

# %%
first, R = model.net["block1_conv1"], found["αβ (α=2)"].layers["block1_conv1"]
maps = {
    "z": first.relprop_z(both, R),
    "αβ (α=2)": first.relprop_alphabeta(both, R, alpha=2),
    "zᴮ": first.relprop_zbox(both, R, *model.bounds),
    "w²": first.relprop_wsquare(both, R),
    "♭": first.relprop_flat(both, R),
}
eye = (slice(50, 114), slice(56, 120))
seen = (x + model.preprocessing.mean)[..., ::-1].astype(np.uint8)  # BGR less the mean → RGB
calm = {name: likeness(*R_in.sum(axis=-1)) for name, R_in in maps.items()}
figure, axes = plt.subplots(1, 6, figsize=(12, 2.4), layout="constrained")
axes[0].imshow(seen[eye])
axes[0].set_title("photograph", fontsize=9)
for panel, (name, R_in) in zip(axes[1:], maps.items(), strict=True):
    panel.imshow(heatmap(R_in[0][eye], quantile=0.995))
    panel.set_title(f"{name}\nlikeness {calm[name]:.3f}", fontsize=9)
for panel in axes:
    panel.set(xticks=[], yticks=[])
figure.savefig("first_layer.png", dpi=120)

for one_sign in ("zᴮ", "w²", "♭"):
    assert abs(maps[one_sign][0]).sum(dtype=float) <= abs(R[0]).sum(dtype=float) * (1 + 1e-4)
    assert calm[one_sign] > max(calm["z"], calm["αβ (α=2)"])

# %% [markdown]
# ## What it costs
#
# Each rule has a price. ε takes relevance; the ledger says how much. LRP_αβ changes the meaning: with α = 1 nothing ever speaks
# against a class, and the heatmaps of all classes look alike. ♭ says where, but not what. So no rule is best everywhere. Which
# one is best *where* is the subject of composites (tutorial 04).

# %%
taken = float(found["ε = 1"].ledger.absorbed("eps")[0] / found["ε = 1"].ledger.start[0])
print(f"ε = 1 took {taken:.0%} of the logit")
assert 0.05 < taken < 0.5

# %% [markdown]
# ## Try this
#
# - The contributions of a neuron rarely have a mean of 0. Let `w` keep its mean in "Many neurons". How do the median and the
#   largest values change?
# - Use neurons with 1,000 contributions instead of 100. How does the amplification of LRP_z grow, and why?
# - Which γ makes Σ|R| on the pixels as large as with ε = 1? What happens with γ = 0?
# - Try ε = 10 and ε = 100. The likeness rises; how much of the logit is left to be explained?
