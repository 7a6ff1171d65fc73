"""PASCAL VOC and ImageNet are read as they are or refused, and boxes go where the photograph goes."""

import csv
import json
import pickle
import re
import shutil
import struct
import zlib
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from scipy.io import loadmat, savemat

from lrp_toolbox import Preprocessing
from lrp_toolbox.data import VOC, DataFormatError, ImageNet, box_mask
from lrp_toolbox.data.annotations import read_mat

# ---- official files, in the form in which they are handed out --------------------------------------------------------

VOC_2007 = """\
<annotation>
	<folder>VOC2007</folder>
	<filename>000005.jpg</filename>
	<source>
		<database>The VOC2007 Database</database>
		<annotation>PASCAL VOC2007</annotation>
		<image>flickr</image>
		<flickrid>325991873</flickrid>
	</source>
	<owner>
		<flickrid>archintent louisville</flickrid>
		<name>?</name>
	</owner>
	<size>
		<width>50</width>
		<height>37</height>
		<depth>3</depth>
	</size>
	<segmented>0</segmented>
	<object>
		<name>chair</name>
		<pose>Rear</pose>
		<truncated>0</truncated>
		<difficult>0</difficult>
		<bndbox>
			<xmin>26</xmin>
			<ymin>21</ymin>
			<xmax>32</xmax>
			<ymax>34</ymax>
		</bndbox>
	</object>
	<object>
		<name>bottle</name>
		<pose>Unspecified</pose>
		<truncated>1</truncated>
		<difficult>1</difficult>
		<bndbox>
			<xmin>1</xmin>
			<ymin>24</ymin>
			<xmax>50</xmax>
			<ymax>37</ymax>
		</bndbox>
	</object>
	<object>
		<name>chair</name>
		<pose>Unspecified</pose>
		<truncated>1</truncated>
		<difficult>1</difficult>
		<bndbox>
			<xmin>5</xmin>
			<ymin>24</ymin>
			<xmax>6</xmax>
			<ymax>37</ymax>
		</bndbox>
	</object>
</annotation>
"""

VOC_2012 = """\
<annotation>
	<folder>VOC2012</folder>
	<filename>2011_003353.jpg</filename>
	<object>
		<name>person</name>
		<actions>
			<jumping>0</jumping>
			<reading>1</reading>
		</actions>
		<bndbox>
			<xmax>45.70000076293945</xmax>
			<xmin>3.5</xmin>
			<ymax>30</ymax>
			<ymin>1</ymin>
		</bndbox>
		<difficult>0</difficult>
		<pose>Unspecified</pose>
		<point>
			<x>22</x>
			<y>9</y>
		</point>
		<part>
			<name>head</name>
			<bndbox>
				<xmin>8</xmin>
				<ymin>2</ymin>
				<xmax>12</xmax>
				<ymax>9</ymax>
			</bndbox>
		</part>
	</object>
	<segmented>0</segmented>
	<size>
		<depth>3</depth>
		<height>37</height>
		<width>50</width>
	</size>
	<source>
		<annotation>PASCAL VOC2012</annotation>
		<database>The VOC2012 Database</database>
		<image>flickr</image>
	</source>
</annotation>
"""

IMAGENET = """\
<annotation>
	<folder>val</folder>
	<filename>ILSVRC2012_val_00000001</filename>
	<source>
		<database>ILSVRC_2012</database>
	</source>
	<size>
		<width>50</width>
		<height>37</height>
		<depth>3</depth>
	</size>
	<segmented>0</segmented>
	<object>
		<name>n01443537</name>
		<pose>Unspecified</pose>
		<truncated>0</truncated>
		<difficult>0</difficult>
		<bndbox>
			<xmin>0</xmin>
			<ymin>10</ymin>
			<xmax>49</xmax>
			<ymax>19</ymax>
		</bndbox>
	</object>
	<object>
		<name>n01443537</name>
		<pose>Unspecified</pose>
		<truncated>0</truncated>
		<difficult>0</difficult>
		<bndbox>
			<xmin>3</xmin>
			<ymin>4</ymin>
			<xmax>3</xmax>
			<ymax>4</ymax>
		</bndbox>
	</object>
</annotation>
"""

SYNSETS = "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n"
CSV = "file,label,synset,orig_w,orig_h,xmin,ymin,xmax,ymax\n"
ROW = "ILSVRC2012_val_00000001.JPEG,1,n01443537,50,37,0,10,49,19\n"


def photo(file, size=(50, 37)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "white").save(file, "JPEG")


