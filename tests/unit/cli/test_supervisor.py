"""The supervisor over stand-in services: real processes, the real supervisor as `up` starts it, no broker."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from headrace.cli import processes, reports, supervisor, system
from headrace.cli.doctor import Examination
from headrace.cli.home import SERVICES, Home, Process, Run
from headrace.cli.output import Output

PATIENCE_SECONDS = 40.0


@pytest.fixture
def home(stand_ins):
    return stand_ins


def up(home):
    return system.up(home, lambda _: None, lambda _: None)


def until(what, text="it did not get there"):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := what()):
        assert time.monotonic() < deadline, text
        time.sleep(0.05)
    return found


def kill(one):
    os.kill(one.pid, signal.SIGKILL)


def new_pid(home, service, old):
    def look():
        one = home.load().services[service]
        return one if one.pid != old.pid and processes.is_alive(one.pid, one.mark) else None

    return until(look, f"{service} did not come back")


def events(home):
    lines = processes.last_lines(home.logs / "supervisor.log", 200)
    return [json.loads(line) for line in lines]


def service_in(report, name):
    return next(one for one in report["services"] if one["service"] == name)


def test_what_is_killed_comes_back_at_its_port_and_the_rest_is_left_alone(home):
    started = up(home)
    before = started.run.services
    kill(before["scoring"])
    after = new_pid(home, "scoring", before["scoring"])
    assert after.port == before["scoring"].port
    until(lambda: system.ready_now(home, home.load())["scoring"][0])
    assert {name: one for name, one in home.load().services.items() if name != "scoring"} == {
        name: one for name, one in before.items() if name != "scoring"
    }
    # The second time it is a child of the supervisor's: how it ended is known.
    kill(after)
    new_pid(home, "scoring", after)
    report = until(
        lambda: (one := reports.collect_status(home)) and service_in(one, "scoring")["ready"] and one
    )
    scoring = service_in(report, "scoring")
    assert (scoring["restarts"], scoring["ends_in_a_row"]) == (2, 2)
    assert (scoring["last_end"]["exit_code"], scoring["last_end"]["reason"]) == (-9, "killed by signal 9")
    assert service_in(report, "ingest")["restarts"] == 0
    assert report["supervisor"]["ready"] is True


def test_one_that_cannot_start_is_tried_on_and_says_why(home, capsys):
    broken = Home(home.path, home.bootstrap, {**home.environment, "FAKE_BROKEN": "registry"})
    with pytest.raises(system.NotStarted):
        up(broken)

    def failing():
        report = reports.collect_status(home)
        return report if service_in(report, "registry")["ends_in_a_row"] >= 3 else None

    report = until(failing)
    registry = service_in(report, "registry")
    assert report["well"] is False
    assert registry["last_end"]["exit_code"] == 1
    assert registry["last_end"]["reason"] == "no such thing as a database"
    reports.show_status(Output(False), report)
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "times in a row" in shown
    finding = {one.check: one for one in Examination(broken).findings()}["registry"]
    assert (finding.state, "tried again" in finding.advice) == ("bad", True)
    assert "exit code 1" in finding.detail
    # One log for the whole loop, so the first reason is still there.
    assert len(processes.last_lines(home.logs / "registry.log", 100)) >= 3
    assert len(list(home.logs.glob("registry.log*"))) <= 2
    # Who mends it says `up`, and the new environment counts from then on.
    mended = up(home)
    victim = mended.run.services["registry"]
    kill(victim)
    until(lambda: home.load().services["registry"].pid != victim.pid)
    until(lambda: system.ready_now(home, home.load())["registry"][0])


def test_a_supervisor_that_is_killed_harms_nobody_and_the_next_adopts_what_runs(home):
    started = up(home)
    kill(started.run.supervisor)
    until(lambda: not system.supervised(home.load()))
    report = reports.collect_status(home)
    assert (report["well"], report["supervisor"]["ready"]) == (False, False)
    assert all(service["ready"] for service in report["services"])
    finding = {one.check: one for one in Examination(home).findings()}["supervisor"]
    assert (finding.state, finding.advice) == ("bad", "headrace up starts it again, and nothing else")
    again = up(home)
    assert again.run.services == started.run.services
    assert again.run.supervisor != started.run.supervisor
    kill(again.run.services["monitor"])
    new_pid(home, "monitor", again.run.services["monitor"])


def test_sigterm_ends_the_supervisor_and_nothing_else(home):
    started = up(home)
    until(lambda: events(home))  # before it watches, a signal simply ends it
    began = time.monotonic()
    os.kill(started.run.supervisor.pid, signal.SIGTERM)
    until(lambda: not system.supervised(home.load()))
    assert time.monotonic() - began < 5
    assert events(home)[-1]["event"] == "stops watching"
    assert all(processes.is_alive(one.pid, one.mark) for one in started.run.services.values())


def test_down_ends_everything_while_something_dies(home):
    started = up(home)
    watcher = started.run.supervisor
    kill(started.run.services["ingest"])
    system.down(home, lambda _: None)
    assert not processes.is_alive(watcher.pid, watcher.mark)
    assert home.load().supervisor is None
    time.sleep(1.0)  # nobody is left who would start anything
    assert not any(processes.is_alive(one.pid, one.mark) for one in home.load().services.values())
    assert {one.pid for one in home.load().services.values()} == {0}


def test_one_that_is_not_named_ends_by_itself(home):
    started = up(home)
    run = home.load()
    run.supervisor = Process(1, "t0")
    home.save(run)
    until(lambda: not processes.is_alive(started.run.supervisor.pid, started.run.supervisor.mark))
    assert events(home)[-1]["event"] == "another has taken over"


def test_while_a_command_is_at_work_nothing_is_noted_and_nothing_started(home):
    home.prepare()
    home.save(Run("127.0.0.1:1", False, {}, Process(os.getpid(), "me")))
    noted = []
    now = [100.0]
    watcher = supervisor.Supervisor(home, lambda event, **more: noted.append(event), lambda: now[0])
    with system._alone(home, lambda _: None):
        for _ in range(3):
            assert watcher.turn() is True
            assert watcher.patience == supervisor.BUSY_SECONDS
            now[0] += 1
    assert noted == []
    assert watcher.turn() is True
    assert noted == ["ended"] * len(SERVICES)
    assert watcher.patience == pytest.approx(0.2)


def test_a_full_disk_leaves_no_process_that_no_file_names(home, monkeypatch):
    home.prepare()
    home.save(Run("127.0.0.1:1", False, {}, Process(os.getpid(), "me")))
    now = [100.0]
    noted, started = [], []
    watcher = supervisor.Supervisor(
        home, lambda event, **more: noted.append((event, more.get("reason"))), lambda: now[0]
    )
    watcher.turn()
    launch = supervisor.start_service

    def remembering(*arguments, **named):
        started.append(launch(*arguments, **named))
        return started[-1]

    def full(self, run):
        raise OSError(28, "No space left on device")

    now[0] += 1
    with monkeypatch.context() as patched:
        patched.setattr(supervisor, "start_service", remembering)
        patched.setattr(Home, "save", full)
        assert watcher.turn() is True
    assert len(started) == len(SERVICES)
    assert not any(processes.is_alive(one.pid, one.mark) for one in started)
    assert noted[-1] == ("ended", "[Errno 28] No space left on device")
    assert all(history.ends == 2 for name, history in watcher._histories.items() if name != "broker")


def test_it_sleeps_and_stays_small(home):
    started = up(home)
    watcher = started.run.supervisor
    time.sleep(1.0)

    def cpu():
        fields = Path(f"/proc/{watcher.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before = cpu()
    time.sleep(3.0)
    assert cpu() - before <= 0.06  # 2 % of one core
    assert processes.memory_mb(watcher.pid) < 40


def test_status_marks_what_is_only_estimated():
    interval = {"accuracy": {"low": 0.7, "high": 0.8}}
    shown = reports.estimate({"count": 10, "accuracy": 0.75, "interval": interval})
    assert shown == ", est. accuracy 0.750 (0.700 to 0.800)"
    assert reports.estimate({"count": 10, "missing": "fewer than 200 labels were known before"}) == ""
    assert reports.estimate(None) == ""
