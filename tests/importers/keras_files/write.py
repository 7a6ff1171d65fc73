"""Small nets of every layer that the importer knows, written by the real Keras, version 2 or 3, whichever is installed.

    python write.py FOLDER [NET …]      writes NET.h5, NET.keras, NET.weights.h5, NET.json, NET.old.h5 and NET.npz for each
    python write.py FOLDER vgg16        writes the same of VGG-16 in full size, vgg16.old.h5 in the layout that
                                        keras-applications had in 2016

NET.npz holds x, pixels; y, what Keras makes of them; and logits, the same without the activation at the end. NET.old.h5 are
weights alone, a group for each layer. The files beside this script are Keras 2.15's.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "numpy")

import h5py
import keras
import numpy as np
from keras import layers as L

KERAS_2 = keras.__version__.startswith("2.")


def convolutions():
    """Strides that do not fit, "same" with the odd zero on one side, dilation, groups, no bias."""
    return [
        L.Input((11, 14, 3)),
        L.Conv2D(4, (3, 2), strides=(2, 3), padding="same", activation="relu", name="same"),
        L.Conv2D(6, 2, dilation_rate=2, padding="same", use_bias=False, name="dilated"),
        L.Conv2D(4, (2, 1), groups=2, activation="tanh", name="grouped"),
        L.Flatten(),
        L.Dense(5, name="logits"),
    ]


def separable():
    return [
        L.Input((9, 8, 3)),
        L.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2, activation="relu"),
        L.SeparableConv2D(4, (2, 3), padding="same", depth_multiplier=2, activation="relu6"),
        L.SeparableConv2D(3, 2, use_bias=False),
        L.DepthwiseConv2D(2, use_bias=False, activation="sigmoid"),
        L.Flatten(),
        L.Dense(4, activation="softmax"),
    ]


def pooling():
    return [
        L.Input((13, 12, 3)),
        L.Conv2D(4, 3),
        L.MaxPooling2D((3, 2), strides=(2, 1), padding="same"),
        L.AveragePooling2D(3, strides=2, padding="same"),
        L.AveragePooling2D(2, strides=1),
        L.GlobalAveragePooling2D(keepdims=True),
        L.Conv2D(4, 1, activation="softmax"),
        L.Flatten(),
    ]


def global_max():
    return [L.Input((6, 7, 3)), L.Conv2D(5, 3, name="c"), L.MaxPooling2D(), L.GlobalMaxPooling2D(), L.Dense(1, "sigmoid")]


def activations():
    return [
        L.Input((6, 6, 3)),
        L.Conv2D(4, 2),
        L.ReLU(max_value=0.5),
        L.Conv2D(4, 2),
        L.ReLU(negative_slope=0.25),
        L.LeakyReLU(),
        L.PReLU(),
        L.Conv2D(4, 2),
        L.PReLU(shared_axes=[1, 2]),
        L.Flatten(),
        L.Dense(6),
        L.PReLU(),
        L.Dense(6, activation=L.LeakyReLU(0.125)),
        L.Dense(6),
        L.Activation("tanh"),
        L.Dense(4, activation="sigmoid"),
        L.Dense(4),
        L.Softmax(),
    ]


def normalised():
    """Batch normalisation in all its forms, beside and away from what it can be merged into."""
    return [
        L.Input((7, 7, 3)),
        L.BatchNormalization(),
        L.Conv2D(4, 3, padding="same"),
        L.BatchNormalization(scale=False, epsilon=0.5),
        L.ReLU(),
        L.BatchNormalization(center=False),
        L.Conv2D(3, 2),
        L.BatchNormalization(scale=False, center=False, trainable=False),
        L.GaussianNoise(0.1),
        L.SpatialDropout2D(0.1),
        L.Flatten(),
        L.Dropout(0.25),
        L.Dense(4),
        L.BatchNormalization(),
        L.Activation("softmax"),
    ]


def padded():
    """Zeros that become a convolution's or a pooling's own padding, and zeros that cannot."""
    x = inputs = L.Input((6, 5, 3))
    x = L.ZeroPadding2D(((1, 0), (2, 3)), name="folded")(x)
    x = L.ZeroPadding2D(1, name="folded_too")(x)
    x = L.Conv2D(4, 3, strides=2, padding="same", name="c1")(x)
    x = L.ZeroPadding2D((1, 0), name="kept")(x)  # maxima of negative numbers are zeros of the edge
    x = L.MaxPooling2D(2, strides=1)(x)
    x = L.ReLU()(x)
    x = L.ZeroPadding2D(((1, 0), (0, 1)), name="folded_as_nonneg")(x)
    x = L.MaxPooling2D(2, strides=1)(x)
    x = L.ZeroPadding2D(1, name="folded_as_counted")(x)
    x = L.AveragePooling2D(3)(x)
    y = L.ZeroPadding2D(1, name="kept_beside")(x)
    z = L.Conv2D(4, 3, name="c2")(L.ZeroPadding2D(2)(x))
    return inputs, L.Dense(3)(L.Flatten()(L.Add()([y, z])))


def branches():
    """Residual, dense and inception-like joins; a layer that is called twice."""
    inputs = L.Input((8, 8, 3))
    same = L.Conv2D(4, 3, padding="same", activation="relu", name="shared")
    x = L.Conv2D(4, 1, name="stem")(inputs)
    x = L.Add(name="residual")([same(same(x)), x, L.Conv2D(4, 1, name="third")(inputs)])
    y = L.Concatenate(name="mixed")([x, L.MaxPooling2D(3, strides=1, padding="same")(x), L.Conv2D(2, 1, name="five")(x)])
    y = L.Concatenate(name="denser")([y, L.Conv2D(3, 3, padding="same", name="six")(y)])
    y = L.GlobalAveragePooling2D()(y)
    return inputs, L.Dense(4, activation="softmax")(L.Concatenate(axis=1)([y, L.Dense(3, activation="relu", name="seven")(y)]))


def operators():
    """A residual connection that is written x + y."""
    x = inputs = L.Input((5, 5, 3))
    x = L.Conv2D(4, 3, name="first")(x)
    return inputs, L.Dense(3)(L.Flatten()(x + L.Conv2D(4, 3, padding="same", activation="relu", name="second")(x)))


def gated():
    """Squeeze and excite, and activations other than ReLU."""
    inputs = L.Input((6, 5, 3))
    x = L.Conv2D(4, 3, padding="same", activation="swish", name="signal")(inputs)
    y = L.GlobalAveragePooling2D(name="squeeze")(x)
    y = L.Reshape((1, 1, 4), name="as_map")(y)
    y = L.Conv2D(2, 1, activation="elu", name="reduce")(y)
    y = L.Conv2D(4, 1, activation="sigmoid", name="expand")(y)
    x = L.Multiply(name="gate")([x, y])
    x = L.ELU(alpha=0.5)(L.Conv2D(4, 2, activation="softplus", name="soft")(x))
    return inputs, L.Dense(3, activation="softmax", name="logits")(L.Flatten()(L.Reshape((5, -1))(x)))


def mobile():
    """What MobileNetV3, NASNet and ConvNeXt of Keras 3 need beside the others."""
    inputs = L.Input((7, 6, 3))
    x = L.Conv2D(4, 2, activation="hard_silu", name="first")(inputs / 64.0 - 0.5)
    y = L.GlobalAveragePooling2D(keepdims=True)(x)
    y = L.ReLU(6.0, name="relu6")(L.Conv2D(4, 1, name="gate")(y) + 3.0) * (1.0 / 6.0)
    x = L.Multiply()([x, y])
    x = L.Cropping2D(((1, 0), (0, 1)), name="cropped")(L.ZeroPadding2D(((0, 1), (1, 0)))(x))
    x = L.Conv2D(4, 3, padding="same", activation="gelu", name="second")(L.LayerNormalization(epsilon=0.01, name="norm")(x))
    x = L.LayerNormalization(center=False, name="norm2")(2.0 * x)
    return inputs, L.Dense(3)(L.Dense(4, activation="hard_sigmoid")(L.Flatten()(x)))


def of_applications():
    """Layers that keras-applications of Keras 3 has for ConvNeXt and InceptionResNetV2 alone."""
    from keras.src.applications.convnext import LayerScale
    from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

    inputs = L.Input((5, 5, 3))
    x = L.Conv2D(4, 2, name="first")(inputs)
    x = CustomScaleLayer(0.25, name="sum")([x, LayerScale(0.5, 4, name="layer_scale")(x)])
    return inputs, L.Dense(3)(L.Flatten()(x))


def nested():
    """A frozen functional model and a Sequential within, the one called twice, as in transfer learning."""
    a = L.Input((5, 5, 3))
    b = L.BatchNormalization(name="norm")(L.Conv2D(3, 3, padding="same", name="conv")(a))
    base = keras.Model(a, L.Add(name="sum")([b, L.ReLU(name="relu")(b)]), name="base")
    base.trainable = False
    middle = [L.Input((5, 5, 3)), L.Conv2D(4, 2, name="conv"), L.BatchNormalization(), base_of_two(), L.ReLU()]
    inputs = L.Input((5, 5, 3))
    x = keras.Sequential(middle, name="middle")(base(base(inputs), training=False))
    return inputs, L.Dense(3, activation="softmax")(L.Flatten()(x))


def base_of_two():
    a = L.Input((4, 4, 4))
    return keras.Model(a, L.Conv2D(4, 2, name="deep")(a), name="inner")


def rescaled():
    """Becomes part of the preprocessing, but for the scales that differ."""
    norm = L.Normalization(name="norm")
    norm.build((None, 6, 6, 3))
    return [L.Input((6, 6, 3)), L.Rescaling(1 / 127.5, offset=-1), norm, L.Conv2D(4, 3), L.ReLU(), L.Flatten(), L.Dense(3)]


def rescaled_within():
    return [
        L.Input((6, 6, 3)),
        L.Normalization(mean=[100.0, 110.0, 120.0], variance=[2500.0, 3600.0, 4900.0]),
        L.ReLU(),
        L.Rescaling([0.5, 2.0, 1.0], offset=[0.1, 0.2, 0.3]),
        L.Normalization(axis=None, mean=0.5, variance=4.0, invert=True),
        L.ZeroPadding2D(),
        L.Conv2D(4, 3),
        L.Flatten(),
        L.Dense(3),
    ]


def grey():
    """A picture without an axis for its one channel, as tutorials on MNIST have it."""
    return [L.Input((7, 5)), L.Rescaling(1 / 255), L.Reshape((7, 5, 1)), L.Conv2D(3, 2), L.Flatten(), L.Dense(4)]


def dense():
    """Pixels in a row."""
    return [L.Input((48,)), L.Dense(6, activation="relu"), L.Dropout(0.5), L.Dense(4, activation="softmax")]


def any_size():
    """A net for pictures of any size, with a dense layer at every place."""
    return [L.Input((None, None, 3)), L.Conv2D(4, 3, strides=2, padding="same"), L.Dense(5, activation="relu"),
            L.GlobalAveragePooling2D(), L.Dense(3)]  # fmt: skip


def wide():
    """So many layers that Keras stores the list of their names in pieces."""
    many = [L.Activation("relu", name=f"an_activation_that_has_a_long_name_{'x' * 600}_{k}") for k in range(110)]
    return [L.Input((2, 2, 1)), L.Conv2D(2, 1), *many, L.Flatten(), L.Dense(2)]


NETS = [convolutions, separable, pooling, global_max, activations, normalised, padded, branches, operators, gated, mobile,
        of_applications, nested, rescaled, rescaled_within, grey, dense, any_size, wide]  # fmt: skip


def model_of(net):
    """The model, with no weight left as it was initialised."""
    made = net()
    model = keras.Sequential(made) if isinstance(made, list) else keras.Model(*made)
    rng = np.random.default_rng(len(net.__name__))
    model.set_weights([w + rng.uniform(0.05, 0.5, w.shape) * (w.dtype.kind == "f") for w in model.get_weights()])
    for layer in model.layers:
        if isinstance(layer, L.Normalization):
            layer.finalize_state()  # it computes with copies of its weights
    return model


def logits_of(model, x):
    """What comes out without a softmax or sigmoid at the end."""
    ends = [layer for layer in model.layers if layer.name.startswith("softmax") or hasattr(layer, "activation")][-1:]
    for end in ends:
        if isinstance(end, L.Softmax):
            return np.asarray(keras.Model(model.inputs, end.input)(x))
        if end.activation in (keras.activations.softmax, keras.activations.sigmoid):
            kept, end.activation = end.activation, keras.activations.linear
            y = keras.Model(model.inputs, model.outputs)(x)
            end.activation = kept
            return np.asarray(y)
    return np.asarray(model(x))


def write_old(model, file):
    """Weights alone, a group for each layer, as Keras wrote them up to version 2."""
    if KERAS_2:
        from keras.src.saving.legacy.hdf5_format import save_weights_to_hdf5_group
    else:
        from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group
    with h5py.File(file, "w") as opened:
        save_weights_to_hdf5_group(opened, model)


def vgg16(folder):
    """VGG-16 with random weights, layer by layer: `keras.applications` takes 20 s to initialise it."""
    rng = np.random.default_rng(0)

    def spread(shape, dtype=None):
        fan_in = int(np.prod(shape[:-1]))
        return (rng.random(shape, dtype="float32") - 0.5) * np.float32((24 / fan_in) ** 0.5)

    made = [L.Input((224, 224, 3))]
    for block, count in enumerate((2, 2, 3, 3, 3), 1):
        for k in range(1, count + 1):
            shape = {"filters": 64 * min(2 ** (block - 1), 8), "kernel_size": 3, "padding": "same", "activation": "relu"}
            made.append(L.Conv2D(**shape, kernel_initializer=spread, name=f"block{block}_conv{k}"))
        made.append(L.MaxPooling2D(2, strides=2, name=f"block{block}_pool"))
    made.append(L.Flatten(name="flatten"))
    for name, units, activation in (("fc1", 4096, "relu"), ("fc2", 4096, "relu"), ("predictions", 1000, "linear")):
        made.append(L.Dense(units, activation=activation, kernel_initializer=spread, name=name))
    model = keras.Sequential(made)
    x = rng.integers(0, 256, (1, 224, 224, 3)).astype("float32")  # RGB
    np.savez(folder / "vgg16.npz", x=x, logits=np.asarray(model(x[..., ::-1] - np.float32([103.939, 116.779, 123.68]))))
    for ending in (".h5", ".keras"):
        model.save(folder / f"vgg16{ending}")
    model.save_weights(folder / "vgg16.weights.h5")
    (folder / "vgg16.json").write_text(model.to_json())
    with h5py.File(folder / "vgg16.old.h5", "w") as opened:
        opened.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = opened.create_group(layer.name)
            names = [f"{layer.name}_{part}_1:0" for part in "Wb"[: len(layer.weights)]]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, weight in zip(names, layer.get_weights(), strict=True):
                group.create_dataset(name, data=weight)


def main(folder, names):
    if names == ["vgg16"]:
        vgg16(folder)
        return
    for net in NETS:
        name = net.__name__
        if (names and name not in names) or (KERAS_2 and net in (mobile, of_applications)):
            continue
        model = model_of(net)
        shape = [n or 7 for n in model.input_shape[1:]]
        x = np.random.default_rng(0).integers(0, 256, (2, *shape)).astype("float32")
        y = np.asarray(model(x))
        logits = logits_of(model, x)
        np.savez(folder / f"{name}.npz", x=x, y=y, logits=logits)
        model.save(folder / f"{name}.h5")
        model.save(folder / f"{name}.keras")
        model.save_weights(folder / f"{name}.weights.h5")
        write_old(model, folder / f"{name}.old.h5")
        (folder / f"{name}.json").write_text(model.to_json())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
