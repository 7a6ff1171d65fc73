# %% [markdown]
# # Localisation: μ on a hundred pictures
#
# One heatmap proves nothing. To compare rules, we need a number for each map, and many maps. If the network says "3", the
# explanation should lie on the 3. Kohlbrenner et al. 2020 (Eq. 5) measure how much of the positive relevance does:
#
# $$\mu = \frac{R_{in}}{R_{tot}} \qquad \mu_w = \mu \cdot \frac{S_{tot}}{S_{in}} \tag{5}$$
#
# Here $R$ is the positive relevance and $S$ the number of pixels, in the box and in the whole picture. If relevance is
# distributed evenly, then $\mu = S_{in} / S_{tot}$, the share of the picture that the box covers, and $\mu_w = 1$. So $\mu_w$
# says how many times better a map is than an even one.
#
# So we need boxes, and a network that was trained on such pictures. We must not ship photographs with boxes, and a hundred of
# them take VGG-16 minutes. Instead we make our own pictures: digits of several classes, on a background of strokes. This needs
# no download, every box is right to the pixel, and the experiment is that of the paper, only smaller.

# %%
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lrp_toolbox import AlphaBeta, AvgPool, Conv, Flatten, Linear, ReLU, Sequential, Z, explain, load, lrp_cmp
from lrp_toolbox.metrics import localisation, summarise, uniform
from lrp_toolbox.render import overlay

