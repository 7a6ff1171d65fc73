"""Colours: zero in the middle, red for, blue against; nothing is written into; files are whole or not there."""

import re
import zlib
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from lrp_toolbox.attribution import METHODS
from lrp_toolbox.render import COLOUR_MAPS, DAY, NIGHT, heatmap, montage, normalize, overlay, save_picture, scale_of
from lrp_toolbox.rules import RULES

RNG = np.random.default_rng(0)
R = RNG.standard_normal((5, 7, 3))
PHOTO = RNG.integers(0, 256, (20, 28, 3), dtype=np.uint8)


def test_normalized_is_symmetric_around_zero():
    v = normalize(R)
    assert abs(v).max() == 1
    np.testing.assert_allclose(v * abs(R.sum(axis=-1)).max(), R.sum(axis=-1))
    np.testing.assert_array_equal(normalize(-R), -v)
    np.testing.assert_allclose(normalize(7 * R.sum(axis=-1)), v)
    assert (normalize(np.zeros((2, 2))) == 0).all()


def test_quantile_clips():
    spiky = np.ones((10, 10))
    spiky[0, 0], spiky[0, 1] = 1000, -1000
    v = normalize(spiky, 0.9)
    assert v[0, 0] == v[5, 5] == 1
    assert v[0, 1] == -1
    lonely = np.zeros((10, 10))
    lonely[3, 3] = -2
    assert normalize(lonely, 0.5)[3, 3] == -1  # the quantile is 0, and the maximum steps in


@pytest.mark.parametrize("colours", COLOUR_MAPS.values(), ids=lambda c: c.name)
def test_red_is_for_and_blue_against(colours):
    picture = heatmap(np.array([[1.0, 0.3, 0.0, -0.3, -1.0]]), colours=colours)[0].astype(int)
    red, blue = picture[:, 0], picture[:, 2]
    assert (red[:2] > blue[:2]).all()
    assert (red[3:] < blue[3:]).all()
    assert len(set(picture[2])) == 1  # nothing is grey
    assert picture.shape == (5, 3)
    assert tuple(picture[0]) == colours.stops[-1]
    assert tuple(picture[-1]) == colours.stops[0]


@pytest.mark.parametrize("colours", COLOUR_MAPS.values(), ids=lambda c: c.name)
def test_the_colours_run_evenly_from_the_middle_outwards(colours):
    grey = np.array([0.299, 0.587, 0.114])
    ramp = colours(np.linspace(-1, 1, 201)[None])[0] @ grey
    for side in (ramp[100:], ramp[100::-1]):
        steps = np.diff(side)
        assert (steps <= 1).all() if colours is DAY else (steps >= -1).all()


def test_nothing_is_written_into():
    before, photo = R.copy(), PHOTO.copy()
    for picture in (
        heatmap(R, quantile=0.9),
        overlay(R, PHOTO, quantile=0.9),
        montage(PHOTO, [[R]], rows=["a"], columns=["b"]),
    ):
        assert picture is not None
    np.testing.assert_array_equal(R, before)
    np.testing.assert_array_equal(PHOTO, photo)


def test_overlay_has_the_photographs_size_and_is_grey_where_nothing_is_said():
    assert overlay(R, PHOTO).shape == PHOTO.shape
    for colours in (DAY, NIGHT):
        silent = overlay(np.zeros((5, 7)), PHOTO, colours=colours)
        assert (silent[..., 0] == silent[..., 2]).all()


def test_montage_has_a_row_for_each_target_and_a_column_for_each_composite():
    figure = montage(PHOTO, [[R, -R, R], [R, R, R]], rows=["cat (1.0)", "dog (2.0)"], columns=["a", "b", "c"], title="t")
    assert isinstance(figure, Figure)
    axes = np.array(figure.axes[:-1]).reshape(2, 4)
    assert [ax.get_title() for ax in axes[0]] == ["photograph", "a", "b", "c"]
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["cat (1.0)", "dog (2.0)"]
    alone = montage(PHOTO, [[R]], rows=["cat"], columns=["a"])
    assert [ax.get_title() for ax in alone.axes[:-1]] == ["photograph", "relevance", "a"]
    with pytest.raises(ValueError, match=r"maps: expected 2 rows of 1 maps, got \[1\]"):
        montage(PHOTO, [[R]], rows=["cat", "dog"], columns=["a"])


