"""Every look that was taken, in SQLite: when, at what, what it came to, and the listings that were seen.

A DSO's listing is kept once, and so is a set of listings that was published: a look a day that finds nothing
new costs one row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.abi.listing import Listing, parse_line
from pipeline.core.errors import UsageError, WorldError
from pipeline.core.store import digest
from pipeline.drift.record import LookRecord

#: Raised when the tables change; an older database is brought up to it, a newer one is refused.
VERSION = 1
#: Seconds to wait for another process that writes.
PATIENCE = 30.0

_TABLES = """
CREATE TABLE listing (
  id INTEGER PRIMARY KEY,
  sha256 TEXT NOT NULL UNIQUE,   -- of name, soname, arch and text
  name TEXT NOT NULL, soname TEXT NOT NULL, arch TEXT NOT NULL, text TEXT NOT NULL
);
CREATE TABLE snapshot (
  id INTEGER PRIMARY KEY,
  sha256 TEXT NOT NULL UNIQUE    -- of its listings' sha256, sorted
);
CREATE TABLE snapshot_listing (
  snapshot INTEGER NOT NULL REFERENCES snapshot, listing INTEGER NOT NULL REFERENCES listing,
  package TEXT NOT NULL,         -- NVR of the package that has the DSO
  PRIMARY KEY (snapshot, listing)
) WITHOUT ROWID;
CREATE TABLE look (
  id INTEGER PRIMARY KEY,
  source TEXT NOT NULL, arch TEXT NOT NULL, at TEXT NOT NULL, sight TEXT NOT NULL, nvr TEXT NOT NULL,
  sha256 TEXT NOT NULL,          -- of the first package, "" if none was seen
  snapshot INTEGER REFERENCES snapshot,
  record TEXT NOT NULL           -- the look as JSON
);
CREATE INDEX look_of ON look (source, arch, id);
"""


@dataclass(frozen=True)
class Seen:
    """A look that saw listings: when (UTC, ISO 8601), the package's NVR, and the listings by stable name."""

    at: str
    nvr: str
    listings: Mapping[str, Listing]
    snapshot: int


@dataclass(frozen=True)
class Recorded:
    """A look as it was recorded, and the number of its snapshot (None: nothing was seen)."""

    record: LookRecord
    snapshot: int | None


class History:
    """An open database. Raises `WorldError` if the file cannot be used, `UsageError` if it is not ours."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def previous(self, source: str, arch: str) -> Seen | None:
        """The last look at ``source`` that saw listings."""
        row = self._db.execute(
            "SELECT at, nvr, snapshot FROM look WHERE source = ? AND arch = ? AND snapshot IS NOT NULL "
            "ORDER BY id DESC LIMIT 1",
            (source, arch),
        ).fetchone()
        return Seen(row[0], row[1], self.listings(row[2]), row[2]) if row else None

    def listings(self, snapshot: int) -> dict[str, Listing]:
        """The listings of a snapshot by stable name."""
        rows = self._db.execute(
            "SELECT name, soname, arch, text FROM listing JOIN snapshot_listing ON listing = id "
            "WHERE snapshot = ? ORDER BY name",
            (snapshot,),
        )
        return {
            name: Listing(name, soname, arch, frozenset(map(parse_line, text.splitlines())))
            for name, soname, arch, text in rows
        }

    def packages(self, snapshot: int) -> dict[str, str]:
        """DSO -> NVR of the package it came in."""
        rows = self._db.execute(
            "SELECT name, package FROM listing JOIN snapshot_listing ON listing = id WHERE snapshot = ?",
            (snapshot,),
        )
        return dict(rows.fetchall())

    def looks(self, source: str = "", arch: str = "") -> list[Recorded]:
        """All looks, oldest first, of one source and architecture if named."""
        rows = self._db.execute(
            "SELECT record, snapshot FROM look WHERE ? IN ('', source) AND ? IN ('', arch) ORDER BY id",
            (source, arch),
        )
        return [Recorded(LookRecord.model_validate_json(text), snapshot) for text, snapshot in rows]

    def add(
        self, look: LookRecord, listings: Mapping[str, Listing] | None, owners: Mapping[str, str]
    ) -> None:
        """Record a look; ``listings`` is None if it saw none, ``owners`` is DSO -> NVR."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            snapshot = None if listings is None else self._snapshot(listings, owners)
            self._db.execute(
                "INSERT INTO look (source, arch, at, sight, nvr, sha256, snapshot, record) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    look.source, look.arch, look.at, look.sight, look.nvr,
                    look.packages[0].sha256 if look.packages else "", snapshot, look.model_dump_json(),
                ),
            )  # fmt: skip

    def _snapshot(self, listings: Mapping[str, Listing], owners: Mapping[str, str]) -> int:
        keys: dict[str, str] = {}
        for name, x in listings.items():
            keys[name] = digest([name, x.soname, x.arch, x.text])
            self._db.execute(
                "INSERT OR IGNORE INTO listing (sha256, name, soname, arch, text) VALUES (?, ?, ?, ?, ?)",
                (keys[name], name, x.soname, x.arch, x.text),
            )
        # another package with the same listings is another snapshot: it tells whose a DSO is
        key = digest(sorted([name, keys[name], owners.get(name, "")] for name in keys))
        row = self._db.execute("SELECT id FROM snapshot WHERE sha256 = ?", (key,)).fetchone()
        if row:
            return int(row[0])
        made = self._db.execute("INSERT INTO snapshot (sha256) VALUES (?)", (key,)).lastrowid
        assert made is not None
        self._db.executemany(
            "INSERT INTO snapshot_listing SELECT ?, id, ? FROM listing WHERE sha256 = ?",
            [(made, owners.get(name, ""), sha) for name, sha in keys.items()],
        )
        return made


@contextmanager
def opened(file: Path) -> Iterator[History]:
    """The history in ``file``, which is made if it is not there."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(file, timeout=PATIENCE, isolation_level=None)
        try:
            _prepare(connection, file)
            yield History(connection)
        finally:
            connection.close()
    except sqlite3.Error as e:
        raise WorldError(
            f"the history {file} cannot be used: {e}",
            hint="name another with --database, or move the file away to begin anew",
        ) from e


def _prepare(connection: sqlite3.Connection, file: Path) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("BEGIN IMMEDIATE")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise UsageError(
                f"{file} was written by a newer pipeline (version {version} of its tables, not {VERSION})",
                hint="use that pipeline, or name another file with --database",
            )
        if version == 0:
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise UsageError(f"{file} is a database of something else", hint="name another file")
            for statement in _TABLES.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
