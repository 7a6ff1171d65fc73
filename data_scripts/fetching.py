"""What all fetch scripts do: download files from the official address or a mirror and check them, or say why not.

A broken download continues where it stopped, in the same run or in the next. A file gets its name only when it is complete
and its checksum is right. If the authors of a file publish a checksum, it is used. If they do not, the
first download is trusted: its sha256 is printed and pinned in `SHA256SUMS` beside it (`sha256sum -c` reads that), and later
downloads must be the same.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lrp_toolbox import Model, save, zoo
from lrp_toolbox.io import require_model_folder

try:
    import pooch
    import requests
    import urllib3
except ModuleNotFoundError as error:
    raise SystemExit(f"error: {error}; downloads take python -m pip install -e '.[fetch]'") from error

PINS = "SHA256SUMS"
CHUNK = 1 << 16
TIMEOUT, ATTEMPTS, WAIT = 30.0, 5, 1.0  # seconds without a byte; attempts that bring no new bytes; the first pause, in seconds
PASSING = (408, 425, 429)  # errors that may pass, as 5xx may

pooch.get_logger().setLevel(logging.WARNING)  # the messages here say the same


class FetchError(Exception):
    """What could not be downloaded, why, and what to do instead."""


class _PassingError(Exception):
    """An attempt that failed, after which another one may succeed."""


@dataclass(frozen=True)
class Remote:
    """A file on the net.

    urls     the official address, then mirrors
    size     about how many bytes
    hash     "sha256:…", "sha1:…" or "md5:…", as published; None if no one did
    """

    name: str
    urls: tuple[str, ...]
    size: float
    hash: str | None = None


IMAGENET_CLASSES = Remote(  # the md5 is Keras' (keras/applications/imagenet_utils.py)
    "imagenet_class_index.json",
    ("https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json",),
    35e3,
    "md5:c2c37ea517e94d9795004a39431a14cb",
)


def fetch(remote: Remote, folder: Path, timeout: float = TIMEOUT, attempts: int = ATTEMPTS, wait: float = WAIT) -> Path:
    """The file, in `folder`; it is not downloaded again if it is there. Raises FetchError."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / remote.name
    known = remote.hash or pinned(target)
    if target.exists():
        if pooch.hashes.hash_matches(str(target), known):
            print(f"{target}: there already")
            return _trusted(target, known)
        print(f"{target}: {_mismatch(target, known)}; getting it again")
    failures = []
    for url in remote.urls:
        try:
            pooch.retrieve(url, known, remote.name, folder, downloader=_Resuming(target, known, timeout, attempts, wait))
        except FetchError as error:
            failures.append(f"{url}: {error}")
        except ValueError as error:  # pooch's word for a wrong checksum
            failures.append(f"{url}: {error}")
        else:
            return _trusted(target, known)
    manual = f"if you get {remote.name} by other means, put it into a folder and say --from FOLDER"
    if remote.hash is None and known is not None:
        manual += f"; if it has changed and you trust it, take its line out of {folder / PINS}"
    raise FetchError("; ".join([f"{remote.name} could not be had", *failures, manual]))


def take(remote: Remote, folder: Path) -> Path:
    """The file in a local folder. Raises FetchError if it is not there or has another checksum."""
    file = folder / remote.name
    if not file.is_file():
        raise FetchError(f"{file}: there is no such file; it comes from {remote.urls[0]}")
    if not pooch.hashes.hash_matches(str(file), remote.hash):
        raise FetchError(f"{file}: {_mismatch(file, remote.hash)}")
    return file


def _mismatch(file: Path, known: str | None) -> str:
    algorithm = pooch.hashes.hash_algorithm(known)
    return f"expected {known}, found {algorithm}:{pooch.file_hash(str(file), alg=algorithm)}"


# ---- Pins ------------------------------------------------------------------------------------------------------------


def pinned(target: Path) -> str | None:
    """The checksum that `target` had when it was first downloaded."""
    return _pins(target.parent / PINS).get(target.name)


def _pins(file: Path) -> dict[str, str]:
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return {name: f"sha256:{digest}" for digest, _, name in (line.partition("  ") for line in lines)}


