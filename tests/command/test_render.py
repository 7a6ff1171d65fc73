"""Colours: zero in the middle, red for, blue against; nothing is written into; files are whole or not there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from lrp_toolbox.render import COLOUR_MAPS, DAY, NIGHT, heatmap, montage, normalize, overlay, save_picture

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
    axes = np.array(figure.axes).reshape(2, 4)
    assert [ax.get_title() for ax in axes[0]] == ["photograph", "a", "b", "c"]
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["cat (1.0)", "dog (2.0)"]
    alone = montage(PHOTO, [[R]], rows=["cat"], columns=["a"])
    assert [ax.get_title() for ax in alone.axes] == ["photograph", "relevance", "a"]
    with pytest.raises(ValueError, match=r"maps: expected 2 rows of 1 maps, got \[1\]"):
        montage(PHOTO, [[R]], rows=["cat", "dog"], columns=["a"])


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
        (lambda: normalize(R, 1.5), "quantile: expected a number in (0, 1], got 1.5"),
    ],
)
def test_bad_relevance_is_refused(make, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        make()
    assert message in str(caught.value)
