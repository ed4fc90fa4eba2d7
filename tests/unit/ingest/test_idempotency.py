"""The idempotency store: same answer, refusal of another body, and its three bounds."""

import pytest

from services.ingest.domain.idempotency import IdempotencyStore, KeyReused


def store(limit: int = 10, limit_bytes: int = 1000, age_ms: int = 100) -> IdempotencyStore[str]:
    return IdempotencyStore(limit=limit, limit_bytes=limit_bytes, age_ms=age_ms)


def test_the_same_body_gets_the_same_answer_also_while_the_work_goes_on() -> None:
    answers = store()
    assert answers.find("k", b"a", 0) is None
    answers.begin("k", b"a", "promise", 0)
    assert answers.find("k", b"a", 1) == "promise"
    answers.settle("k", 7)
    assert answers.find("k", b"a", 2) == "promise"


def test_another_body_is_refused() -> None:
    answers = store()
    answers.begin("k", b"a", "x", 0)
    with pytest.raises(KeyReused):
        answers.find("k", b"b", 1)
    assert answers.find("other", b"b", 1) is None


def test_a_key_can_begin_once_only() -> None:
    answers = store()
    answers.begin("k", b"a", "x", 0)
    with pytest.raises(ValueError, match="find"):
        answers.begin("k", b"a", "y", 0)


def test_a_failed_work_is_forgotten() -> None:
    answers = store()
    answers.begin("k", b"a", "x", 0)
    answers.forget("k")
    answers.forget("k")
    assert answers.find("k", b"b", 0) is None


def test_the_oldest_go_at_each_bound() -> None:
    answers = store(limit=2)
    for name in "abc":
        answers.begin(name, b"", name, 0)
    assert [answers.find(name, b"", 0) for name in "abc"] == [None, "b", "c"]

    answers = store(limit_bytes=100)
    for name in "abc":
        answers.begin(name, b"", name, 0)
        answers.settle(name, 40)
    assert [answers.find(name, b"", 0) for name in "abc"] == [None, "b", "c"]

    answers = store(age_ms=100)
    answers.begin("a", b"", "a", 0)
    answers.begin("b", b"", "b", 50)
    assert answers.find("a", b"", 100) == "a"
    assert answers.find("a", b"", 101) is None
    assert answers.find("b", b"", 150) == "b"


def test_bytes_are_given_back_and_a_late_settle_is_harmless() -> None:
    answers = store(limit_bytes=100)
    answers.begin("a", b"", "a", 0)
    answers.settle("a", 90)
    answers.forget("a")
    answers.begin("b", b"", "b", 0)
    answers.settle("b", 90)
    answers.settle("gone", 90)
    assert answers.find("b", b"", 0) == "b"
    answers.settle("b", 101)
    assert len(answers) == 0
