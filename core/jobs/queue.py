"""The queue: every job, waiting, running and past, in SQLite.  What it has accepted is on disk, and stays the truth."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..errors import Conflict, NoSuchJob, UsageError
from . import ledger, story, turns
from .job import ATTEMPTS, FINAL, Job, State
from .lock import Lock

HIGHEST = 2**31  # priority
LONGEST = 1000  # characters of an id
LARGEST_PAGE = 1000

TRIM = """DELETE FROM jobs WHERE over <=
    (SELECT over FROM jobs WHERE over IS NOT NULL ORDER BY over DESC LIMIT 1 OFFSET ?)"""


class Queue:
    """Jobs in the order in which they will run, run, or ran.  Every method is safe to call from any thread, and short.

    Whatever changes is on disk when the method returns.  A disk that refuses raises `StorageError`; nothing has changed
    then.
    """

    def __init__(self, path: Path, keep: int = 1000) -> None:
        """Open the queue, or make it; of ended jobs, the last `keep` are remembered.

        Raises `Busy` where another server has it, and `QueueUnreadable` where it is damaged or of a later version.
        """
        self.path, self.keep = path, keep
        self._mutex = threading.RLock()
        self._lock = Lock(path.with_name(f"{path.name}.lock"))
        try:
            self._db = ledger.opened(path)
        except BaseException:
            self._lock.close()
            raise

    def tell(self, address: str) -> None:
        """Say where this server can be found, for a second one that wants the same queue."""
        self._lock.tell(address)

    def submit(  # noqa: PLR0913 - all that there is to say of a job
        self,
        *,
        prompt: Mapping[str, Any],
        targets: Sequence[str],
        id: str | None = None,  # noqa: A002 - it is what jobs have
        client: str = "",
        number: float | None = None,
        front: bool = False,
        priority: int = 0,
        extra: Mapping[str, Any] | None = None,
        document: Mapping[str, Any] | None = None,
    ) -> Job:
        """Accept a job: it is on disk when this returns.

        A job of a known id takes the place of the old one, if that has ended; else `Conflict` is raised.  `UsageError`
        is raised for a number, priority or id that cannot be one.
        """
        name = _text(uuid4().hex if id is None else id, "id")
        number, client = _number(number), _text(client, "client id", empty=True)
        _check_priority(priority)
        with self._changing() as db:
            found = db.execute("SELECT state FROM jobs WHERE id = ?", [name]).fetchone()
            if found and found[0] not in FINAL:
                raise Conflict(f"there is a job {name!r} already, and it is {found[0]}")
            db.execute("DELETE FROM jobs WHERE id = ?", [name])
            last = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'").fetchone()
            sequence = last[0] + 1 if last else 1
            if number is None:
                number = -sequence if front else sequence
            job = Job(
                name, sequence, number, priority, client, prompt, tuple(targets), extra or {}, document,
                "pending", 0, time.time(), None, None, {}, {}, (), None, (), (), None,
            )  # fmt: skip
            ledger.add(db, job, line=client, place=number)
            return self._one(db, name)

    def claim(self, most: int = 1) -> list[Job]:
        """The next jobs, running from now on: their attempts are counted before they begin.

        One that was cut short comes alone, so that if it takes its worker down again, no other is to blame.
        """
        with self._changing() as db:
            if (again := turns.cut_short(db)) is not None:
                return [self._begin(db, again)] if most > 0 else []
            claimed: list[Job] = []
            while len(claimed) < most and (name := turns.next_one(db)) is not None:
                claimed.append(self._begin(db, name))
            return claimed

    def finish(  # noqa: PLR0913 - all that can become of a job
        self,
        id: str,  # noqa: A002
        state: State,
        *,
        outputs: Mapping[str, Any] | None = None,
        meta: Mapping[str, Any] | None = None,
        messages: Sequence[tuple[str, Mapping[str, Any]]] = (),
        error: Mapping[str, Any] | None = None,
        executed: Sequence[str] = (),
        cached: Sequence[str] = (),
        seconds: float | None = None,
    ) -> Job:
        """Record what became of a running job; raises `Conflict` if it is not running."""
        said = {"outputs": outputs or {}, "meta": meta or {}, "messages": messages, "error": error}
        with self._changing() as db:
            self._running(db, id)
            return self._end(db, id, state, **said, executed=executed, cached=cached, seconds=seconds)

    def requeue(self, id: str, *, counted: bool = True, reason: str = "its worker has ended") -> Job:  # noqa: A002
        """A running job whose worker was lost waits again, before all others.

        If that has happened as often as `ATTEMPTS` it is quarantined; `counted` is False where it is not to blame.
        """
        with self._changing() as db:
            return self._again(db, self._running(db, id), counted=counted, reason=reason)

    def recover(self) -> list[Job]:
        """At the start: jobs that ran when the server was killed wait again, or are quarantined; they are returned."""
        with self._changing() as db:
            found = ledger.jobs(db, "WHERE state = 'running' ORDER BY begun")
            return [self._again(db, job, counted=True, reason="the server has ended") for job in found]

    def get(self, id: str) -> Job | None:  # noqa: A002
        """The job of that id."""
        with self._reading() as db:
            return next(iter(ledger.jobs(db, "WHERE id = ?", id)), None)

    def pending(self) -> list[Job]:
        """The jobs that wait, in the order in which they will run."""
        with self._reading() as db:
            places = db.execute("SELECT id, line, place, begun FROM jobs WHERE state = 'pending'").fetchall()
            jobs = {job.id: job for job in ledger.jobs(db, "WHERE state = 'pending'")}
            served = turns.served(db)
        return turns.in_turn([turns.Waiting(jobs[i], *place) for i, *place in places], served)

    def running(self) -> list[Job]:
        """The jobs that run, the first begun first."""
        with self._reading() as db:
            return ledger.jobs(db, "WHERE state = 'running' ORDER BY begun")

    def remaining(self) -> int:
        """How many jobs wait or run."""
        found = self.counts()
        return found.get("pending", 0) + found.get("running", 0)

    def counts(self) -> dict[State, int]:
        """How many jobs there are of each state."""
        with self._reading() as db:
            return dict(db.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall())

    def page(
        self, *, before: int | None = None, limit: int = 50, states: Sequence[State] = (), client: str | None = None
    ) -> list[Job]:
        """Jobs of any state, the newest first; the next page begins `before` the sequence of the last one."""
        terms: dict[str, Sequence[object]] = {"1": ()}
        if before is not None:
            terms["sequence < ?"] = (max(0, min(before, 2**63 - 1)),)
        if states:
            terms[f"state IN ({', '.join('?' * len(states))})"] = states
        if client is not None:
            terms["client = ?"] = (client,)
        values = (value for given in terms.values() for value in given)
        where = f"WHERE {' AND '.join(terms)} ORDER BY sequence DESC LIMIT ?"
        with self._reading() as db:
            return ledger.jobs(db, where, *values, max(1, min(limit, LARGEST_PAGE)))

    def history(self, *, most: int | None = None, offset: int = -1) -> list[Job]:
        """Jobs that were begun and have ended, in the order in which they did.

        As ComfyUI counts: `most` from `offset` on; with a negative offset the last `most`.
        """
        where = "WHERE over IS NOT NULL AND state != 'cancelled'"
        with self._reading() as db:
            if offset < 0:
                (count,) = db.execute(f"SELECT count(*) FROM jobs {where}").fetchone()  # noqa: S608
                offset = 0 if most is None else max(count - most, 0)
            values = -1 if most is None else max(most, 0), min(offset, 2**63 - 1)
            return ledger.jobs(db, f"{where} ORDER BY over LIMIT ? OFFSET ?", *values)

    def cancel(self, id: str) -> Job | None:  # noqa: A002
        """Cancel a job that waits; None if it does not, or no more."""
        with self._changing() as db:
            found = db.execute("SELECT 1 FROM jobs WHERE id = ? AND state = 'pending'", [id]).fetchone()
            return self._end(db, id, "cancelled") if found else None

    def clear(self) -> int:
        """Cancel all that wait; how many those were."""
        with self._changing() as db:
            names = db.execute("SELECT id FROM jobs WHERE state = 'pending' ORDER BY sequence").fetchall()
            rows = [(time.time(), ledger.tick(db), name) for (name,) in names]
            db.executemany("UPDATE jobs SET state = 'cancelled', ended = ?, over = ? WHERE id = ?", rows)
            db.execute(TRIM, [self.keep])
        return len(names)

    def prioritise(self, id: str, *, priority: int | None = None, before: str | None = None) -> Job:  # noqa: A002
        """Give a waiting job another priority, or put it right before another waiting one, into whose line it comes.

        Raises `NoSuchJob`, or `Conflict` where one of them does not wait.
        """
        if (priority is None) == (before is None):
            raise UsageError("a job is given either a priority, or another job that it is to run before")
        with self._changing() as db:
            self._waiting(db, id)
            if priority is not None:
                _check_priority(priority)
                db.execute("UPDATE jobs SET priority = ? WHERE id = ?", [priority, id])
            elif before is not None and before != id:
                self._waiting(db, before)
                turns.move(db, id, before)
            return self._one(db, id)

    def forget(self, ids: Sequence[str] | None = None) -> int:
        """Forget ended jobs, all of them or those named; how many those were."""
        with self._changing() as db:
            if ids is None:
                return db.execute("DELETE FROM jobs WHERE over IS NOT NULL").rowcount
            return sum(db.execute("DELETE FROM jobs WHERE id = ? AND over IS NOT NULL", [i]).rowcount for i in ids)

    def close(self) -> None:
        """Let go of the file and of the lock."""
        with self._mutex:
            self._db.close()
            self._lock.close()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._mutex, ledger.told(self.path):
            yield self._db

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it or nothing."""
        with self._reading() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # a disk that is full has ended it already
                    db.execute("ROLLBACK")
                raise

    def _one(self, db: sqlite3.Connection, name: str) -> Job:
        found = ledger.jobs(db, "WHERE id = ?", name)
        if not found:
            raise NoSuchJob(f"there is no job {name!r}")
        return found[0]

    def _begin(self, db: sqlite3.Connection, name: str) -> Job:
        attempt = self._one(db, name).attempt + 1
        ledger.change(db, name, state="running", attempt=attempt, started=time.time(), begun=ledger.tick(db))
        return self._one(db, name)

    def _running(self, db: sqlite3.Connection, name: str) -> Job:
        job = self._one(db, name)
        if job.state != "running":
            raise Conflict(f"the job {name!r} is {job.state}, not running")
        return job

    def _waiting(self, db: sqlite3.Connection, name: str) -> None:
        if (state := self._one(db, name).state) != "pending":
            raise Conflict(f"the job {name!r} does not wait: it is {state}")

    def _end(self, db: sqlite3.Connection, name: str, state: State, **found: Any) -> Job:
        if state not in FINAL:
            raise UsageError(f"a job ends as one of: {', '.join(FINAL)}; not {state!r}")
        ledger.change(db, name, state=state, ended=time.time(), over=ledger.tick(db), **found)
        job = self._one(db, name)
        db.execute(TRIM, [self.keep])
        return job

    def _again(self, db: sqlite3.Connection, job: Job, *, counted: bool, reason: str) -> Job:
        said = {"attempt": job.attempt, "state": "interrupted", "started": job.started, "ended": time.time()}
        past = (*job.past, {**said, "reason": reason})
        if counted and job.attempt >= ATTEMPTS:
            error = story.error("quarantined", "WorkerLost", f"set aside: {reason} while it ran, {job.attempt} times")
            messages = story.unfinished(job, "quarantined", error)
            return self._end(db, job.id, "quarantined", past=past, error=error, messages=messages)
        ledger.change(db, job.id, state="pending", attempt=job.attempt - (not counted), started=None, past=past)
        return self._one(db, job.id)


def _number(number: object) -> float | None:
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) < 1e300:
        raise UsageError(f"the number of a job must be a finite number, not {number!r:.80}")
    return float(number)


def _check_priority(priority: object) -> None:
    if type(priority) is not int or not -HIGHEST <= priority <= HIGHEST:
        raise UsageError(f"the priority of a job must be a whole number up to {HIGHEST}, not {priority!r:.80}")


def _text(value: object, what: str, *, empty: bool = False) -> str:
    if not isinstance(value, str) or len(value) > LONGEST or not (value or empty):
        raise UsageError(f"the {what} of a job must be a text of 1 to {LONGEST} characters, not {value!r:.80}")
    try:
        value.encode()
    except UnicodeError:
        raise UsageError(f"the {what} of a job must be text, not {value!r:.80}") from None
    return value