def voc(folder, xml=VOC_2007, name="000005", listed=None, photographed=True):
    for sub in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    (folder / "ImageSets/Main/val.txt").write_text(listed or f"{name}\n")
    (folder / "Annotations" / f"{name}.xml").write_bytes(xml if isinstance(xml, bytes) else xml.encode())
    if photographed:
        photo(folder / "JPEGImages" / f"{name}.jpg")
    return folder


def imagenet(folder, boxes=CSV + ROW, synsets=SYNSETS):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "boxes.csv").write_text(boxes)
    (folder / "synset_words.txt").write_text(synsets)
    photo(folder / "images" / "ILSVRC2012_val_00000001.JPEG")
    return folder


def test_official_voc_is_read(tmp_path):
    [item] = VOC(voc(tmp_path / "VOCdevkit" / "VOC2007").parent).items("val")
    assert (item.id, item.size, item.labels, item.incomplete) == ("000005", (37, 50), ("bottle", "chair"), frozenset())
    assert item.photo == tmp_path / "VOCdevkit" / "VOC2007" / "JPEGImages" / "000005.jpg"
    assert item.measured == ("bottle", "chair")
    np.testing.assert_array_equal(item.boxes["chair"], [[25, 20, 32, 34], [4, 23, 6, 37]])
    np.testing.assert_array_equal(item.boxes["bottle"], [[0, 23, 50, 37]])
    assert item.boxes["chair"].dtype == np.float64
    np.testing.assert_array_equal(item.difficult["chair"], [False, True])


def test_difficult_boxes_count_or_not(tmp_path):
    [item] = VOC(voc(tmp_path), difficult=False).items()
    assert item.measured == ("chair",)
    assert item.labels == ("bottle", "chair")
    np.testing.assert_array_equal(item.boxes["chair"], [[25, 20, 32, 34]])


def test_parts_fractions_and_any_order_as_in_voc_2012(tmp_path):
    [item] = VOC(voc(tmp_path, VOC_2012, "2011_003353")).items()
    assert item.labels == ("person",)
    np.testing.assert_array_equal(item.boxes["person"], [[2.5, 0, 45.70000076293945, 30]])


def test_without_flags_boxes_count_unless_that_is_asked(tmp_path):
    folder = voc(tmp_path, VOC_2012.replace("\t\t<difficult>0</difficult>\n", ""), "2011_003353")
    assert not VOC(folder).items()[0].difficult["person"].any()
    with pytest.raises(DataFormatError, match=r"003353\.xml: line 4: <object>: difficult: expected 0 or 1, found None"):
        VOC(folder, difficult=False).items()


@pytest.mark.parametrize("layout", ["ILSVRC/{}/CLS-LOC/val", "official"])
def test_official_imagenet_is_read(tmp_path, layout):
    boxes, photos, synsets = {
        "official": ("ILSVRC2012_bbox_val_v3/val", "ILSVRC2012_img_val", "synset_words.txt"),
    }.get(layout, (layout.format("Annotations"), layout.format("Data"), "LOC_synset_mapping.txt"))
    (tmp_path / boxes).mkdir(parents=True)
    (tmp_path / boxes / "ILSVRC2012_val_00000001.xml").write_text(IMAGENET)
    (tmp_path / synsets).write_text(SYNSETS)
    photo(tmp_path / photos / "ILSVRC2012_val_00000001.JPEG")
    data = ImageNet(tmp_path)
    [item] = data.items("val")
    assert data.classes == ("n01440764", "n01443537")
    assert data.words == ("tench, Tinca tinca", "goldfish, Carassius auratus")
    assert data.index(item) == 1
    assert (item.id, item.size, item.labels) == ("ILSVRC2012_val_00000001", (37, 50), ("n01443537",))
    np.testing.assert_array_equal(item.boxes["n01443537"], [[0, 10, 50, 20], [3, 4, 4, 5]])


def development_kit(file, synsets):
    """meta.mat as the official one: a structure with, among others, ILSVRC2012_ID, WNID, words and num_children."""
    kinds = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("num_children", object)]
    file.parent.mkdir(parents=True, exist_ok=True)
    savemat(file, {"synsets": np.array(synsets, kinds).reshape(-1, 1)})


