"""The deployment files, read against what the code declares.

No container engine is needed: a wrong variable, port, metric, label, topic or mount shows in the files themselves.
What only an engine can tell (do the images exist, do they start) is not claimed here.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from headrace.contracts import topics
from tests.repo import declared, metric_rules
from tests.repo.documents import anchors
from tests.repo.metric_rules import AnyMetric
from tests.repo.tree import ROOT

RULES = "deploy/prometheus/headrace.rules.yml"
SEVERITIES = ("warning", "critical")
SERVICES = ("ingest", "scoring", "monitor", "registry")
FOREIGN_SERIES = re.compile(r"up|process_\w+|python_\w+|ALERTS")
OURS = re.compile(r"(?<![\w:])(?:headrace_\w+|[a-z_]+:[\w:]+)")
SELECTED = re.compile(r"(?<![\w:])([a-z][a-z0-9_:]*)\s*[{\[]")
SELECTOR = re.compile(r"(?<![\w:])([a-z][a-z0-9_:]*)\s*\{([^}]*)\}")
TOPIC = re.compile(r"topic=~?\"([^\"]+)\"")
SCRAPED_LABELS = frozenset({"job", "instance", "le", "quantile", "alertname", "severity"})
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


def rule_findings(root: Path = ROOT) -> list[str]:
    """Alerts that do not say how bad they are, what happened, or where it is written what to do."""
    found = []
    for name, rule in alerts(root).items():
        if rule["labels"].get("severity") not in SEVERITIES:
            found.append(f"{name}: severity is one of {', '.join(SEVERITIES)}")
        if not rule["annotations"].get("summary"):
            found.append(f"{name}: no summary")
        page, _, section = rule["annotations"].get("runbook_url", "").partition("#")
        if not (root / page).is_file() or section not in anchors((root / page).read_text("utf-8")):
            found.append(f"{name}: its runbook is not there")
    return found


def alerts(root: Path = ROOT) -> dict[str, Any]:
    """Alert rules by name."""
    groups = yaml.safe_load((root / RULES).read_text("utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def untested_alerts(root: Path = ROOT) -> list[str]:
    """Alerts of which no test shows that they fire, or none that they keep quiet."""
    seen: dict[str, set[bool]] = {name: set() for name in alerts(root)}
    for test in yaml.safe_load((root / RULES.replace(".yml", ".test.yml")).read_text("utf-8"))["tests"]:
        for check in test.get("alert_rule_test", []):
            seen[check["alertname"]].add(bool(check["exp_alerts"]))
    return sorted(name for name, found in seen.items() if found != {True, False})


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
            if match := re.fullmatch(r"label_values\((.+), (\w+)\)", variable.get("query", "")):
                found[f"{path.name}: variable {variable['name']}"] = f"sum by ({match[2]}) ({match[1]})"
    return found


def expression_findings(expressions: dict[str, str], metrics: Iterable[AnyMetric]) -> list[str]:
    """Series, labels and topics in expressions that no process has and no rule records."""
    labels = {
        name: frozenset(label.name for label in metric.labels)
        for metric in metrics
        for name in metric_rules.series(metric)
    }
    # LABEL_LABEL:WHAT:HOW, as Prometheus names what is recorded.
    labels |= {name: frozenset(name.split(":")[0].split("_")) for name in rule_expressions() if ":" in name}
    known = {label for names in labels.values() for label in names} | SCRAPED_LABELS
    found = []
    for where, expression in expressions.items():
        for name in set(OURS.findall(expression)) - set(labels):
            found.append(f"{where}: no metric {name}")
        for name in set(SELECTED.findall(expression)) - set(labels):
            if not FOREIGN_SERIES.fullmatch(name):
                found.append(f"{where}: no metric {name}")
        for name, selector in SELECTOR.findall(expression):
            for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector):
                if label not in labels.get(name, ()) and label not in SCRAPED_LABELS:
                    found.append(f"{where}: {name} has no label {label}")
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
