"""The file of a running experiment: SQLite, with all rows of an image or none of them.

    meta      the settings, which must be the same in a later run, and the provenance (versions, commit, command)
    items     one row for every image that is done, and the seconds that it took
    rows      one row for each image × class × method

If a process is killed, the next one goes on with its file. Two processes may write to one file at once. Each shard of a run has
a file of its own in the same folder. All of them are read as one. What is read is checked: a file may be broken, or not ours.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..io import brief

FORMAT = 1
TABLES = {"meta", "items", "rows"}
NUMBER = (int, float)


@dataclass(frozen=True)
class Row:
    """The measurement of one image × class × method; `values` has a number, or None, for each column of the store."""

    name: str  # of the class
    method: str
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class Found:
    """All measurements of one image."""

    item: str
    seconds: float
    rows: Sequence[Row]


class Store:
    """The files `NAME.sqlite` and `NAME-2of8.sqlite` of a folder. New rows go to the file of this shard.

    Raises ValueError if a file was measured with other `settings`, and says which setting differs.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        columns: Sequence[str],
        settings: Mapping[str, Any],
        provenance: Mapping[str, Any],
        shard: tuple[int, int] = (1, 1),
    ):
        self.columns = tuple(columns)
        self.settings, self.provenance = json.loads(json.dumps(settings)), dict(provenance)
        self.folder, self.name = folder, name
        self.file = folder / (f"{name}.sqlite" if shard == (1, 1) else f"{name}-{shard[0]}of{shard[1]}.sqlite")
        for file in self.files():
            self._require_same_settings(file)

    def files(self) -> list[Path]:
        """All files of this measurement. A file without tables does not count: its process was killed before it wrote them."""
        found = [*self.folder.glob(f"{self.name}.sqlite"), *self.folder.glob(f"{self.name}-*of*.sqlite")]
        return sorted(file for file in found if _meta(file))

    # -- reading

    def done(self) -> set[str]:
        """The items that are measured, in any of the files."""
        return {item for item, _ in self._items()}

    def rows(self) -> list[tuple[Any, ...]]:
        """(item, class, method, *columns) of all measurements, sorted; each once, even if two shards have the same item."""
        columns = ", ".join(("item", "class", "method", *self.columns))
        found = {}
        for file, row in self._select(f"SELECT {columns} FROM rows"):
            if not all(isinstance(key, str) for key in row[:3]) or not all(v is None or isinstance(v, NUMBER) for v in row[3:]):
                raise ValueError(f"{file}: rows: expected three names and then numbers, found {brief(row)}")
            found[row[:3]] = row
        return [found[key] for key in sorted(found)]

    def seconds(self) -> float:
        """The time that all items took, in sum."""
        return float(sum(dict(self._items()).values()))

    def _items(self) -> Iterator[tuple[str, float]]:
        for file, (item, seconds) in self._select("SELECT item, seconds FROM items"):
            if not isinstance(item, str) or not isinstance(seconds, NUMBER):
                raise ValueError(f"{file}: items: expected a name and a number of seconds, found {brief((item, seconds))}")
            yield item, seconds

    def meta(self) -> list[dict[str, Any]]:
        """Settings and provenance of each file."""
        return [_meta(file) for file in self.files()]

    def _select(self, query: str) -> Iterator[tuple[Path, tuple[Any, ...]]]:
        for file in self.files():
            with _reading(file) as connection:
                found = connection.execute(query).fetchall()
            yield from ((file, row) for row in found)

    # -- writing

    def open(self) -> Writer:
        """A writer for this shard's file. The file is made if there is none.

        Raises ValueError if another version of this code began the file: rows of two versions must not be mixed. The same if
        another run with other settings has made a file in the meantime. Raises OSError if the file cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.file in self.files():
            self._require_same_code()
        connection = _connect(self.file)
        made = False
        try:
            made = self._begin(connection)
            for file in self.files():  # again, now that the file is there: two runs may begin at the same time
                self._require_same_settings(file)
            self._require_same_code()
        except BaseException:
            if made:
                self._undo(connection)
            connection.close()
            raise
        return Writer(connection, len(self.columns), self.file)

    def _begin(self, connection: sqlite3.Connection) -> bool:
        """Make the tables, and enter settings and provenance, if there are none; whether there were none."""
        columns = "".join(f"{column} REAL, " for column in self.columns)
        with _writing(self.file, connection):
            made = not connection.execute("SELECT 1 FROM sqlite_schema").fetchone()
            for statement in (
                "meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
                "items (item TEXT PRIMARY KEY, seconds REAL NOT NULL)",
                f"rows (item TEXT, class TEXT, method TEXT, {columns}PRIMARY KEY (item, class, method))",
            ):
                connection.execute(f"CREATE TABLE IF NOT EXISTS {statement} WITHOUT ROWID")
            meta = {"format": FORMAT, "settings": self.settings, **self.provenance}
            values = [(key, json.dumps(value, ensure_ascii=False)) for key, value in meta.items()]
            connection.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", values)
        return made

    def _undo(self, connection: sqlite3.Connection) -> None:
        """Take the tables away that this run has made, if they are empty: their settings must not be in the way of others."""
        with _writing(self.file, connection):
            if not connection.execute("SELECT 1 FROM items").fetchone():
                for table in TABLES:
                    connection.execute(f"DROP TABLE {table}")

    def _require_same_settings(self, file: Path) -> None:
        meta = _meta(file)
        if meta.get("format") != FORMAT:
            raise ValueError(f"{file}: format: expected {FORMAT}, found {brief(meta.get('format'))}")
        for key in self.settings:
            asked, found = self.settings[key], meta["settings"].get(key)
            if asked != found:
                raise ValueError(
                    f"{file}: {key}: was measured with {_text(found)[:1000]}, and {_text(asked)} is asked for; "
                    "give another folder (--out), or ask for the same"
                )

    def _require_same_code(self) -> None:
        found, own = _meta(self.file), self.provenance
        if found["code"] != own["code"]:
            raise ValueError(
                f"{self.file}: was begun by other code (version {found['version']}, commit {found['commit']}) than this "
                f"(version {own['version']}, commit {own['commit']}), and rows of two versions must not be mixed; "
                "go on with the other version, or give another folder (--out)"
            )


class Writer:
    """Adds items to a file, each with all its rows or not at all."""

    def __init__(self, connection: sqlite3.Connection, columns: int, file: Path):
        self.connection, self.file = connection, file
        self.insert = f"INSERT INTO rows VALUES (?, ?, ?{', ?' * columns})"

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def add(self, found: Found) -> None:
        """Add an item. If another run has added it already, nothing happens. Raises OSError if the file cannot be written."""
        with _writing(self.file, self.connection) as connection:
            new = connection.execute("INSERT OR IGNORE INTO items VALUES (?, ?)", (found.item, found.seconds))
            if new.rowcount == 0:
                return
            rows: Iterable[tuple[Any, ...]] = ((found.item, row.name, row.method, *row.values) for row in found.rows)
            connection.executemany(self.insert, rows)


@contextmanager
def _writing(file: Path, connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """A transaction: all that the block writes, or nothing of it."""
    try:
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
    except sqlite3.OperationalError as error:  # the disk is full, for example
        raise OSError(f"{file}: cannot be written: {error}; all that was done is kept: run this again") from error


@contextmanager
def _reading(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(_connect(file)) as connection:
        try:
            yield connection
        except (sqlite3.Error, UnicodeError) as error:  # the latter for the text of its tables
            raise ValueError(f"{file}: expected the measurements of an experiment: {brief(error)}") from error


def _connect(file: Path) -> sqlite3.Connection:
    connection = None
    try:
        connection = sqlite3.connect(file, timeout=60, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    except (sqlite3.Error, UnicodeError) as error:
        if connection is not None:
            connection.close()
        raise ValueError(f"{file}: cannot be read as SQLite: {brief(error)}") from error
    return connection


def _meta(file: Path) -> dict[str, Any]:
    """Settings and provenance in a file; an empty dictionary if the file has no tables."""
    with _reading(file) as connection:
        known = connection.execute("SELECT type, name FROM sqlite_schema").fetchall()
        if not known:
            return {}
        if set(known) != {("table", name) for name in TABLES}:  # a view or a trigger can do anything
            raise ValueError(f"{file}: expected the tables {', '.join(sorted(TABLES))}, found {brief(known)}")
        stored = connection.execute("SELECT key, value FROM meta").fetchall()
    try:
        meta = {key: json.loads(value) for key, value in stored}
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{file}: meta: expected JSON: {brief(error)}") from error
    if not isinstance(meta.get("settings"), dict):
        raise ValueError(f"{file}: settings: expected an object, found {brief(meta.get('settings'))}")
    methods = meta["settings"].get("methods", [])
    if not isinstance(methods, list) or not all(isinstance(method, str) for method in methods):
        raise ValueError(f"{file}: methods: expected a list of names, found {brief(methods)}")
    for key in ("code", "version", "commit"):
        if not isinstance(meta.get(key), str):
            raise ValueError(f"{file}: {key}: expected text, found {brief(meta.get(key))}")
    return meta


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
