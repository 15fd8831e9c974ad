"""The queue's file: its tables, its rows, and what SQLite says when it refuses.  A damaged one is left as it is."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..errors import QueueUnreadable, StorageError, UsageError
from ..files import reason
from .job import Job

OURS = 0x4C696D6E  # "Limn", in the head of the file
VERSION = 1
PATIENCE = 10  # seconds to wait for another program that writes to the file

FIELDS = tuple(field.name for field in fields(Job))
JSON = frozenset(
    {"prompt", "targets", "extra", "document", "outputs", "meta", "messages", "error", "executed", "cached", "past"}
)
COLUMNS = ", ".join(FIELDS)

# A job waits in a line, its client's unless somebody has moved it, at a place.  `begun` and `over` are ticks of a clock
# that counts what happens here, and is never set back.
SCHEMA = (
    """CREATE TABLE jobs (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, state TEXT NOT NULL,
        priority INTEGER NOT NULL, line TEXT NOT NULL, place REAL NOT NULL, begun INTEGER, over INTEGER,
        number NUMERIC NOT NULL, client TEXT NOT NULL, attempt INTEGER NOT NULL,
        created REAL NOT NULL, started REAL, ended REAL, seconds REAL,
        prompt TEXT NOT NULL, targets TEXT NOT NULL, extra TEXT NOT NULL, document TEXT NOT NULL, outputs TEXT NOT NULL,
        meta TEXT NOT NULL, messages TEXT NOT NULL, error TEXT NOT NULL, executed TEXT NOT NULL, cached TEXT NOT NULL,
        past TEXT NOT NULL)""",
    "CREATE INDEX waiting ON jobs (priority, line, place, sequence) WHERE state = 'pending'",
    "CREATE INDEX again ON jobs (begun) WHERE state = 'pending' AND begun IS NOT NULL",
    "CREATE INDEX running ON jobs (begun) WHERE state = 'running'",
    "CREATE INDEX lines ON jobs (line, begun)",
    "CREATE INDEX past ON jobs (over) WHERE over IS NOT NULL",
    "CREATE INDEX states ON jobs (state)",
    "CREATE TABLE clock (tick INTEGER NOT NULL)",
    "INSERT INTO clock VALUES (0)",
    f"PRAGMA application_id = {OURS}",
    f"PRAGMA user_version = {VERSION}",
)


def opened(path: Path) -> sqlite3.Connection:
    """The file, made if it is not there.  Raises `QueueUnreadable` where it is no queue that can be read."""
    with told(path):
        db = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            _begin(db, path)
        except BaseException:
            db.close()
            raise
    return db


@contextmanager
def told(path: Path) -> Iterator[None]:
    """What SQLite raises, as an error of ours."""
    try:
        yield
    except sqlite3.Error as error:
        kind = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if kind in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            raise QueueUnreadable(path, _remedy(path, str(error))) from error
        words = {
            sqlite3.SQLITE_FULL: "the disk is full",
            sqlite3.SQLITE_BUSY: "another program is writing to it",
            sqlite3.SQLITE_READONLY: "it may only be read",
        }
        raise StorageError(path, words.get(kind, str(error))) from error
    except UnicodeEncodeError as error:
        raise UsageError(f"{error.object!r:.80} is no text") from None
    except OSError as error:
        raise StorageError(path, reason(error)) from error


def _row(job: Job) -> list[Any]:
    return [_plain(name, getattr(job, name)) for name in FIELDS]


def add(db: sqlite3.Connection, job: Job, *, line: str, place: float) -> None:
    """Write a new job."""
    marks = ", ".join("?" * (len(FIELDS) + 2))
    db.execute(f"INSERT INTO jobs ({COLUMNS}, line, place) VALUES ({marks})", [*_row(job), line, place])  # noqa: S608


def jobs(db: sqlite3.Connection, where: str, *values: object) -> list[Job]:
    """The jobs that a clause finds."""
    return [_job(found) for found in db.execute(f"SELECT {COLUMNS} FROM jobs {where}", values)]  # noqa: S608 - ours


def _job(row: Sequence[Any]) -> Job:
    return Job.from_json(
        {name: json.loads(value) if name in JSON else value for name, value in zip(FIELDS, row, strict=True)}
    )


def _plain(column: str, value: Any) -> Any:
    if column not in JSON:
        return value
    try:
        return json.dumps(value)  # in ASCII: half a surrogate pair would not be text for SQLite
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"the {column} of a job must be JSON: {error}") from None


def change(db: sqlite3.Connection, name: str, **columns: Any) -> None:
    """Write columns of the job of that id."""
    values = [_plain(column, value) for column, value in columns.items()]
    sets = ", ".join(f"{column} = ?" for column in columns)
    db.execute(f"UPDATE jobs SET {sets} WHERE id = ?", [*values, name])  # noqa: S608 - names of our own


def tick(db: sqlite3.Connection) -> int:
    """The next tick of the clock."""
    db.execute("UPDATE clock SET tick = tick + 1")
    (tick,) = db.execute("SELECT tick FROM clock").fetchone()
    return int(tick)


def _begin(db: sqlite3.Connection, path: Path) -> None:
    """See that the file is a queue of ours and sound, or make it one."""
    (ours,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and ours != OURS:
        raise QueueUnreadable(path, "is a database of another program, and was left as it is")
    if version > VERSION:
        found = f"was written by a later version of Limner (format {version}; this one knows {VERSION})"
        raise QueueUnreadable(path, f"{found}: use that version, or give this one another --data")
    if tables and (found := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise QueueUnreadable(path, _remedy(path, found))
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    if not tables:
        db.execute("BEGIN IMMEDIATE")
        for statement in SCHEMA:
            db.execute(statement)
        db.execute("COMMIT")


def _remedy(path: Path, found: str) -> str:
    return (
        f"is damaged ({found.strip().splitlines()[-1]}), and was left as it is. To begin with an empty queue, rename "
        f"it and what begins with its name; to save what can be, `sqlite3 {path.name} .recover | sqlite3 new.db`"
    )
