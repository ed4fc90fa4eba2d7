"""A consumer that does not come back into its group is given up, but never while the broker is away."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from headrace.kafka import membership as module
from headrace.kafka.membership import REJOIN_SECONDS, SUBSCRIBE_SECONDS, Membership


class Client:
    """Stands in for the consumer: the broker answers it, or does not."""

    answers = True

    def list_topics(self, timeout):
        assert 0 < timeout < 5
        if not self.answers:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))


@pytest.fixture
def clock(monkeypatch):
    clock = [1_000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    return clock


def test_a_subscription_changes_when_the_one_before_it_has_settled_or_long_enough_has_passed(clock):
    membership = Membership()
    assert membership.is_settled
    membership.subscribed()
    assert not membership.is_settled
    membership.assigned()
    assert membership.is_settled
    membership.subscribed()
    clock[0] += SUBSCRIBE_SECONDS
    assert membership.is_settled
    membership.lost()
    clock[0] += 1_000
    assert not membership.is_settled  # changing it now would end the process


def test_who_does_not_come_back_is_given_up_once_the_broker_answers(clock):
    membership, client = Membership(), Client()
    clock[0] += 1_000
    assert not membership.is_stuck(client)  # it has not lost its place
    membership.lost()
    clock[0] += REJOIN_SECONDS - 0.1
    assert not membership.is_stuck(client)
    clock[0] += 0.1
    client.answers = False
    assert not membership.is_stuck(client)
    client.answers = True
    assert not membership.is_stuck(client)  # the broker has its time again
    clock[0] += REJOIN_SECONDS
    assert membership.is_stuck(client)
    membership.assigned()
    clock[0] += 1_000
    assert not membership.is_stuck(client)
