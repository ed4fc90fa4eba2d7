"""Which version was live at any time: the journal's answer is what a diary kept beside it says."""

import random
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.contracts.left_out import LeftOut
from headrace.contracts.stream import Field, StreamContract, from_dict
from services.registry.database import Database
from services.registry.decisions import Absent
from services.registry.domain import lifecycle
from services.registry.domain.audit import By, Seal
from services.registry.domain.history import standing
from services.registry.domain.lifecycle import Conflict
from services.registry.journal import Journal
from services.registry.store import Store
from services.registry.trail import Trail

ME = By("me")
CONTRACT = StreamContract("s", "binary", [Field("a", "number")])
commands = st.lists(
    st.tuples(
        st.sampled_from(["deploy", "challenge", "promote", "retire", "freeze", "unfreeze", "rebuild"]),
        st.sampled_from("abc"),
        st.integers(0, 5),
    ),
    max_size=25,
)


def decide(store: Store, verb: Any, model: str) -> None:
    if verb in ("deploy", "challenge"):
        store.deploy("s", store.version(model), "champion" if verb == "deploy" else "challenger", ME)
    elif verb == "rebuild":
        store.rebuild("s", model, LeftOut(["x"]), ME)
    else:
        store.change("s", model, verb, ME)


@settings(max_examples=40, deadline=None)
@given(commands)
def test_what_was_live_is_right_for_any_time(
    tmp_path_factory: Any, asked: list[tuple[str, str, int]]
) -> None:
    folder: Path = tmp_path_factory.mktemp("registry")
    clock = [1000]
    database = Database(f"sqlite:///{folder / 'registry.db'}")
    database.prepare()
    trail = Trail(database, Seal(bytes(32)), lambda: clock[0])
    store, journal = Store(database, lambda: clock[0], trail), Journal(database)
    store.adopt(CONTRACT, lambda _: None, from_dict, ME)
    for model in "abc":
        store.submit(model, f"digest-{model}", {"model": "x"}, "", ME)
    diary = [(clock[0], None)]
    for verb, model, later in asked:
        clock[0] += later
        try:
            decide(store, verb, model)
        except (Conflict, Absent):
            continue
        champion = next((row for row, _ in store.deployments("s") if row.role == "champion"), None)
        diary.append((clock[0], (champion.model, champion.version) if champion else None))
    chance = random.Random(7)
    for moment in [chance.randrange(990, clock[0] + 10) for _ in range(20)] + [clock[0]]:
        written = [who for when, who in diary if when <= moment]
        expected = written[-1] if written else None
        champion = lifecycle.champion(standing(journal.decided("s", moment)).line_up)
        assert (champion and (champion.model, champion.version)) == expected
    then = standing(journal.decided("s", clock[0]))
    now = {row.model: (row.version, row.role, row.frozen) for row, _ in store.deployments("s")}
    assert {one.model: (one.version, one.role, one.frozen) for one in then.line_up.values()} == now
    assert then.decided.keys() == now.keys()
    database.close()
