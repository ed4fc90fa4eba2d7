"""The examples of docs/fits-in.md run as they stand there, against a registry with what they speak of."""

import json
import os
import re
import subprocess
import sys

import pytest

from headrace.contracts.cleanse import Cleanser
from headrace.contracts.stream import Field, LabelSpec, StreamContract
from services.registry.domain.audit import By
from tests.integration.registry_memory import SPECIFICATION
from tests.integration.registry_server import served
from tests.repo.tree import ROOT

PAGE = (ROOT / "docs/fits-in.md").read_text("utf-8")
FLIGHTS = StreamContract(
    "flights", "binary", [Field("carrier", "string"), Field("distance", "number")], label=LabelSpec("late")
)
PRODUCER = """
class producer:
    def produce(topic, value, headers):
        import json
        print(json.dumps([topic, value.decode(), [name for name, _ in headers]]))
"""
"""What the example hands its value to, as it stands in no example: a Kafka's place."""


@pytest.fixture
def server(tmp_path):
    with served(f"sqlite:///{tmp_path}/registry.db", tmp_path) as found:
        found.registry.adopt(FLIGHTS, By("ada"))
        for seed in (1, 2):
            specification = {**SPECIFICATION, "seed": seed, "inputs": ["distance"]}
            found.registry.submit("lateness", specification, "", By("ada"))
            found.registry.deploy("flights", "lateness", None, "champion", By("ada"))
        yield found


def run(name, server, folder, before="", **environment):
    """What the page's example with this name in it prints, line by line."""
    [code] = [code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if name in code]
    script = folder / "example.py"
    script.write_text(before + code.replace("http://127.0.0.1:8104", server.url), "utf-8")
    done = subprocess.run(
        [sys.executable, script], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_mlflow(server, tmp_path):
    printed = run(
        "MlflowClient",
        server,
        tmp_path,
        MLFLOW_TRACKING_URI=server.url,
        MLFLOW_TRACKING_TOKEN=server.keys["operator"],
    )
    aliases = {"champion": "2", "champion-flights": "2", "previous": "1", "previous-flights": "1"}
    assert printed[0].startswith("headrace:lateness@2 ada {'headrace.author': 'ada', ")
    assert printed[1:] == [f"lateness {aliases}"]
    assert server.registry.store.notes.tags([("lateness", 2)]) == {("lateness", 2): {"reviewed": "yes"}}


def test_schema_registry(server, tmp_path):
    shown, made = run("SchemaRegistryClient", server, tmp_path, PRODUCER, KEY=server.keys["producer"])
    assert json.loads(shown)["title"] == "flights"
    topic, value, headers = json.loads(made)
    assert (topic, headers) == ("flights.inbox", ["__value_schema_id"])
    found = Cleanser(FLIGHTS).event(value.encode(), now_ms=1, new_id=lambda: "new")
    assert (found.id, found.x) == ("UA15", {"carrier": "UA", "distance": 1400.0})
