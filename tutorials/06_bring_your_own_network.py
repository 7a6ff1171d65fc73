# %% [markdown]
# # Bring your own network
#
# A network from elsewhere consists of a description of its layers and of numbers. You need neither Caffe nor Keras to read
# them. But you need care: frameworks store the same numbers in different orders. A network that is read in the wrong order
# gives no error. It gives an answer and an explanation, and both are wrong.
#
# So there is one test for every import, and it comes before any heatmap: **does the network give the same numbers?**
#
# You need two libraries that read files: `pip install "lrp_toolbox[caffe,keras]"`.

# %%
import json
import shlex
from pathlib import Path

import h5py
import matplotlib.pyplot as plt
import numpy as np

from lrp_toolbox import ModelFormatError, explain, load, read_photo
from lrp_toolbox.cli import main
from lrp_toolbox.importers.caffe import read_caffe
from lrp_toolbox.importers.caffe.schema import BlobProto, NetParameter
from lrp_toolbox.importers.keras import read_keras
from lrp_toolbox.render import overlay

# %% [markdown]
# To have something to import, we play the part of the frameworks: we write LeNet-5, which comes with the toolbox, as Caffe
# would and as Keras would. Both files have to give the same logits as the original.

# %%
lenet = load("lenet5-mnist")
photo = read_photo(lenet.example)
logits = lenet.net(lenet.prepare(photo))
w, b = ({name: getattr(lenet.net[name], part) for name in ("conv1", "conv2", "fc1", "fc2", "fc3")} for part in "wb")
print({name: a.shape for name, a in w.items()})

# %% [markdown]
# ## Caffe: a `.prototxt` and a `.caffemodel`
#
# The description is text.

# %%
PROTOTXT = """\
name: "digits"
layer { name: "data"  type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 28 dim: 28 } } }
layer { name: "conv1" type: "Convolution"  bottom: "data"  top: "conv1" convolution_param { num_output: 6 kernel_size: 5 pad: 2 } }
layer { name: "relu1" type: "ReLU"         bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling"      bottom: "conv1" top: "pool1" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "conv2" type: "Convolution"  bottom: "pool1" top: "conv2" convolution_param { num_output: 16 kernel_size: 5 } }
layer { name: "relu2" type: "ReLU"         bottom: "conv2" top: "conv2" }
layer { name: "pool2" type: "Pooling"      bottom: "conv2" top: "pool2" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "fc1"   type: "InnerProduct" bottom: "pool2" top: "fc1"   inner_product_param { num_output: 120 } }
layer { name: "relu3" type: "ReLU"         bottom: "fc1"   top: "fc1" }
layer { name: "fc2"   type: "InnerProduct" bottom: "fc1"   top: "fc2"   inner_product_param { num_output: 84 } }
layer { name: "relu4" type: "ReLU"         bottom: "fc2"   top: "fc2" }
layer { name: "fc3"   type: "InnerProduct" bottom: "fc2"   top: "fc3"   inner_product_param { num_output: 10 } }
layer { name: "prob"  type: "Softmax"      bottom: "fc3"   top: "prob" }
"""
Path("digits.prototxt").write_text(PROTOTXT)

# %% [markdown]
# The numbers are stored as a protobuf. Here is the first trap. Our kernels are (height, width, in, out); Caffe's are (out, in,
# height, width). Our dense weights are (in, out), Caffe's (out, in). There is a second trap: `fc1` reads a map of 5×5 places
# and 16 channels as one row. Caffe's row begins with all places of the first channel; ours begins with all channels of the
# first place.


# %%
def caffe_kernel(w):
    return w.transpose(3, 2, 0, 1)  # height, width, in, out → out, in, height, width


def write_caffe(file, fc1):
    arrays = {
        "conv1": caffe_kernel(w["conv1"]),
        "conv2": caffe_kernel(w["conv2"]),
        "fc1": fc1,
        "fc2": w["fc2"].T,
        "fc3": w["fc3"].T,
    }
    net = NetParameter(name="digits")
    for name, weights in arrays.items():
        layer = net.layer.add(name=name)
        for a in (weights, b[name]):
            blob = BlobProto(data=a.astype("<f4").tobytes())
            blob.shape.dim.extend(a.shape)
            layer.blobs.append(blob.SerializeToString())
    Path(file).write_bytes(net.SerializeToString())


write_caffe("digits.caffemodel", fc1=caffe_kernel(w["fc1"].reshape(5, 5, 16, 120)).reshape(120, 400))

# %% [markdown]
# Now we read it. The file does not say how pixels become numbers: in Caffe, this was done outside of the network. So we give it
# as an argument. The softmax at the end is left off, because we explain logits and not probabilities.

# %%
caffe = read_caffe("digits.prototxt", "digits.caffemodel", std=255)
print(f"{'original':<10}", logits.round(3))
print(f"{'Caffe':<10}", caffe.net(caffe.prepare(photo)).round(3))
np.testing.assert_allclose(caffe.net(caffe.prepare(photo)), logits, rtol=1e-4, atol=1e-4)

# %% [markdown]
# ## Keras: an `.h5`
#
# One file holds both; the description is JSON. Keras has the same layout as we have: (height, width, in, out), and maps as
# (height, width, channel). This network prepares its pixels by itself, in a `Rescaling` layer at its beginning.

