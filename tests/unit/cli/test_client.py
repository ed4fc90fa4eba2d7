"""The SDK against a real HTTP server: what it sends, what it makes of each answer, when it tries again."""

import asyncio
import gzip
import json

import pytest

from headrace.client import Addresses, AsyncClient, Busy, Client, ServiceProblem, Unreachable
from headrace.errors import Transient


@pytest.fixture
def client(service):
    with Client(service.addresses, key="hr_k", patience_seconds=2.0) as client:
        yield client


class TestPublish:
    def test_lines_go_in_order_as_ndjson_with_key_and_idempotency_key(self, service, client, accept_all):
        service.on("POST /v1/streams/s/events", accept_all)
        receipt = client.publish("s", [b'{"id":"a"}', b'{"id":"b"}'], "events")
        assert (receipt.accepted, receipt.ids, receipt.rejected) == (2, ["a", "b"], [])
        (asked,) = service.asked
        assert asked.body == b'{"id":"a"}\n{"id":"b"}'
        assert asked.headers["content-type"] == "application/x-ndjson"
        assert asked.headers["authorization"] == "Bearer hr_k"
        assert len(asked.headers["idempotency-key"]) == 32

    def test_gzip(self, service, client):
        service.on(
            "POST /v1/streams/s/observations", {"accepted": 1, "rejected": [], "ids": ["a"]}, status=202
        )
        client.publish("s", [b'{"id":"a"}'], compress=True)
        assert service.asked[0].headers["content-encoding"] == "gzip"
        assert gzip.decompress(service.asked[0].body) == b'{"id":"a"}'

    def test_busy_is_waited_out_with_the_same_idempotency_key(self, service, client):
        busy = (429, {"retry-after": "0"}, {"title": "Too busy"})
        service.on("POST /v1/streams/s/observations", busy, busy, (202, {}, {"accepted": 1, "ids": ["a"]}))
        assert client.publish("s", [b"{}"]).accepted == 1
        assert len(service.asked) == 3
        assert len({asked.headers["idempotency-key"] for asked in service.asked}) == 1

    def test_busy_for_too_long_is_raised_with_what_the_service_said(self, service):
        service.on("POST /v1/streams/s/observations", (503, {"retry-after": "9"}, {"detail": "no ack"}))
        with (
            Client(service.addresses, patience_seconds=1.0) as client,
            pytest.raises(Busy, match="no ack") as caught,
        ):
            client.publish("s", [b"{}"])
        assert caught.value.retry_after_seconds == 9.0
        assert isinstance(caught.value, Transient)

    def test_refused_lines_are_named(self, service, client):
        rejected = [{"line": 2, "rule": "type", "field": "x", "reason": "not a number"}]
        service.on(
            "POST /v1/streams/s/observations", {"accepted": 1, "rejected": rejected, "ids": ["a"]}, status=202
        )
        (refusal,) = client.publish("s", [b"{}", b"{}"]).rejected
        assert refusal == (2, "type", "x", "not a number")

    def test_all_lines_refused_is_an_answer_and_not_an_error(self, service, client):
        rejected = [{"line": 1, "rule": "json", "reason": "not JSON"}]
        service.on("POST /v1/streams/s/observations", {"title": "No event", "rejected": rejected}, status=422)
        receipt = client.publish("s", [b"?"])
        assert (receipt.accepted, receipt.rejected[0].rule) == (0, "json")

    def test_a_body_that_is_no_batch_is_an_error(self, service, client):
        service.on(
            "POST /v1/streams/s/observations", {"title": "Unusable body", "detail": "empty"}, status=422
        )
        with pytest.raises(ServiceProblem, match="Unusable body: empty"):
            client.publish("s", [b""])


class TestAnswers:
    def test_observe_returns_the_id_and_raises_for_a_broken_contract(self, service, client):
        service.on("POST /v1/streams/s/observations", {"accepted": 1, "ids": ["x1"]}, status=202)
        assert client.observe("s", {"a": "ü"}) == "x1"
        assert service.asked[0].body == '{"a": "ü"}'.encode()
        rejected = [{"line": 1, "rule": "type", "field": "a", "reason": "is text"}]
        service.on("POST /v1/streams/s/observations", {"title": "No event", "rejected": rejected}, status=422)
        with pytest.raises(ServiceProblem, match=r"line 1: type \(a\): is text"):
            client.observe("s", {"a": "x"})

    @pytest.mark.parametrize("value", [False, 0, "", "cat", 1.5])
    def test_falsy_labels_are_labels(self, service, client, value):
        service.on("POST /v1/streams/s/labels", {"accepted": 1, "ids": ["x"]}, status=202)
        client.label("s", "x", value, at=5, entity="e")
        assert service.asked[0].lines == [{"id": "x", "label": value, "at": 5, "entity": "e"}]

    def test_predict_waits_for_the_prediction(self, service, client):
        service.on(
            "POST /v1/streams/s/observations?wait=prediction&timeout_ms=300", {"id": "x", "answer": True}
        )
        assert client.predict("s", {"a": 1}, timeout_ms=300)["answer"] is True

    def test_breaking_changes_are_listed(self, service, client):
        problem = {"title": "Breaking", "detail": "not compatible", "changes": ["field a is gone"]}
        service.on("POST /v1/streams", problem, status=409)
        with pytest.raises(ServiceProblem, match="Breaking: not compatible\n  - field a is gone") as caught:
            client.create_stream("kind: DataContract")
        assert caught.value.status == 409

    def test_an_error_page_that_is_no_json_is_still_an_error(self, service, client):
        service.on("GET /v1/streams", "<html>bad gateway</html>", status=502)
        with pytest.raises(ServiceProblem, match="HTTP 502"):
            client.get("registry", "/v1/streams")

    def test_names_are_quoted(self, service, client):
        service.on("GET /v1/streams/a%2Fb%3F", {"stream": "a/b?"})
        assert client.stream("a/b?") == {"stream": "a/b?"}