def test_a_given_scale_is_where_the_colours_end():
    np.testing.assert_array_equal(normalize(R, 0.9, scale_of(R, 0.9)), normalize(R, 0.9))
    np.testing.assert_array_equal(normalize(R, scale=2.0), np.clip(R.sum(axis=-1) / 2, -1, 1))
    assert (normalize(R, scale=0.0) == 0).all()
    np.testing.assert_array_equal(heatmap(2 * R, scale=4.0), heatmap(R, scale=2.0))
    np.testing.assert_array_equal(overlay(2 * R, PHOTO, scale=4.0), overlay(R, PHOTO, scale=2.0))


def test_a_photograph_of_many_rows_is_blended_as_a_whole():
    """It is blended a few rows at a time. Turned upside down, they are other rows."""
    tall = RNG.integers(0, 256, (601, 9, 3), dtype=np.uint8)
    np.testing.assert_array_equal(overlay(R[::-1], tall[::-1]), overlay(R, tall)[::-1])


def panels(figure):
    """The axes of the panels, and the axes of the colour bar."""
    figure.draw_without_rendering()  # sets the layout
    return figure.axes[:-1], figure.axes[-1]


@pytest.mark.parametrize(
    ("same_scale", "quantile", "ends", "label"),
    [
        (False, 1, "1", "each panel has its own scale: 1 is the largest |R| in it"),
        (False, 0.9, "1", "each panel has its own scale: 1 is the 90 % quantile of |R| in it"),
        (True, 1, "3", "all panels share one scale: the colours end at the largest |R|"),
        (True, 0.999, "3", "all panels share one scale: the colours end at the largest 99.9 % quantile of |R|"),
    ],
)
def test_the_colour_bar_says_which_scale_the_panels_have(same_scale, quantile, ends, label):
    flat = np.ones((5, 7))
    figure = montage(PHOTO, [[flat, 3 * flat]], rows=["a"], columns=["b", "c"], quantile=quantile, same_scale=same_scale)
    (_, weak, strong), bar = panels(figure)
    assert bar.get_xlabel().replace("\n", " ") == f"relevance of a pixel; {label}"
    assert [tick.get_text() for tick in bar.get_xticklabels()] == [f"−{ends}\nagainst the class", "0", f"{ends}\nfor the class"]
    for drawn, r in ((weak, flat), (strong, 3 * flat)):
        np.testing.assert_array_equal(drawn.images[0].get_array(), overlay(r, PHOTO, scale=3.0 if same_scale else r[0, 0]))


def test_a_single_map_has_one_scale_in_both_of_its_panels():
    _, bar = panels(montage(PHOTO, [[2 * np.ones((5, 7))]], rows=["a"], columns=["b"]))
    assert "the same scale in both panels" in bar.get_xlabel()
    assert bar.get_xticklabels()[-1].get_text().startswith("2\n")


@pytest.mark.parametrize("shape", [(1000, 1), (1, 1000), (4000, 4), (3, 3000), (1, 1), (6000, 8000)])
@pytest.mark.parametrize(("down", "across"), [(1, 1), (2, 3), (20, 1)])
def test_photographs_of_every_shape_give_a_picture_that_one_can_read(shape, down, across):
    """No panel is a hairline, no figure is huge, and nothing is drawn with more pixels than can be seen."""
    photo = np.broadcast_to(np.uint8(99), (*shape, 3))
    figure = montage(photo, [[R] * across] * down, rows=["row"] * down, columns=["column"] * across)
    shown, _ = panels(figure)
    width, height = figure.get_size_inches()
    assert max(width, height) < 64
    for ax in shown:
        box = ax.get_window_extent()
        assert min(box.width, box.height) > 0.5 * figure.dpi
        assert 1 / 3.3 < box.height / box.width < 3.3
        assert max(ax.images[0].get_array().shape) <= 2 * figure.dpi * 4.8
    squeezed = not 1 / 3 <= shape[0] / shape[1] <= 3
    title = shown[0].get_title().replace("\n", " ")
    assert (f"photograph of {shape[1]}×{shape[0]}, drawn {'1:3' if shape[0] > shape[1] else '3:1'}" == title) == squeezed
    if shape == (1, 1):  # the map is seen in full over a photograph that has fewer pixels
        assert len(np.unique(shown[-1].images[0].get_array())) > 10


def test_more_panels_than_fit_are_refused():
    with pytest.raises(ValueError, match="maps: 400 rows of 2 panels do not fit on a figure"):
        montage(PHOTO, [[R]] * 400, rows=["a"] * 400, columns=["b"])


