"""The process that reads broken files, and may crash, hang or be killed: python -m fuzz.child FORMAT SEED FOLDER CHANNEL

Reads a line of JSON for each question: {"k": 7} for the 7th mutation,
or {"files": {"name": "base64"}} for these files. Writes
lines of JSON to the open file with the number CHANNEL: first "begun", then what came of it, see `Answer` in `harness`.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import shutil
import sys
import traceback
import warnings
from pathlib import Path
from random import Random
from typing import Any

from . import forked_hdf5
from .formats import FORMATS, Format
from .seeds import Files

MEMORY = 1 << 30  # bytes that one file may take
MESSAGE = 5000  # characters of an error; more is no sentence


def memory(key: str) -> int:
    """VmSize, VmRSS or VmHWM (the largest VmRSS since `clear`) of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) << 10
    raise ValueError(key)


def clear() -> None:
    """Begin to count VmHWM anew."""
    Path("/proc/self/clear_refs").write_text("5")


class Place:
    """A folder that has exactly the files of one question."""

    def __init__(self, folder: Path, given: Format):
        self.folder, self.given, self.files = folder / "files", given, dict[str, bytes]()
        self.folder.mkdir()
        (folder / "tmp").mkdir()
        given.setup(self.folder)

    def put(self, files: Files) -> None:
        for name in self.files.keys() - files.keys():
            (self.folder / name).unlink(missing_ok=True)
        for name, content in files.items():
            if self.files.get(name) is not content:
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / name).write_bytes(content)
        self.files = dict(files)
        self.before = self._there()

    def written(self) -> list[str]:
        """What a reader has written, changed or removed; it is taken back."""
        found = sorted({str(path) for path, _ in self.before ^ self._there()})
        if found:
            for name in found:
                path = self.folder.parent / name
                if path.is_dir():
                    shutil.rmtree(path)
                elif path.exists():
                    path.unlink()
            self.files = {}  # what was changed or removed is written anew
        return [name for name in found if not name.endswith(self.given.may_write or ("\0",))]

    def _there(self) -> set[tuple[Path, int]]:
        top = self.folder.parent
        return {(path.relative_to(top), path.lstat().st_mtime_ns if path.is_file() else 0) for path in top.rglob("*")}


def read(given: Format, place: Place) -> dict[str, Any]:
    """What came of reading the files that are in the place: {"outcome": …, "what": …}."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            given.read(place.folder)
    except given.refuses as error:
        said = str(error)
        if str(place.folder) not in said:
            return {"outcome": "finding", "what": f"a message without the file: {_place(error)}: {said[:300]}"}
        if len(said) > MESSAGE:
            return {"outcome": "finding", "what": f"a message of {len(said):,} characters: {_place(error)}: {said[:300]}"}
        return {"outcome": "refused", "what": said[:300]}
    except BaseException as error:
        return {"outcome": "finding", "what": f"{type(error).__name__}: {_place(error)}: {str(error)[:300]}"}
    return {"outcome": "read", "what": ""}


def _place(error: BaseException) -> str:
    """Where an error was raised, in our own code and below it."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f"{Path(f.filename).name}:{f.lineno}" for f in frames if "lrp_toolbox" in f.filename] or ["?"]
    return f"{ours[-1]} (raised in {Path(frames[-1].filename).name}:{frames[-1].lineno})"


def main(name: str, seed: str, folder: str, channel: str) -> None:
    given = FORMATS[name] if name in FORMATS else planted(name)
    found, rare = list(given.make()), list(given.make_rare())
    os.chdir(folder)
    place = Place(Path(folder), given)
    forked_hdf5.install()
    with os.fdopen(int(channel), "w") as out:

        def say(message: dict[str, Any]) -> None:
            out.write(json.dumps(message) + "\n")
            out.flush()

        place.put(found[0])
        good = read(given, place)  # imports all that it needs
        place.written()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (memory("VmSize") + 2 * MEMORY,) * 2)
        say(good)
        for line in sys.stdin:
            asked = json.loads(line)
            if "k" in asked:
                files = given.mutated(Random(f"{seed}-{asked['k']}"), found, rare)
            else:
                files = {path: base64.b64decode(content) for path, content in asked["files"].items()}
            place.put(files)
            del files
            say({"begun": True})
            clear()
            before, begun = memory("VmRSS"), sum(os.times()[:4])  # of processor time: other work on this machine does not count
            answer = read(given, place)
            seconds, took = sum(os.times()[:4]) - begun, memory("VmHWM") - before
            if answer["outcome"] != "finding":
                if took > MEMORY:
                    answer = {"outcome": "finding", "what": f"memory: {answer['what'][-100:]}"}
                elif changed := place.written():
                    answer = {"outcome": "finding", "what": f"written: {', '.join(changed)[:300]}"}
            else:
                place.written()
            say({**answer, "seconds": seconds, "memory": took})


def planted(name: str) -> Format:
    """A format whose reader has a bug, for the test of this harness: "planted.MODULE.NAME" is `NAME` of that module."""
    import importlib

    module, _, attribute = name.removeprefix("planted.").rpartition(".")
    found: Format = getattr(importlib.import_module(module), attribute)
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
