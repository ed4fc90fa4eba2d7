"""Following scoring: what it says, when it is through, and when waiting makes no sense any more."""

import time

import pytest

from headrace.cli import following
from headrace.cli.following import Follower, Live, Stuck, behind, wait_until_folded
from headrace.client.problems import Unreachable


def metrics(offset, **total):
    return {"partitions": {"0": {"offset": offset}}, "total": total}


class Scoring:
    """Answers one document after the other, the last one for ever; an exception is raised."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def metrics(self, stream):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def ends(monkeypatch):
    """Give the end offsets of the log."""

    def set_to(offsets):
        monkeypatch.setattr("headrace.kafka.admin.end_offsets", lambda bootstrap, topic: offsets)

    set_to({0: 10})
    monkeypatch.setattr(following, "EAGER_POLL_SECONDS", 0.005)
    return set_to


def test_live_reads_counts_and_the_champion():
    models = [
        {"model": "c", "role": "challenger", "metrics": {"overall": {"roc_auc": 0.9}}},
        {"model": "m", "role": "champion", "metrics": {"overall": {"roc_auc": 0.7, "log_loss": None}}},
    ]
    live = Live(metrics(3, observations=5, labels=4, duplicates=1, models=models))
    assert live.folded == 10
    assert live.champion()["model"] == "m"
    assert (live.metric("roc_auc"), live.metric("log_loss"), live.count("expired")) == (0.7, None, 0)


def test_nothing_is_known_before_the_first_answer(ends):
    assert (Live().folded, Live().champion(), Live().metric("roc_auc")) == (0, {}, None)
    assert behind("b", "s", Live()) is None


def test_lag_is_summed_over_partitions_also_those_nobody_holds(ends):
    ends({0: 10, 1: 5, 2: 0})
    live = Live({"partitions": {"0": {"offset": 7}}})
    assert behind("b", "s", live) == 2 + 5


def test_waits_until_the_last_record(ends):
    heard = []
    follower = Follower(Scoring(Unreachable("away"), metrics(2), metrics(6), metrics(9, labels=4)), "s")
    assert wait_until_folded(follower, "b", "s", heard.append) == 0
    assert heard == [7, 3]
    assert follower.live.count("labels") == 4


def test_a_transaction_marker_at_the_end_is_not_waited_for_for_ever(ends, monkeypatch):
    monkeypatch.setattr(following, "STALLED_SECONDS", 0.05)
    assert wait_until_folded(Follower(Scoring(metrics(8)), "s"), "b", "s", lambda lag: None) == 0


def test_a_time_limit(ends):
    assert wait_until_folded(Follower(Scoring(metrics(0)), "s"), "b", "s", lambda lag: None, 0.05) == 9


@pytest.mark.parametrize(
    ("answer", "limit", "says"),
    [
        (Unreachable("away"), "SILENT_SECONDS", "has not answered"),
        (metrics(3), "STUCK_SECONDS", "6 events behind and has not moved"),
    ],
)
def test_a_scoring_that_is_gone_or_hangs_ends_the_wait(ends, monkeypatch, answer, limit, says):
    monkeypatch.setattr(following, limit, 0.05)
    with pytest.raises(Stuck, match=f"{says}.*headrace doctor"):
        wait_until_folded(Follower(Scoring(answer), "s"), "b", "s", lambda lag: None)


def test_the_thread_notes_the_first_prediction_and_ends(ends):
    follower = Follower(
        Scoring(metrics(0), metrics(1, predictions=0), metrics(2, predictions=1)), "s"
    ).start()
    deadline = time.monotonic() + 10
    while not follower.live.first_prediction_at and time.monotonic() < deadline:
        time.sleep(0.01)
    first = follower.live.first_prediction_at
    follower.refresh()
    assert 0 < first == follower.live.first_prediction_at
    follower.stop()
    Follower(Scoring(metrics(0)), "s").stop()  # never started: nothing to end
