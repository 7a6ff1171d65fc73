# %% [markdown]
# # A real network
#
# Kohlbrenner et al. 2020 say which rule belongs in which layer (Sec. II-B). This tutorial makes a small version of their Fig.
# 1: VGG-16, a photograph with two objects, and the question why the network sees each of them.
#
# The network and the photograph come with the toolbox. The network knows the 20 classes of PASCAL VOC, several of which can be
# in one photograph. The photograph shows a person above a cat.

# %%
import matplotlib.pyplot as plt
import numpy as np

from lrp_toolbox import AlphaBeta, Composite, Conv, Epsilon, Linear, Z, explain, is_dense, load, lrp_cmp, read_photo
from lrp_toolbox.data import box_mask
from lrp_toolbox.metrics import localisation
from lrp_toolbox.receptive import receptive_fields
from lrp_toolbox.render import overlay

model = load("vgg16-voc")
photo = read_photo(model.folder / "cat-and-person.jpg")
x = model.prepare(photo)
logits = model.net(x)
for k in np.argsort(-logits)[:5]:
    print(f"{model.classes[k]:<14} {logits[k]:8.2f}")

TARGETS = ["cat", "person"]
assert {model.classes[k] for k in np.argsort(-logits)[:2]} == set(TARGETS)

# %% [markdown]
# ## One rule everywhere
#
# LRP_z and LRP_αβ (α=1), each in every layer. We judge the result by two numbers. First, are the heatmaps of the two classes
# different: what is the cosine between them? Second, are they in the right place: how much of the positive relevance is in the
# half of the photograph that shows the class, μ?

# %%
SEAM, (height, width) = 285, photo.shape[:2]
halves = {"cat": [[0, SEAM, width, height]], "person": [[0, 0, width, SEAM]]}
masks = np.stack([box_mask(np.array(halves[t]), model.preprocessing, (height, width)) for t in TARGETS])


def likeness(a, b):
    return float((a * b).sum(dtype=float) / np.sqrt((a * a).sum(dtype=float) * (b * b).sum(dtype=float)))


weighted = [name for name, layer in model.net.items() if isinstance(layer, (Conv, Linear))]
found = {}


def ask(name, composite):
    e = found[name] = explain(model, x, TARGETS, composite, keep=weighted)
    mu = localisation(e.R, masks).mu
    print(f"{name:<18} likeness of the two maps {likeness(*e.heatmap):+.2f}   μ: cat {mu[0]:.2f}, person {mu[1]:.2f}")


ask("LRP_z", Z())
ask("LRP_αβ (α=1)", AlphaBeta(1))

# %% [markdown]
# LRP_z gives noise: it is everywhere (an even map would have a μ of 0.47 and 0.53). LRP_αβ (α=1) has little noise, but gives
# the same heatmap for both classes. Where does this go wrong? We follow the two classes down through the network.
#
# ## A composite, by hand
#
# The few dense layers at the top tell the classes apart: a neuron that speaks for one class speaks against another. Here we
# need both signs, and ε keeps them. Below are many convolutions, whose gradients are noisy: here αβ keeps the noise small. This
# is the composite, in two lines:

# %%
by_hand = Composite([(is_dense, Epsilon(1e-6)), (Conv, AlphaBeta(1))], name="by hand")
ask("LRP_CMP:α1", by_hand)
assert (found["LRP_CMP:α1"].R == explain(model, x, TARGETS, lrp_cmp(alpha=1, flat=0)).R).all()  # the same, by its name
print()
print(found["LRP_CMP:α1"].rules)

# %%
figure, axes = plt.subplots(figsize=(7.6, 3.8), layout="constrained")
for name, e in found.items():
    down = [*(likeness(*e.layers[layer]) for layer in reversed(weighted[:-1])), likeness(*e.heatmap)]
    axes.plot(down, marker="o", markersize=4, label=name)
