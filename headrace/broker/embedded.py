"""EmbeddedBroker: start, find again and stop one Kafka that lives in a home folder and outlives its starter.

The home is the identity. Everything another process needs to find the broker is in files there: the pid, the
ports, the logs, the data. So `start` is idempotent across processes: a broker that runs and answers is
reused, one that is still starting is waited for, a dead one is started again on its data and its old port. A
lock file makes start and stop exclude each other. A second one, `data.lock`, is inherited and held by the Java process
until it dies, however it dies: Kafka's own lock is taken too late in combined mode, after the metadata log was opened
for writing, and two brokers on one folder corrupted it when this was tried.

    home/data/              Kafka's log folders; the only thing that matters, never deleted here
    home/logs/kafka.log     Kafka's log, bounded (16 MB); kafka.out holds what Java itself printed since its start
    home/tmp/               native libraries that jars unpack; emptied at start
    home/broker.pid, broker.lock, data.lock, ports.json, server.properties, log4j2.properties

Java flags: serial GC and the first-tier compiler only: two cores are shared with the services, and Kafka
starts in two thirds of the time. An ahead-of-time cache (JDK 25) was measured to save 1.2 s of the 2.1 s and
left out: it costs 67 MB and several seconds of a core after some stop, and is void with every change of jar,
flag or Java.

What would break: removing `broker.pid` while the broker runs (the next start is refused, with an error that
says so), or removing `data.lock` too.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from headrace.broker import configuration, ports, probe, process
from headrace.broker.errors import BrokerError, DidNotStart, PortInUse
from headrace.broker.jars import Classpath, fetch
from headrace.broker.java import find_java
from headrace.broker.locks import Progress, handed_on, held, silent

_POLL_SECONDS = 0.03
_FORMAT_TIMEOUT_SECONDS = 60.0
_OTHER_START_WAIT_SECONDS = 600.0
_BIND_RETRIES = 2
_SIGNS_OF_NEWER_DATA = (
    "No MetadataVersion with feature level",
    "UnsupportedVersionException: Can't read version",
)
_SHOWN_LOG_LINES = 20
_LOG_TAIL_BYTES = 64 * 1024
_ENVIRONMENT_KEPT = ("PATH", "HOME", "TZ", "USER", "LOGNAME")


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where a running broker answers. `reused` is True if it ran already before this `start`."""

    host: str
    port: int
    pid: int
    reused: bool

    @property
    def bootstrap_servers(self) -> str:
        """`host:port`, the value for a client's `bootstrap.servers`."""
        return f"{self.host}:{self.port}"


class _PortLost(PortInUse):
    """A port that was free when Java was started was not when Kafka wanted it. Worth another try."""