def test_synsets_from_the_development_kit(tmp_path):
    """Sorted, as networks have them; a synset with others below it is no class."""
    folder = imagenet(tmp_path)
    (folder / "synset_words.txt").unlink()
    kit = folder / "ILSVRC2012_devkit_t12" / "data" / "meta.mat"
    fish = [(1, "n01443537", "goldfish, Carassius auratus", 0), (2, "n01440764", "tench, Tinca tinca", 0)]
    development_kit(kit, [*fish, (1001, "n01438581", "fish", 2)])
    data = ImageNet(folder)
    assert data.classes == ("n01440764", "n01443537")
    assert data.words == ("tench, Tinca tinca", "goldfish, Carassius auratus")
    for broken in (b"", b"no MATLAB at all" * 20, kit.read_bytes()[:300]):
        kit.write_bytes(broken)
        with pytest.raises(DataFormatError, match=r"meta\.mat: (synset 1: )?expected"):
            ImageNet(folder)
    savemat(kit, {"synsets": np.arange(3)})
    with pytest.raises(DataFormatError, match=r"meta\.mat: (synset 1: )?expected"):
        ImageNet(folder)


@pytest.mark.parametrize("compressed", [False, True])
def test_mat_files_are_read_as_scipy_reads_them(tmp_path, compressed):
    rng = np.random.default_rng(0)
    arrays = {
        f"a_{kind}": rng.integers(0, 100, (3, 4, 2)).astype(kind)
        for kind in ("f4", "f8", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")
    }
    cells = np.array([np.arange(3.0), "text", np.array(["in", "side"], object)], object)
    synsets = np.array(
        [("n01", 1, np.arange(6.0).reshape(2, 3)), ("n02é", 2, np.zeros((0, 0)))],
        [("id", object), ("k", object), ("x", object)],
    )
    savemat(tmp_path / "a.mat", {**arrays, "text": "some words", "cells": cells, "synsets": synsets}, do_compression=compressed)
    found, expected = read_mat(tmp_path / "a.mat"), loadmat(tmp_path / "a.mat")
    for name in arrays:
        np.testing.assert_array_equal(found[name], expected[name])
        assert found[name].dtype == expected[name].dtype
    assert found["text"] == expected["text"].item()
    np.testing.assert_array_equal(found["cells"][0], [[0, 1, 2]])
    assert found["cells"][1:] == ["text", ["in", "side"]]
    assert [s["id"] for s in found["synsets"]] == ["n01", "n02é"]
    np.testing.assert_array_equal(found["synsets"][0]["x"], expected["synsets"][0, 0]["x"])
    assert found["synsets"][1]["x"].size == 0


def element(kind, data):
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "version 5"),
        (bytes(126) + b"IM" + b"1234567", "an element, found 7 bytes"),
        (bytes(126) + b"IM" + element(14, b"")[:4] + b"\xff\xff\xff\x7f", "2,147,483,647 bytes of an element"),
        (bytes(126) + b"IM" + element(9, bytes(8)), "an array, found an element of kind 9"),
        (bytes(126) + b"IM" + element(14, element(9, bytes(16)) + element(5, bytes(8)) + element(1, b"a")), "whole numbers"),
        (bytes(126) + b"IM" + element(15, b"no zlib!"), "compressed data, found others"),
        (bytes(126) + b"IM" + element(15, zlib.compress(bytes(1 << 27))), "compressed data of at most 67,108,864 bytes"),
        (
            bytes(126) + b"IM" + element(14, element(6, bytes(8)) + element(5, b"\xff" * 8) + element(1, b"a")),
            "an array of numbers",
        ),
        (
            bytes(126)
            + b"IM"
            + element(14, element(6, b"\6" + bytes(7)) + element(5, b"\0\0\0\x40" * 2) + element(1, b"a") + element(9, b"")),
            "1,152,921,504,606,846,976 numbers, found 0",
        ),
        (
            bytes(126) + b"IM" + element(14, element(6, b"\1" + bytes(7)) + element(5, b"\0\0\0\x40" * 2) + element(1, b"a")),
            "1,152,921,504,606,846,976 arrays, found",
        ),
        (
            bytes(126) + b"IM" + element(14, element(6, b"\3" + bytes(7)) + element(5, b"\1\0\0\0" * 2) + element(1, b"a")),
            "class 3",
        ),
    ],
)
def test_broken_mat_files_are_refused(tmp_path, content, message):
    """SciPy's reader crashes over some, as `python -m fuzz imagenet` found, or asks for exabytes of memory."""
    (tmp_path / "meta.mat").write_bytes(content)
    with pytest.raises(DataFormatError, match=message) as caught:
        read_mat(tmp_path / "meta.mat")
    assert str(tmp_path / "meta.mat") in str(caught.value)


def test_items_travel_between_processes(tmp_path):
    [item] = VOC(voc(tmp_path)).items()
    again = pickle.loads(pickle.dumps(item))
    assert (again.id, again.photo, again.size) == (item.id, item.photo, item.size)
    np.testing.assert_array_equal(again.boxes["chair"], item.boxes["chair"])