places = [*reversed(weighted[:-1]), "pixels"]
axes.set_xticks(range(len(places)), places, rotation=50, ha="right", fontsize=8)
axes.set_ylabel("likeness of “cat” and “person”")
axes.axhline(0, color="black", linewidth=0.8)
axes.legend(frameon=False, loc="center right", bbox_to_anchor=(1, 0.68))
axes.spines[["top", "right"]].set_visible(False)
figure.savefig("cat_and_person_by_depth.png", dpi=120)

# %% [markdown]
# LRP_αβ (α=1) mixes the classes at the very top, in the dense layers, and no layer below can separate them again. LRP_z and the
# composite separate them at the top, where both have the same relevance. Below, LRP_z turns into noise and the composite does
# not.

# %%
alike = {name: likeness(*e.heatmap) for name, e in found.items()}
assert alike["LRP_αβ (α=1)"] > 0.9
assert alike["LRP_CMP:α1"] < -0.5  # what speaks for the one speaks against the other
np.testing.assert_allclose(found["LRP_CMP:α1"].layers["fc1"], found["LRP_z"].layers["fc1"], rtol=1e-3, atol=1e-3)

# %% [markdown]
# ## ♭: how fine should it be?
#
# In the lowest convolutions, αβ draws edges. If ♭ replaces it there, each neuron distributes its relevance evenly over
# everything that it sees. Then the map shows *where* the evidence is, and no longer *which edge*. How much does a neuron see?

# %%
sees = {place.name: field for place, field in receptive_fields(model.net, x.shape) if field is not None}
for name in ("block1_conv1", "block2_conv1", "block3_conv3", "block5_conv3", "block5_pool"):
    print(f"{name:<14} sees {sees[name].size[0]:>3} pixels across, of {x.shape[1]}")

ask("LRP_CMP:α1+♭(3)", lrp_cmp(alpha=1, flat=3))
ask("LRP_CMP:+♭(all)", lrp_cmp(flat="all"))

# %% [markdown]
# ## Figure 1, in small

# %%
view = model.preprocessing.view(photo)
figure, axes = plt.subplots(2, 6, figsize=(12.6, 6.4), layout="constrained")
for row, target in enumerate(TARGETS):
    axes[row, 0].imshow(view)
    axes[row, 0].set_ylabel(f"{target} ({logits[model.classes.index(target)]:.1f})")
    for column, (name, e) in enumerate(found.items(), 1):
        axes[row, column].imshow(overlay(e.R[row], view, quantile=0.999))
        axes[row, column].set_xlabel(f"μ = {localisation(e.R[row], masks[row]).mu:.2f}", fontsize=9)
        axes[0, column].set_title(name, fontsize=10)
for panel in axes.flat:
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set_visible(False)
figure.savefig("figure1_in_small.png", dpi=110)

# %% [markdown]
# Red speaks for the class, blue speaks against it. From left to right: noise; the same picture twice; one map for each class;
# the same with broader strokes; and one that says little more than "here".

# %%
mu = {name: localisation(e.R, masks).mu for name, e in found.items()}
for name in ("LRP_CMP:α1", "LRP_CMP:α1+♭(3)"):
    assert (mu[name] > mu["LRP_z"]).all()
    assert mu[name].sum() > mu["LRP_αβ (α=1)"].sum()
for name, e in found.items():  # whatever the rules, the ledger closes: the pixels and what was absorbed are the logit
    assert (abs(e.ledger.rounding) < 1e-3 * abs(e.ledger.start)).all(), name

# %% [markdown]
# ## Try this
#
# - Explain "dog", which is not in the photograph. What is red, and why? (What is the sign of its logit?)
# - `lrp_cmp(alpha=2, flat=1)` is the best in the paper's Table I. What does the β part add, and where?
# - Use ε in the convolutions and αβ in the dense layers, the other way round.
# - One photograph proves nothing. Tutorial 07 measures a hundred pictures, and `lrp experiment table1` measures yours.
