"""The audit trail by command line: what people did is listed with their reasons, and tampering is named."""

import json
import sqlite3
from pathlib import Path

import pytest

from headrace.signatures import Signer
from headrace.signing import Keys
from tests.end_to_end.system import System
from tests.end_to_end.test_any_stream import MODELS, command, made_up

pytestmark = pytest.mark.broker


def test_who_changed_what_and_why_and_whether_that_is_intact(system: System, tmp_path: Path) -> None:
    file = tmp_path / "audited.csv"
    made_up(file, "binary")
    specification = tmp_path / "audited.json"
    specification.write_text(json.dumps(MODELS["binary"]), encoding="utf-8")
    command(
        system, "stream", "create", "--from", str(file), "--label", "result", "--reason", "asked for by sales"
    )
    command(system, "model", "deploy", "audited", str(specification), "--reason", "the first one")
    listed = command(system, "audit", "list", "--stream", "audited")["records"]
    assert [(one["action"], one["why"]) for one in listed] == [
        ("deploy", "the first one"),
        ("adopt", "asked for by sales"),
    ]
    assert command(system, "audit", "list", "--model", "audited", "--most", "1")["records"] == listed[:1]
    verdict = command(system, "audit", "verify")
    assert (verdict["ok"], verdict["fault"]) == (True, None)
    assert verdict["announced"] == verdict["records"] >= 3

    adopted = listed[1]["sequence"]
    database = system.home.path / "registry.db"
    change = "UPDATE audit SET who = ? WHERE sequence = ?"
    with sqlite3.connect(database) as connection:
        connection.execute(change, ("somebody else", adopted))
    try:
        verdict = command(system, "audit", "verify", code=1)
        assert (verdict["ok"], verdict["fault"]["sequence"], verdict["fault"]["wrong"]) == (
            False,
            adopted,
            "altered",
        )
        assert verdict["records"] == adopted - 1
    finally:
        with sqlite3.connect(database) as connection:
            connection.execute(change, (listed[1]["who"], adopted))
    assert command(system, "audit", "verify")["ok"]


def test_whoever_has_the_public_key_can_verify_what_was_announced(system: System, tmp_path: Path) -> None:
    printed = command(system, "audit", "key")
    states = command(system, "audit", "key", "--states")
    assert states["id"] == Keys.at(system.home.path / "snapshot.key").signer.public.id != printed["id"]
    auditor = tmp_path / "auditor.pub"
    auditor.write_text(f"# the registry's\n{printed['public_key']} {printed['name']}\n", encoding="utf-8")
    verify = ("audit", "verify", "--public-key", str(auditor))
    whole = command(system, "audit", "verify")
    assert command(system, *verify) == {**whole, "older_heads": 0}

    database = system.home.path / "registry.db"
    with sqlite3.connect(database) as connection:
        [(digest,)] = connection.execute("SELECT digest FROM audit WHERE sequence = 1").fetchall()
        connection.execute("UPDATE audit SET digest = ? WHERE sequence = 1", ("f" * 64,))
    try:
        verdict = command(system, *verify, code=1)
        assert verdict["fault"]["sequence"] <= 2
        assert verdict["fault"]["wrong"] in ("replaced", "detached")
    finally:
        with sqlite3.connect(database) as connection:
            connection.execute("UPDATE audit SET digest = ? WHERE sequence = 1", (digest,))

    auditor.write_text(f"{Signer(b'o' * 32).public} somebody else\n", encoding="utf-8")
    verdict = command(system, *verify, code=1)
    assert (verdict["ok"], verdict["heads"], verdict["strange_heads"]) == (False, 0, whole["heads"])