# %%
LAYERS = [
    ("InputLayer", {"name": "pixels", "batch_input_shape": [None, 28, 28, 1]}),
    ("Rescaling", {"name": "rescaling", "scale": 1 / 255, "offset": 0.0}),
    ("Conv2D", {"name": "conv1", "filters": 6, "kernel_size": [5, 5], "padding": "same", "activation": "relu"}),
    ("MaxPooling2D", {"name": "pool1", "pool_size": [2, 2]}),
    ("Conv2D", {"name": "conv2", "filters": 16, "kernel_size": [5, 5], "activation": "relu"}),
    ("MaxPooling2D", {"name": "pool2", "pool_size": [2, 2]}),
    ("Flatten", {"name": "flatten"}),
    ("Dense", {"name": "fc1", "units": 120, "activation": "relu"}),
    ("Dense", {"name": "fc2", "units": 84, "activation": "relu"}),
    ("Dense", {"name": "fc3", "units": 10, "activation": "softmax"}),
]
described = [{"class_name": kind, "config": config} for kind, config in LAYERS]
with h5py.File("digits.h5", "w") as file:
    file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"name": "digits", "layers": described}})
    stored = file.create_group("model_weights")
    stored.attrs.update(keras_version="2.15.0", backend="tensorflow", layer_names=[config["name"] for _, config in LAYERS])
    for _, config in LAYERS:
        name = config["name"]
        arrays = {f"{name}/kernel:0": w[name], f"{name}/bias:0": b[name]} if name in w else {}
        group = stored.create_group(name)
        group.attrs["weight_names"] = list(arrays)
        for key, a in arrays.items():
            group[key] = a

keras = read_keras("digits.h5")
print(keras.summary)
print("preparation:", keras.preprocessing)
np.testing.assert_allclose(keras.net(keras.prepare(photo)), logits, rtol=1e-4, atol=1e-4)

# %% [markdown]
# The `Rescaling` became part of the preprocessing. So the relevance is that of the input of the first convolution.
#
# ## What a wrong import looks like
#
# Two mistakes that everybody makes once. First, the rows of `fc1` in the wrong order: nothing is missing, all shapes fit, there
# is no error. Second, the division is forgotten: pixels go up to 255 instead of 1.

# %%
write_caffe("wrong_order.caffemodel", fc1=w["fc1"].T)
models = {
    "original": lenet,
    "Caffe": caffe,
    "Keras": keras,
    "fc1 in the wrong order": read_caffe("digits.prototxt", "wrong_order.caffemodel", std=255),
    "division forgotten": read_caffe("digits.prototxt", "digits.caffemodel"),
}
figure, axes = plt.subplots(1, len(models), figsize=(11, 2.7), layout="constrained")
found = {}
for panel, (name, model) in zip(axes, models.items(), strict=True):
    e = found[name] = explain(model, model.prepare(photo))
    print(f"{name:<24} says {e.labels}, with a logit of {e.y.max():9.3f}; largest difference {abs(e.y - logits).max():.1e}")
    panel.imshow(overlay(e.R, photo))
    panel.set_title(f"{name}\n“{e.labels}”, {e.y.max():.2f}", fontsize=9)
    panel.set(xticks=[], yticks=[])
figure.savefig("right_and_wrong.png", dpi=120)

# %% [markdown]
# Nothing here looks like an error. Both wrong networks say 2, as they should, and both have a heatmap. The network in the wrong
# order explains weights that nobody trained. The one without the division draws almost the right picture, but its logits are far
# too large. You cannot see the mistakes in the class or in the heatmap. You see both at once in the logits.

# %%
R = found["original"].R
for name in ("Caffe", "Keras"):
    np.testing.assert_allclose(found[name].R, R, atol=1e-4 * abs(R).max())
for name in ("fc1 in the wrong order", "division forgotten"):
    assert found[name].labels == found["original"].labels
    assert abs(found[name].y - logits).max() > 0.5 * abs(logits).max()

# %% [markdown]
# The importer checks what it can. Its errors name the file, the layer, what was expected and what was found.

# %%
Path("broken.prototxt").write_text(PROTOTXT.replace("num_output: 84", "num_output: 100"))
try:
    read_caffe("broken.prototxt", "digits.caffemodel")
except ModelFormatError as error:
    print(error)
else:
    raise AssertionError("a file that contradicts itself was read")

# %% [markdown]
# ## The same on the command line
#
# `lrp import` writes a folder: `model.json`, `weights.npz`, and a model card in which you say where the network comes from. All
# other commands can use this folder like any model. (`main` is the command `lrp`, without a shell.)


# %%
def lrp(command):
    print(f"\n$ lrp {command}")
    assert main(shlex.split(command)) == 0


lrp("import caffe digits.prototxt digits.caffemodel --std 255 -o models/digits-caffe")
lrp("import keras digits.h5 -o models/digits-keras")
lrp("inspect models/digits-keras")
lrp(f"explain {shlex.quote(str(lenet.example))} --model models/digits-caffe --target 2 --target 3 -o digit-caffe.png")

# %% [markdown]
# ## Try this
#
# - Import a network of yours: `model.save("mine.keras")` in Keras 3, or `mine.h5` in Keras 2. Keep one input and its logits, to
#   compare.
# - Photographs in colour: Caffe's networks want BGR minus a mean. Which of the mistakes above is similar to a wrong order of
#   colours?
# - Put a `Lambda` layer into the description. What does the importer say, and why does it refuse?
