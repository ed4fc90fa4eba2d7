"""Where one installation lives: the folder, the files in it, and the address book of what runs.

Everything the command line knows between two runs is in files here, so any number of terminals see the same system.
The only module of the command line that reads the environment. What would break: removing `run.json` while services
run (they are then nobody's, and `up` starts others on other ports).

    run.json     the broker's address, and pid, port and log of each service; who watches over them
    supervision.json  how often each of them ended, and why
    keys.json    hashes of API keys (the services read it)
    cli-key      the command line's own key, mode 0600
    demo.json    how far the demo got
    broker/      the embedded Kafka    logs/  one file a service    snapshots/, registry.db  the services' own
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.errors import Unusable

if TYPE_CHECKING:
    from headrace.client import Addresses

MARKER = ".headrace-home"
SERVICES = ("registry", "ingest", "scoring", "monitor")
"""In the order in which they are started and listed."""

DEFAULT_PORTS = {"ingest": 8101, "scoring": 8102, "monitor": 8103, "registry": 8104}


@dataclass(frozen=True, slots=True)
class Running:
    """A service process that was started. mark: tells it from a later process with the same pid."""

    pid: int
    host: str
    port: int
    mark: str

    @property
    def url(self) -> str:
        """Base URL, without a slash at the end."""
        return f"http://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Process:
    """A process that was started, as `headrace.cli.processes` knows it again."""

    pid: int
    mark: str


@dataclass(slots=True)
class Run:
    """What `up` started. embedded: the broker is ours to stop. supervisor: None if nobody is to watch."""

    bootstrap: str = ""
    embedded: bool = True
    services: dict[str, Running] = field(default_factory=dict)
    supervisor: Process | None = None


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of one installation (`$HEADRACE_HOME`, default `~/.headrace`). bootstrap: of a Kafka that is there
    already (`$HEADRACE_BOOTSTRAP`); "" means the embedded one.
    """

    path: Path
    bootstrap: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_environment(cls) -> "Home":
        """As the user set it."""
        environment = dict(os.environ)
        path = Path(environment.get("HEADRACE_HOME") or "~/.headrace").expanduser().absolute()
        return cls(path, environment.get("HEADRACE_BOOTSTRAP", "").strip(), environment)

    @property
    def run_file(self) -> Path:
        """The address book."""
        return self.path / "run.json"

    @property
    def demo_file(self) -> Path:
        """How far the demo got."""
        return self.path / "demo.json"

    @property
    def supervision_file(self) -> Path:
        """How often each process ended, and why; written by the supervisor."""
        return self.path / "supervision.json"

    @property
    def lock_file(self) -> Path:
        """Held by whoever starts or stops processes: `up`, `down`, the supervisor."""
        return self.path / "up.lock"

    @property
    def logs(self) -> Path:
        """Folder of the services' logs."""
        return self.path / "logs"

    @property
    def keys_file(self) -> Path:
        """Hashes of API keys."""
        return Path(self.environment.get("HEADRACE_KEYS") or self.path / "keys.json")

    @property
    def archive(self) -> str:
        """Where logs are archived (`$HEADRACE_ARCHIVE`), empty for nowhere."""
        return self.environment.get("HEADRACE_ARCHIVE", "").strip()

    @property
    def cli_key_file(self) -> Path:
        """The command line's own API key."""
        return self.path / "cli-key"

    @property
    def broker(self) -> Path:
        """Home of the embedded broker."""
        return self.path / "broker"

    @property
    def jars(self) -> Path:
        """Where Kafka's jars are kept: outside the home, so that a fresh start needs no network."""
        base = self.environment.get("HEADRACE_CACHE") or self.environment.get("XDG_CACHE_HOME")
        return (Path(base) if base else Path("~/.cache")).expanduser().absolute() / "headrace"

    def prepare(self) -> None:
        """Create the folder (mode 0700). Raises `Unusable` if it cannot be used."""
        try:
            fresh = not self.path.exists() or not any(self.path.iterdir())
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.logs.mkdir(exist_ok=True, mode=0o700)
            if fresh:
                (self.path / MARKER).touch()
        except OSError as error:
            raise Unusable(
                f"{self.path} cannot be used: {error}; set HEADRACE_HOME to a folder of yours"
            ) from None

    def load(self) -> Run:
        """The address book; empty if nothing was started."""
        document = read_json(self.run_file)
        services = {
            name: Running(int(entry["pid"]), str(entry["host"]), int(entry["port"]), str(entry["mark"]))
            for name, entry in dict(document.get("services") or {}).items()
            if name in SERVICES
        }
        watcher = document.get("supervisor")
        return Run(
            str(document.get("bootstrap", "")),
            bool(document.get("embedded", True)),
            services,
            Process(int(watcher["pid"]), str(watcher["mark"])) if watcher else None,
        )

    def save(self, run: Run) -> None:
        """Write the address book in one step."""
        write_json(self.run_file, asdict(run))

    def addresses(self) -> "Addresses":
        """Where the services are: as started, else where they are by default."""
        from headrace.client import Addresses

        services = self.load().services
        found = {name: services[name].url for name in SERVICES if name in services}
        for name in SERVICES:
            if name not in found:
                found[name] = f"http://{self.host_of(name)}:{self.wanted_port(name)}"
        return Addresses(**found)

    def host_of(self, service: str) -> str:
        """The address a service is to listen on."""
        return self.environment.get(f"HEADRACE_{service.upper()}_HOST") or "127.0.0.1"

    def wanted_port(self, service: str) -> int:
        """The port a service is to listen on if it is free."""
        text = self.environment.get(f"HEADRACE_{service.upper()}_PORT") or str(DEFAULT_PORTS[service])
        if not text.isdigit() or not 0 < int(text) < 65_536:
            raise Unusable(f"HEADRACE_{service.upper()}_PORT={text} is no port")
        return int(text)

    def port_is_given(self, service: str) -> bool:
        """Whether the user named the port, so that no other will do."""
        return bool(self.environment.get(f"HEADRACE_{service.upper()}_PORT"))

    def key(self) -> str:
        """The API key to use: `$HEADRACE_API_KEY`, else the command line's own; "" if there is none."""
        given = self.environment.get("HEADRACE_API_KEY", "").strip()
        return given or self.own_key()

    def own_key(self) -> str:
        """The command line's own API key; "" if there is none."""
        try:
            return self.cli_key_file.read_text(encoding="ascii").strip()
        except OSError:
            return ""

    def delete(self) -> None:
        """Remove the folder and everything in it. Raises `Unusable` if it was not made by `prepare`."""
        if not self.path.exists():
            return
        if not (self.path / MARKER).exists():
            raise Unusable(f"{self.path} was not made by headrace (it has no {MARKER}): remove it by hand")
        shutil.rmtree(self.path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty if it is absent or damaged."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON object in one step: readers see the old one or the new one."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fresh.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    fresh.replace(path)


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(text + "\n")
