"""`up` and `down` over stand-in services: real processes, real ports, no broker."""

import json
import os
import signal
import socket
import time

import pytest

from headrace import keys
from headrace.cli import launch, processes, system
from headrace.cli.doctor import Examination
from headrace.cli.home import SERVICES, Home, Run
from headrace.errors import Unusable


@pytest.fixture
def home(stand_ins):
    return stand_ins


def up(home):
    shown, said = [], []
    return system.up(home, said.append, shown.append), shown, said


def test_up_starts_what_is_not_there_and_keeps_what_is(home, free_ports):
    started, shown, said = up(home)
    assert started.started == list(SERVICES)
    assert {name: one.port for name, one in started.run.services.items()} == free_ports
    assert shown == [started.admin_key]
    assert shown[0].startswith("hr_")
    assert sum("is ready at" in line for line in said) == 4

    again, shown, _ = up(home)
    assert (again.started, again.kept, shown) == ([], list(SERVICES), [])
    assert again.run.services == started.run.services

    victim = started.run.services["scoring"]
    os.kill(again.run.supervisor.pid, signal.SIGKILL)  # it would be quicker than we are
    os.kill(victim.pid, signal.SIGKILL)
    mended, _, _ = up(home)
    assert mended.started == ["scoring"]
    assert mended.run.services["scoring"].port == victim.port
    assert mended.run.services["ingest"] == started.run.services["ingest"]

    assert sorted(system.down(home, lambda _: None)) == sorted(SERVICES)
    assert not any(processes.is_alive(one.pid, one.mark) for one in mended.run.services.values())
    assert system.down(home, lambda _: None) == []


def test_services_are_told_where_everything_is(home):
    started, _, _ = up(home)
    told = json.loads(processes.last_lines(launch.log_of(home, "monitor"), 1)[0])
    assert told == {
        "HEADRACE_HOME": str(home.path),
        "HEADRACE_KEYS": str(home.keys_file),
        "HEADRACE_BOOTSTRAP": "127.0.0.1:1",
        "HEADRACE_MONITOR_HOST": "127.0.0.1",
        "HEADRACE_MONITOR_PORT": str(started.run.services["monitor"].port),
    }


def test_the_first_keys(home):
    _, (admin,), _ = up(home)
    assert [(key.name, key.roles) for key in keys.stored(home.keys_file)] == [
        ("cli", ["admin"]),
        ("admin", ["admin"]),
    ]
    ring = keys.KeyRing.load(home.keys_file)
    assert ring.find(admin).name == "admin"
    assert ring.find(home.key()).name == "cli"
    assert home.cli_key_file.stat().st_mode & 0o777 == 0o600
    assert home.path.stat().st_mode & 0o777 == 0o700
    assert admin not in json.dumps(system.broker_state(home, home.load()))

    home.cli_key_file.unlink()
    _, shown, _ = up(home)
    assert shown == []
    assert keys.KeyRing.load(home.keys_file).find(home.key()).name.startswith("cli-")


def test_a_taken_default_port_is_gone_round_and_a_given_one_is_an_error(home, free_ports):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_ports["ingest"]))
        taken.listen()
        given = Home(
            home.path, home.bootstrap, {**home.environment, "HEADRACE_INGEST_PORT": str(free_ports["ingest"])}
        )
        with pytest.raises(Unusable, match="HEADRACE_INGEST_PORT"):
            up(given)
        started, _, _ = up(home)
        assert started.run.services["ingest"].port > free_ports["ingest"]


def test_a_service_that_cannot_start_is_shown_with_its_reason(home):
    broken = Home(home.path, home.bootstrap, {**home.environment, "FAKE_BROKEN": "registry"})
    with pytest.raises(system.NotStarted, match="registry ended with exit code 1") as caught:
        up(broken)
    assert "no such thing as a database" in str(caught.value)
    findings = {finding.check: finding for finding in Examination(broken).findings()}
    assert findings["registry"].state == "bad"
    assert "no such thing as a database" in findings["registry"].detail
    assert findings["ingest"].state == "ok"
    mended, shown, _ = up(home)
    assert (mended.started, shown) == (["registry"], [])


def test_a_port_that_is_taken_while_we_start_is_gone_round(home, free_ports):
    raced = Home(home.path, home.bootstrap, {**home.environment, "FAKE_TAKEN": str(free_ports["scoring"])})
    started, _, said = up(raced)
    assert started.run.services["scoring"].port != free_ports["scoring"]
    assert "starting scoring again" in said


def test_somebody_else_s_service_at_our_port_is_not_ours(home):
    started, _, _ = up(home)
    home.cli_key_file.write_text("foreign")
    ready = system.ready_now(home, started.run)
    port = started.run.services["ingest"].port
    assert ready["ingest"] == (False, f"another installation answers at port {port}")


def test_a_service_that_does_not_get_ready_says_what_it_waits_for(home, monkeypatch):
    monkeypatch.setattr(system, "READY_SECONDS", 3.0)
    slow = Home(home.path, home.bootstrap, {**home.environment, "FAKE_UNREADY": "scoring"})
    with pytest.raises(system.NotStarted, match=r"scoring is not ready after 3 s \(waiting for shards\)"):
        up(slow)


def test_another_broker_means_other_services(home):
    first, _, _ = up(home)
    moved = Home(home.path, "127.0.0.1:2", home.environment)
    second, _, said = up(moved)
    assert second.started == list(SERVICES)
    assert any("address has changed" in line for line in said)
    assert not any(processes.is_alive(one.pid, one.mark) for one in first.run.services.values())


def test_a_damaged_address_book_is_an_empty_one(home):
    home.prepare()
    home.run_file.write_text("{not json")
    assert home.load() == Run()


def test_delete_removes_only_what_is_ours(tmp_path):
    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "letters").touch()
    home = Home(foreign)
    home.prepare()
    with pytest.raises(Unusable, match="by hand"):
        home.delete()
    assert (foreign / "letters").exists()
    own = Home(tmp_path / "own")
    own.prepare()
    own.delete()
    assert not own.path.exists()


def test_nothing_is_started_twice_at_a_time(home):
    import threading

    results = []
    threads = [threading.Thread(target=lambda: results.append(up(home)[0])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    pids = [{name: one.pid for name, one in result.run.services.items()} for result in results]
    assert pids[0] == pids[1]
    assert sorted(len(result.started) for result in results) == [0, 4]


def test_doctor_on_an_empty_machine_says_what_to_do(tmp_path, free_ports):
    findings = list(Examination(Home(tmp_path / "none")).findings())
    assert not [finding for finding in findings if finding.state == "bad"]
    advice = {finding.check: finding.advice for finding in findings}
    assert advice["broker"] == "headrace up"
    assert {"python", "packages", "java", "kafka", "disk", "ports", "broker", "ingest", "clock"} <= set(
        advice
    )


def test_doctor_sees_keys_that_others_can_read_and_a_clock_that_was_set_back(home):
    up(home)
    home.cli_key_file.chmod(0o644)
    ahead = time.time() + 3600
    os.utime(home.run_file, (ahead, ahead))
    findings = {finding.check: finding for finding in Examination(home).findings()}
    assert findings["keys"].advice == f"chmod 600 {home.cli_key_file}"
    assert findings["clock"].state == "bad"