def test_photographs_are_read_as_stored(tmp_path):
    """Boxes are counted in stored pixels; a camera's note that the picture is to be turned does not turn them."""
    [item] = VOC(voc(tmp_path)).items()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (50, 37)).save(item.photo, exif=exif)
    assert item.read().shape == (37, 50, 3)
    assert item.mask("chair", Preprocessing((37, 50))).sum() == 7 * 14 + 2 * 14
    Image.new("RGB", (100, 74)).save(item.photo)  # a copy twice as large
    assert item.mask("chair", Preprocessing((37, 50), "crop")).sum() == 7 * 14 + 2 * 14


# ---- what is not as it should be -------------------------------------------------------------------------------------


BOMB = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>\n' + VOC_2007.replace("archintent", "&b;")
OUTSIDE = '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/hostname">]>\n' + VOC_2007.replace("archintent", "&a;")


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (BOMB, "line 1: expected elements only, found a document type"),
        (OUTSIDE, "line 1: expected elements only, found a document type"),
        (VOC_2007.replace("archintent", "&b;"), "expected XML: undefined entity: line 11"),
        (VOC_2007[:300], "expected XML: unclosed token: line 12"),
        (VOC_2007[:-15], "expected XML: no element found: line 55"),
        ("", "expected XML: no element found"),
        (VOC_2007.encode("utf-16")[:-3], "expected XML"),
        (b"<?xml version='1.0' encoding='big5'?><a/>", "expected XML"),
        (b"<?xml version='1.0' encoding='nonsense'?><a/>", "expected XML: unknown encoding"),
        ("<a>" * 100_000 + "</a>" * 100_000, "line 1: <a>: expected one <size>, found 0"),
        (VOC_2007.replace("size>", "extent>"), "line 1: <annotation>: expected one <size>, found 0"),
        (VOC_2007.replace("<width>50</width>", ""), "line 14: <size>: expected one <width>, found 0"),
        (VOC_2007.replace("<width>50<", "<width>wide<"), "line 14: <size>: width: expected a number, found 'wide'"),
        (
            VOC_2007.replace("<width>50<", "<width>0<"),
            "line 14: <size>: expected a width and a height in pixels, found 0.0×37.0",
        ),
        (VOC_2007.replace("<width>50<", "<width>1.5<"), "expected a width and a height in pixels, found 1.5×37.0"),
        (VOC_2007.replace("bottle", "teapot"), "line 32: <object>: expected one of the 20 classes, found 'teapot'"),
        (VOC_2007.replace("<difficult>0", "<difficult>no"), "line 20: <object>: difficult: expected 0 or 1, found 'no'"),
        (VOC_2007.replace("<xmin>26</xmin>", "<xmin/>"), "line 25: <bndbox>: xmin: expected a number, found ''"),
        (VOC_2007.replace("<xmin>26</xmin>", ""), "line 25: <bndbox>: expected one <xmin>, found 0"),
        (VOC_2007.replace("<xmin>26", "<xmin>nan"), "line 25: <bndbox>: xmin: expected a number, found 'nan'"),
        (VOC_2007.replace("<xmin>26", "<xmin>-1e99"), "line 25: <bndbox>: expected numbers of pixels, found [-1e+99, 21.0"),
        (VOC_2007.replace("<xmin>26", "<xmin>33"), "line 25: <bndbox>: expected xmin ≤ xmax and ymin ≤ ymax, found xmin 33"),
        (VOC_2007.replace("<xmax>6<", "<xmax>6</xmax><xmax>6<"), "line 49: <bndbox>: expected one <xmax>, found 2"),
        (VOC_2007.replace("<width>50", "<width>25"), "expected a box on the photograph, which is 25×37, found xmin 26"),
    ],
)
def test_broken_voc_is_refused(tmp_path, xml, message):
    data = VOC(voc(tmp_path, xml))
    with pytest.raises(DataFormatError) as caught:
        data.items()
    assert message in str(caught.value)
    assert str(tmp_path / "Annotations" / "000005.xml") in str(caught.value)


@given(st.binary(max_size=40), st.integers(0, len(VOC_2007)), st.integers(0, 60))
def test_no_garbage_gets_through(tmp_path, garbage, at, cut):
    xml = VOC_2007.encode()
    data = VOC(voc(tmp_path, xml[:at] + garbage + xml[at + cut :]))
    try:
        [item] = data.items()
        assert all(kind in VOC.classes for kind in item.boxes)
    except DataFormatError as error:
        assert "000005.xml" in str(error)  # noqa: PT017


