"""Picture files of every kind come in as RGB, the right way up, or are refused in one sentence."""

import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lrp_toolbox import Preprocessing, read_photo

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
GREY = RGB[..., 0]


def stored(tmp_path, image, name="photo.png", **options):
    image.save(tmp_path / name, **options)
    return read_photo(tmp_path / name)


def test_rgb_is_read_as_it_is(tmp_path):
    for name in ("a.png", "a.bmp", "a.tiff", "a.webp"):
        options = {"lossless": True} if name.endswith("webp") else {}
        np.testing.assert_array_equal(stored(tmp_path, Image.fromarray(RGB), name, **options), RGB)


def test_grey_palette_and_cmyk_become_rgb(tmp_path):
    three = np.repeat(GREY[..., None], 3, axis=2)
    np.testing.assert_array_equal(stored(tmp_path, Image.fromarray(GREY)), three)
    np.testing.assert_array_equal(stored(tmp_path, Image.fromarray(GREY).convert("P"), "p.png"), three)
    black_white = stored(tmp_path, Image.fromarray(GREY > 127), "bw.png")
    np.testing.assert_array_equal(black_white, np.where(three > 127, 255, 0))
    flat = np.full((8, 8, 3), (200, 50, 100), np.uint8)
    cmyk = stored(tmp_path, Image.fromarray(flat).convert("CMYK"), "c.jpg", quality=100, subsampling=0)
    assert abs(cmyk.astype(int) - flat).max() <= 4


def test_sixteen_bits_become_eight(tmp_path):
    wide = GREY.astype(np.uint16) * 257
    expected = np.repeat(GREY[..., None], 3, axis=2)
    np.testing.assert_array_equal(stored(tmp_path, Image.fromarray(wide)), expected)
    np.testing.assert_array_equal(stored(tmp_path, Image.fromarray(wide.astype(np.int32)), "i.tiff"), expected)