SIZE, DIGITS, TRAINING, PICTURES = 64, 3, 1000, 100
FONTS = [
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSerif",
    "DejaVuSansMono",
    "STIXGeneral",
    "cmr10",
    "cmss10",
]
fonts = [Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf" for name in FONTS]  # they come with matplotlib
rng = np.random.default_rng(0)


def stamp(kind):
    """A digit, in a font, of a size and at an angle drawn at random; cut to its bounding box."""
    font = ImageFont.truetype(fonts[rng.integers(len(fonts))], int(rng.integers(18, 37)))
    image = Image.new("L", (64, 64))
    ImageDraw.Draw(image).text((32, 32), str(kind), fill=255, font=font, anchor="mm")
    image = image.rotate(rng.uniform(-15, 15), Image.Resampling.BILINEAR)
    return np.asarray(image.crop(image.getbbox()))


def picture():
    """Pixels, and the box of each kind of digit as slices: digits do not overlap."""
    image = Image.new("L", (SIZE, SIZE))
    for x, y, dx, dy in rng.integers((0, 0, -12, -12), (SIZE, SIZE, 13, 13), size=(6, 4)).tolist():
        ImageDraw.Draw(image).line((x, y, x + dx, y + dy), fill=int(rng.integers(60, 200)), width=2)
    pixels, boxes, taken = np.array(image), {}, np.zeros((SIZE, SIZE), bool)
    for kind in rng.choice(10, DIGITS, replace=False).tolist():
        while kind not in boxes:
            ink = stamp(kind)
            y, x = rng.integers(0, SIZE - np.array(ink.shape) + 1)
            box = slice(y, y + ink.shape[0]), slice(x, x + ink.shape[1])
            if not taken[box].any():
                pixels[box], taken[box], boxes[kind] = np.maximum(pixels[box], ink), True, box
    return pixels, boxes


made = [picture() for _ in range(TRAINING + PICTURES)]
x = np.stack([pixels for pixels, _ in made])[..., None].astype(np.float32) / 255
shown = np.array([[kind in boxes for kind in range(10)] for _, boxes in made])

# %% [markdown]
# ## The network
#
# LeNet-5, which comes with the toolbox, reads single digits of 28×28 pixels. We turn its dense layers into convolutions, so
# that they look at every place of a larger picture. The average over all places goes into one new dense layer with one output
# for each digit: *is this digit there?* This layer is Fisher's linear discriminant, computed from a thousand pictures.

# %%
lenet = load("lenet5-mnist").net
eyes = Sequential(
    [
        *((name, lenet[name]) for name in ("conv1", "relu1", "pool1", "conv2", "relu2", "pool2")),
        ("conv3", Conv(lenet["fc1"].w.reshape(5, 5, 16, 120), lenet["fc1"].b)),
        ("relu3", ReLU()),
        ("conv4", Conv(lenet["fc2"].w.reshape(1, 1, 120, 84), lenet["fc2"].b)),
        ("relu4", ReLU()),
    ]
)
places = eyes.output_shape((SIZE, SIZE, 1))[:2]
body = Sequential([*eyes.items(), ("pool", AvgPool(places)), ("flatten", Flatten())])
h = body(x[:TRAINING]).astype(np.float64)

w, b = np.empty((h.shape[1], 10)), np.empty(10)
for kind in range(10):
    yes, no = h[shown[:TRAINING, kind]], h[~shown[:TRAINING, kind]]
    spread = np.cov(np.concatenate([yes - yes.mean(axis=0), no - no.mean(axis=0)]).T)
    spread += 1e-4 * np.trace(spread) / len(spread) * np.eye(len(spread))  # some features are always 0
    w[:, kind] = np.linalg.solve(spread, yes.mean(axis=0) - no.mean(axis=0))
    b[kind] = -w[:, kind] @ (yes.mean(axis=0) + no.mean(axis=0)) / 2
net = Sequential([*body.items(), ("fc", Linear(w.astype(np.float32), b.astype(np.float32)))])

x, shown, boxes = x[TRAINING:], shown[TRAINING:], [boxes for _, boxes in made[TRAINING:]]
said = net(x) > 0
print(f"a digit that is there is seen {said[shown].mean():.0%} of the time, one that is not {said[~shown].mean():.0%}")
assert said[shown].mean() > 2 * said[~shown].mean()

# %% [markdown]
# ## The measurement
#
# For every picture we explain the digits that it shows; all its targets share one forward pass. If the network does not see a
# digit, its logit is below 0, and the map explains why not. So we measure only the digits that the network sees.

# %%
METHODS = {
    "LRP_z": Z(),
    "LRP_αβ (α=2)": AlphaBeta(2),
    "LRP_αβ (α=1)": AlphaBeta(1),
    "LRP_CMP:α1": lrp_cmp(alpha=1, flat=0),
    "LRP_CMP:α1+♭": lrp_cmp(alpha=1, flat=1),
    "LRP_CMP:α2": lrp_cmp(alpha=2, flat=0),
    "LRP_CMP:α2+♭": lrp_cmp(alpha=2, flat=1),
}
targets = [list(on_it) for on_it in boxes]
masks = np.zeros((PICTURES, DIGITS, SIZE, SIZE), bool)
for row, on_it in enumerate(boxes):
    for column, box in enumerate(on_it.values()):
        masks[(row, column, *box)] = True
seen = np.take_along_axis(said, np.array(targets), axis=1)  # (picture, digit)
image = np.nonzero(seen)[0]  # the picture of each measurement

maps = {name: explain(net, x, targets, composite).R for name, composite in METHODS.items()}
own = {name: localisation(R[seen], masks[seen]) for name, R in maps.items()} | {"even": uniform(masks[seen])}

print(f"{seen.sum()} measurements on {PICTURES} pictures\n")
print(f"{'':<14}{'μ_w':>24}{'median of μ_w':>24}{'μ':>24}")
for name, found in own.items():
    s = summarise(found, image)
    print(f"{name:<14}{s.mu_w!s:>24}{s.median_mu_w!s:>24}{s.mu!s:>24}")

# %% [markdown]
# The brackets are 95 % intervals, from 2,000 resamples of the pictures. Measurements on the same picture are not independent,
# so they are resampled together. Two intervals that overlap do not mean that two methods are equally good, because both were
# measured on the same pictures. Look at the differences, pair by pair:

# %%
BEST = "LRP_CMP:α1"
for name in METHODS:
    assert summarise(own[name], image).mu_w.low > 1, name  # all are better than an even map
    if name != BEST:
        difference = summarise(own[BEST], image, minus=own[name]).mu_w
        print(f"{BEST} − {name:<14} {difference!s:>22}")
        assert difference.low > 0, name

# %% [markdown]
# ## What μ sees
#
# One of the pictures with the box of each digit, and the maps of the rules. It is neither the best picture nor the worst, but
# the median one.

# %%
SHOWN = ["LRP_z", "LRP_αβ (α=2)", "LRP_αβ (α=1)", "LRP_CMP:α1", "LRP_CMP:α2+♭"]
whole = np.flatnonzero(seen.all(axis=1))  # pictures of which the network sees all digits
of_each = localisation(maps[BEST][whole], masks[whole]).mu.mean(axis=1)
row = int(whole[np.argsort(of_each)[len(whole) // 2]])
ink = np.repeat(255 - made[TRAINING + row][0][..., None], 3, axis=-1)  # dark on white

figure, axes = plt.subplots(DIGITS, 1 + len(SHOWN), figsize=(11, 5.8), layout="constrained")
for column, (kind, (rows, columns)) in enumerate(boxes[row].items()):
    axes[column, 0].imshow(ink)
    axes[column, 0].set_ylabel(f"“{kind}”", fontsize=11)
    for panel, name in zip(axes[column, 1:], SHOWN, strict=True):
        R = maps[name][row, column]
        panel.imshow(overlay(R, ink, quantile=0.999))
        panel.set_xlabel(f"μ = {localisation(R, masks[row, column]).mu:.2f}", fontsize=9)
    corner = columns.start - 0.5, rows.start - 0.5
    for panel in axes[column]:
        panel.add_patch(plt.Rectangle(corner, columns.stop - columns.start, rows.stop - rows.start, fill=False))
        panel.set(xticks=[], yticks=[])
for panel, name in zip(axes[0, 1:], SHOWN, strict=True):
    panel.set_title(name, fontsize=10)
figure.savefig("digits.png", dpi=110)

# %% [markdown]
# Where is the positive relevance that is not on the digit? This distinguishes two failures that look the same to μ: a map may
# point at *other* digits, or at no digit at all. And a large box is easier to hit than a small one; this is why there is
# $\mu_w$.

# %%
others = masks.any(axis=1, keepdims=True) & ~masks
elsewhere = {name: localisation(R[seen], others[seen]).mu.mean() for name, R in maps.items()}
elsewhere["even"] = uniform(others[seen]).mu.mean()
balance = {name: float((R[..., 0] * others)[seen].sum() / abs(R[seen]).sum()) for name, R in maps.items()}

figure, (left, right) = plt.subplots(1, 2, figsize=(10.6, 3.8), layout="constrained")
for k, name in enumerate(own):
    mu = own[name].mu.mean()
    shares = {"on the digit": mu, "on the others": elsewhere[name], "on the ground": 1 - mu - elsewhere[name]}
    start = 0.0
    for (label, share), colour in zip(shares.items(), ("#c0392b", "#34495e", "#bdc3c7"), strict=True):
        left.barh(k, share, left=start, color=colour, label=label if k == 0 else None)
        start += share
left.set_yticks(range(len(own)), own)
left.invert_yaxis()
left.set(xlabel="positive relevance", xlim=(0, 1))
left.legend(frameon=False, ncols=3, fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1))
share = own["even"].mu  # of the picture that the box covers
fifths = np.array_split(np.argsort(share), 5)
for name in (*SHOWN, "even"):
    style = {"color": "black", "linestyle": ":"} if name == "even" else {"marker": "o", "markersize": 4}
    right.plot([share[fifth].mean() for fifth in fifths], [own[name].mu[fifth].mean() for fifth in fifths], label=name, **style)
right.set(xlabel="share of the picture in the box (in fifths)", ylabel="μ", ylim=(0, 1))
right.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
for panel in (left, right):
    panel.spines[["top", "right"]].set_visible(False)
figure.savefig("where_relevance_lies.png", dpi=120)

print(f"{'positive relevance':<20}{'on the digit':>14}{'on the others':>15}     sum of R on the others, over Σ|R|")
for name in maps:
    print(f"{name:<20}{own[name].mu.mean():14.2f}{elsewhere[name]:15.2f}{balance[name]:15.2f}")

# %% [markdown]
# LRP_αβ (α=1) finds *digits*, the other ones as well as the one that we explain: in the dense layer at the top it passes on all
# positive contributions, and some of them come from other digits. LRP_z puts almost as much on the other digits, but positive
# and negative side by side, so that the sum is about 0. μ looks at the positive part only and counts this noise as relevance.
# The composite, with ε at the top and αβ below, does neither.
#
# This is the order of the paper's Table I for PASCAL VOC: LRP_CMP, LRP_z, LRP_αβ (α=2), LRP_αβ (α=1), the even map. Here it
# holds for a network of five layers and for our own pictures. The order among the composites is different. ♭ helps LRP_CMP:α2
# and costs LRP_CMP:α1 a little, as in the paper. But here LRP_CMP:α1 is the best, and in the paper LRP_CMP:α2+♭. ♭ reaches
# beyond the stroke, and so beyond the edge of a tight box. What is best depends on what you measure: measure your own.

# %%
order = [own[name].mu_w.mean() for name in ("LRP_CMP:α1", "LRP_CMP:α2+♭", "LRP_z", "LRP_αβ (α=2)", "LRP_αβ (α=1)", "even")]
assert order == sorted(order, reverse=True)
assert own["LRP_CMP:α2+♭"].mu_w.mean() > own["LRP_CMP:α2"].mu_w.mean()
assert own["LRP_CMP:α1+♭"].mu_w.mean() < own["LRP_CMP:α1"].mu_w.mean()
assert elsewhere["LRP_αβ (α=1)"] > 2 * elsewhere["LRP_CMP:α1"]
assert abs(balance["LRP_z"]) < 0.1 < balance["LRP_αβ (α=1)"]

# %% [markdown]
# ## Photographs
#
# The same with VGG-16 and PASCAL VOC is one command; you have to download PASCAL VOC yourself. It takes one or two seconds for
# each image and method. If it is stopped, it continues where it was. It prints Table I:
#
#     lrp experiment table1 --dataset voc --data VOC2007 --model vgg16-voc --out results/voc
#
# What we measured on VOC and on ImageNet is in the project's `experiments/results`.
#
# ## Try this
#
# - Measure the digits that the network does *not* see (`~seen`). How many have no positive relevance at all under LRP_αβ (α=1)?
#   Why?
# - Use one digit in each picture, `DIGITS = 1`. Which method gains most, and which failure is gone?
# - μ takes the positive part *after* the sum over channels. These pictures have one channel. Does it matter for photographs?
# - Make the boxes large enough to include strokes. If a network uses the background for its answer, is its explanation good or
#   bad?
