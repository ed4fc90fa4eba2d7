"""Confluent's own client against the registry: contracts as it knows schemas, and what it makes fits the inbox."""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, header_schema_id_serializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.serialization import MessageField, SerializationContext, SerializationError
from sqlalchemy import text

from headrace.contracts.cleanse import Cleanser
from headrace.contracts.events import Label, Observation
from headrace.contracts.json_schema import json_schema
from headrace.contracts.stream import from_dict
from headrace.contracts.topics import INBOX, topic
from headrace.errors import Poison
from services.registry.domain.audit import By
from services.registry.tables import Base
from tests.integration.registry_memory import contract, opened
from tests.integration.registry_server import served

ADA = By("ada")
FIRST = contract("flights")
WIDER = contract("flights", fields=[*FIRST["fields"], {"name": "c", "type": "integer"}])
SUBJECT = "flights.inbox-value"


@pytest.fixture
def server(database, tmp_path):
    with served(database, tmp_path) as found:
        found.registry.adopt(from_dict(FIRST), ADA)
        found.registry.adopt(from_dict(contract("arrivals")), ADA)
        found.registry.adopt(from_dict(WIDER), ADA)
        yield found


def connected(server, token):
    return SchemaRegistryClient(
        {
            "url": server.url,
            "bearer.auth.credentials.source": "STATIC_TOKEN",
            "bearer.auth.token": token,
            "bearer.auth.logical.cluster": "headrace",
            "max.retries": 0,
        }
    )


@pytest.fixture
def client(server):
    with connected(server, server.keys["producer"]) as found:
        yield found


def schema(given):
    return Schema(given if isinstance(given, str) else json.dumps(given), "JSON")


def told(call, status, code):
    with pytest.raises(SchemaRegistryError) as caught:
        call()
    assert (caught.value.http_status_code, caught.value.error_code) == (status, code), caught.value
    return caught.value.error_message


# -- reading ----------------------------------------------------------------------------------------------------------


def test_the_inbox_of_every_stream_is_a_subject(client, server):
    assert topic(INBOX, "flights") + "-value" == SUBJECT
    assert client.get_subjects() == ["arrivals.inbox-value", SUBJECT]
    assert client.get_subjects(subject_prefix="fl") == [SUBJECT]
    assert client.get_subjects(offset=1, limit=1) == [SUBJECT]
    assert client.get_subjects(limit=1) == ["arrivals.inbox-value"]
    assert client.get_subjects(offset=5) == []
    assert client.get_versions(SUBJECT) == [1, 2]
    assert client.get_schema_types() == ["JSON"]


def test_a_version_is_the_schema_of_the_contract_of_that_version(client):
    for version, plain in ((1, FIRST), (2, WIDER)):
        found = client.get_version(SUBJECT, version)
        assert (found.subject, found.version, found.schema.schema_type) == (SUBJECT, version, "JSON")
        assert json.loads(found.schema.schema_str) == json_schema(from_dict(plain))
    latest = client.get_latest_version(SUBJECT)
    assert (latest.version, latest.schema) == (2, found.schema)
    assert json.loads(latest.schema.schema_str)["title"] == "flights"


def test_ids_count_contracts_over_all_streams_and_lead_back(client, server):
    ids = [client.get_version(subject, version).schema_id for subject, version in PLACES]
    assert ids == [1, 2, 3]
    for (subject, version), identity in zip(PLACES, ids, strict=True):
        assert client.get_schema(identity) == client.get_version(subject, version).schema
        [place] = client.get_schema_versions(identity)
        assert (place.subject, place.version) == (subject, version)
        assert client.get_subjects_by_schema_id(identity) == [subject]
        guid = client.get_version(subject, version).guid
        with connected(server, server.keys["reader"]) as other:  # one that remembers nothing
            assert other.get_schema_by_guid(guid) == client.get_schema(identity)


THERE_BEFORE = {
    "registry_schema", "streams", "contracts", "models", "model_versions", "deployments", "controls", "rollouts",
    "audit", "retrainings", "retraining_policies", "read",
}  # fmt: skip
"""The tables of the revision before."""


