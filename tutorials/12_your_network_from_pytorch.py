# %% [markdown]
# # Your network from PyTorch
#
# ONNX is a file format for networks. PyTorch, Keras, JAX and scikit-learn export to it. This toolbox reads such a file without the framework
# that wrote it, and explains the network. In PyTorch the export is one line:
#
#     torch.onnx.export(net.eval(), example, "digits-resnet.onnx", input_names=["image"], output_names=["logits"], dynamo=False)
#
# The file that we use here comes with this tutorial. PyTorch wrote it, and `data_scripts/train_digits_resnet.py` is the script that trained
# and exported the network. It reads digits, and it has what networks of today have: residual sums, depthwise convolutions, batch normalisation,
# and gates that scale the channels (squeeze and excite).

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import lrp_toolbox
from lrp_toolbox import AlphaBeta, Epsilon, Gamma, Graph, Z, explain, fuse, lrp_cmp, uniform
from lrp_toolbox.importers.onnx import read_net, read_onnx
from lrp_toolbox.render import montage, save_picture

ROOT = Path(lrp_toolbox.__file__).resolve().parent.parent
FILES = ROOT / "tutorials" / "files"
model = read_onnx(FILES / "digits-resnet.onnx", mean=[0.0], std=[1.0], pixels=1, labels=list("0123456789"))
print(model.summary)
print(model.net)

# %% [markdown]
# ## Is it the same function?
#
# This is the first question after an import. The file `digit.npz` has a digit, and the logits that PyTorch computed for it.

# %%
stored = np.load(FILES / "digit.npz")
digit = stored["digit"][..., None].repeat(3, axis=-1)  # a grey picture
x = model.prepare(digit)
logits = model.net(x)
print("PyTorch:", np.round(stored["logits"], 4))
print("here:   ", np.round(logits, 4))
assert abs(logits - stored["logits"]).max() < 1e-5 * abs(stored["logits"]).max()

# %% [markdown]
# ## A graph, and what happens in it
#
# A residual network is not a chain: the value before a block is read twice, by the block and by the sum after it. So the net is a `Graph`.
# Each value is computed once. On the way back, the relevance of a value is the sum of what its readers send back.

# %%
net = fuse(model.net)  # batch normalisation becomes part of the convolution before it, as in `explain`
assert isinstance(net, Graph)
for node in net.nodes[:12]:
    print(f"{node.name:<26} {type(node.module).__name__:<16} reads {', '.join(node.reads)}")

# %% [markdown]
# ## Explain it
#
# LRP_CMP gives ε to the dense layers, αβ to the convolutions, and ♭ to the first one. The residual sums follow ε here: each branch gets relevance
# in proportion to what it contributed. A gate is a number that says how much of a signal goes on. The signal gets all of the
# relevance of the product, and the gate gets none.

# %%
composites = {
    "LRP_z": uniform(Z()),
    "LRP_ε": uniform(Epsilon(1e-2)),
    "LRP_γ": uniform(Gamma(0.25)),
    "LRP_αβ (α=1)": uniform(AlphaBeta(1)),
    "LRP_CMP:α2+♭": lrp_cmp(alpha=2, flat=1),
}
classes = np.argsort(-logits)[:2].tolist()
found = {name: explain(model, x, classes, composite) for name, composite in composites.items()}
figure = montage(
    model.preprocessing.view(digit),
    [[e.R[row] for e in found.values()] for row in range(2)],
    rows=[f"{model.classes[k]} ({logits[k]:.1f})" for k in classes],
    columns=list(found),
)
save_picture(figure, "digits_resnet.png")
figure

# %% [markdown]
# z and ε give noise even on this small net; γ and αβ give strokes; LRP_CMP shows which strokes speak for the 5, and which for the 8. ♭ in the
# first layer spreads relevance over 3 × 3 pixels, so that there is some beside the strokes, too.
#
# The ledger says where the relevance of every layer went. It closes for each node of the graph. The gates get no relevance.

# %%
ledger = found["LRP_CMP:α2+♭"].ledger[0]
print(ledger)
assert abs(float(ledger.rounding)) < 1e-4 * abs(float(ledger.start))

# %% [markdown]
# How much relevance goes through the block, and how much takes the shortcut? Both arrive at the sum; the relevance of its inputs tells.

# %%
e = explain(model, x, classes[0], lrp_cmp(alpha=2, flat=1), keep=["*"])
sums = [node for node in net.nodes if type(node.module).__name__ == "Sum"]
share = {}
for node in sums:
    trace = next(t for name, _, t in net.walk_trace(net.trace(x)) if name == node.name)
    parts = node.module.relprop(trace, e.layers[node.name], e.rules[node.name])
    share[node.name] = {value: float(part.sum()) for value, part in zip(node.reads, parts, strict=True)}
    print(node.name, {value: round(amount, 2) for value, amount in share[node.name].items()})

figure, axes = plt.subplots(figsize=(6, 2.4), layout="constrained")
for k, (first, second) in enumerate(amounts.values() for amounts in share.values()):
    axes.barh(k, first, color="C0", label="shortcut" if k == 0 else None)
    axes.barh(k, second, left=first if first * second > 0 else 0, color="C1", label="block" if k == 0 else None)
axes.set_yticks(range(len(share)), [f"block {k + 1}" for k in range(len(share))])
axes.axvline(0, color="black", linewidth=0.8)
axes.set(xlabel="relevance")
axes.legend(frameon=False)
axes.spines[["top", "right"]].set_visible(False)
figure.savefig("shortcuts.png", dpi=120)

# %% [markdown]
# In this net most of the relevance goes through the blocks. In a net whose blocks contribute little, the shortcuts would have it.

# %% [markdown]
# ## On the command line
#
#     lrp import onnx tutorials/files/digits-resnet.onnx -o models/digits --mean 0 --std 1 --pixels 1
#     lrp inspect models/digits
#     lrp explain models/lenet5-mnist/example.png --model models/digits --ledger
#
# ## What cannot be read
#
# A file can hold operators that this toolbox has no layer for, such as the products of attention. Then the error names all of them at once. A
# net whose inputs are not photographs is read by `read_net`, with inputs of any shape.

# %%
found = read_net(FILES / "digits-resnet.onnx")
print("input", found.shape, "output", found.output_shape, "written by", found.producer)

# %% [markdown]
# ## Try this
#
# - Export a network of your own, and compare its logits first.
# - `lrp_cmp(dense="classifier*")`: which layers are dense here? (Print `e.rules`.)
# - Set `flat=3`. Which layers are the first three, in a net with branches?
# - Export the same network with the softmax at its end. What does the importer say?
