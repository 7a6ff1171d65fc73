# %% [markdown]
# # The rules, and what each does to noise
#
# Many inputs speak for a neuron and many against it, and most of what they say cancels. LRP_z (Eq. 1) hands each of them
# $R_i = z_{ij} / z_j \cdot R_j$. The sum is right: $\sum_i R_i = R_j$. But when little is left of $z_j$, every single share is large, some up
# and some down. That is where the noise in heatmaps comes from, and it can be measured: how much relevance of either sign is set in
# motion for each unit that is passed on?
#
# $$A_j = \frac{\sum_i |R_{i \leftarrow j}|}{|R_j|}$$
#
# We call it the *amplification*. 1 is calm: nothing cancels. The rules of LRP are ways to keep it down.

# %%
import matplotlib.pyplot as plt
import numpy as np

from lrp_toolbox import AlphaBeta, Conv, Epsilon, Flat, Gamma, Linear, Z, explain, load, read_photo
from lrp_toolbox.render import heatmap

RULES = {"z": Z(), "ε = 0.1": Epsilon(0.1), "γ = 0.25": Gamma(0.25), "α2β1": AlphaBeta(2), "α1β0": AlphaBeta(1), "♭": Flat()}


def amplification(neuron, x, rule):
    """A of a neuron, for each x: the relevance of its output is 1."""
    return abs(explain(neuron, x, target=0, composite=rule, start="one").R).sum(axis=-1)


# %% [markdown]
# ## One neuron
#
# An input brings 1, another one brings $-q$, and so $z_j = 1 - q$. What happens when $q$ comes near 1?

# %%
q = np.linspace(0.01, 1.99, 400)  # never quite 1: there z_j = 0, and nothing is passed on
neuron = Linear(np.array([[1.0], [-1.0]]))
opposed = {name: amplification(neuron, np.stack([np.ones(400), q], axis=1), rule) for name, rule in RULES.items()}

assert np.allclose(opposed["z"], (1 + q) / abs(1 - q))  # no bound
assert np.allclose(opposed["ε = 0.1"], (1 + q) / (abs(1 - q) + 0.1))  # no more than Σ|z_ij| / ε
assert opposed["γ = 0.25"].max() <= 1 + 2 / 0.25
assert np.allclose(opposed["α2β1"], 3)  # α + |β|, whatever q
assert np.allclose(opposed["α1β0"], 1)
assert np.allclose(opposed["♭"], 1)

# %% [markdown]
# ## Many neurons
#
# How often does it come to that? Here are 20,000 neurons of a hundred contributions each, for and against at random.

# %%
rng = np.random.default_rng(0)
w = rng.standard_normal((100, 1))
w -= w.mean()  # for and against weigh the same
x = abs(rng.standard_normal((20_000, 100)))
many = {name: np.sort(amplification(Linear(w), x, rule)) for name, rule in RULES.items()}

print(f"{'amplification':<15}{'median':>9}{'90 %':>9}{'99 %':>9}{'largest':>11}")
for name, found in many.items():
    print(f"{name:<15}" + "".join(f"{a:9.1f}" for a in np.quantile(found, (0.5, 0.9, 0.99))) + f"{found[-1]:11.1f}")

figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.5), layout="constrained")
share = 1 - np.arange(len(x)) / len(x)
for name in RULES:
    style = {"linestyle": "--", "color": "black", "linewidth": 1.2} if name == "♭" else {}  # lies on α1β0
    left.plot(q, opposed[name], label=name, **style)
    right.plot(many[name], share, label=name, **style)
left.set(yscale="log", ylim=(0.8, 500), xlabel="q: how much speaks against, beside 1 for", ylabel="amplification")
right.set(xscale="log", yscale="log", xlabel="amplification", ylabel="share of neurons above it", xlim=(0.8, 1e5))
left.legend(frameon=False, ncols=2, fontsize=8)
for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
figure.savefig("amplification.png", dpi=120)

