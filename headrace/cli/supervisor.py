"""`python -m headrace.cli.supervisor`: brings back what dies, the embedded broker and the services of one installation.

Started by `up`, stopped by `down` before anything else. It owns nothing: it finds processes by pid and mark in
`run.json`, as every command does, so it may be killed and replaced at any time, and those it watches never notice. It
starts a process only under the lock that `up` and `down` take, and only while `run.json` names it as the one who
watches; so it neither fights them nor a second supervisor. It sleeps until a process ends (or a second is over), holds
a few numbers a process, and imports no HTTP client and no Kafka client.

It looks at death only. A process that lives and does nothing is a defect to be mended in that process, which ends
itself when it cannot go on; killing what is merely slow would make a long replay endless.
"""

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from headrace.broker import BrokerError, EmbeddedBroker
from headrace.broker.locks import held
from headrace.cli import processes
from headrace.cli.home import SERVICES, Home, Run, Running, write_json
from headrace.cli.launch import log_of, start_broker, start_service
from headrace.cli.supervision import BROKER, REASON_LINES, History, ended_how, reason_in
from headrace.errors import HeadraceError

LOOK_SECONDS = 1.0
"""Longest sleep: after it `run.json` is read again, in case a command has changed it."""
BUSY_SECONDS = 0.2
"""Until the next try while another command holds the lock."""
TRIM_SECONDS = 60.0
STOP_SECONDS = 20.0

Note = Callable[..., None]


