"""Databases for the registry's tests: each runs on SQLite and on a real PostgreSQL."""

import os
from collections.abc import Iterator

import pytest
import sqlalchemy

from tests.support import fresh, postgres

# MLflow's client, where it is loaded: it must not call home from a test, and a refusal is no reason to wait.
os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/db/registry.db"
    url = request.getfixturevalue("postgres_server")
    name = fresh("db").replace("-", "_")
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return url.rpartition("/")[0] + f"/{name}"
