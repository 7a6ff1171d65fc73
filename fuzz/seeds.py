"""Good files, which mutations begin with: small ones made here, and real ones where they are there.

A seed is all files that a reader needs, {"name": content}. Real files are those of `models/`, of `tests/`,
and of the folder of
real data (see CONTRIBUTING).
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import lrp_toolbox as lrp

from .containers import _message, varint

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("LRP_TOOLBOX_DATA", ROOT.parent / "shared" / "data"))
KERAS_2 = ROOT / "tests" / "importers" / "keras_files"
KERAS_3 = ROOT / ".cache" / "fuzz" / "keras"  # written by the Keras that is installed
Files = dict[str, bytes]


def _numbers(*shape: int) -> np.ndarray[Any, Any]:
    return (np.random.default_rng(sum(shape)).standard_normal(shape) / 4).astype(np.float32)


def written(*names: str, by: Callable[[Path], Any]) -> Files:
    """The files of these names, or all, that a function writes into a folder."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        by(folder)
        found = {file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
    return {name: found[name] for name in names} if names else found


# ---- Caffe -----------------------------------------------------------------------------------------------------------

PROTOTXT = """name: "net"
layer { name: "data" type: "Input" top: "data" input_param { shape: { dim: 1 dim: 3 dim: 10 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 1 group: 1 dilation: 1 weight_filler { type: "xavier" } } }
layer { name: "norm" type: "BatchNorm" bottom: "conv" top: "conv" batch_norm_param { eps: 1e-4 use_global_stats: true } }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true axis: 1 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" relu_param { negative_slope: 0.1 } }
layer { name: "lrn" type: "LRN" bottom: "conv" top: "lrn" lrn_param { local_size: 3 alpha: 0.1 beta: 0.75 } }
layer { name: "pool" type: "Pooling" bottom: "lrn" top: "pool" pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "left" type: "Convolution" bottom: "pool" top: "left" convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "both" type: "Concat" bottom: "left" bottom: "pool" top: "both" concat_param { axis: 1 } }
layer { name: "sum" type: "Eltwise" bottom: "both" bottom: "both" top: "sum"
  eltwise_param { operation: SUM coeff: 1 coeff: 1 } }
layer { name: "ave" type: "Pooling" bottom: "sum" top: "ave" pooling_param { pool: AVE kernel_h: 2 kernel_w: 2 stride: 2 } }
layer { name: "prelu" type: "PReLU" bottom: "ave" top: "ave" prelu_param { channel_shared: false } }
layer { name: "flat" type: "Flatten" bottom: "ave" top: "flat" }
layer { name: "drop" type: "Dropout" bottom: "flat" top: "flat" dropout_param { dropout_ratio: 0.5 } include { phase: TRAIN } }
layer { name: "fc" type: "InnerProduct" bottom: "flat" top: "fc" inner_product_param { num_output: 5 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
OLD_PROTOTXT = """name: "old" input: "data" input_dim: [1, 1, 6, 6]
layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" convolution_param { num_output: 2 kernel_size: 3 } }
layers { name: "tanh" type: TANH bottom: "conv" top: "conv" }
layers { name: "fc" type: INNER_PRODUCT bottom: "conv" top: "fc" inner_product_param { num_output: 3 bias_term: false } }
layers { name: "prob" type: SOFTMAX bottom: "fc" top: "prob" }
"""


def caffe_arrays() -> dict[str, list[np.ndarray[Any, Any]]]:
    """The weights of PROTOTXT, by layer."""
    return {
        "conv": [_numbers(4, 3, 3, 3), _numbers(4)],
        "norm": [_numbers(4), abs(_numbers(4)), np.ones(1, np.float32)],
        "scale": [_numbers(4), _numbers(4)],
        "left": [_numbers(2, 4, 1, 1), _numbers(2)],
        "prelu": [_numbers(6)],
        "fc": [_numbers(5, 6 * 3 * 2), _numbers(5)],
    }


def caffemodel(arrays: dict[str, list[np.ndarray[Any, Any]]], old: bool = False) -> bytes:
    def blob(a: np.ndarray[Any, Any]) -> bytes:
        four = [[k, 0, n] for k, n in enumerate((1,) * (4 - a.ndim) + a.shape, 1)]
        shape = four if old else [[7, 2, _message([[1, 2, b"".join(map(varint, a.shape))]])]]
        return _message([*shape, [5, 2, a.astype("<f4").tobytes()]])

    layers = []
    for name, blobs in arrays.items():
        content = _message([[4 if old else 1, 2, name.encode()], *([6 if old else 7, 2, blob(a)] for a in blobs)])
        layers.append([2 if old else 100, 2, content])
    return _message([[1, 2, b"net"], *layers])


def caffe_hdf5(arrays: dict[str, list[np.ndarray[Any, Any]]]) -> bytes:
    import h5py

    opened = io.BytesIO()
    with h5py.File(opened, "w") as file:
        for name, blobs in arrays.items():
            for k, a in enumerate(blobs):
                file[f"data/{name}/{k}"] = a
    return opened.getvalue()


@cache
def caffe() -> list[Files]:
    old = {"conv": [_numbers(2, 1, 3, 3), _numbers(2)], "fc": [_numbers(3, 32)]}
    made = [
        {"net.prototxt": PROTOTXT.encode(), "net.caffemodel": caffemodel(caffe_arrays())},
        {"net.prototxt": OLD_PROTOTXT.encode(), "net.caffemodel": caffemodel(old, old=True)},
    ]
    real = [("mtcnn/det1.prototxt", "mtcnn/det1.caffemodel"), ("lenet/lenet.prototxt", "lenet/lenet_iter_10000.caffemodel")]
    for names in real:
        if all((DATA / "caffe" / name).is_file() for name in names):
            made.append({f"net.{name.rpartition('.')[2]}": (DATA / "caffe" / name).read_bytes() for name in names})
    return made


def caffe_of_hdf5() -> list[Files]:
    made = [{"net.prototxt": PROTOTXT.encode(), "net.caffemodel.h5": caffe_hdf5(caffe_arrays())}]
    folder = DATA / "caffe" / "cifar10_full"
    if folder.is_dir():
        prototxt, weights = folder / "cifar10_full.prototxt", folder / "cifar10_full_iter_70000.caffemodel.h5"
        made.append({"net.prototxt": prototxt.read_bytes(), "net.caffemodel.h5": weights.read_bytes()})
    return made


def means() -> list[Files]:
    picture, npy = _numbers(3, 5, 4), io.BytesIO()
    np.save(npy, picture)
    shape = _message([[7, 2, _message([[1, 2, b"".join(map(varint, picture.shape))]])], [5, 2, picture.tobytes()]])
    real = DATA / "caffe" / "cifar10_quick" / "mean.binaryproto"
    return [{"mean": npy.getvalue()}, {"mean": shape}, *([{"mean": real.read_bytes()}] if real.is_file() else [])]


# ---- Keras -----------------------------------------------------------------------------------------------------------


def write_keras_3() -> None:
    """Have the installed Keras write what its tests read, once."""
    if KERAS_3.is_dir():
        return
    KERAS_3.mkdir(parents=True)
    nets = ("activations", "branches", "nested", "separable", "normalised")
    environment = {**os.environ, "KERAS_BACKEND": "numpy"}
    subprocess.run(
        [sys.executable, str(KERAS_2 / "write.py"), str(KERAS_3), *nets], env=environment, capture_output=True, check=False
    )


def keras(*endings: str, beside: str = "") -> list[Files]:
    """Each file with such an ending, and of the same net the file that ends in `beside`."""
    found: list[Files] = []
    for folder in (KERAS_2, KERAS_3):
        for file in sorted(folder.glob("*")) if folder.is_dir() else []:
            net, _, ending = file.name.partition(".")
            more = folder / f"{net}.{beside}"
            if ending in endings and (not beside or more.is_file()):
                found.append({f"net.{ending}": file.read_bytes(), **({f"net.{beside}": more.read_bytes()} if beside else {})})
    return found


# ---- PyTorch, and arrays -------------------------------------------------------------------------------------------------


@cache
def state_dict() -> dict[str, np.ndarray[Any, Any]]:
    """torchvision's vgg11 with a few channels."""
    state, depth, k = {}, 3, 0
    for channels in (4, 0, 5, 0, 6, 6, 0, 7, 7, 0, 8, 8, 0):
        if channels:
            state[f"features.{k}.weight"], state[f"features.{k}.bias"] = _numbers(channels, depth, 3, 3), _numbers(channels)
            depth = channels
        k += 2 if channels else 1
    for index, n_in, n_out in ((0, 8 * 49, 4), (3, 4, 4), (6, 4, 6)):
        state[f"classifier.{index}.weight"], state[f"classifier.{index}.bias"] = _numbers(n_out, n_in), _numbers(n_out)
    return state


def safetensors() -> list[Files]:
    from safetensors.numpy import save

    return [
        {"net.safetensors": save(state_dict())},
        {"net.safetensors": save({f"module.{k}": v for k, v in state_dict().items()})},
    ]


def npz(name: str, compressed: bool = False, **arrays: Any) -> Files:
    return written(by=lambda folder: (np.savez_compressed if compressed else np.savez)(folder / name, **arrays))


def state_dicts_in_npz() -> list[Files]:
    return [npz("net.npz", **state_dict()), npz("net.npz", True, **state_dict())]


def original() -> dict[str, bytes]:
    """Models of the original LRP Toolbox, as the writer of our tests makes them."""
    sys.path.append(str(ROOT / "tests" / "importers"))
    import original_files

    layers: list[Any] = [
        ("Convolution", (3, 3, 1, 2, 1, 1), _numbers(3, 3, 1, 2), _numbers(2)),
        ("Rect", ()),
        ("SumPool", (2, 2, 2, 2)),
        ("Flatten", ()),
        ("Linear", (8, 3), _numbers(8, 3), _numbers(3)),
    ]
    plain = original_files.mat_of(layers, compressed=False)
    return {"net.txt": original_files.text_of(layers).encode(), "net.mat": original_files.mat_of(layers), "plain.mat": plain}


# ---- Our own files -----------------------------------------------------------------------------------------------------


@cache
def small_model(classes: tuple[str, ...] = ("a", "b", "c")) -> lrp.Model:
    net = lrp.Sequential(
        conv=lrp.Conv(_numbers(3, 3, 3, 4), _numbers(4), padding=1),
        relu=lrp.ReLU(),
        norm=lrp.LRN(3, 0.1),
        pool=lrp.MaxPool(2),
        branch=lrp.Concat(lrp.Conv(_numbers(1, 1, 4, 2)), lrp.Identity()),
        flatten=lrp.Flatten(),
        drop=lrp.Dropout(0.5),
        fc=lrp.Linear(_numbers(24, len(classes)), _numbers(len(classes))),
    )
    preprocessing = lrp.Preprocessing((4, 4), "crop", "RGB", (1.0, 2.0, 3.0), 1 / 64)
    return lrp.Model("small", net, classes, preprocessing, "A small net.", "# small\n", logits="exclusive")


def model_folders() -> list[Files]:
    made = written(by=lambda folder: lrp.save(small_model(), folder / "model"))
    lenet = ROOT / "models" / "lenet5-mnist"
    names = ("model.json", "weights.npz", "README.md", "example.png")
    pixels = io.BytesIO()
    Image.fromarray(np.zeros((5, 6, 3), np.uint8)).save(pixels, "PNG")
    made["model/example.png"] = pixels.getvalue()
    spec = json.loads(made["model/model.json"])
    made["model/model.json"] = json.dumps({**spec, "example": "example.png"}).encode()
    return [made, {f"model/{name}": (lenet / name).read_bytes() for name in names}]


@cache
def patterns() -> list[Files]:
    from lrp_toolbox.attribution.patterns import Fit

    fit = Fit(small_model().net, source="noise")
    fit.add(abs(_numbers(6, 4, 4, 3)))

    def write(folder: Path) -> None:
        fit.patterns().save(folder)
        fit.store(folder / "patterns.partial.npz")
        np.savez(folder / "images.npz", x=np.zeros((2, 4, 4, 3), np.uint8))

    return [written(by=write)]


def compressed() -> list[Files]:
    """Weights in the form of Deep Compression, see `lrp_toolbox.importers.compressed`."""
    made = np.array([6], "<u4").tobytes() + _numbers(256).tobytes() + _numbers(4).tobytes() + bytes(range(6)) + b"\x12\x34\x01"
    return [{"net.bin": made}]


def labels() -> list[Files]:
    synsets = "".join(f"n{k:08} word {k}, other words\n" for k in range(8)).encode()
    index = json.dumps({str(k): [f"n{k:08}", f"word_{k}"] for k in range(8)}).encode()
    return [{"labels.txt": synsets}, {"labels.json": index}, {"labels.txt": b"cat\ndog\n"}]


def results() -> list[Files]:
    from lrp_toolbox.experiments.store import Found, Row, Store

    columns = ("inside", "total", "box", "image", "inside_channels", "total_channels", "logit")
    told = {
        "version": "0",
        "commit": "c",
        "code": "d",
        "packages": "numpy 2",
        "python": "3.11",
        "machine": "x",
        "command": "lrp",
    }
    settings = {"dataset": "voc val", "model": "small", "methods": ["uniform", "z"], "fit": None}

    def write(folder: Path) -> None:
        for part, items in (((1, 1), range(4)), ((2, 2), range(4, 6))):
            with Store(folder, "localisation", columns, settings, told, part).open() as writer:
                for k in items:
                    rows = [Row(kind, m, tuple(map(float, range(7)))) for kind in ("cat", "dog") for m in ("uniform", "z")]
                    writer.add(Found(f"{k:06}", 0.5, rows))

    return [written(by=write)]


# ---- Data sets ---------------------------------------------------------------------------------------------------------


def _jpeg(size: tuple[int, int] = (20, 15)) -> bytes:
    opened = io.BytesIO()
    photograph().resize(size).save(opened, "JPEG")
    return opened.getvalue()


@cache
def photograph() -> Image.Image:
    """A real photograph, small."""
    with Image.open(ROOT / "models" / "vgg16-voc" / "cat.png") as image:
        return image.convert("RGB").resize((44, 33))


VOC_XML = """<annotation>
  <folder>VOC2007</folder><filename>000001.jpg</filename>
  <size><width>20</width><height>15</height><depth>3</depth></size>
  <object><name>cat</name><pose>Left</pose><truncated>1</truncated><difficult>0</difficult>
    <bndbox><xmin>2</xmin><ymin>3</ymin><xmax>11.5</xmax><ymax>12</ymax></bndbox></object>
  <object><name>person</name><difficult>1</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>20</xmax><ymax>15</ymax></bndbox>
    <part><name>head</name><bndbox><xmin>4</xmin><ymin>4</ymin><xmax>8</xmax><ymax>8</ymax></bndbox></part></object>
</annotation>
"""


def voc() -> list[Files]:
    annotations = {
        "000001": {
            "width": 20,
            "height": 15,
            "person_boxes_complete": False,
            "objects": [["cat", 2, 3, 11, 12], ["person", 1, 1, 20, 15]],
        },
        "000002": {"width": 20, "height": 15, "person_boxes_complete": True, "objects": []},
    }
    photos = {f"JPEGImages/{name}.jpg": _jpeg() for name in annotations}
    listed = b"000001\n000002\n"
    as_xml = {f"Annotations/{name}.xml": VOC_XML.replace("000001", name).encode() for name in annotations}
    found = [
        {"annotations.json": json.dumps(annotations).encode(), "ImageSets/val.txt": listed, **photos},
        {**as_xml, "ImageSets/Main/val.txt": listed, **photos},
    ]
    if (DATA / "voc2007").is_dir():
        real = json.loads((DATA / "voc2007" / "annotations.json").read_text(encoding="utf-8"))
        ids = sorted(real)[:5]
        photos = {f"JPEGImages/{k}.jpg": _jpeg() for k in ids}
        some = json.dumps({k: real[k] for k in ids}, indent=0).encode()
        found.append({"annotations.json": some, "ImageSets/val.txt": "\n".join(ids).encode(), **photos})
    return found


def imagenet() -> list[Files]:
    from scipy.io import savemat

    synsets = b"n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\nn02112137 chow, chow chow\n"
    table = b"file,label,synset,orig_w,orig_h,xmin,ymin,xmax,ymax\n"
    table += (
        b"val_1.JPEG,2,n02112137,20,15,3,2,12,9\nval_2.JPEG,0,n01440764,20,15,0,0,19,14\nval_2.JPEG,0,n01440764,20,15,1,1,3,3\n"
    )
    box = "<bndbox><xmin>2</xmin><ymin>0</ymin><xmax>11</xmax><ymax>12</ymax></bndbox>"
    xml = f"<object><name>n01440764</name>{box}</object></annotation>"
    xml = f"<annotation><size><width>20</width><height>15</height></size>{xml}"
    photos = {f"images/val_{k}.JPEG": _jpeg() for k in (1, 2)}
    kinds = [("ILSVRC2012_ID", int), ("WNID", object), ("words", object), ("num_children", int)]
    rows = [(1, "n01443537", "goldfish", 0), (2, "n01440764", "tench", 0), (3, "n00000001", "fish", 2)]
    kit = [
        written(
            by=lambda folder, c=c: savemat(
                folder / "meta.mat", {"synsets": np.array(rows, kinds).reshape(-1, 1)}, do_compression=c
            )
        )
        for c in (False, True)
    ]
    folder = "ILSVRC/Annotations/CLS-LOC/val"
    made = [{"boxes.csv": table, "synset_words.txt": synsets, **photos}]
    made += [
        {f"{folder}/val_{k}.xml": xml.encode() for k in (1, 2)}
        | {"ILSVRC2012_devkit_t12/data/meta.mat": k["meta.mat"]}
        | photos
        for k in kit
    ]
    return made


def photographs() -> list[Files]:
    """PNG, JPEG, TIFF, GIF and WebP with all that they have: palettes, 16 bits, transparency, several frames, EXIF."""
    rgb = photograph()
    grey, wide = rgb.convert("L"), Image.fromarray(np.asarray(rgb.convert("L"), np.uint16) * 257)
    clear = rgb.copy()
    clear.putalpha(grey)
    palette = rgb.quantize(16)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    frames = [rgb.rotate(k) for k in (10, 20)]
    many: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (rgb, "PNG", {}),
        (palette, "PNG", {"transparency": 3}),
        (wide, "PNG", {}),
        (clear, "PNG", {"exif": exif}),
        (grey.convert("1"), "PNG", {}),
        (rgb, "PNG", {"save_all": True, "append_images": frames}),
        (rgb, "JPEG", {"exif": exif, "comment": b"x"}),
        (grey, "JPEG", {}),
        (rgb, "JPEG", {"progressive": True}),
        (rgb.convert("CMYK"), "JPEG", {}),
        (rgb, "TIFF", {}),
        (wide, "TIFF", {}),
        (clear, "TIFF", {}),
        (rgb, "TIFF", {"save_all": True, "append_images": frames, "exif": exif}),
        (palette, "GIF", {"transparency": 2}),
        (rgb, "GIF", {"save_all": True, "append_images": frames, "comment": b"x"}),
        (rgb, "WEBP", {"exif": exif}),
        (clear, "WEBP", {"lossless": True}),
        (rgb, "WEBP", {"save_all": True, "append_images": frames}),
        (rgb.convert("LAB"), "TIFF", {}),
        (rgb.convert("F"), "TIFF", {}),
    ]
    many += [(rgb, "TIFF", {"compression": c}) for c in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma")]
    many += [(grey.convert("1"), "TIFF", {"compression": c}) for c in ("group3", "group4")]
    found = [{"photo": _saved(*one)} for one in many]
    found += [
        {"photo": (ROOT / "models" / name).read_bytes()}
        for name in ("lenet5-mnist/example.png", "vgg16-voc/cat-and-person.jpg")
    ]
    real = sorted((DATA / "photos").glob("*.JPEG"))[:2] if (DATA / "photos").is_dir() else []
    return [*found, *({"photo": file.read_bytes()} for file in real)]


def _saved(image: Image.Image, kind: str, options: dict[str, Any]) -> bytes:
    opened = io.BytesIO()
    image.save(opened, kind, **options)
    return opened.getvalue()


@cache
def large_photographs() -> list[Files]:
    """Small files of as many pixels as are allowed: the memory that they take is the most that a photograph takes."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    side, found = 9400, []
    for depth, kind, size in ((8, 6, 4), (16, 0, 2), (8, 3, 1)):
        packer, row = zlib.compressobj(6), bytes(1 + side * size)
        rows = b"".join([*(packer.compress(row) for _ in range(side)), packer.flush()])
        extra = chunk(b"PLTE", bytes(range(48))) + chunk(b"tRNS", b"\x10" * 4) if kind == 3 else b""
        head = struct.pack(">IIBBBBB", side, side, depth, kind, 0, 0, 0)
        found.append(
            {"photo": b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", rows) + chunk(b"IEND", b"")}
        )
    return found


XPM = b"""/* XPM */
static char *x[] = {
"4 4 2 1",
"a c #ff0000",
"b c #00ff00",
"abab",
"abab",
"abab",
"abab"};
"""
FITS = b"".join(line.ljust(80) for line in (b"SIMPLE  = T", b"BITPIX  = 8", b"NAXIS   = 0", b"END")).ljust(2880)


def pictures() -> list[Files]:
    """All other formats that Pillow writes, and the beginnings of those that it only reads."""
    Image.init()
    found, rgb = [], photograph()
    for kind in sorted(Image.SAVE):
        if kind in ("PNG", "JPEG", "TIFF", "GIF", "WEBP", "PDF", "EPS", "PALM", "WMF", "HDF5", "GRIB", "BUFR"):
            continue
        for mode in ("RGB", "L", "1", "P", "RGBA", "I;16", "F"):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    content = _saved(rgb.quantize(16) if mode == "P" else rgb.convert(mode), kind, {})
            except (OSError, ValueError, KeyError, AttributeError, TypeError):
                continue
            found.append({"photo": content})
    heads = [
        b"8BPS\0\x01" + bytes(6) + b"\0\x03\0\0\0\x08\0\0\0\x08\0\x08\0\x03" + bytes(14 + 300),
        b"\x0a\x05\x01\x08" + bytes(200),
        b"\x59\xa6\x6a\x95" + bytes(60),
        XPM,
        FITS,
        bytes(4) + b"\x11\xaf" + bytes(300),
        b"qoif\0\0\0\4\0\0\0\4\3\0" + bytes(30),
        b"BLP2" + bytes(200),
        b"FTEX" + bytes(100),
    ]
    return [*found, *({"photo": head} for head in heads)]


def onnx() -> list[Files]:
    from .onnx_mutations import net

    # a folder with what constants in other files may point to
    return [{"models/net.onnx": net().SerializeToString(), "secret": bytes(4096), "models/w.bin": bytes(4096)}]