def text_of_pdf(file):
    """The text that a reader of PDF can search: the strings that are shown, and the characters that fonts stand for."""
    shown, named = "", ""
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", file.read_bytes(), re.DOTALL):
        try:
            content = zlib.decompress(stream)
        except zlib.error:
            continue
        for strings in re.findall(rb"\[(.*?)\]\s*TJ", content, re.DOTALL):
            shown += (
                b"".join(re.findall(rb"\(((?:\\.|[^\\)])*)\)", strings, re.DOTALL)).replace(b"\0", b"").decode("latin1") + "\n"
            )
        if b"begincmap" in content:
            named += "".join(chr(int(code, 16)) for code in re.findall(rb"<([0-9a-f]{4})>", content))
    return shown, named


def test_pdf_and_svg_hold_text(tmp_path):
    names = ["LRP_CMP:α2+♭", "z⁺", "costs $5 to $6"]
    figure = montage(PHOTO, [[R] * 3], rows=["cat"], columns=names)
    svg = save_picture(figure, tmp_path / "a.svg").read_text(encoding="utf-8")
    for word in ("photograph", "cat", *names, "each panel has its own scale"):
        assert word in svg
    shown, named = text_of_pdf(save_picture(figure, tmp_path / "a.pdf"))
    for word in ("photograph", "cat", "costs $5 to $6", "each panel has its own scale"):
        assert word in shown
    assert set("α♭⁺") <= set(named)


def test_the_font_has_every_character_of_names_and_rules(lenet, monkeypatch, tmp_path):
    """A character that it lacks would be a warning, which is an error in tests, and a box on the figure."""
    fonts = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
    has = matplotlib.ft2font.FT2Font(str(fonts)).get_char_index
    words = [
        *(rule.symbol + rule.formula for rule in RULES),
        *METHODS,
        "♭α⁺−×⁻²",
        *(getattr(m, "title", "") for m in METHODS.values()),
    ]
    assert not [c for word in words for c in word if not has(ord(c))]
    monkeypatch.setitem(matplotlib.rcParams, "font.family", ["monospace"])  # whatever the user has chosen
    figure = montage(PHOTO, [[R]], rows=["♭α⁺"], columns=["z⁻"])
    for ending in ("png", "jpg", "pdf", "svg"):
        save_picture(figure, tmp_path / f"a.{ending}")


def test_files_are_whole(tmp_path):
    picture = heatmap(R)
    assert save_picture(picture, tmp_path / "a.png") == tmp_path / "a.png"
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), picture)
    figure = montage(PHOTO, [[R]], rows=["cat"], columns=["a"])
    for name in ("b.png", "b.pdf", "b.svg", "b.jpg"):
        assert save_picture(figure, tmp_path / name).stat().st_size > 1000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.jpg", "b.pdf", "b.png", "b.svg"]


def test_a_failure_leaves_what_was_there(tmp_path):
    (tmp_path / "a.png").write_bytes(b"old")
    with pytest.raises((ValueError, TypeError, KeyError)):
        save_picture(np.zeros((2, 2, 7), np.uint8), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(ValueError, match=r"expected a name that ends in one of \.png"):
        save_picture(heatmap(R), tmp_path / "a.gifx")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        save_picture(heatmap(R), tmp_path / "no" / "a.png")


@given(st.integers(0, 99))
def test_any_relevance_has_a_picture(seed):
    rng = np.random.default_rng(seed)
    wild = rng.standard_normal((3, 4)) * 10.0 ** rng.integers(-300, 300)
    assert heatmap(wild).dtype == np.uint8


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: normalize(np.ones(3)), "R: expected (height, width)"),
        (lambda: normalize(np.ones((1, 2, 3, 4))), "R: expected (height, width)"),
        (lambda: normalize(np.array([[np.nan]])), "R: expected finite relevance"),
        (lambda: normalize(R, 0), "quantile: expected a number in (0, 1], got 0"),
        (lambda: normalize(R, scale=-1.0), "scale: expected a finite number ≥ 0, got -1.0"),
        (lambda: normalize(R, scale=float("nan")), "scale: expected a finite number ≥ 0, got nan"),
        (lambda: normalize(R, 1.5), "quantile: expected a number in (0, 1], got 1.5"),
    ],
)
def test_bad_relevance_is_refused(make, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        make()
    assert message in str(caught.value)
