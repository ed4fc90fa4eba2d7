"""Compose, image, Prometheus and Grafana fit the services as they are; a planted mistake in any of them is caught."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import Counter, Histogram

from deploy.grafana.dashboards import dashboards
from headrace.metrics import catalogue
from headrace.metrics.form import Label, Metric
from tests.repo import declared, deployment
from tests.repo.metric_rules import AnyMetric
from tests.repo.tree import ROOT

PROMTOOL = shutil.which("promtool", path=f"{ROOT / '.tools/bin'}{os.pathsep}{os.environ.get('PATH', '')}")


def test_compose_fits_the_services() -> None:
    assert deployment.compose_findings() == []


def test_compose_runs_the_kafka_that_the_tests_run() -> None:
    """The embedded broker's version, so that what was tested is what is deployed."""
    locked = re.search(
        r'^kafka = "(.+)"$', (ROOT / "headrace/broker/jars.toml").read_text("utf-8"), re.MULTILINE
    )
    document = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    assert locked
    assert document["services"]["kafka"]["image"] == f"apache/kafka:{locked[1]}"


def test_every_service_speaks_to_a_listener_that_kafka_advertises() -> None:
    document = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    for name in deployment.SERVICES:
        assert document["services"][name]["environment"]["HEADRACE_BOOTSTRAP"] in deployment.kafka_listener()


def test_prometheus_scrapes_every_service_at_its_port() -> None:
    ports = declared.ports()
    assert set(ports) == set(deployment.SERVICES)
    assert deployment.scrape_targets() == {f"{name}:{port}" for name, port in ports.items()}


def test_alert_rules_ask_for_metrics_that_exist() -> None:
    expressions = deployment.rule_expressions()
    assert len(expressions) >= 5
    assert deployment.expression_findings(expressions, catalogue.ALL) == []


def test_every_alert_says_how_bad_it_is_and_where_its_runbook_is() -> None:
    assert deployment.rule_findings() == []


def test_every_alert_is_tested_to_fire_and_to_keep_quiet() -> None:
    assert deployment.untested_alerts() == []


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        ("{severity: critical}", "{severity: awful}", "severity"),
        ("runbook.md#servicedown", "runbook.md#servicedwon", "its runbook is not there"),
        ('summary: "{{ $labels.job }} does not answer"', 'summary: ""', "no summary"),
    ],
)
def test_a_mistake_in_an_alert_is_caught(tmp_path: Path, right: str, wrong: str, expected: str) -> None:
    rules, page = tmp_path / deployment.RULES, tmp_path / "docs/runbook.md"
    for path in (rules, page):
        path.parent.mkdir(parents=True)
        shutil.copy(ROOT / path.relative_to(tmp_path), path)
    text = rules.read_text("utf-8")
    assert right in text
    rules.write_text(text.replace(right, wrong, 1), "utf-8")
    [finding] = deployment.rule_findings(tmp_path)
    assert finding.startswith("ServiceDown: ")
    assert expected in finding


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    expressions = deployment.panel_expressions()
    assert len(expressions) >= 8
    assert deployment.expression_findings(expressions, catalogue.ALL) == []


