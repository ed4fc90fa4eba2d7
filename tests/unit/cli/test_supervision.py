"""When a process may start again, and what is told of it: hours of crashes on a clock that is handed in."""

import pytest

from headrace.cli import supervision
from headrace.cli.supervision import History, reason_in, told, wait_before_start


def test_the_wait_doubles_up_to_half_a_minute_and_never_ends() -> None:
    waits = [wait_before_start(ends) for ends in range(1, 12)]
    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0, 30.0]
    assert wait_before_start(10**9) == 30.0


def test_one_that_lived_for_a_while_comes_back_at_once() -> None:
    assert wait_before_start(8, lived_seconds=20.0) == pytest.approx(5.6)
    assert wait_before_start(8, lived_seconds=40.0) == 0.2


def test_a_crash_loop_of_an_hour_starts_about_twice_a_minute() -> None:
    history, now = History(), 0.0
    history.lives(now)
    while now < 3600:
        assert history.is_due(now)
        wait = history.ended(now, 1, "x: no", "then")
        assert not history.is_due(now)
        assert not history.is_due(now + 0.9 * wait)
        now += wait
        assert history.is_due(now)
        history.started(now)
        now += 0.5  # it looks alive for a moment
        assert history.lives(now) is False
    assert 120 < history.restarts < 132
    assert history.ends == history.restarts
    assert history.document()["ends_in_a_row"] == history.ends


def test_a_minute_of_life_makes_the_next_end_the_first() -> None:
    history = History()
    for _ in range(5):
        history.ended(0.0, 1, "", "then")
    history.started(10.0)
    assert history.lives(69.9) is False
    assert history.lives(70.0) is True
    assert history.lives(71.0) is False  # told once
    assert history.document()["ends_in_a_row"] == 0
    assert history.ended(80.0, -9, "killed by signal 9", "later") == 0.2


def test_a_minute_counts_also_if_nobody_looked() -> None:
    history = History()
    for _ in range(5):
        history.ended(0.0, 1, "", "then")
    history.started(10.0)
    assert history.ended(75.0, 1, "", "later") == 0.2
    assert history.ends == 1


def test_one_that_another_command_has_started_is_not_started_again() -> None:
    history = History()
    history.ended(0.0, 1, "", "then")
    history.lives(0.1)
    assert history.due is None
    assert history.ended(0.2, None, "", "then") == pytest.approx(0.3)


def test_the_reason_is_the_last_sentence_of_the_log() -> None:
    assert reason_in(['{"event": "x"}', "scoring: no way", '{"event": "stopped"}']) == "scoring: no way"
    assert reason_in(['{"event": "x"}']) == ""
    assert reason_in([]) == ""
    assert reason_in(["too old", *['{"event": "x"}'] * supervision.REASON_LINES]) == ""


def test_a_reason_is_one_bounded_line() -> None:
    history = History()
    history.ended(0.0, 1, "a\nb" + "c" * 10_000, "then")
    assert history.reason.startswith("a bc")
    assert len(history.reason) == supervision.REASON_CHARACTERS


@pytest.mark.parametrize(
    ("known", "sentence"),
    [
        ({}, ""),
        ({"ends_in_a_row": 0, "reason": "old"}, ""),
        ({"ends_in_a_row": 1, "exit_code": None, "reason": ""}, "ended once"),
        (
            {"ends_in_a_row": 3, "exit_code": 1, "reason": "x: no"},
            "ended 3 times in a row, exit code 1: x: no",
        ),
        ({"ends_in_a_row": 2, "exit_code": -9}, "ended 2 times in a row, killed by signal 9"),
    ],
)
def test_told(known: dict, sentence: str) -> None:
    assert told(known) == sentence