class Supervisor:
    """Watches one installation. Not for several threads. clock: seconds, never going back."""

    def __init__(self, home: Home, note: Note, clock: Callable[[], float] = time.monotonic) -> None:
        self._home = home
        self._note = note
        self._clock = clock
        self._histories = {name: History() for name in (BROKER, *SERVICES)}
        self._log_starts: dict[str, int] = {}
        self._trimmed = clock()
        self.watched: list[int] = []
        """The processes that live."""
        self.patience = 0.0
        """How long to sleep unless one of them ends."""

    def turn(self) -> bool:
        """Look at every process, start what is due; False once somebody else is in charge."""
        run = self._home.load()
        if not _in_charge(run):
            return self._wait_to_be_named()
        now = self._clock()
        alive = self._alive(run)
        self.watched = list(alive.values())
        missing = [name for name in self._histories if name not in alive and self._wanted(name, run)]
        for name in alive:
            if self._histories[name].lives(now):
                self._note("healthy again", process=name)
                self._tell()
        waits = [LOOK_SECONDS]
        if any(self._histories[name].is_due(now) for name in missing) and not self._mend():
            waits.append(BUSY_SECONDS)
        else:
            waits += [due - now for name in missing if (due := self._histories[name].due) is not None]
        self.patience = max(0.0, min(waits))
        self._trim(now)
        return True

    # -- looking ------------------------------------------------------------------------------------------------------

    def _alive(self, run: Run) -> dict[str, int]:
        """The pids of those that live."""
        found = {name: one.pid for name, one in run.services.items() if processes.is_alive(one.pid, one.mark)}
        if run.embedded and (pid := self._broker().pid) is not None:
            found[BROKER] = pid
        return found

    def _wanted(self, name: str, run: Run) -> bool:
        return run.embedded if name == BROKER else bool(run.bootstrap)

    def _has_ended(self, name: str, run: Run) -> None:
        """Note how and why, and when it may start again."""
        code, reason = None, ""
        known = run.services.get(name)
        if known is not None and known.pid:
            code = processes.collect(known.pid)
            lines = processes.last_lines(
                log_of(self._home, name), REASON_LINES, self._log_starts.get(name, 0)
            )
            reason = reason_in(lines) if code is None or code >= 0 else ended_how(code)
        self._failed(name, code, reason)

    def _failed(self, name: str, code: int | None, reason: str) -> None:
        history = self._histories[name]
        at = datetime.now(UTC).isoformat(timespec="seconds")
        wait = history.ended(self._clock(), code, reason, at)
        self._note(
            "ended",
            process=name,
            exit_code=code,
            reason=reason,
            ends_in_a_row=history.ends,
            next_start_seconds=wait,
        )
        self._tell()

    # -- starting -----------------------------------------------------------------------------------------------------

    def _mend(self) -> bool:
        """Note what has ended, start what has waited long enough; False if another command is at work.

        Also the noting waits for the lock: what `up` has not started yet and what `down` has stopped has not failed.
        """
        with self._lock_if_free() as locked:
            if not locked:
                return False
            run = self._home.load()  # a command may have changed it until a moment ago
            if not _in_charge(run):
                return True
            alive = self._alive(run)
            for name, history in self._histories.items():
                if name in alive or not self._wanted(name, run) or not history.is_due(self._clock()):
                    continue
                if history.due is None:
                    self._has_ended(name, run)
                else:
                    self._start(name, run)
            return True

    def _start(self, name: str, run: Run) -> None:
        try:
            pid = self._start_broker(run) if name == BROKER else self._start_service(name, run)
        except (HeadraceError, OSError) as error:
            self._failed(name, None, str(error))
            return
        self._histories[name].started(self._clock())
        self.watched.append(pid)
        self._note("started", process=name, pid=pid, restarts=self._histories[name].restarts)
        self._tell()

    def _start_service(self, name: str, run: Run) -> int:
        log = log_of(self._home, name)
        started = start_service(self._home, name, run.services.get(name), run, again=True)
        # Its own first lines come later than this, by the start of a Python at least.
        self._log_starts[name] = log.stat().st_size
        before = run.services.get(name)
        run.services[name] = started
        try:
            self._home.save(run)
        except OSError:  # a full disk: a process that no file names would be nobody's
            processes.stop([(started.pid, started.mark)], STOP_SECONDS)
            run.services.pop(name)
            if before is not None:
                run.services[name] = before
            raise
        return started.pid

    def _start_broker(self, run: Run) -> int:
        bootstrap, _ = start_broker(self._home, lambda text: self._note(text, process=BROKER))
        if bootstrap != run.bootstrap:
            self._note("the broker's address has changed, stopping the services", bootstrap=bootstrap)
            processes.stop([(one.pid, one.mark) for one in run.services.values()], STOP_SECONDS)
            run.bootstrap = bootstrap
            run.services = {name: Running(0, one.host, one.port, "") for name, one in run.services.items()}
            self._home.save(run)
        return self._broker().pid or 0

    def _broker(self) -> EmbeddedBroker:
        return EmbeddedBroker(self._home.broker, cache=self._home.jars)

    # -- files --------------------------------------------------------------------------------------------------------

    def _wait_to_be_named(self) -> bool:
        """`run.json` names another: true while the command that started us may still be about to write it."""
        self.watched, self.patience = [], BUSY_SECONDS
        with self._lock_if_free() as locked:
            return not locked or _in_charge(self._home.load())

    @contextmanager
    def _lock_if_free(self) -> Iterator[bool]:
        """Hold the lock of `up` and `down` if nobody does, or say so."""
        try:
            lock = held(self._home.lock_file, wait_seconds=0.0, busy="busy")
            lock.__enter__()
        except FileNotFoundError:  # the whole installation is gone
            raise SystemExit(0) from None
        except BrokerError:
            yield False
            return
        try:
            yield True
        finally:
            lock.__exit__(None, None, None)

    def _tell(self) -> None:
        """Write down what `status` and `doctor` show. A full disk costs that and nothing else."""
        document = {name: history.document() for name, history in self._histories.items()}
        with suppress(OSError):
            write_json(self._home.supervision_file, document)

    def _trim(self, now: float) -> None:
        """Keep logs bounded that nobody rotates, as nobody dies."""
        if now - self._trimmed >= TRIM_SECONDS:
            self._trimmed = now
            with suppress(OSError):
                for name in (*SERVICES, "supervisor"):
                    processes.trim(log_of(self._home, name))


def _in_charge(run: Run) -> bool:
    return run.supervisor is not None and run.supervisor.pid == os.getpid()


def note(event: str, **more: Any) -> None:
    """One line of `logs/supervisor.log`, as the services write theirs."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    with suppress(OSError):
        print(
            json.dumps({"event": event, **more, "timestamp": at, "service": "supervisor"}),
            file=sys.stderr,
            flush=True,
        )


def main() -> int:
    """Run until SIGTERM, or until another supervisor or `down` has taken over. What it watches goes on."""
    home = Home.from_environment()
    wake, told = socket.socketpair()
    for end in (wake, told):
        end.setblocking(False)
    stopping = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.append(True))
    signal.set_wakeup_fd(told.fileno())
    supervisor = Supervisor(home, note)
    note("watching", home=str(home.path), pid=os.getpid())
    while not stopping and supervisor.turn():
        processes.wait_for_end(supervisor.watched, supervisor.patience, wake.fileno())
    note("stops watching" if stopping else "another has taken over")
    return 0


if __name__ == "__main__":
    sys.exit(main())