def test_grafana_finds_its_dashboard_and_its_data() -> None:
    provisioning = ROOT / "deploy/grafana/provisioning"
    [source] = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text("utf-8"))["datasources"]
    [provider] = yaml.safe_load((provisioning / "dashboards/headrace.yml").read_text("utf-8"))["providers"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    mounted = [volume.split(":")[1] for volume in compose["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounted
    assert source["url"] == "http://prometheus:9090"
    for text in dashboards().values():
        panels = [panel for panel in json.loads(text)["panels"] if panel["type"] != "row"]
        assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
        assert len({panel["id"] for panel in panels}) == len(panels)
        assert len({panel["title"] for panel in panels}) == len(panels)


def test_the_dashboards_are_what_the_code_makes() -> None:
    committed = {
        path: path.read_text("utf-8") for path in (ROOT / "deploy/grafana/dashboards").glob("*.json")
    }
    assert committed == dashboards(), "make docs"


def test_the_image_holds_what_it_needs_and_no_privileges() -> None:
    text = (ROOT / "deploy/Dockerfile").read_text("utf-8")
    final = text.split("\nFROM ")[-1]
    user = re.search(r"^USER (\S+)$", final, re.MULTILINE)
    assert user
    assert user[1] not in ("root", "0")
    assert "uv sync --locked" in text
    copied = {
        name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE) for name in line.split()
    }
    assert copied == {"pyproject.toml", "uv.lock", "README.md", "headrace", "services"}
    allowed = set(
        re.findall(r"^!(.+)$", (ROOT / "deploy/Dockerfile.dockerignore").read_text("utf-8"), re.MULTILINE)
    )
    assert copied == allowed
    pinned = re.search(r"uv==(\S+)", text)
    assert pinned
    assert f"uv_version={pinned[1]}" in (ROOT / ".ci/setup").read_text("utf-8")


def test_secrets_are_made_once_private_and_complete(tmp_path: Path) -> None:
    """deploy/make-env writes every variable that compose asks for, mode 0600, and never overwrites."""
    script = tmp_path / "deploy/make-env"
    script.parent.mkdir()
    shutil.copy(ROOT / "deploy/make-env", script)
    subprocess.run([str(script)], check=True, capture_output=True)
    written = (tmp_path / ".env").read_text("utf-8")
    made = dict(line.split("=", 1) for line in written.splitlines())
    asked = set(re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yml").read_text("utf-8")))
    assert set(made) == asked
    assert len(set(made.values())) == len(made)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{22,}", value) for value in made.values()), "must fit in a URL"
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
    subprocess.run([str(script)], check=True, capture_output=True)
    assert (tmp_path / ".env").read_text("utf-8") == written


@pytest.mark.skipif(PROMTOOL is None and os.environ.get("CI") != "true", reason="promtool is not installed")
@pytest.mark.parametrize(
    "command",
    [("check", "config", "prometheus.yml"), ("check", "rules", "headrace.rules.yml"),
     ("test", "rules", "headrace.rules.test.yml")],
    ids=["config", "rules", "behaviour"],
)  # fmt: skip
def test_prometheus_itself_takes_the_files(command: tuple[str, ...]) -> None:
    """The last of these runs the alerts against made-up series: they fire when they should, and only then."""
    assert PROMTOOL, "CI installs promtool; see .ci/system-packages"
    run = subprocess.run(
        [PROMTOOL, *command], cwd=ROOT / "deploy/prometheus", capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


PLANTED = [
    ("HEADRACE_INGEST_HOST: 0.0.0.0", "HEADRACE_INGEST_HOTS: 0.0.0.0", "is no setting of it"),
    ('HEADRACE_SCORING_PORT: "8102"', 'HEADRACE_SCORING_PORT: "8109"', "is not the documented one"),
    ('"127.0.0.1:8103:8103"', '"8103:8103"', "listens beyond this machine"),
    (
        "POSTGRES_PASSWORD: ${POSTGRES_PASSWORD:?run deploy/make-env first}",
        "POSTGRES_PASSWORD: hunter2",
        "in the open",
    ),
    ("GRAFANA_PASSWORD:?run deploy/make-env first", "GRAFANA_PASSWORD", "may be empty"),
    ("python, -m, services.monitor", "python, -m, services.ingest", "not its own module"),
    ("127.0.0.1:8104/readyz", "127.0.0.1:8104/healthz", "not asked at its own /readyz"),
    ("  keys: {}\n", "", "volume keys is not declared"),
    ("./deploy/prometheus:", "./deploy/prometeus:", "which is not there"),
    (
        "postgres: {condition: service_healthy}",
        "postgresql: {condition: service_healthy}",
        "which is not there",
    ),
]


@pytest.mark.parametrize(("right", "wrong", "expected"), PLANTED)
def test_a_mistake_in_compose_is_caught(tmp_path: Path, right: str, wrong: str, expected: str) -> None:
    shutil.copytree(ROOT / "services", tmp_path / "services", ignore=shutil.ignore_patterns("__pycache__"))
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    assert right in text
    (tmp_path / "docker-compose.yml").write_text(text.replace(right, wrong), "utf-8")
    found = deployment.compose_findings(tmp_path)
    assert any(expected in finding for finding in found), found


METRICS: list[AnyMetric] = [
    Metric(Counter, "headrace_x_total", "", (Label("stream"),)),
    Metric(Histogram, "headrace_y_seconds", ""),
]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("rate(headrace_x_totals[1m])", "no metric headrace_x_totals"),
        ("headrace_y_seconds > 1", "no metric headrace_y_seconds"),
        ("rate(foreign_metric_total[1m])", "no metric foreign_metric_total"),
        ('rate(headrace_x_total{strem="a"}[1m])', "has no label strem"),
        ("sum by (strem) (rate(headrace_x_total[1m]))", "no label strem"),
        ('headrace_x_total{topic="a.prediction"}', "no topic a.prediction"),
        ("stream:headrace_x:rate9m > 1", "no metric stream:headrace_x:rate9m"),
    ],
)
def test_a_mistake_in_an_expression_is_caught(expression: str, expected: str) -> None:
    found = deployment.expression_findings({"here": expression}, METRICS)
    assert any(expected in finding for finding in found), found


def test_a_good_expression_passes() -> None:
    good = {
        "a": 'sum by (stream) (rate(headrace_x_total{stream=~"$stream", job="ingest"}[1m]))',
        "b": "histogram_quantile(0.99, sum by (le) (rate(headrace_y_seconds_bucket[5m])))",
        "c": "up == 0",
    }
    assert deployment.expression_findings(good, METRICS) == []
