"""What the supervisor knows of each process: when it may start again, and how often and why it ended.

Pure: the time is handed in, so a day of crashes is tested in a moment. The time between two starts doubles with every
end in a row, up to half a minute, and is never longer: whatever kept a process from starting may be gone at any time (a
port, a disk, a network), and nobody should have to notice. It counts from start to start, so that one which has lived
for a while and is then killed comes back at once. A minute of life makes the next end the first one again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BROKER = "broker"
"""What the broker is called among the processes; the others bear the names of their services."""

FIRST_SECONDS = 0.2
LONGEST_SECONDS = 30.0
HEALTHY_SECONDS = 60.0
REASON_CHARACTERS = 500
REASON_LINES = 12


def wait_before_start(ends: int, lived_seconds: float = 0.0) -> float:
    """Seconds to wait after that many ends in a row (1 for the first), the last life having been that long."""
    between_starts = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(ends - 1, 30))
    return max(FIRST_SECONDS, between_starts - lived_seconds)


@dataclass(slots=True)
class History:
    """One process. Times are seconds of a clock that never goes back, but `ended_at`, which is for people.

    ends: in a row, without a minute of life between. restarts: since the supervisor began. exit_code: of the last end;
    negative is a signal, None is not known (it was started by another process, or could not even be started).
    """

    ends: int = 0
    restarts: int = 0
    exit_code: int | None = None
    reason: str = ""
    ended_at: str = ""
    due: float | None = None
    began: float | None = None

    def is_due(self, now: float) -> bool:
        """Whether there is something to do about one that does not live: note its end, or start it."""
        return self.due is None or self.due <= now

    def lives(self, now: float) -> bool:
        """It was seen alive; True if it has just proved healthy after it had failed."""
        self.due = None
        if self.began is None:
            self.began = now
        if self.ends and now - self.began >= HEALTHY_SECONDS:
            self.ends = 0
            return True
        return False

    def ended(self, now: float, exit_code: int | None, reason: str, at: str) -> float:
        """It has ended, or could not be started; returns the seconds until it may be started again."""
        lived = 0.0 if self.began is None else now - self.began
        if lived >= HEALTHY_SECONDS:
            self.ends = 0
        self.began = None
        self.ends += 1
        self.exit_code, self.ended_at = exit_code, at
        self.reason = " ".join(reason.split())[:REASON_CHARACTERS]
        wait = wait_before_start(self.ends, lived)
        self.due = now + wait
        return wait

    def started(self, now: float) -> None:
        """It was started again."""
        self.restarts += 1
        self.began = now
        self.due = None

    def document(self) -> dict[str, Any]:
        """What other commands may know of it."""
        return {
            "restarts": self.restarts,
            "ends_in_a_row": self.ends,
            "exit_code": self.exit_code,
            "reason": self.reason,
            "ended_at": self.ended_at,
        }


def reason_in(lines: list[str]) -> str:
    """Why a process ended, from the last lines of its log: the last that is no log record but a sentence.

    A service that gives up says why in one plain line (`scoring: ...`); all else in its log is JSON.
    """
    for line in reversed(lines[-REASON_LINES:]):
        if not line.startswith("{"):
            return line
    return ""


def told(known: Mapping[str, Any]) -> str:
    """One process's history as a sentence for people; "" if there is nothing to tell."""
    if not known.get("ends_in_a_row"):
        return ""
    ends, code = int(known["ends_in_a_row"]), known.get("exit_code")
    how = "" if code is None else f", {ended_how(code)}"
    reason = f": {known['reason']}" if known.get("reason") else ""
    return f"ended {'once' if ends == 1 else f'{ends} times in a row'}{how}{reason}"


def ended_how(code: int) -> str:
    """An exit code in words."""
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"
