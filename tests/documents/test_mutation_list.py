"""What `python -m mutation` takes as known is still so."""

import tomllib

from conftest import ROOT

LISTED = tomllib.loads((ROOT / "mutation" / "equivalent.toml").read_text(encoding="utf-8"))["mutant"]


def test_each_line_stands_in_its_file():
    """An entry for a line that has changed says nothing any more."""
    for entry in LISTED:
        lines = [line.strip() for line in (ROOT / entry["file"]).read_text(encoding="utf-8").split("\n")]
        assert set(entry["old"].split("\n")) <= set(lines), entry


def test_each_changes_something_and_has_a_reason():
    assert len({(entry["file"], entry["old"], entry["new"]) for entry in LISTED}) == len(LISTED)
    for entry in LISTED:
        assert entry["old"] != entry["new"], entry
        assert len(entry["reason"].split()) > 4, entry