def test_lists_and_folders_that_do_not_fit_are_refused(tmp_path):
    folder = voc(tmp_path / "VOC2007", listed="000005\n\n000006\n")
    with pytest.raises(DataFormatError, match=r"val\.txt: line 3: 000006: there is no .*000006\.xml"):
        VOC(folder).items()
    voc(folder, listed="000005  1\n000006 -1\n")  # as aeroplane_val.txt and its like have it
    with pytest.raises(DataFormatError, match=r"val\.txt: line 1: expected the name of a photograph only, found '1' behind it"):
        VOC(folder).items()
    voc(folder, listed="000005\n000005\n")
    with pytest.raises(DataFormatError, match=r"val\.txt: line 2: expected names to be unique, found 000005 again"):
        VOC(folder).items()
    voc(folder, name="000007", photographed=False)
    with pytest.raises(DataFormatError, match=r"val\.txt: line 1: 000007: there is no photograph of that name"):
        VOC(folder).items()
    for name in ("x" * 300, "../Annotations/000005"):  # the first is found by `python -m fuzz voc`
        voc(folder, listed=f"{name}\n")
        with pytest.raises(DataFormatError, match=r"val\.txt: line 1: .* there is no .*\.xml"):
            VOC(folder).items()
    with pytest.raises(FileNotFoundError, match=r"ImageSets: no list of 'test': expected Main/test\.txt or test\.txt"):
        VOC(folder).items("test")
    with pytest.raises(FileNotFoundError, match=r"no annotations: expected annotations\.json or Annotations"):
        VOC(tmp_path / "nowhere")
    voc(tmp_path / "VOC2012", VOC_2012, "2011_003353")
    with pytest.raises(ValueError, match=r"expected one year of VOC, found VOC2007, VOC2012; give one"):
        VOC(tmp_path)


ENTRY = {"width": 50, "height": 37, "person_boxes_complete": False, "objects": [["chair", 26, 21, 32, 34]]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected JSON"),
        ("[" * 100_000, "expected JSON"),
        ("[]", "expected an object, found list"),
        ({}, "val.txt: line 1: 000005: not in "),
        ({"000005": []}, "000005: expected an object, found []"),
        ({"000005": ENTRY | {"width": "50"}}, "000005: width: expected int, found '50'"),
        ({"000005": ENTRY | {"height": True}}, "000005: height: expected int, found True"),
        ({"000005": ENTRY | {"person_boxes_complete": None}}, "000005: person_boxes_complete: expected bool, found None"),
        ({"000005": ENTRY | {"objects": [["chair", 1, 2, 3]]}}, "objects[0]: expected [class, xmin, ymin, xmax, ymax], found"),
        ({"000005": ENTRY | {"objects": [["chair", 1, 2, 3, "4"]]}}, "objects[0]: expected [class, xmin, ymin, xmax, ymax]"),
        (
            {"000005": ENTRY | {"objects": [["cat", 1, 2, float("nan"), 4]]}},
            "objects[0]: expected numbers of pixels, found [1, 2",
        ),
        ({"000005": ENTRY | {"objects": [["cat", 1, 2, 10**400, 4]]}}, "objects[0]: expected numbers of pixels, found [1, 2"),
        ({"000005": ENTRY | {"width": 10**400}}, "000005: expected a width and a height in pixels"),
        ("9" * 5000, "expected JSON"),
        ({"000005": ENTRY | {"objects": [["cup", 1, 2, 3, 4]]}}, "objects[0]: expected one of the 20 classes, found 'cup'"),
        ({"000005": ENTRY | {"objects": [[[], 1, 2, 3, 4]]}}, "objects[0]: expected one of the 20 classes, found []"),
        ({"000005": ENTRY | {"objects": [["cat", 51, 2, 53, 4]]}}, "objects[0]: expected a box on the photograph"),
    ],
)
def test_broken_json_is_refused(tmp_path, text, message):
    folder = voc(tmp_path)
    (folder / "annotations.json").write_text(text if isinstance(text, str) else json.dumps(text))
    with pytest.raises(DataFormatError) as caught:
        VOC(folder).items()
    assert message in str(caught.value)
    assert "annotations.json" in str(caught.value)