class EmbeddedBroker:
    """One Kafka in one home folder. Holds no connection and no thread; any number of instances may name one home."""

    def __init__(
        self,
        home: Path,
        *,
        port: int = 0,
        cache: Path | None = None,
        heap_megabytes: int = 512,
        start_timeout_seconds: float = 120.0,
        overrides: Mapping[str, str] | None = None,
        advertised_port: int = 0,
    ) -> None:
        """Names a broker; touches nothing yet.

        home: folder for its data, logs and pid file; created at start.
        port: client port on 127.0.0.1; 0 takes the one used before, or picks a free one.
        cache: folder for Kafka's jars, may be shared by many homes; default `home/cache`.
        heap_megabytes: Java's `-Xmx`; the process takes about 300 MB at 512.
        overrides: Kafka broker settings that win over the defaults. ValueError if they touch ports or folders.
        advertised_port: the port that the broker tells its clients to use, where something between them and it (a
        tunnel, a proxy) listens; 0 is its own port.
        """
        for name, number in (("port", port), ("advertised_port", advertised_port)):
            if not 0 <= number <= 65_535:
                raise ValueError(f"{name} must be between 0 and 65535, got {number}")
        if heap_megabytes < 96:
            raise ValueError(f"heap_megabytes must be at least 96 for Kafka to run, got {heap_megabytes}")
        self._home = home.absolute()
        self._port = port
        self._cache = (cache or self._home / "cache").absolute()
        self._heap_megabytes = heap_megabytes
        self._start_timeout_seconds = start_timeout_seconds
        self._overrides = dict(overrides or {})
        self._advertised_port = advertised_port
        configuration.check_overrides(self._overrides)
        self._pid_file = self._home / "broker.pid"
        self._ports_file = self._home / "ports.json"
        self._log_file = self._home / configuration.LOG_FILE
        self._output_file = self._home / "logs" / "kafka.out"
        self._marker = f"-Dheadrace.broker.home={self._home}"

    @property
    def home(self) -> Path:
        """The absolute home folder."""
        return self._home

    @property
    def log_file(self) -> Path:
        """Kafka's own log."""
        return self._log_file

    @property
    def pid(self) -> int | None:
        """The process id of the running Java process, or None. Does not tell whether it answers."""
        number = process.read_pid(self._pid_file)
        return number if number is not None and process.alive(number, self._marker) else None

    @property
    def bootstrap_servers(self) -> str:
        """`host:port` of the broker of this home, running or not. BrokerError if it was never started."""
        known = ports.load(self._ports_file)
        if known is None:
            raise BrokerError(f"the broker of {self._home} has no address yet: start() it first")
        return f"{ports.HOST}:{known.client}"

    def is_running(self) -> bool:
        """True if the broker's process lives and answers on its port."""
        known = ports.load(self._ports_file)
        return self.pid is not None and known is not None and probe.answers(ports.HOST, known.client)

    def start(self, *, progress: Progress | None = None) -> BrokerAddress:
        """Bring the broker up, or find it up, and return its address once it answers.

        progress: told one short line at each step that may take a while (fetching, formatting, starting).

        Raises ExtraNotInstalled, JarsUnavailable, PortInUse, DidNotStart (with the last log lines), or BrokerError
        (home not writable, another start hangs). After an error nothing is left running, unless a broker that ran
        before does not answer: that one is left to `stop()`.
        """
        say = progress or silent
        with self._locked(
            "another process is starting or stopping this broker", _OTHER_START_WAIT_SECONDS, say
        ):
            running = self.pid
            if running is not None and (address := self._reuse(running, say)) is not None:
                return address
            java = find_java()
            classpath = fetch(self._cache, say)
            try:
                for _ in range(_BIND_RETRIES):
                    try:
                        return self._start_fresh(java, classpath, say)
                    except _PortLost:
                        say("a port was taken while Apache Kafka was starting, trying again")
                return self._start_fresh(java, classpath, say)
            except OSError as error:
                raise self._unwritable(error) from error

    def stop(self, timeout_seconds: float = 20) -> None:
        """End the broker cleanly; after `timeout_seconds` kill it (its data survives that too). No broker: no effect.

        Never ends a process that is not this home's broker. BrokerError if the process may not be signalled.
        """
        if not self._home.is_dir():
            return
        with self._locked(
            "another process is starting or stopping this broker", _OTHER_START_WAIT_SECONDS, silent
        ):
            running = self.pid
            try:
                if running is not None:
                    process.end(running, self._marker, timeout_seconds)
                self._pid_file.unlink(missing_ok=True)
            except OSError as error:
                raise BrokerError(
                    f"cannot stop the broker of {self._home} (process {running}): {error}"
                ) from error

    def __enter__(self) -> Self:
        """Start; the body runs with the broker up."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, whether or not this instance was the one that started it."""
        self.stop()

    @contextmanager
    def _locked(self, busy: str, wait_seconds: float, say: Progress) -> Iterator[None]:
        """Hold the home's lock file, creating the home's folders first."""
        try:
            for folder in (self._home, self._home / "logs", self._home / "tmp"):
                folder.mkdir(parents=True, exist_ok=True)
            (self._home / "broker.lock").touch()
        except OSError as error:
            raise self._unwritable(error) from error
        with held(self._home / "broker.lock", wait_seconds=wait_seconds, busy=busy, progress=say):
            yield

    def _reuse(self, pid: int, say: Progress) -> BrokerAddress | None:
        """The address of the process that runs already, once it answers; None if it ended instead."""
        known = ports.load(self._ports_file)
        if known is None:
            raise BrokerError(
                f"the broker of {self._home} runs (process {pid}) but {self._ports_file.name} is gone: "
                "stop() and start()"
            )
        if self._port not in (0, known.client):
            raise PortInUse(
                f"the broker of {self._home} already runs on port {known.client}, not {self._port}: stop it first"
            )
        if not probe.answers(ports.HOST, known.client):
            say("Apache Kafka is running but does not answer yet, waiting")
            if not self._answers_in_time(pid, known.client):
                if not process.alive(pid, self._marker):
                    return None
                raise DidNotStart(
                    f"the broker of {self._home} (process {pid}) has not answered on port {known.client} for "
                    f"{self._start_timeout_seconds:.0f} s: stop() it and start again\n"
                    + _last_lines(self._text_since(0))
                )
        return BrokerAddress(ports.HOST, known.client, pid, reused=True)

    def _start_fresh(self, java: Path, classpath: Classpath, say: Progress) -> BrokerAddress:
        """Format once, choose ports, write the settings, start Java, wait for its first answer."""
        taken = f"another broker already works on {self._home / configuration.DATA_FOLDER}: end that process first"
        with handed_on(self._home / "data.lock", taken=taken) as data_lock:
            remembered = ports.load(self._ports_file)
            chosen = ports.choose(self._port, remembered)
            if remembered is not None and chosen.client != remembered.client:
                say(f"port {remembered.client} is taken by another program, using {chosen.client}")
            chosen.save(self._ports_file)
            (self._home / "server.properties").write_text(
                configuration.server_properties(chosen, self._overrides, self._advertised_port)
            )
            (self._home / "log4j2.properties").write_text(configuration.log4j2_properties())
            shutil.rmtree(self._home / "tmp", ignore_errors=True)
            (self._home / "tmp").mkdir(exist_ok=True)
            if not (self._home / configuration.DATA_FOLDER / "meta.properties").exists():
                say("preparing a new Apache Kafka data folder")
                self._format(java, classpath, data_lock)
            say(f"starting Apache Kafka {classpath.kafka_version}")
            log_start = self._log_file.stat().st_size if self._log_file.exists() else 0
            pid = process.spawn(
                [*self._java_command(java, classpath), "kafka.Kafka", "server.properties"],
                pid_file=self._pid_file,
                output=self._output_file,
                folder=self._home,
                environment=self._environment(),
                keep_open=[data_lock],
            )
        if not self._answers_in_time(pid, chosen.client):
            self._give_up(pid, chosen.client, log_start)
        return BrokerAddress(ports.HOST, chosen.client, pid, reused=False)

    def _give_up(self, pid: int, port: int, log_start: int) -> None:
        """End what was started and raise DidNotStart with the reason as far as it can be seen."""
        ended = not process.alive(pid, self._marker)
        process.end(pid, self._marker, 1.0)
        self._pid_file.unlink(missing_ok=True)
        text = self._text_since(log_start)
        if "Address already in use" in text:
            raise _PortLost(f"port {port} or its controller's was taken while starting:\n{_last_lines(text)}")
        if ended:
            what = f"Apache Kafka ended while starting; its logs are in {self._log_file.parent}"
        else:
            what = f"Apache Kafka did not answer on port {port} within {self._start_timeout_seconds:.0f} s"
        if any(sign in text for sign in _SIGNS_OF_NEWER_DATA):
            what += "; its data was written by a newer Apache Kafka"
        raise DidNotStart(f"{what}. Last log lines:\n{_last_lines(text)}")

    def _format(self, java: Path, classpath: Classpath, data_lock: int) -> None:
        """Give the data folder its cluster identity. Kafka itself skips what a broken-off format has done already."""
        # A leading "-" would be taken for an option by Kafka's command line.
        cluster_id = "H" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
        arguments = ["format", "-t", cluster_id, "-c", "server.properties", "--ignore-formatted"]
        try:
            answer = subprocess.run(
                [*self._java_command(java, classpath), "kafka.tools.StorageTool", *arguments],
                cwd=self._home,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                pass_fds=[data_lock],
                timeout=_FORMAT_TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DidNotStart(
                f"formatting {self._home} took over {_FORMAT_TIMEOUT_SECONDS:.0f} s: is the disk stuck?"
            ) from error
        if answer.returncode != 0:
            lines = (answer.stdout + answer.stderr).splitlines()[-_SHOWN_LOG_LINES:]
            raise DidNotStart(
                f"Apache Kafka could not prepare {self._home}. Its last lines:\n" + "\n".join(lines)
            )

    def _java_command(self, java: Path, classpath: Classpath) -> list[str]:
        """Java with its flags, up to but without the main class. The marker comes early: `ps` may cut long lines."""
        return [
            str(java),
            self._marker,
            f"-Xmx{self._heap_megabytes}m",
            f"-Xms{min(64, self._heap_megabytes)}m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-XX:-UsePerfData",
            "-XX:+ExitOnOutOfMemoryError",
            "-XX:ErrorFile=logs/java_error_%p.log",
            "--enable-native-access=ALL-UNNAMED",
            "-Djava.io.tmpdir=tmp",
            "-Djava.awt.headless=true",
            "-Djava.net.preferIPv4Stack=true",
            "-Dlog4j2.configurationFile=log4j2.properties",
            "-cp",
            classpath.argument,
        ]

    @staticmethod
    def _environment() -> dict[str, str]:
        """A small environment: no `JAVA_TOOL_OPTIONS` or `KAFKA_*` of the caller's may change the broker."""
        kept = {name: os.environ[name] for name in _ENVIRONMENT_KEPT if name in os.environ}
        return {**kept, "LC_ALL": "C.UTF-8"}

    def _answers_in_time(self, pid: int, port: int) -> bool:
        """Wait until the broker answers (True), or its process ends or the time is over (False)."""
        deadline = time.monotonic() + self._start_timeout_seconds
        while process.alive(pid, self._marker):
            if probe.answers(ports.HOST, port):
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return False

    def _text_since(self, log_start: int) -> str:
        """The end of Kafka's log (from byte `log_start` on) and of what Java printed."""
        return "\n".join(
            part for part in (_tail(self._log_file, log_start), _tail(self._output_file, 0)) if part
        )

    def _unwritable(self, error: OSError) -> BrokerError:
        return BrokerError(
            f"cannot write to {self._home}: {error}; give the broker a home folder that can be written"
        )


def _tail(path: Path, start: int) -> str:
    """The end of a file from byte `start` on; of the whole file if it was rolled over since."""
    try:
        with path.open("rb") as handle:
            size = handle.seek(0, os.SEEK_END)
            handle.seek(max(start if start <= size else 0, size - _LOG_TAIL_BYTES))
            return handle.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _last_lines(text: str) -> str:
    """The last few lines that a person can use: a stack trace's frames and Java's own warnings are left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith(("at ", "... ", "WARNING: "))]
    return "\n".join(lines[-_SHOWN_LOG_LINES:]) or "(none)"
