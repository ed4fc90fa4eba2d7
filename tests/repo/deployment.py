"""The deployment files, read against what the code declares.

No container engine is needed: a wrong variable, port, metric, label, topic or mount shows in the files themselves.
What only an engine can tell (do the images exist, do they start) is not claimed here.
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from headrace.contracts import topics
from tests.repo import declared
from tests.repo.tree import ROOT

SERVICES = ("ingest", "scoring", "monitor", "registry")
FOREIGN_SERIES = re.compile(r"up|process_\w+|python_\w+|ALERTS")
SELECTOR = re.compile(r"(\b[a-z][a-z0-9_]*)\s*\{([^}]*)\}")
TOPIC = re.compile(r"topic=~?\"([^\"]+)\"")
SCRAPED_LABELS = frozenset({"job", "instance", "le", "quantile"})
LOOPBACK = "127.0.0.1:"
SERVICE_KEYS = frozenset(
    "build cap_add cap_drop command container_name depends_on entrypoint env_file environment expose healthcheck "
    "hostname image init labels logging mem_limit networks ports read_only restart secrets security_opt "
    "stop_grace_period tmpfs ulimits user volumes working_dir".split()
)
HEALTHCHECK_KEYS = frozenset("test interval timeout retries start_period start_interval disable".split())
"""Of the Compose specification: what is used here or may soon be. An engine refuses other keys, so does this."""
DURATION = re.compile(r"(\d+(h|m|s|ms))+")


def compose_findings(root: Path = ROOT) -> list[str]:
    """Everything in docker-compose.yml that the code does not bear out, or that lies open."""
    document = yaml.safe_load((root / "docker-compose.yml").read_text("utf-8"))
    known = declared.settings(root)
    found = [f"no service {name}" for name in SERVICES if name not in document["services"]]
    for name, service in document["services"].items():
        found += [
            f"{name}: {what}" for what in _container_findings(service, document) + _shape_findings(service)
        ]
        if name in SERVICES:
            variables = {setting.variable for setting in known if setting.service == name}
            found += [f"{name}: {what}" for what in _service_findings(name, service, variables)]
    return found


def _container_findings(service: dict[str, Any], document: dict[str, Any]) -> list[str]:
    found = [
        f"port {port} listens beyond this machine"
        for port in service.get("ports", [])
        if not str(port).startswith(LOOPBACK)
    ]
    for key, value in service.get("environment", {}).items():
        found += _variable_findings(key, str(value))
    for volume in service.get("volumes", []):
        source = str(volume).partition(":")[0]
        if source.startswith("."):
            if not (ROOT / source).exists():
                found.append(f"mounts {source}, which is not there")
        elif source not in document.get("volumes", {}):
            found.append(f"volume {source} is not declared")
    for other, how in service.get("depends_on", {}).items():
        target = document["services"].get(other)
        if target is None:
            found.append(f"depends on {other}, which is not there")
        elif how.get("condition") == "service_healthy" and "healthcheck" not in target:
            found.append(f"waits for the health of {other}, which has no check")
    if "healthcheck" not in service:
        found.append("no healthcheck")
    if ":latest" in service.get("image", "") and "build" not in service:
        found.append("an image without a version")
    if service.get("privileged") or str(service.get("user", "")) in ("0", "root"):
        found.append("runs with privileges")
    return found


def _shape_findings(service: dict[str, Any]) -> list[str]:
    health = service.get("healthcheck", {})
    found = [f"no such key: {key}" for key in set(service) - SERVICE_KEYS]
    found += [f"no such key in healthcheck: {key}" for key in set(health) - HEALTHCHECK_KEYS]
    times = [service.get("stop_grace_period", "1s")]
    times += [value for key, value in health.items() if key in ("interval", "timeout", "start_period")]
    found += [f"{value!r} is no duration" for value in times if not DURATION.fullmatch(str(value))]
    if health and health["test"][0] not in ("CMD", "CMD-SHELL"):
        found.append("a healthcheck's test begins with CMD or CMD-SHELL")
    if service.get("restart", "no") not in ("no", "always", "on-failure", "unless-stopped"):
        found.append("no such restart policy")
    return found


def _variable_findings(key: str, value: str) -> list[str]:
    found = []
    secret = re.search("PASSWORD|SECRET|TOKEN", key) or re.search(r"://[^/]*@", value)
    if secret and "${" not in value:
        found.append(f"{key} holds a secret in the open")
    for reference in re.findall(r"\$\{([^}]*)\}", value):
        if ":?" not in reference:
            found.append(f"{key}: ${{{reference}}} may be empty without a word; use :?")
    return found


def _service_findings(name: str, service: dict[str, Any], variables: set[str]) -> list[str]:
    found = []
    environment = {key: str(value) for key, value in service.get("environment", {}).items()}
    port = environment.get(f"HEADRACE_{name.upper()}_PORT", "")
    if service.get("command") != ["python", "-m", f"services.{name}"]:
        found.append("command is not its own module")
    if not (ROOT / "services" / name / "__main__.py").exists():
        found.append("has no __main__")
    for variable in environment:
        if variable not in variables:
            found.append(f"{variable} is no setting of it")
    if port != str(declared.ports().get(name)):
        found.append(f"port {port!r} is not the documented one")
    if [f"{LOOPBACK}{port}:{port}"] != service.get("ports"):
        found.append("publishes another port than it listens on")
    if f"127.0.0.1:{port}/readyz" not in str(service.get("healthcheck", {}).get("test")):
        found.append("health is not asked at its own /readyz")
    if environment.get(f"HEADRACE_{name.upper()}_HOST") != "0.0.0.0":
        found.append("cannot be reached from outside its container")
    return found


def kafka_listener(root: Path = ROOT) -> set[str]:
    """Addresses at which compose's Kafka says it can be found."""
    document = yaml.safe_load((root / "docker-compose.yml").read_text("utf-8"))
    advertised = document["services"]["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    return {listener.partition("://")[2] for listener in advertised.split(",")}


def scrape_targets(root: Path = ROOT) -> set[str]:
    """Addresses Prometheus scrapes."""
    document = yaml.safe_load((root / "deploy/prometheus/prometheus.yml").read_text("utf-8"))
    return {
        target
        for job in document["scrape_configs"]
        for group in job["static_configs"]
        for target in group["targets"]
    }


def rule_expressions(root: Path = ROOT) -> dict[str, str]:
    """Alert and recording rules: name -> expression."""
    found = {}
    for path in sorted((root / "deploy/prometheus").glob("*.rules.yml")):
        for group in yaml.safe_load(path.read_text("utf-8"))["groups"]:
            for rule in group["rules"]:
                found[rule.get("alert") or rule["record"]] = str(rule["expr"])
    return found


def panel_expressions(root: Path = ROOT) -> dict[str, str]:
    """Dashboard queries: `file: panel: letter` -> expression, with variables made plain."""
    found = {}
    for path in sorted((root / "deploy/grafana/dashboards").glob("*.json")):
        document = json.loads(path.read_text("utf-8"))
        for panel in document["panels"]:
            for target in panel.get("targets", []):
                name = f"{path.name}: {panel['title']}: {target['refId']}"
                found[name] = target["expr"].replace("$__rate_interval", "1m")
        for variable in document["templating"]["list"]:
            if match := re.fullmatch(r"label_values\((.+), (\w+)\)", variable.get("definition", "")):
                found[f"{path.name}: variable {variable['name']}"] = f"sum by ({match[2]}) ({match[1]})"
    return found


def expression_findings(expressions: dict[str, str], metrics: list[declared.Metric]) -> list[str]:
    """Series, labels and topics in expressions that no process has."""
    series = {name: metric for metric in metrics for name in metric.series()}
    found = []
    for where, expression in expressions.items():
        for name in set(re.findall(r"\bheadrace_\w+\b", expression)) - set(series):
            found.append(f"{where}: no metric {name}")
        for name in set(re.findall(r"\b([a-z_]+)\s*[{\[]", expression)) - set(series):
            if not FOREIGN_SERIES.fullmatch(name):
                found.append(f"{where}: no metric {name}")
        for name, selector in SELECTOR.findall(expression):
            labels = series[name].labels if name in series else ()
            for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector):
                if labels is not None and label not in labels and label not in SCRAPED_LABELS:
                    found.append(f"{where}: {name} has no label {label}")
        known = {label for metric in metrics for label in metric.labels or ()} | SCRAPED_LABELS
        for names in re.findall(r"\b(?:by|without|on)\s*\(([^)]*)\)", expression):
            found += [f"{where}: no label {n}" for n in re.split(r"[,\s]+", names) if n and n not in known]
        found += [f"{where}: no topic {name}" for name in TOPIC.findall(expression) if not _is_topic(name)]
    return found


def _is_topic(name: str) -> bool:
    kinds = {kind.name for kind in topics.STREAM_TOPICS}
    plain = {kind.name for kind in topics.PLATFORM_TOPICS}
    if name.startswith("$"):
        return True
    return name in plain or name.rpartition(".")[2].removesuffix("$") in kinds