def test_contracts_that_are_older_than_their_numbers_get_them_in_the_order_of_their_adoption(database):
    memory = opened(database)
    for plain in (FIRST, contract("arrivals"), WIDER):
        memory.store.adopt(from_dict(plain), lambda _: None, from_dict, ADA)

    def as_it_was(session):
        later = set(Base.metadata.tables) - THERE_BEFORE
        for statement in (
            *(f"DROP TABLE {name}" for name in sorted(later)),
            "DROP INDEX contracts_number",
            "ALTER TABLE contracts DROP COLUMN number",
            "UPDATE contracts SET created_ms = 7 WHERE stream = 'arrivals' OR version = 2",
            "UPDATE alembic_version SET version_num = '0006'",
        ):
            session.execute(text(statement))

    memory.database.write(as_it_was)
    memory.database.prepare()
    made = [memory.store.numbered(number) for number in (1, 2, 3)]
    assert [(row.stream, row.version) for row in made] == [("arrivals", 1), ("flights", 2), ("flights", 1)]
    memory.database.close()


def test_contracts_that_are_adopted_at_once_have_numbers_of_their_own(database):
    memory = opened(database)

    def adopt(name):
        memory.store.adopt(from_dict(contract(name)), lambda _: None, from_dict, ADA)

    names = [f"s{number}" for number in range(60)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(adopt, names))
    assert {memory.store.numbered(number).stream for number in range(1, 61)} == set(names)
    memory.database.close()


PLACES = ((SUBJECT, 1), ("arrivals.inbox-value", 1), (SUBJECT, 2))


def test_a_schema_is_looked_up_however_it_is_written(client):
    shuffled = json.dumps(dict(reversed(json_schema(from_dict(FIRST)).items())), indent=3)
    found = client.lookup_schema(SUBJECT, schema(shuffled))
    assert (found.schema_id, found.version, found.subject) == (1, 1, SUBJECT)
    told(lambda: client.lookup_schema(SUBJECT, schema({"type": "object"})), 404, 40403)
    told(lambda: client.lookup_schema("nobody.inbox-value", schema({})), 404, 40401)


def test_what_is_not_there(client):
    for subject in (
        "nobody.inbox-value",
        "flights.log-value",
        "flights-value",
        "flights",
        "Flights.inbox-value",
    ):
        told(lambda subject=subject: client.get_versions(subject), 404, 40401)
        told(lambda subject=subject: client.get_latest_version(subject), 404, 40401)
        told(lambda subject=subject: client.get_compatibility(subject), 404, 40401)
    told(lambda: client.get_version(SUBJECT, 3), 404, 40402)
    told(lambda: client.get_version(SUBJECT, "first"), 422, 42202)
    told(lambda: client.get_version(SUBJECT, 0), 422, 42202)
    told(lambda: client.get_schema(4), 404, 40403)
    told(lambda: client.get_schema_by_guid(str(uuid.uuid4())), 404, 40403)


# -- compatibility ----------------------------------------------------------------------------------------------------


def test_what_takes_all_that_the_contract_takes_is_compatible(client):
    assert client.get_compatibility() == client.get_compatibility(SUBJECT) == "BACKWARD_TRANSITIVE"
    first, second = (schema(json_schema(from_dict(plain))) for plain in (FIRST, WIDER))
    assert client.test_compatibility(SUBJECT, second, 1)
    assert client.test_compatibility(SUBJECT, second)
    assert not client.test_compatibility(SUBJECT, first)
    assert client.test_compatibility(SUBJECT, first, 1)
    assert client.test_compatibility(SUBJECT, schema({"type": "object"}))
    assert client.test_compatibility_all_versions(SUBJECT, second)
    assert not client.test_compatibility_all_versions(SUBJECT, first)
    told(lambda: client.test_compatibility(SUBJECT, second, 3), 404, 40402)