# %% [markdown]
# On the right, LRP_z falls along a straight line: ten times the amplification is ten times as rare, and no more. Such a tail has no mean:
# here one neuron in a hundred makes half of the noise of them all. An ε cuts the tail off, since it is larger than the smallest
# $z_j$; it does little to the median. γ, αβ and ♭ have a bound that no neuron can break:
#
# | rule | how it stays calm | $A_j$ |
# |---|---|---|
# | z | | no bound |
# | ε | keeps $z_j$ away from 0 | $\le \sum_i \lvert z_{ij} \rvert / \varepsilon$ |
# | γ | favours the side that has won | $\le 1 + 2 / \gamma$ |
# | αβ | keeps for and against apart | $\le \alpha + \lvert\beta\rvert$ |
# | ♭, w², zᴮ | have one sign only | $\le 1$ |

# %%
assert many["z"][-200:].sum() > 0.4 * many["z"].sum()
tail = np.quantile(many["z"], (0.9, 0.99))
assert 7 < tail[1] / tail[0] < 14  # 1 / A: ten times as rare, ten times as large
assert many["γ = 0.25"][-1] <= 1 + 2 / 0.25
assert np.allclose(many["α2β1"], 3)
assert np.allclose(many["α1β0"], 1)

# %% [markdown]
# ## A real network
#
# In a network layer follows on layer. How much relevance of either sign is on the way at each depth of VGG-16, for each unit of the
# logit? And is that noise? To see, add 5 % of noise to the photograph, which nobody would notice, and ask again.

# %%
model = load("vgg16-voc")
x = model.prepare(read_photo(model.example))
noisy = x + 0.05 * x.std() * rng.standard_normal(x.shape, dtype=np.float32)
both = np.stack([x, np.clip(noisy, *model.bounds)])  # black stays black, and white stays white

DEEP = {"z": Z(), "ε = 1": Epsilon(1.0), "γ = 0.25": Gamma(0.25), "α2β1": AlphaBeta(2), "α1β0": AlphaBeta(1)}
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
# LRP_z moves more and more relevance to and fro, the deeper it comes, and what it says of the photograph is the difference of large
# numbers. Bounds for one neuron hold for a layer, too: no layer makes more than α + |β| of what it gets. In fact αβ stays far
# below $3^{15}$: what it hands down for and against meets again in the layer below, and cancels there *before* it is divided.
# (Biases have a share, too; so a sum can be less than 1.)

# %%
for name, bound in {"α2β1": 3, "α1β0": 1, "γ = 0.25": 9}.items():
    assert (gross[name][1:] <= bound * gross[name][:-1] * (1 + 1e-4)).all(), name
assert gross["z"][-1] > 10 * gross["γ = 0.25"][-1]
assert alike["z"] < alike["ε = 1"] < min(alike["γ = 0.25"], alike["α2β1"], alike["α1β0"])

# %% [markdown]
# ## The first layer
#
# Last come the pixels. The first convolution sees edges and colours, and $x_i w_{ij}$ changes from pixel to pixel as the picture does: a pixel that
# is the mean colour has $x_i = 0$, and gets nothing. The rules for first layers do not look at $x_i$ (♭, w²), or measure it from the
# ends of its range (zᴮ). Here is what they make of the same relevance, that of α2β1 above the first convolution, around an eye of the cat.

# %%
first, R = model.net["block1_conv1"], found["α2β1"].layers["block1_conv1"]
maps = {
    "z": first.relprop_z(both, R),
    "α2β1": first.relprop_alphabeta(both, R, alpha=2),
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
    assert calm[one_sign] > max(calm["z"], calm["α2β1"])

# %% [markdown]
# ## What it costs
#
# None of this is free. ε takes relevance: the ledger says how much. αβ changes what is said: with α = 1 nothing ever speaks
# against, and classes look alike. ♭ says where, and no longer what. So no rule is best everywhere; which one is best *where* is the
# subject of composites (tutorial 04).

# %%
taken = float(found["ε = 1"].ledger.absorbed("eps")[0] / found["ε = 1"].ledger.start[0])
print(f"ε = 1 took {taken:.0%} of the logit")
assert 0.05 < taken < 0.5

# %% [markdown]
# ## Try this
#
# - The contributions of a neuron are rarely even. Let `w` keep its mean in "Many neurons". What becomes of the median, and of the tail?
# - Neurons of 1,000 contributions instead of 100. How does the amplification of LRP_z grow, and why like that?
# - Which γ makes Σ|R| on the pixels as large as with ε = 1? Where does γ = 0 lead?
# - ε = 10, 100. Likeness rises; what is left to be explained?
