"""Files and folders appear whole or not at all."""

import os
import stat
from contextlib import suppress

import pytest

from lrp_toolbox.files import new_file, new_folder, write_text
from lrp_toolbox.text import table


def test_a_file_is_there_when_it_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with new_file(path) as temporary:
        temporary.write_text("new")
        assert temporary.suffix == ".txt"
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]
    old = os.umask(0o027)
    try:
        write_text(tmp_path / "b.txt", "ä\n")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "b.txt").stat().st_mode) == 0o640
    assert (tmp_path / "b.txt").read_bytes() == "ä\n".encode()


def test_a_file_that_fails_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with suppress(KeyboardInterrupt), new_file(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]
    with pytest.raises(FileNotFoundError, match=r"the folder .*nowhere does not exist"), new_file(tmp_path / "nowhere" / "a"):
        pass
    long = tmp_path / ("a" * 300 + ".txt")
    with pytest.raises(OSError, match="a" * 300) as caught, new_file(long):  # and not the name of a temporary file
        pass
    assert caught.value.filename == str(long)


def test_a_folder_is_there_when_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "folder"
    with new_folder(path) as new:
        (new / "a").write_text("1")
        assert not path.exists()
    with suppress(ValueError), new_folder(path) as new:
        (new / "b").write_text("2")
        raise ValueError("half")
    assert os.listdir(path) == ["a"]
    with new_folder(path) as new:
        (new / "c").write_text("3")
    assert os.listdir(path) == ["c"]
    assert os.listdir(path.parent) == ["folder"]


def test_a_table():
    assert table([("name", "n"), ("a", "10"), ("bcdef", "")], left=1) == "name    n\na      10\nbcdef"
