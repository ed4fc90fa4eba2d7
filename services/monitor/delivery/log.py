"""What was told to whom, on disk (SQLite): each channel's place in the alerts topic, and every delivery.

A place moves on in the same transaction in which the deliveries it stands for are noted, so a crash loses none and
repeats none; only a delivery that was on its way is sent again, under its old id. Lost, the file costs what was still
to be sent: a channel without a place begins at the topic's end. Bounds: `WAITING_KEPT` deliveries that wait (a channel;
beyond it the oldest is given up) and `DONE_KEPT` that are done (beyond it the oldest is forgotten).
"""

import sqlite3
import threading
from pathlib import Path
from typing import Literal, NamedTuple

from headrace.contracts.codec import decode_alert, encode
from headrace.contracts.events import Alert
from headrace.errors import Unusable

WAITING_KEPT = 1_000
DONE_KEPT = 10_000
ERROR_LENGTH = 200

_ABOVE_ALL = 1 << 62

Status = Literal["waiting", "delivered", "muted", "given_up"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS places (channel TEXT PRIMARY KEY, next_offset INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS deliveries (
  number INTEGER PRIMARY KEY AUTOINCREMENT, channel TEXT NOT NULL, event TEXT NOT NULL, alert TEXT NOT NULL,
  body BLOB NOT NULL, status TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, since INTEGER NOT NULL,
  due INTEGER NOT NULL, changed INTEGER NOT NULL, error TEXT NOT NULL DEFAULT '', UNIQUE (channel, event));
CREATE INDEX IF NOT EXISTS by_status ON deliveries (channel, status, number);
CREATE INDEX IF NOT EXISTS by_alert ON deliveries (channel, alert, number);
"""


class Delivery(NamedTuple):
    """One step of an alert for one channel. since, due, changed: wall time, ms; due: of the next attempt."""

    number: int
    channel: str
    alert: Alert
    status: Status
    attempts: int
    since: int
    due: int
    changed: int
    error: str


_DUE = """
SELECT number, channel, body, status, attempts, since, due, changed, error FROM deliveries AS one
WHERE channel = ? AND status = 'waiting' AND due <= ? AND NOT EXISTS (
  SELECT 1 FROM deliveries AS earlier WHERE earlier.channel = one.channel AND earlier.alert = one.alert
  AND earlier.status = 'waiting' AND earlier.number < one.number)
ORDER BY number LIMIT 1
"""
_PAGE = """
SELECT number, channel, body, status, attempts, since, due, changed, error FROM deliveries
WHERE (:channel = '' OR channel = :channel) AND (:alert = '' OR alert = :alert)
AND (:status = '' OR status = :status) AND number < :below
ORDER BY number DESC LIMIT :limit
"""


class DeliveryLog:
    """The file. Safe to use from several threads; each call is one short transaction."""

    def __init__(self, path: Path) -> None:
        """Open it, or make it. Raises `Unusable` if it is damaged, or another process has it."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = threading.Lock()
        try:
            self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            path.chmod(0o600)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise Unusable(f"{path} cannot be used: {error}; without it, deliveries begin anew") from None

    def places(self) -> dict[str, int]:
        """By channel, the offset of the first record of the alerts topic that it has not seen."""
        with self._lock:
            return dict(self._database.execute("SELECT channel, next_offset FROM places").fetchall())

    def begin(self, channel: str, offset: int) -> None:
        """A channel that has no place yet begins here."""
        with self._lock:
            self._database.execute("INSERT OR IGNORE INTO places VALUES (?, ?)", (channel, offset))

    def knows(self, channel: str, alert: str) -> bool:
        """Whether the channel was, or is being, told of this alert."""
        query = "SELECT 1 FROM deliveries WHERE channel = ? AND alert = ? AND status != 'muted' LIMIT 1"
        with self._lock:
            return self._database.execute(query, (channel, alert)).fetchone() is not None

    def note(self, channel: str, next_offset: int, step: Alert | None, status: Status, now: int) -> None:
        """The channel has seen the topic up to here; with a step, that is to be told (or is `muted`)."""
        with self._lock, self._database:
            self._database.execute("BEGIN IMMEDIATE")
            if step is not None:
                self._database.execute(
                    "INSERT OR IGNORE INTO deliveries (channel, event, alert, body, status, since, due, changed)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (channel, step.id, step.fired, encode(step), status, now, now, now),
                )
                self._trim(channel, now)
            self._database.execute("INSERT OR REPLACE INTO places VALUES (?, ?)", (channel, next_offset))

    def next_due(self, channel: str, now: int) -> Delivery | None:
        """What is to be sent now, if anything; of one alert, never a step before those that came before it."""
        with self._lock:
            row = self._database.execute(_DUE, (channel, now)).fetchone()
        return None if row is None else _delivery(row)

    def attempted(self, number: int, status: Status, now: int, *, due: int = 0, error: str = "") -> None:
        """An attempt has ended. error: without secrets."""
        with self._lock:
            self._database.execute(
                "UPDATE deliveries SET status = ?, attempts = attempts + 1, changed = ?, due = ?, error = ?"
                " WHERE number = ?",
                (status, now, due, error[:ERROR_LENGTH], number),
            )

    def waiting(self) -> dict[str, int]:
        """How many wait, by channel."""
        query = "SELECT channel, count(*) FROM deliveries WHERE status = 'waiting' GROUP BY channel"
        with self._lock:
            return dict(self._database.execute(query).fetchall())

    def page(
        self, limit: int, below: int | None, *, channel: str = "", alert: str = "", status: str = ""
    ) -> list[Delivery]:
        """Deliveries, newest first; those with a number below `below`."""
        given = {"channel": channel, "alert": alert, "status": status, "limit": limit}
        with self._lock:
            return [
                _delivery(row)
                for row in self._database.execute(_PAGE, given | {"below": below or _ABOVE_ALL})
            ]

    def close(self) -> None:
        """Nothing may be asked afterwards."""
        with self._lock:
            self._database.close()

    def _trim(self, channel: str, now: int) -> None:
        self._database.execute(
            "UPDATE deliveries SET status = 'given_up', changed = ?, error = 'too many were waiting' WHERE number IN"
            " (SELECT number FROM deliveries WHERE channel = ? AND status = 'waiting'"
            " ORDER BY number DESC LIMIT -1 OFFSET ?)",
            (now, channel, WAITING_KEPT),
        )
        self._database.execute(
            "DELETE FROM deliveries WHERE number IN (SELECT number FROM deliveries WHERE status != 'waiting'"
            " ORDER BY number DESC LIMIT -1 OFFSET ?)",
            (DONE_KEPT,),
        )


def _delivery(row: tuple[int, str, bytes, Status, int, int, int, int, str]) -> Delivery:
    number, channel, body, status, attempts, since, due, changed, error = row
    return Delivery(number, channel, decode_alert(body), status, attempts, since, due, changed, error)
