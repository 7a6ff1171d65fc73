"""Caffe's files, written a second time: field numbers as in caffe.proto (BVLC/caffe), byte by byte."""

import numpy as np


def varint(n):
    n, out = n % 2**64, bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])


def field(number, value):
    """A field of a message, in pieces: a number, a string, or a message in pieces itself."""
    if isinstance(value, int):
        return [varint(number << 3), varint(value)]
    pieces = [value.encode()] if isinstance(value, str) else value
    return [varint(number << 3 | 2), varint(sum(memoryview(piece).nbytes for piece in pieces)), *pieces]


def blob(a, old=False, double=False):
    """A BlobProto, with a shape, or with the four axes of before 2014."""
    four = enumerate((1,) * (4 - a.ndim) + a.shape, 1)
    sizes = [piece for k, n in four for piece in field(k, n)] if old else field(7, field(1, [varint(n) for n in a.shape]))
    numbers = np.ascontiguousarray(a, "<f8" if double else "<f4")
    return sizes + field(8 if double else 5, [memoryview(numbers.reshape(-1))])


def layer(name, arrays, old=False, double=False):
    """A layer of a NetParameter: LayerParameter, or V1LayerParameter."""
    blobs = [piece for a in arrays for piece in field(6 if old else 7, blob(a, old, double))]
    return field(2 if old else 100, field(4 if old else 1, name) + blobs)


def write_weights(path, weights, old=False, double=False):
    """A .caffemodel: `weights` has (name, arrays) of each layer."""
    with path.open("wb") as file:
        file.writelines(field(1, "net"))
        for name, arrays in weights:
            file.writelines(layer(name, arrays, old, double))
    return path


OLD_TYPES = {
    "Convolution": "CONVOLUTION", "InnerProduct": "INNER_PRODUCT", "Pooling": "POOLING", "ReLU": "RELU", "TanH": "TANH",
    "Sigmoid": "SIGMOID", "LRN": "LRN", "Dropout": "DROPOUT", "Concat": "CONCAT", "Eltwise": "ELTWISE", "Flatten": "FLATTEN",
    "Softmax": "SOFTMAX", "Split": "SPLIT", "Data": "DATA", "Accuracy": "ACCURACY", "SoftmaxWithLoss": "SOFTMAX_LOSS",
}  # fmt: skip


def text(kind, name, bottom, top, parameters="", old=False):
    """A layer of a description."""
    blobs = "".join(f' bottom: "{b}"' for b in bottom) + "".join(f' top: "{t}"' for t in top)
    kind = OLD_TYPES[kind] if old else f'"{kind}"'
    return f'{"layers" if old else "layer"} {{ name: "{name}" type: {kind}{blobs} {parameters} }}\n'


def noise(rng, *shape):
    """Weights that keep activations at their size; from a pool of random numbers, since millions of new ones take long."""
    fan_in = int(np.prod(shape[1:])) or 1
    pool = rng.standard_normal(min(int(np.prod(shape)), 1_000_003), dtype=np.float32)
    return np.resize(pool, shape) * np.float32((2 / fan_in) ** 0.5)


def write_vgg16(folder, old=False):
    """VGG-16 of full size with random weights: its description and its .caffemodel."""
    lines, sizes, below, depth = ['name: "VGG16" input: "data" input_dim: [1, 3, 224, 224]\n'], [], "data", 3
    for block, (n, channels) in enumerate([(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)], 1):
        for k in range(1, n + 1):
            name = f"conv{block}_{k}"
            parameters = f"convolution_param {{ num_output: {channels} pad: 1 kernel_size: 3 }}"
            lines += [text("Convolution", name, [below], [name], parameters, old)]
            lines += [text("ReLU", f"relu{block}_{k}", [name], [name], old=old)]
            sizes.append((name, (channels, depth, 3, 3)))
            below, depth = name, channels
        pooling = "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"
        lines += [text("Pooling", f"pool{block}", [below], [f"pool{block}"], pooling, old)]
        below = f"pool{block}"
    for name, n_in, n_out in (("fc6", 25088, 4096), ("fc7", 4096, 4096), ("fc8", 4096, 1000)):
        lines += [text("InnerProduct", name, [below], [name], f"inner_product_param {{ num_output: {n_out} }}", old)]
        lines += [text("ReLU", f"relu{name}", [name], [name], old=old)] if name != "fc8" else []
        sizes.append((name, (n_out, n_in)))
        below = name
    prototxt = folder / "vgg16.prototxt"
    prototxt.write_text("".join(lines))
    rng = np.random.default_rng(0)
    layers = ((name, [noise(rng, *shape), noise(rng, shape[0])]) for name, shape in sizes)
    return prototxt, write_weights(folder / "vgg16.caffemodel", layers, old)
