"""What the embedded broker tells Kafka: addresses on loopback only, nothing deleted by default, odd values refused."""

from __future__ import annotations

import pytest

from headrace.broker import EmbeddedBroker, configuration
from headrace.broker.ports import Ports


def parsed(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    pairs = [line.split("=", 1) for line in lines]
    assert len({key for key, _ in pairs}) == len(pairs), "a key twice: Kafka would silently take the last"
    return dict(pairs)


def test_listens_on_loopback_only_and_advertises_the_same_address():
    settings = parsed(configuration.server_properties(Ports(20_001, 20_002)))
    assert settings["listeners"] == "CLIENTS://127.0.0.1:20001,CONTROLLER://127.0.0.1:20002"
    assert settings["advertised.listeners"] == "CLIENTS://127.0.0.1:20001"
    assert settings["controller.quorum.voters"] == "1@127.0.0.1:20002"


def test_clients_may_be_sent_to_a_port_between_them_and_the_broker():
    settings = parsed(configuration.server_properties(Ports(20_001, 20_002), advertised_port=20_003))
    assert settings["listeners"] == "CLIENTS://127.0.0.1:20001,CONTROLLER://127.0.0.1:20002"
    assert settings["advertised.listeners"] == "CLIENTS://127.0.0.1:20003"


def test_loses_nothing_unless_a_topic_says_so():
    settings = parsed(configuration.server_properties(Ports(1, 2)))
    assert settings["auto.create.topics.enable"] == "false"
    assert settings["log.retention.ms"] == "-1"
    assert int(settings["offsets.retention.minutes"]) >= 60 * 24 * 365


def test_every_internal_topic_fits_one_node():
    settings = parsed(configuration.server_properties(Ports(1, 2)))
    replicas = {
        key: value for key, value in settings.items() if key.endswith(("replication.factor", "min.isr"))
    }
    assert len(replicas) == 5
    assert set(replicas.values()) == {"1"}


def test_timeouts_are_in_the_order_kafka_demands():
    settings = parsed(configuration.server_properties(Ports(1, 2)))
    assert 3 * int(settings["broker.heartbeat.interval.ms"]) < int(settings["broker.session.timeout.ms"])
    assert (
        int(settings["group.consumer.min.heartbeat.interval.ms"])
        <= int(settings["group.consumer.heartbeat.interval.ms"])
        < int(settings["group.consumer.min.session.timeout.ms"])
        <= int(settings["group.consumer.session.timeout.ms"])
    )
    assert settings["group.min.session.timeout.ms"] == "1000"


def test_overrides_win_over_defaults():
    settings = parsed(
        configuration.server_properties(
            Ports(1, 2), {"num.io.threads": "9", "log.flush.interval.messages": "1"}
        )
    )
    assert settings["num.io.threads"] == "9"
    assert settings["log.flush.interval.messages"] == "1"


@pytest.mark.parametrize("key", sorted(configuration.FIXED_KEYS))
def test_what_makes_the_broker_findable_cannot_be_overridden(key, tmp_path):
    with pytest.raises(ValueError, match=key.replace(".", r"\.")):
        EmbeddedBroker(tmp_path, overrides={key: "x"})


@pytest.mark.parametrize(
    ("key", "value"), [("a b", "1"), ("a=b", "1"), ("", "1"), ("a", "1\nlisteners=x"), ("a", "1\\")]
)
def test_an_override_cannot_smuggle_in_a_second_line(key, value):
    with pytest.raises(ValueError, match="one line"):
        configuration.server_properties(Ports(1, 2), {key: value})


def test_letters_outside_ascii_are_escaped_for_java():
    text = configuration.server_properties(Ports(1, 2), {"broker.rack": "Zürich"})
    assert "broker.rack=Z\\u00fcrich\n" in text
    assert text.isascii()


def test_the_log_is_bounded():
    settings = dict(
        line.split(" = ", 1)
        for line in configuration.log4j2_properties(file_bytes=1_000, files=2).splitlines()
        if " = " in line
    )
    assert settings["appender.file.policies.size.size"] == "1000"
    assert settings["appender.file.strategy.max"] == "2"
    assert settings["rootLogger.level"] == "warn"


@pytest.mark.parametrize("wrong", [{"port": -1}, {"port": 65_536}, {"heap_megabytes": 10}])
def test_impossible_arguments_are_refused_at_once(wrong, tmp_path):
    with pytest.raises(ValueError, match="must be"):
        EmbeddedBroker(tmp_path, **wrong)