def test_json_has_no_flags(tmp_path):
    folder = voc(tmp_path)
    (folder / "annotations.json").write_text(json.dumps({"000005": ENTRY}))
    [item] = VOC(folder).items()
    assert item.measured == item.labels == ("chair",)
    assert item.incomplete == {"person"}
    with pytest.raises(ValueError, match=r"annotations\.json: has no flags of what is difficult; give difficult=True"):
        VOC(folder, difficult=False)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "boxes.csv: line 1: expected file,label"),
        (CSV, "boxes.csv: expected boxes, found none"),
        (CSV.replace("label", "class"), "line 1: expected file,label,"),
        (CSV + ROW + ROW.replace(",19", ""), "line 3: expected 9 values, found 8"),
        (CSV + ROW.replace(",19", ",19,20"), "line 2: expected 9 values, found 10"),
        (CSV + ROW.replace(",10,", ",ten,"), "line 2: ymin: expected a number, found 'ten'"),
        (CSV + ROW.replace(",1,", ",0,"), "line 2: label: expected 1, which is n01443537, found 0"),
        (CSV + ROW.replace("n01443537", "n00000000"), "line 2: expected one of the 2 synsets, found 'n00000000'"),
        (CSV + ROW.replace("49,19", "49,9"), "line 2: expected xmin ≤ xmax and ymin ≤ ymax"),
        (CSV + ROW.replace(",37,", ",0,"), "line 2: expected a width and a height in pixels"),
        (
            CSV + ROW + ROW.replace(",37,", ",38,"),
            "line 3: expected the size and the synset of ILSVRC2012_val_00000001 further",
        ),
        (CSV + ROW.replace("0001", "0002"), "ILSVRC2012_val_00000002: there is no "),
        (CSV + '"' + ROW, "line 2: expected CSV: unexpected end of data"),
    ],
)
def test_broken_csv_is_refused(tmp_path, table, message):
    data = ImageNet(imagenet(tmp_path, table))
    with pytest.raises(DataFormatError) as caught:
        data.items()
    assert message in str(caught.value)
    assert "boxes.csv" in str(caught.value)


def test_broken_imagenet_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no photographs: expected images or ILSVRC/Data/CLS-LOC/val or"):
        ImageNet(tmp_path)
    with pytest.raises(ValueError, match="split: expected 'val', which has the boxes, got 'train'"):
        ImageNet(imagenet(tmp_path)).items("train")
    (tmp_path / "synset_words.txt").write_bytes("n01440764 caf\xe9".encode("latin-1"))
    with pytest.raises(DataFormatError, match=r"synset_words\.txt: expected text in UTF-8"):
        ImageNet(tmp_path)
    (tmp_path / "boxes.csv").unlink()
    boxes = tmp_path / "ILSVRC2012_bbox_val_v3" / "val"
    boxes.mkdir(parents=True)
    (tmp_path / "synset_words.txt").write_text(SYNSETS)
    for change, message in [
        (lambda s: s.replace("n01443537", "n01440764", 1), "expected <object>s of one class, found n01440764, n01443537"),
        (lambda s: s.replace("n01443537", "goldfish"), "line 13: <object>: expected one of the 2 synsets, found 'goldfish'"),
        (lambda s: re.sub(r"\t<object>.*</object>\n", "", s, flags=re.DOTALL), "of one class, found none"),
    ]:
        (boxes / "ILSVRC2012_val_00000001.xml").write_text(change(IMAGENET))
        with pytest.raises(DataFormatError, match=message):
            ImageNet(tmp_path).items()


# ---- boxes go where the photograph goes ------------------------------------------------------------------------------

sizes = st.tuples(st.integers(1, 60), st.integers(1, 60))
fits = st.sampled_from(["warp", "crop", "pad"])


@st.composite
def boxed(draw, least=1):
    """A size, (height, width), and integer boxes in it, of at least so many pixels."""
    height, width = draw(st.tuples(st.integers(least, 60), st.integers(least, 60)))
    boxes = []
    for _ in range(draw(st.integers(1, 3))):
        x0, y0 = draw(st.integers(0, width - least)), draw(st.integers(0, height - least))
        boxes.append((x0, y0, draw(st.integers(x0 + least, width)), draw(st.integers(y0 + least, height))))
    return (height, width), np.array(boxes, float)


@given(boxed(), sizes, sizes, fits)
def test_a_pixel_belongs_to_a_box_if_its_centre_does(case, to, stored, fit):
    """Pixel by pixel in Fractions, back from the network's input to the original photograph."""
    size, boxes = case
    preprocessing = Preprocessing(to, fit)
    seen, place = preprocessing.window(*stored), preprocessing.place(*stored)

    def centres(axis):
        length, n = Fraction(seen[axis].stop - seen[axis].start), place[axis].stop - place[axis].start
        within = [i + Fraction(1, 2) - place[axis].start for i in range(to[axis])]
        in_photo = [seen[axis].start + i * length / n if 0 <= i < n else Fraction(-1) for i in within]
        return [centre * size[axis] / stored[axis] for centre in in_photo]

    columns = centres(1)
    expected = [[any(x0 <= x < x1 and y0 <= y < y1 for x0, y0, x1, y1 in boxes.tolist()) for x in columns] for y in centres(0)]
    np.testing.assert_array_equal(box_mask(boxes, preprocessing, size, stored), expected)