def _trusted(target: Path, known: str | None) -> Path:
    """`target`, with its sha256 pinned."""
    file = target.parent / PINS
    pins = _pins(file)
    if target.name not in pins or not pooch.hashes.hash_matches(str(target), pins[target.name]):
        pins[target.name] = f"sha256:{pooch.file_hash(str(target))}"
        temporary = file.with_suffix(".new")
        temporary.write_text("".join(f"{digest[7:]}  {name}\n" for name, digest in sorted(pins.items())), encoding="utf-8")
        temporary.replace(file)
        why = "no one publishes a checksum of it: trusted on first use" if known is None else f"is {known}, as published"
        print(f"{target}: {why}; {pins[target.name]} is pinned in {file}")
    return target


# ---- One address -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Resuming:
    """A downloader for pooch that continues where an earlier attempt stopped.

    The bytes so far are in ".NAME.part"; their address and version are in ".NAME.part.json".
    """

    target: Path
    known: str | None
    timeout: float
    attempts: int
    wait: float

    @property
    def part(self) -> Path:
        return self.target.parent / f".{self.target.name}.part"

    @property
    def origin(self) -> Path:
        return self.target.parent / f".{self.target.name}.part.json"

    def __call__(self, url: str, output_file: Any, _pooch: Any, check_only: bool = False) -> None:
        failed, best = 0, self._have(url)[0]
        while True:
            try:
                self._go_on(url)
                break
            except _PassingError as broken:
                have = self.part.stat().st_size if self.part.exists() else 0
                failed = 0 if have > best else failed + 1
                best = max(best, have)
                if failed >= self.attempts:
                    raise FetchError(f"{broken}, after {failed} attempts that brought nothing new") from broken
                pause = self.wait * 2 ** max(failed - 1, 0)
                print(f"{self.target.name}: {broken}; going on in {pause:g} s", file=sys.stderr)
                time.sleep(pause)
        self.part.replace(output_file)
        self.origin.unlink()

    def _have(self, url: str) -> tuple[int, str | None]:
        """How many bytes of the file at `url` are there, and the server's name of their version."""
        if not (self.part.exists() and self.origin.exists()):
            return 0, None
        origin = json.loads(self.origin.read_text(encoding="utf-8"))
        if origin["url"] != url or (origin["version"] is None and self.known is None):
            return 0, None  # two halves of different versions could not be told apart
        return self.part.stat().st_size, origin["version"]

    def _go_on(self, url: str) -> None:
        """Get what is missing of `part`. Raises _PassingError if another attempt may bring more, FetchError if not."""
        have, version = self._have(url)
        headers = {"Accept-Encoding": "identity", "User-Agent": "lrp_toolbox"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if version:
                headers["If-Range"] = version  # another version comes whole
        try:
            with requests.get(url, headers=headers, stream=True, timeout=self.timeout) as response:
                begin, total = self._answer(response, have)
                if begin == 0 or begin != total:  # all of it may have been there
                    self._receive(response, url, begin, total)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _PassingError(f"the connection failed ({type(error).__name__})") from error
        size = self.part.stat().st_size
        if total is not None and size != total:
            raise _PassingError(f"cut off at {size:,} of {total:,} bytes")

    def _answer(self, response: requests.Response, have: int) -> tuple[int, int | None]:
        """The first byte that the server sends, and how many the file has, if it says so."""
        status, reason = response.status_code, f"HTTP {response.status_code} {response.reason}"
        if status in PASSING or status >= 500:
            raise _PassingError(reason)
        if status in (206, 416) and have:
            unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
            span, _, total = rest.partition("/")
            if unit == "bytes" and total.isdecimal():
                if status == 416 and int(total) == have:  # all of it was there
                    return have, have
                if status == 206 and span.startswith(f"{have}-"):
                    return have, int(total)
            self.part.unlink()
            raise _PassingError(f"{reason}: the server does not go on at byte {have:,}")
        if status != 200:
            raise FetchError(reason)
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise FetchError("a web page came instead of the file; it may want you to log in")
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None

    def _receive(self, response: requests.Response, url: str, begin: int, total: int | None) -> None:
        missing, free = (total or 0) - begin, shutil.disk_usage(self.part.parent).free
        if missing > free:
            raise FetchError(
                f"{missing / 1e6:,.0f} MB are missing, and there are {free / 1e6:,.0f} MB free in {self.part.parent}"
            )
        tag = response.headers.get("ETag", "")
        version = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")
        with (
            self.part.open("ab" if begin else "wb") as file,
            tqdm(desc=self.target.name, initial=begin, total=total, unit="B", unit_scale=True, leave=False) as bar,
        ):
            self.origin.write_text(json.dumps({"url": url, "version": version}), encoding="utf-8")
            for chunk in response.raw.stream(
                CHUNK, decode_content=False
            ):  # as stored, whatever the server would have us unpack
                file.write(chunk)
                bar.update(len(chunk))


# ---- Scripts ---------------------------------------------------------------------------------------------------------


def parser(doc: str | None, dest: str) -> argparse.ArgumentParser:
    """The arguments that all scripts have."""
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--dest", type=Path, default=Path(dest), help=f"where the files go; default: {dest}")
    p.add_argument("--from", dest="source", type=Path, metavar="FOLDER", help="take the files from there, not from the net")
    p.add_argument("--dry-run", action="store_true", help="only say what would be done")
    return p


def get(remotes: Sequence[Remote], arguments: argparse.Namespace, licence: str) -> list[Path]:
    """The files, downloaded or from the folder of `--from`. A dry run prints what would be done and returns none."""
    print(f"licence: {licence}")
    if not arguments.dry_run:
        if arguments.source:
            return [take(remote, arguments.source) for remote in remotes]
        _require_space(remotes, arguments.dest)
        return [fetch(remote, arguments.dest) for remote in remotes]
    for remote in remotes:
        size = f"{remote.size / 1e6:,.0f} MB" if remote.size >= 1e6 else f"{remote.size / 1e3:,.0f} kB"
        print(f"{remote.name}, about {size}, to {arguments.dest / remote.name}")
        for url in remote.urls:
            print(f"  {url}")
        print(f"  {remote.hash or pinned(arguments.dest / remote.name) or 'no published checksum: trusted on first use'}")
    return []


def _require_space(remotes: Sequence[Remote], dest: Path) -> None:
    """Raise FetchError before anything is downloaded if there is not enough space."""
    needed = sum(remote.size for remote in remotes if not (dest / remote.name).exists())
    existing = next(folder for folder in [dest.absolute(), *dest.absolute().parents] if folder.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise FetchError(f"{dest}: about {needed / 1e6:,.0f} MB are needed, and there are {free / 1e6:,.0f} MB free")


def get_model(
    doc: str | None,
    nets: Mapping[str, tuple[Remote, ...]],
    build: Callable[[zoo.Architecture, list[Path], tuple[str, ...]], Model],
) -> None:
    """A script for networks of the zoo: get the files of one, make a model of them and the class names, and save it."""
    p = parser(doc, ".cache/downloads")
    p.add_argument("--net", choices=list(nets), default=next(iter(nets)), help=f"default: {next(iter(nets))}")
    p.add_argument("--labels", type=Path, help="synset_words.txt, or imagenet_class_index.json; default: Keras' are downloaded")
    p.add_argument("-o", "--output", type=Path, help="the model's folder; default: models/NET")
    arguments = p.parse_args()
    arguments.dest /= arguments.net  # files of different nets have the same names
    architecture, output = zoo.ZOO[arguments.net], arguments.output or Path("models") / arguments.net
    require_model_folder(output)
    remotes = [*nets[arguments.net], *([] if arguments.labels else [IMAGENET_CLASSES])]
    files = get(remotes, arguments, architecture.licence)
    if arguments.dry_run:
        print(f"model, to {output}")
        return
    classes = zoo.read_labels(arguments.labels or files[-1])
    print(f"model: {save(build(architecture, files, classes), output)}")


def run(main: Callable[[], None]) -> None:
    """Run a script. An error is one line, and the exit code is 2."""
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        sys.exit(130)
    except (FetchError, ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
