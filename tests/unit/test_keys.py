"""Keys: closed by default, hashed at rest, roles imply roles, the file may change under a running service."""

import hashlib
import json
import os
import stat
import threading
import time

import pytest

from headrace import keys
from headrace.errors import Unusable
from headrace.keys import KeyRing


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home" / "keys.json"


@pytest.fixture(autouse=True)
def _look_always(monkeypatch):
    monkeypatch.setattr(keys, "LOOK_AGAIN_SECONDS", 0.0)


def test_a_key_opens_and_only_its_hash_is_stored(path):
    secret = keys.create(path, "ada", "operator")
    assert secret.startswith("hr_")
    assert len(secret) >= 43
    text = path.read_text()
    assert secret not in text
    assert json.loads(text)["keys"][0]["sha256"] == hashlib.sha256(secret.encode()).hexdigest()
    found = KeyRing.load(path).find(secret)
    assert found is not None
    assert (found.name, found.roles) == ("ada", ["operator"])


def test_the_file_and_its_folder_are_for_the_owner_alone(path):
    keys.create(path, "ada", "reader")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    keys.create(path, "bob", "reader")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("producer", {"producer"}),
        ("reader", {"reader"}),
        ("operator", {"producer", "reader", "operator"}),
        ("admin", {"producer", "reader", "operator", "admin"}),
    ],
)
def test_what_each_role_allows(path, role, allowed):
    key = KeyRing.load(path).find(keys.create(path, "k", role))
    assert {other for other in keys.ROLES if key.allows(other)} == allowed


@pytest.mark.parametrize(
    "content", [None, b"", b"{", b'{"keys": 1}', b'{"keys": [{"name": "x"}]}', b"\xff\xfe"]
)
def test_without_a_sound_file_nobody_gets_in(path, content):
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(content)
    ring = KeyRing.load(path)
    for secret in ("", "hr_", "hr_" + "a" * 43, "x" * 10_000, "\udcff"):
        assert ring.find(secret) is None


def test_wrong_secrets_do_not_open(path):
    secret = keys.create(path, "ada", "admin")
    ring = KeyRing.load(path)
    for wrong in (
        secret[:-1],
        secret + "a",
        secret.upper(),
        "",
        digest := keys.digest_of(secret),
        f"hr_{digest}",
    ):
        assert ring.find(wrong) is None


def test_a_running_service_sees_new_keys_revoked_keys_and_a_file_gone_bad(path):
    first = keys.create(path, "ada", "reader")
    ring = KeyRing.load(path)
    second = keys.create(path, "bob", "reader")
    assert ring.find(second) is not None
    assert keys.revoke(path, "ada")
    assert ring.find(first) is None
    assert ring.find(second) is not None
    assert not keys.revoke(path, "ada")
    good = path.read_bytes()
    path.write_bytes(b"nonsense")
    assert ring.find(second) is None
    path.write_bytes(good)
    assert ring.find(second) is not None
    path.unlink()
    assert ring.find(second) is None
    assert keys.stored(path) == []


def test_names_and_roles_are_checked_and_names_are_unique(path):
    keys.create(path, "ada", "reader")
    for name in ("", "a b", "../x", "x" * 64, "-x"):
        with pytest.raises(Unusable, match="key name"):
            keys.create(path, name, "reader")
    with pytest.raises(Unusable, match="already"):
        keys.create(path, "ada", "admin")
    with pytest.raises(Unusable, match="producer"):
        keys.create(path, "bob", "root")
    with pytest.raises(Unusable, match="producer"):
        keys.create(path, "bob")
    assert [key.name for key in keys.stored(path)] == ["ada"]


def test_keys_made_at_once_are_all_kept(path):
    threads = [threading.Thread(target=keys.create, args=(path, f"k{i}", "reader")) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key.name for key in keys.stored(path)} == {f"k{i}" for i in range(12)}
    assert sorted(os.listdir(path.parent)) == ["keys.json", "keys.json.lock"]


def test_looking_at_the_file_is_rare(path, monkeypatch):
    monkeypatch.setattr(keys, "LOOK_AGAIN_SECONDS", 60.0)
    secret = keys.create(path, "ada", "reader")
    ring = KeyRing.load(path)
    path.unlink()
    began = time.perf_counter()
    for _ in range(1000):
        assert ring.find(secret) is not None
    assert time.perf_counter() - began < 1.0