@given(boxed(least=2), sizes, fits)
def test_a_painted_box_stays_under_its_coordinates(case, to, fit):
    """Through the resampling that photographs go through, to half a pixel at its rim.

    The box is painted as two bands, as high and as wide as it is: at the corner of a box both rims would dim what is there.
    """
    size, boxes = case
    preprocessing = Preprocessing(to, fit, "L")
    x0, y0, x1, y1 = boxes[0].astype(int)
    painted = np.zeros(to, bool)
    rim = np.zeros(to, bool)
    for axis, (low, high) in enumerate([(y0, y1), (x0, x1)]):
        seen, place = preprocessing.window(*size)[axis], preprocessing.place(*size)[axis]
        scale = (seen.stop - seen.start) / (place.stop - place.start)
        assume(high - low >= 2 * max(1, scale))  # what is smaller fades, and has no rim to look at
        band = np.zeros((*size, 3), np.uint8)
        band[(slice(low, high), slice(None)) if axis == 0 else (slice(None), slice(low, high))] = 255
        bright = preprocessing(band)[..., 0] > 127.5
        painted = bright if axis == 0 else painted & bright
        centres = np.arange(to[axis]) + 0.5 - place.start
        near = np.abs(centres[:, None] - (np.array([low, high]) - seen.start) / scale).min(axis=1) <= 0.5
        rim |= near[:, None] if axis == 0 else near
    mask = box_mask(boxes[:1], preprocessing, size)
    np.testing.assert_array_equal(mask[~rim], painted[~rim])


@given(boxed(), sizes)
def test_mirrored_boxes_have_the_mirrored_mask(case, to):
    size, boxes = case
    boxes += 1 / np.pi  # no centre falls on an edge
    mirrored = np.stack([size[1] - boxes[:, 2], boxes[:, 1], size[1] - boxes[:, 0], boxes[:, 3]], axis=1)
    preprocessing = Preprocessing(to)
    np.testing.assert_array_equal(box_mask(mirrored, preprocessing, size), box_mask(boxes, preprocessing, size)[:, ::-1])


@given(boxed(), sizes, fits)
def test_the_boxes_of_a_class_count_as_their_union(case, to, fit):
    size, boxes = case
    preprocessing = Preprocessing(to, fit)
    each = [box_mask(boxes[k : k + 1], preprocessing, size) for k in range(len(boxes))]
    np.testing.assert_array_equal(box_mask(boxes, preprocessing, size), np.any(each, axis=0))
    whole = box_mask(np.array([[0, 0, size[1], size[0]]]), preprocessing, size)
    assert whole.shape == to
    rows, columns = preprocessing.place(*size)
    assert whole[rows, columns].all()
    assert whole.sum() == whole[rows, columns].size
    assert not box_mask(np.zeros((0, 4)), preprocessing, size).any()


@given(boxed(), sizes)
def test_where_it_was_warped_does_not_matter(case, to):
    """A photograph that is stored at the size of the input has its boxes where warping now would put them."""
    size, boxes = case
    expected = box_mask(boxes, Preprocessing(to, "warp"), size)
    np.testing.assert_array_equal(box_mask(boxes, Preprocessing(to, "crop"), size, stored=to), expected)


def test_what_is_cropped_off_is_gone():
    boxes = np.array([[0, 0, 8, 20], [52, 0, 60, 20]], float)
    assert not box_mask(boxes, Preprocessing((10, 10), "crop"), (20, 60)).any()
    assert box_mask(boxes, Preprocessing((10, 10), "warp"), (20, 60)).any(axis=0).tolist() == [True, *[False] * 8, True]
    with pytest.raises(ValueError, match=r"boxes: expected \(n, 4\) of x0, y0, x1, y1, got shape \(4,\)"):
        box_mask(boxes[0], Preprocessing((10, 10)), (20, 60))


# ---- real data -------------------------------------------------------------------------------------------------------