def test_sixteen_bit_rgb_becomes_eight(tmp_path):
    """Pillow cannot write one, so the file is made by hand."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + (row.astype(">u2") * 257).tobytes() for row in RGB)
    head = struct.pack(">IIBBBBB", RGB.shape[1], RGB.shape[0], 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "deep.png").write_bytes(png)
    np.testing.assert_array_equal(read_photo(tmp_path / "deep.png"), RGB)


def test_what_is_transparent_is_seen_against_white(tmp_path):
    rgba = np.dstack([RGB, np.where(GREY > 127, 255, 0).astype(np.uint8)])
    np.testing.assert_array_equal(stored(tmp_path, Image.fromarray(rgba)), np.where(rgba[..., 3:] > 0, RGB, 255))
    half = np.dstack([np.zeros_like(RGB), np.full_like(GREY, 128)])
    assert abs(stored(tmp_path, Image.fromarray(half), "half.png").astype(int) - 127).max() <= 1
    palette = Image.fromarray(GREY).convert("P")
    keyed = stored(tmp_path, palette, "key.png", transparency=int(GREY[0, 0]))
    assert (keyed[GREY[0, 0] == GREY] == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_followed(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = {
        1: RGB, 2: RGB[:, ::-1], 3: RGB[::-1, ::-1], 4: RGB[::-1], 5: RGB.swapaxes(0, 1),
        6: np.rot90(RGB, -1), 7: RGB[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(RGB),
    }[orientation]  # fmt: skip
    np.testing.assert_array_equal(stored(tmp_path, Image.fromarray(RGB), exif=exif), turned)


def test_of_several_frames_the_first(tmp_path):
    frames = [Image.fromarray(np.full((4, 4, 3), v, np.uint8)) for v in (10, 200)]
    assert (stored(tmp_path, frames[0], "film.gif", save_all=True, append_images=frames[1:]) == 10).all()


def test_fifty_megapixels(tmp_path):
    Image.new("RGB", (10000, 5000), (1, 2, 3)).save(tmp_path / "large.jpg", quality=50)
    photo = read_photo(tmp_path / "large.jpg")
    assert photo.shape == (5000, 10000, 3)
    assert Preprocessing((8, 8), "crop")(photo).shape == (8, 8, 3)


def test_what_cannot_be_read_is_refused_in_one_sentence(tmp_path):
    def refused(name, content, message):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message) as caught:
            read_photo(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)

    Image.fromarray(np.repeat(np.repeat(RGB, 20, 0), 20, 1)).save(tmp_path / "whole.png")
    Image.fromarray(np.repeat(np.repeat(RGB, 20, 0), 20, 1)).save(tmp_path / "whole.jpg")
    refused("empty.png", b"", "not a picture")
    refused("text.jpg", b"this is not a picture", "not a picture")
    for whole in ("whole.png", "whole.jpg"):
        content = (tmp_path / whole).read_bytes()
        refused(f"cut-{whole}", content[: len(content) * 2 // 3], "cannot be read as a picture")
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "float.tiff")
    refused("float2.tiff", (tmp_path / "float.tiff").read_bytes(), "floating-point pixels, whose white is not known")
    Image.fromarray(GREY.astype(np.int32) * 70000).save(tmp_path / "deep.tiff")
    refused("deep2.tiff", (tmp_path / "deep.tiff").read_bytes(), "expected 8 or 16 bits")
    Image.new("1", (20000, 20000)).save(tmp_path / "bomb.png")
    refused("bomb2.png", (tmp_path / "bomb.png").read_bytes(), "too many pixels")
    with pytest.raises(ValueError, match="expected a picture, got a folder"):
        read_photo(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png: there is no such file"):
        read_photo(tmp_path / "nowhere.png")


@given(st.binary(max_size=300), st.integers(0, 400))
def test_no_garbage_gets_through(tmp_path, garbage, at):
    Image.fromarray(RGB).save(tmp_path / "good.png")
    good = (tmp_path / "good.png").read_bytes()
    (tmp_path / "bad.png").write_bytes(good[:at] + garbage + good[at + len(garbage) :])
    try:
        assert read_photo(tmp_path / "bad.png").ndim == 3
    except ValueError as error:
        assert "bad.png" in str(error)  # noqa: PT017


# ---- preprocessing ---------------------------------------------------------------------------------------------------


def test_numbers_order_and_means():
    photo = np.tile(np.array([[[10, 20, 30]]], np.uint8), (5, 7, 1))
    x = Preprocessing((4, 4), "warp", "BGR", (1.0, 2.0, 3.0), (2.0, 4.0, 0.5))(photo)
    assert x.dtype == np.float32
    assert x.shape == (4, 4, 3)
    np.testing.assert_array_equal(x, np.broadcast_to([14.5, 4.5, 14.0], (4, 4, 3)))
    grey = Preprocessing((2, 3), "crop", "L", std=255.0)(photo)
    assert grey.shape == (2, 3, 1)


def test_warp_takes_all_and_crop_the_middle():
    photo = np.zeros((20, 60, 3), np.uint8)
    photo[:, 20:40] = 255
    crop, warp = Preprocessing((10, 10), "crop"), Preprocessing((10, 10), "warp")
    assert (crop.view(photo) == photo[:, 20:40]).all()
    assert crop(photo).min() == 255
    assert (warp.view(photo) == photo).all()
    assert warp(photo)[5, 0, 0] == 0
    assert warp(photo)[5, 5, 0] == 255
    wide = Preprocessing((5, 10), "crop")
    assert wide.view(np.zeros((40, 40, 3), np.uint8)).shape == (20, 40, 3)


@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.sampled_from(["warp", "crop", "pad"]), st.integers(0, 9))
def test_every_photograph_fits_and_lies_within_the_bounds(size, fit, seed):
    photo = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    preprocessing = Preprocessing((6, 4), fit, "BGR", (103.939, 116.779, 123.68), (57.0, 58.0, 59.0), seed % 2, 99.9)
    x, (low, high) = preprocessing(photo), preprocessing.bounds
    assert x.shape == preprocessing.shape == (6, 4, 3)
    assert ((x >= low) & (x <= high)).all()
    np.testing.assert_allclose(high - low, 255 / np.array([57, 58, 59]), rtol=1e-6)
    np.testing.assert_allclose(low, -np.array([103.939, 116.779, 123.68]) / (57, 58, 59), rtol=1e-6)


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(3, 12), st.integers(3, 12)),
    st.sampled_from(["warp", "crop", "pad"]),
    st.integers(0, 1),
)
def test_the_place_shows_the_photograph_and_the_rest_is_filled(size, to, fit, border):
    preprocessing = Preprocessing(to, fit, "RGB", 0.0, 1.0, border, (1.0, 2.0, 3.5))
    x = preprocessing(np.full((*size, 3), 200, np.uint8))
    rows, columns = preprocessing.place(*size)
    inside = np.zeros(to, bool)
    inside[rows, columns] = True
    assert (x[inside] == 200).all()
    assert (x[~inside] == (1.0, 2.0, 3.5)).all()
    top, left = (n - 2 * border for n in to)
    if fit == "pad":  # as large as it can be, in the middle, and of the photograph's shape to a pixel
        assert rows.stop - rows.start == top or columns.stop - columns.start == left
        assert abs((rows.start + rows.stop) - to[0]) <= 1
        assert abs((columns.start + columns.stop) - to[1]) <= 1
        factor = min(top / size[0], left / size[1])
        assert abs((rows.stop - rows.start) - size[0] * factor) <= 1
        assert abs((columns.stop - columns.start) - size[1] * factor) <= 1
    else:
        assert inside.sum() == top * left
    view = preprocessing.view(np.full((*size, 3), 200, np.uint8))
    shown = (view == 200).all(axis=2)
    for axis, (n, seen) in enumerate(zip(to, (rows, columns), strict=True)):  # where x has it, to a pixel of the photograph
        there = np.flatnonzero(shown.any(axis=1 - axis))
        assert abs(there[0] / view.shape[axis] - seen.start / n) <= 1 / view.shape[axis]
        assert abs((there[-1] + 1) / view.shape[axis] - seen.stop / n) <= 1 / view.shape[axis]
    if not border:
        assert (view[~shown] == (1, 2, 4)).all()


def test_a_digit_of_mnist_with_the_border_of_lenet():
    """28 × 28 in the middle of 32 × 32, from −1 to 1: what the original LRP Toolbox feeds to its LeNet-5."""
    digit = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    x = Preprocessing((32, 32), "warp", "L", 127.5, 127.5, border=2)(np.repeat(digit[..., None], 3, axis=2))
    np.testing.assert_allclose(x[..., 0], np.pad(digit / 127.5 - 1, 2, constant_values=-1), atol=1e-6)


def test_a_view_with_margins_has_a_bound():
    preprocessing = Preprocessing((224, 224), "pad", "BGR", fill=(10.0, 20.0, 30.0))
    view = preprocessing.view(np.full((90, 40_000, 3), 255, np.uint8))
    assert abs(view.shape[0] * view.shape[1] / (1 << 25) - 1) < 0.01
    assert view[0, 0].tolist() == [30, 20, 10]
    assert view[len(view) // 2 - 5, 0].tolist() == [255, 255, 255]  # row 111 of 224


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Preprocessing((4,)), "size: expected"),
        (lambda: Preprocessing((4, 0)), "size: expected"),
        (lambda: Preprocessing((4, 4), "stretch"), "fit: expected one of"),
        (lambda: Preprocessing((4, 4), "warp", "HSV"), "channels: expected one of"),
        (lambda: Preprocessing((4, 4), "warp", "L", (0.0, 0.0, 0.0)), "mean: expected a number for each of L"),
        (lambda: Preprocessing((4, 4), std=0), "std: expected a number > 0 for each of RGB, got 0"),
        (lambda: Preprocessing((4, 4), std=(1, 2)), "std: expected a number > 0"),
        (lambda: Preprocessing((4, 4), std=float("inf")), "std: expected a number > 0"),
        (lambda: Preprocessing((4, 4), fill=-1), "fill: expected a number from 0 to 255"),
        (lambda: Preprocessing((4, 4), border=2), "border: expected pixels"),
        (lambda: Preprocessing((4, 4), border=-1), "border: expected pixels"),
        (lambda: Preprocessing((4, 4))(np.zeros((4, 4), np.uint8)), "photo: expected uint8"),
        (lambda: Preprocessing((4, 4))(np.zeros((4, 4, 3))), "photo: expected uint8"),
        (lambda: Preprocessing((4, 4))(np.zeros((0, 4, 3), np.uint8)), "photo: expected uint8"),
    ],
)
def test_bad_preprocessing_is_refused(make, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        make()
    assert message in str(caught.value)


# ---- What fuzzing found (`python -m fuzz photographs pictures`) ------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"P6\n3\xff\x80255\n" + bytes(20),
        b"\x01\xda\x01\x09" + bytes(508),  # SGI, of a kind that there is not
        b"/* XPM */\nstatic char *x[] = {\n",
        b"SIMPLE  =                    T".ljust(80) + b"END".ljust(2800),
        b"BLP2" + bytes(200),
        b"qoif" + bytes(10),
    ],
)
def test_broken_pictures_of_any_format_are_refused_with_their_name(tmp_path, content):
    """For each, Pillow has another error."""
    (tmp_path / "photo").write_bytes(content)
    with pytest.raises(ValueError, match=r"photo: (cannot be read as|not) a picture") as caught:
        read_photo(tmp_path / "photo")
    assert str(tmp_path) in str(caught.value)


def test_a_format_that_pillow_will_forget_gives_no_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of writing it
        Image.fromarray(RGB).save(tmp_path / "photo.im")
    np.testing.assert_array_equal(read_photo(tmp_path / "photo.im"), RGB)


def test_programs_are_not_run(tmp_path):
    """PostScript is a program; Pillow would have Ghostscript run it."""
    Image.fromarray(RGB).save(tmp_path / "photo.eps")
    with pytest.raises(ValueError, match=r"photo\.eps: cannot be read as a picture: EPS is a program, which is never run"):
        read_photo(tmp_path / "photo.eps")


def test_bands_are_joined(tmp_path, monkeypatch):
    """Large photographs become RGB some rows at a time."""
    clear = np.random.default_rng(1).integers(0, 256, (6, 9, 4), dtype=np.uint8)
    images = [Image.fromarray(clear), Image.fromarray(GREY.astype(np.uint16) * 257), Image.fromarray(RGB).quantize(16)]
    whole = [stored(tmp_path, image, f"{k}.png") for k, image in enumerate(images)]
    monkeypatch.setattr("lrp_toolbox.data.photos.BAND", 20)
    for k, expected in enumerate(whole):
        np.testing.assert_array_equal(read_photo(tmp_path / f"{k}.png"), expected)
