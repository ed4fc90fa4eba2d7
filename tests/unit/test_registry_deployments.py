"""What deploying means once a model was rebuilt: its specification stands there, and is not put there again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.contracts.left_out import LeftOut
from headrace.contracts.stream import Field, StreamContract, from_dict
from services.registry.database import Database
from services.registry.domain.audit import By, Seal
from services.registry.domain.lifecycle import Conflict
from services.registry.store import Store
from services.registry.trail import Trail

ANN = By("ann")
SPECIFICATION = {"model": "dummy.NoChangeClassifier"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Version 1 stands on `a` and `b`; on `a` it was rebuilt twice, as versions 2 and 3."""
    database = Database(f"sqlite:///{tmp_path / 'registry.db'}")
    database.prepare()
    made = Store(database, lambda: 1, Trail(database, Seal(bytes(32)), lambda: 1))
    made.submit("m", "digest", SPECIFICATION, "", ANN)
    for stream in "ab":
        contract = StreamContract(stream, "binary", [Field("a", "number")])
        made.adopt(contract, lambda _: None, from_dict, ANN)
        made.deploy(stream, made.version("m"), "champion", ANN)
    for _ in range(2):
        made.rebuild("a", "m", LeftOut(["x"]), ANN)
    yield made
    database.close()


def standing(store: Store, stream: str) -> tuple[int, str]:
    [(row, _)] = store.deployments(stream)
    return row.version, row.role


@pytest.mark.parametrize("version", [1, 2, None])
def test_what_stands_rebuilt_is_not_replaced_by_an_untrained_one(store: Store, version: int | None) -> None:
    """A script that deploys the same specification again must not cost what the model has learnt."""
    assert not store.deploy("a", store.version("m", version), "champion", ANN)
    assert standing(store, "a") == (3, "champion")
    with pytest.raises(Conflict):
        store.deploy("a", store.version("m", version), "challenger", ANN)


def test_the_latest_version_may_be_another_streams_rebuild(store: Store) -> None:
    assert not store.deploy("b", store.version("m"), "champion", ANN)
    assert standing(store, "b") == (1, "champion")


def test_afresh_it_is_the_version_that_was_specified(store: Store) -> None:
    store.change("a", "m", "retire", ANN)
    assert store.deploy("a", store.version("m"), "champion", ANN)
    assert standing(store, "a") == (1, "champion")


def test_another_specification_still_replaces_it(store: Store) -> None:
    store.submit("m", "other", SPECIFICATION, "", ANN)
    assert store.deploy("a", store.version("m"), "champion", ANN)
    assert standing(store, "a") == (4, "champion")