def test_real_voc(data):
    """Against the file itself, read once more in a few lines."""
    raw = json.loads((data / "voc2007" / "annotations.json").read_text())
    items = VOC(data / "voc2007").items("val")
    assert [item.id for item in items] == (data / "voc2007" / "ImageSets" / "val.txt").read_text().split()
    assert len(items) == 981
    pairs = {(item.id, kind) for item in items for kind in item.measured}
    assert pairs == {
        (item.id, kind)
        for item in items
        for kind, *_ in raw[item.id]["objects"]
        if kind != "person" or raw[item.id]["person_boxes_complete"]
    }
    for item in items:
        with Image.open(item.photo) as image:
            assert image.size == item.size[::-1] == (raw[item.id]["width"], raw[item.id]["height"])
        pixels = sum((x1 - x0) * (y1 - y0) for boxes in item.boxes.values() for x0, y0, x1, y1 in boxes)
        assert pixels == sum((o[3] - o[1] + 1) * (o[4] - o[2] + 1) for o in raw[item.id]["objects"])
        native = Preprocessing(item.size)
        for kind in item.measured[:1]:
            canvas = np.zeros(item.size, bool)
            for _, xmin, ymin, xmax, ymax in (o for o in raw[item.id]["objects"] if o[0] == kind):
                canvas[ymin - 1 : ymax, xmin - 1 : xmax] = True
            np.testing.assert_array_equal(item.mask(kind, native), canvas)


def test_real_voc_stored_small(data):
    item = VOC(data / "voc2007").items("train")[0]
    assert item.read().shape == (256, 256, 3)
    assert item.size != (256, 256)
    for kind in item.measured:
        mask = item.mask(kind, Preprocessing((224, 224), "crop"))
        np.testing.assert_array_equal(mask, box_mask(item.boxes[kind], Preprocessing((224, 224), "warp"), item.size))


def test_real_voc_in_its_official_form(data, tmp_path):
    """The export, written back as XML, is the same."""
    items = VOC(data / "voc2007").items("val")[:20]
    for item in items:
        objects = "".join(
            f"<object><name>{kind}</name><difficult>0</difficult><bndbox><xmin>{x0 + 1:.0f}</xmin><ymin>{y0 + 1:.0f}</ymin>"
            f"<xmax>{x1:.0f}</xmax><ymax>{y1:.0f}</ymax></bndbox></object>"
            for kind, boxes in item.boxes.items()
            for x0, y0, x1, y1 in boxes
        )
        size = f"<size><width>{item.size[1]}</width><height>{item.size[0]}</height><depth>3</depth></size>"
        voc(tmp_path, f"<annotation>{size}{objects}</annotation>", item.id, photographed=False)
        shutil.copy(item.photo, tmp_path / "JPEGImages")
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("\n".join(item.id for item in items))
    for item, again in zip(items, VOC(tmp_path).items(), strict=True):
        assert (again.id, again.size, again.labels) == (item.id, item.size, item.labels)
        assert again.boxes.keys() == item.boxes.keys()
        for kind in item.boxes:
            np.testing.assert_array_equal(again.boxes[kind], item.boxes[kind])
        np.testing.assert_array_equal(again.read(), item.read())


def test_real_imagenet(data):
    dataset = ImageNet(data / "imagenet_val")
    items = {item.id: item for item in dataset.items()}
    keras = json.loads((data / "imagenet_val" / "imagenet_class_index.json").read_text())
    assert dataset.classes == tuple(keras[str(k)][0] for k in range(1000))
    assert dataset.words[260] == "chow, chow chow"
    assert len(items) == 677
    with (data / "imagenet_val" / "boxes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(len(boxes) for item in items.values() for boxes in item.boxes.values()) == len(rows)
    preprocessing, crop = Preprocessing((227, 227)), Preprocessing((227, 227), "crop")
    for row in rows[::10]:
        item = items[row["file"].removesuffix(".JPEG")]
        assert dataset.index(item) == int(row["label"])
        assert item.size == (int(row["orig_h"]), int(row["orig_w"]))
        mask = item.mask(row["synset"], preprocessing)
        np.testing.assert_array_equal(mask, item.mask(row["synset"], crop))  # the file holds the whole, warped
        i = (int(row["ymin"]) + int(row["ymax"]) + 1) / 2 * 227 / item.size[0]
        j = (int(row["xmin"]) + int(row["xmax"]) + 1) / 2 * 227 / item.size[1]
        assert mask[int(i), int(j)]


def test_real_boxes_that_begin_at_the_edge_say_where_counting_starts(data):
    """VOC counts from 1, to the width; ImageNet from 0, to the width less 1: read so, both reach the border, and no further."""
    for items in (VOC(data / "voc2007").items("val"), ImageNet(data / "imagenet_val").items()):
        edges = np.concatenate(
            [
                np.column_stack([boxes[:, 0], boxes[:, 1], item.size[1] - boxes[:, 2], item.size[0] - boxes[:, 3]])
                for item in items
                for boxes in item.boxes.values()
            ]
        )
        assert edges.min(axis=0).tolist() == [0, 0, 0, 0]