def test_the_answer_says_why_not(server):
    narrower = contract("flights", fields=[{"name": "a", "type": "number", "minimum": 0}, FIRST["fields"][1]])
    answer = httpx2.post(
        f"{server.url}/compatibility/subjects/{SUBJECT}/versions/1",
        json={"schema": json.dumps(json_schema(from_dict(narrower))), "schemaType": "JSON"},
        headers={"Authorization": f"Bearer {server.keys['reader']}"},
    )
    assert answer.json()["is_compatible"] is False
    assert "a: minimum is 0 now, -1000000000000000 so far" in answer.json()["messages"]


@pytest.mark.parametrize("nonsense", ["", "nonsense", "[]", "{", '{"a": NaN}', '{"a":' * 80 + "1" + "}" * 80])
def test_what_is_no_schema_is_refused(client, nonsense):
    told(lambda: client.test_compatibility(SUBJECT, schema(nonsense)), 422, 42201)
    told(lambda: client.lookup_schema(SUBJECT, schema(nonsense)), 422, 42201)


def test_only_json_schemas_are_compared(client):
    avro = Schema('{"type": "record", "name": "x", "fields": []}', "AVRO")
    told(lambda: client.test_compatibility(SUBJECT, avro), 422, 42201)


# -- what is done otherwise -------------------------------------------------------------------------------------------


def test_nothing_can_be_written_and_the_client_is_told_how_contracts_are_adopted(client, server):
    says = told(lambda: client.register_schema(SUBJECT, schema({"type": "object"})), 422, 42201)
    assert "headrace stream create" in says
    for change in (
        lambda: client.set_compatibility(level="NONE"),
        lambda: client.set_compatibility(SUBJECT, "NONE"),
        lambda: client.delete_subject(SUBJECT),
        lambda: client.delete_version(SUBJECT, 1),
        lambda: client.delete_config(SUBJECT),
    ):
        assert "headrace stream create" in told(change, 422, 42205)
    assert client.get_versions(SUBJECT) == [1, 2]


def test_a_key_is_needed(server):
    with connected(server, "hr_wrong") as stranger:
        told(stranger.get_subjects, 401, 401)
        told(lambda: stranger.register_schema(SUBJECT, schema({})), 401, 401)
    assert httpx2.get(f"{server.url}/subjects").status_code == 401


# -- producing --------------------------------------------------------------------------------------------------------


def serializer(client, **more):
    return JSONSerializer(
        None, client, conf={"auto.register.schemas": False, "use.latest.version": True, **more}
    )


def test_what_the_serializer_makes_with_the_id_in_the_header_is_what_the_inbox_takes(client):
    serialize = serializer(client, **{"schema.id.serializer": header_schema_id_serializer})
    cleanser, headers = Cleanser(from_dict(WIDER)), []
    context = SerializationContext("flights.inbox", MessageField.VALUE, headers)
    made = serialize({"a": 1.5, "b": "x", "id": "o1"}, context)
    found = cleanser.event(made, now_ms=5, new_id=lambda: "new")
    assert found == Observation("o1", "o1", 5, {"a": 1.5, "b": "x"})
    known = cleanser.event(serialize({"id": "o1", "late": True}, context), now_ms=5, new_id=lambda: "new")
    assert known == Label("o1", "o1", 5, True)
    with pytest.raises(SerializationError, match="not valid"):
        serialize({"a": "1.5"}, context)
    assert headers[0][0] == "__value_schema_id"
    assert JSONDeserializer(None, schema_registry_client=client)(made, context) == json.loads(made)


def test_with_the_id_before_the_value_the_inbox_refuses_it(client):
    """Confluent's framing, a zero byte and four of an id, is no JSON."""
    framed = serializer(client)(
        {"a": 1.5, "id": "o1"}, SerializationContext("flights.inbox", MessageField.VALUE)
    )
    assert framed[:5] == b"\x00\x00\x00\x00\x03"
    with pytest.raises(Poison) as caught:
        Cleanser(from_dict(WIDER)).event(framed, now_ms=5, new_id=lambda: "new")
    assert caught.value.rule == "encoding"
