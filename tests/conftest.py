"""Fixtures shared by all levels: one real Kafka for the whole run, whichever worker asks first."""

import os
import uuid
from pathlib import Path

import pytest

from headrace.broker import EmbeddedBroker
from headrace.cli.home import Home

os.environ.setdefault("PYTHONHASHSEED", "0")


KAFKA_HOME = "shared-kafka"


def _shared_folder(factory: pytest.TempPathFactory) -> Path:
    """One folder for all xdist workers of a run."""
    base = factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base


def jars() -> Path:
    """Where Kafka's jars are kept between runs: where the command line keeps them."""
    return Home.from_environment().jars


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Bootstrap servers of a real Apache Kafka; its topics are shared, so name yours with `fresh_name`.

    It outlives the worker that started it: others may still use it. `pytest_sessionfinish` stops it.
    """
    broker = EmbeddedBroker(_shared_folder(tmp_path_factory) / KAFKA_HOME, cache=jars())
    return broker.start().bootstrap_servers


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Once, in the controlling process: stop the Kafka that the tests shared."""
    factory = getattr(session.config, "_tmp_path_factory", None)
    if factory is None or hasattr(session.config, "workerinput"):
        return
    home = factory.getbasetemp() / KAFKA_HOME
    if home.exists():
        EmbeddedBroker(home).stop()


@pytest.fixture
def fresh_name() -> str:
    """A stream name nobody else in this run has."""
    return f"s{uuid.uuid4().hex[:10]}"