class TestAway:
    def test_nobody_there(self):
        nobody = "http://127.0.0.1:9"
        away = pytest.raises(
            Unreachable, match=r"registry does not answer at http://127\.0\.0\.1:9/v1/streams"
        )
        with Client(Addresses(nobody, nobody, nobody, nobody), patience_seconds=0.2) as client, away:
            client.get("registry", "/v1/streams")

    @pytest.mark.parametrize("kind", [Client, AsyncClient])
    def test_a_change_whose_answer_was_lost_is_sent_again_with_its_key(self, service, kind):
        def lost(_):
            raise ConnectionAbortedError("carried out, but nobody hears of it")

        path = "POST /v1/streams/s/deployments/m/rebuild"
        under_way = (409, {"retry-after": "0"}, {"title": "Under way"})
        for key in (1, 2):  # every change has a key of its own
            service.on(path, lost, under_way, {"version": 2})
            if kind is Client:
                with Client(service.addresses) as client:
                    answer = client.rebuild_deployment("s", "m", ["source:x"])
            else:
                answer = asyncio.run(self.awaited(service))
            assert answer == {"version": 2}
            assert len(service.asked) == 3 * key
        keys = [asked.headers["idempotency-key"] for asked in service.asked]
        assert keys == [keys[0]] * 3 + [keys[3]] * 3
        assert keys[0] != keys[3]

    @staticmethod
    async def awaited(service):
        async with AsyncClient(service.addresses) as client:
            return await client.rebuild_deployment("s", "m", ["source:x"])

    def test_a_conflict_is_no_reason_to_try_again(self, service, client):
        service.on("POST /v1/streams/s/deployments", {"title": "Contradicts what is"}, status=409)
        with pytest.raises(ServiceProblem, match="Contradicts"):
            client.deploy("s", "m")
        assert len(service.asked) == 1


def test_both_clients_ask_for_the_same(service, accept_all):
    service.on("POST /v1/streams/s/events", accept_all)
    service.on("POST /v1/streams/s/labels", accept_all)
    service.on("POST /v1/streams", {"stream": "s"})
    service.on("POST /v1/models", {"model": "m", "version": 1})
    service.on("POST /v1/streams/s/deployments", {"version": 1})
    service.on("POST /v1/streams/s/deployments/m/freeze", {})
    service.on("GET /v1/streams/s", {})
    service.on("GET /v1/streams/s/metrics", {"total": {}})

    def sequence(client):
        return [
            client.publish("s", [b'{"id":"a"}'], "events"),
            client.label("s", "a", True),
            client.create_stream({"name": "s"}),
            client.create_model("m", {"model": "x"}),
            client.deploy("s", "m", version=1, role="challenger"),
            client.change_deployment("s", "m", "freeze"),
            client.stream("s"),
            client.metrics("s"),
        ]

    with Client(service.addresses, key="k") as client:
        plain = sequence(client)
    first, service.asked = service.asked, []

    async def awaited():
        async with AsyncClient(service.addresses, key="k") as client:
            return [await call for call in sequence(client)]

    assert asyncio.run(awaited()) == plain
    assert [(one.method, one.path, one.body) for one in first] == [
        (one.method, one.path, one.body) for one in service.asked
    ]
    assert json.loads(first[4].body) == {"model": "m", "version": 1, "role": "challenger"}


def test_every_change_of_the_registry_takes_its_reason_along(service):
    paths = {
        "/v1/streams": lambda client, why: client.create_stream({"name": "s"}, **why),
        "/v1/models": lambda client, why: client.create_model("m", {"model": "x"}, **why),
        "/v1/streams/s/deployments": lambda client, why: client.deploy("s", "m", **why),
        "/v1/streams/s/deployments/m/freeze": lambda client, why: client.change_deployment(
            "s", "m", "freeze", **why
        ),
        "/v1/streams/s/deployments/m/rebuild": lambda client, why: client.rebuild_deployment(
            "s", "m", ["x"], **why
        ),
        "/v1/streams/s/rollouts": lambda client, why: client.begin_rollout("s", "m", **why),
        "/v1/streams/s/rollouts/1/hold": lambda client, why: client.turn_rollout("s", 1, "hold", **why),
        "/v1/streams/s/proposals/3/approve": lambda client, why: client.turn_proposal(
            "s", 3, "approve", **why
        ),
    }
    for path in paths:
        service.on(f"POST {path}", {})
        service.on(f"POST {path}?reason=50+%25+%26+%C3%BC", {})

    async def awaited(reason):
        async with AsyncClient(service.addresses, key="k") as client:
            for change in paths.values():
                await change(client, reason)

    with Client(service.addresses, key="k") as client:
        for reason, query in (({}, ""), ({"reason": "50 % & ü"}, "?reason=50+%25+%26+%C3%BC")):
            service.asked.clear()
            for change in paths.values():
                change(client, reason)
            asyncio.run(awaited(reason))
            assert [one.path for one in service.asked] == [f"{path}{query}" for path in paths] * 2
