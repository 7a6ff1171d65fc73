"""The file of a running experiment: SQLite, with all rows of an image or none of them.

    meta      the settings, which must be the same in a later run, and the provenance (versions, commit, command)
    items     one row for every image that is done, and the seconds that it took
    rows      one row for each image × class × method

If a process is killed, the next one goes on with its file. Each shard of a run has a file of its own in the same folder. All of
them are read as one.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMAT = 1


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
        return {item for (item,) in self._select("SELECT item FROM items")}

    def rows(self) -> list[tuple[Any, ...]]:
        """(item, class, method, *columns) of all measurements, sorted; each once, even if two shards have the same item."""
        columns = ", ".join(("item", "class", "method", *self.columns))
        found = {row[:3]: row for row in self._select(f"SELECT {columns} FROM rows")}
        return [found[key] for key in sorted(found)]

    def seconds(self) -> float:
        """The time that all items took, in sum."""
        return float(sum(dict(self._select("SELECT item, seconds FROM items")).values()))

    def meta(self) -> list[dict[str, Any]]:
        """Settings and provenance of each file."""
        return [_meta(file) for file in self.files()]

    def _select(self, query: str) -> Iterator[Any]:
        for file in self.files():
            with closing(_connect(file)) as connection:
                yield from connection.execute(query).fetchall()

    # -- writing

    def open(self) -> Writer:
        """A writer for this shard's file. The file is made if there is none.

        Raises ValueError if another version of this code began the file: rows of two versions must not be mixed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.file in self.files():
            self._require_same_code()
        connection = _connect(self.file)
        columns = "".join(f"{column} REAL, " for column in self.columns)
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            for statement in (
                "meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
                "items (item TEXT PRIMARY KEY, seconds REAL NOT NULL)",
                f"rows (item TEXT, class TEXT, method TEXT, {columns}PRIMARY KEY (item, class, method))",
            ):
                connection.execute(f"CREATE TABLE IF NOT EXISTS {statement} WITHOUT ROWID")
            meta = {"format": FORMAT, "settings": self.settings, **self.provenance}
            values = [(key, json.dumps(value, ensure_ascii=False)) for key, value in meta.items()]
            connection.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", values)
        return Writer(connection, len(self.columns))

    def _require_same_settings(self, file: Path) -> None:
        meta = _meta(file)
        if meta.get("format") != FORMAT:
            raise ValueError(f"{file}: format: expected {FORMAT}, found {meta.get('format')!r}")
        for key in self.settings:
            asked, found = self.settings[key], meta["settings"].get(key)
            if asked != found:
                raise ValueError(
                    f"{file}: {key}: was measured with {_text(found)}, and {_text(asked)} is asked for; "
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

    def __init__(self, connection: sqlite3.Connection, columns: int):
        self.connection = connection
        self.insert = f"INSERT INTO rows VALUES (?, ?, ?{', ?' * columns})"

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def add(self, found: Found) -> None:
        """Add an item. If another run has added it already, nothing happens."""
        with self.connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            new = connection.execute("INSERT OR IGNORE INTO items VALUES (?, ?)", (found.item, found.seconds))
            if new.rowcount == 0:
                return
            rows: Iterable[tuple[Any, ...]] = ((found.item, row.name, row.method, *row.values) for row in found.rows)
            connection.executemany(self.insert, rows)


def _connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=60, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.DatabaseError as error:
        connection.close()
        raise ValueError(f"{file}: cannot be read as SQLite: {error}") from error
    return connection


def _meta(file: Path) -> dict[str, Any]:
    """Settings and provenance in a file; an empty dictionary if the file has no tables."""
    with closing(_connect(file)) as connection:
        try:
            if not connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
                return {}
            return {key: json.loads(value) for key, value in connection.execute("SELECT key, value FROM meta")}
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{file}: expected the measurements of an experiment: {error}") from error


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
