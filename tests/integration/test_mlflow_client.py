"""MLflow's own client against the registry: what it reads, what it may note, and what it is told instead."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import ERROR_CODE_TO_HTTP_STATUS, MlflowException
from mlflow.store.artifact.utils.models import get_model_name_and_version
from mlflow.store.model_registry.rest_store import _METHOD_TO_ALL_INFO

from headrace.contracts.left_out import parse
from headrace.contracts.stream import from_dict
from services.registry.domain.audit import By
from services.registry.mlflow import model_versions, registered_models
from services.registry.mlflow.forms import MOST_RESULTS, PREFIX
from services.registry.notes import LONGEST_VALUE, MOST_TAGS
from services.registry.store import Store
from tests.integration.registry_memory import OTHER, SPECIFICATION, contract, opened
from tests.integration.registry_server import served
from tests.repo import reference

ADA = By("ada", "a first try")
BOB = By("bob", "better")


@pytest.fixture
def server(database, tmp_path):
    with served(database, tmp_path) as found:
        yield found


@pytest.fixture
def lateness(server):
    """Model `lateness` on two streams, `noise` beside it: with a past, and a version that is a rebuild."""
    registry = server.registry
    for stream in ("arrivals", "flights"):
        registry.adopt(from_dict(contract(stream)), ADA)
    registry.submit("lateness", SPECIFICATION, "first", ADA)
    registry.submit("noise", OTHER, "", ADA)
    registry.deploy("flights", "lateness", 1, "champion", ADA)
    registry.deploy("arrivals", "lateness", 1, "champion", ADA)
    registry.submit("lateness", {**SPECIFICATION, "seed": 7}, "second", BOB)
    registry.deploy("flights", "lateness", 2, "champion", BOB)
    registry.deploy("flights", "noise", None, "challenger", BOB)
    registry.rebuild("arrivals", "lateness", parse(["entity:liar"]), By("cy", "the liar"))
    return registry


def client(server, role, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", server.keys[role])
    return MlflowClient(tracking_uri=server.url, registry_uri=server.url)


@pytest.fixture
def reader(server, monkeypatch):
    return client(server, "reader", monkeypatch)


@pytest.fixture
def operator(server, monkeypatch):
    return client(server, "operator", monkeypatch)


def told(call, code):
    """What the client's user is told, under the error code that MLflow has for it."""
    with pytest.raises(MlflowException) as caught:
        call()
    assert caught.value.error_code == code, caught.value
    return str(caught.value)


# -- reading ----------------------------------------------------------------------------------------------------------


def test_a_model_is_shown_with_its_aliases(lateness, reader):
    before = time.time() * 1000
    found = reader.get_registered_model("lateness")
    assert (found.name, found.description, found.tags) == (
        "lateness",
        "version 1 on arrivals without entity:liar",
        {},
    )
    assert before - 60_000 < found.creation_timestamp <= found.last_updated_timestamp <= before
    assert [version.version for version in found.latest_versions] == ["3"]
    assert found.aliases == {
        "champion-arrivals": "3",
        "champion-flights": "2",
        "previous-arrivals": "1",
        "previous-flights": "1",
        "previous": "1",
    }
    other = reader.get_registered_model("noise")
    assert other.aliases == {"challenger-flights": "1", "challenger": "1"}
    assert "no model nobody" in told(lambda: reader.get_registered_model("nobody"), "RESOURCE_DOES_NOT_EXIST")


def test_a_version_is_shown_with_what_the_registry_knows_of_it(lateness, server, reader, monkeypatch):
    found = reader.get_model_version("lateness", "3")
    assert (found.name, found.version, found.user_id) == ("lateness", "3", "cy")
    assert (found.source, found.run_id, found.status) == ("headrace:lateness@3", "", "READY")
    assert (found.current_stage, found.aliases) == ("None", ["champion-arrivals"])
    assert found.creation_timestamp == lateness.store.version("lateness", 3).created_ms
    digest = lateness.store.version("lateness", 3).digest
    assert found.tags == {"headrace.author": "cy", "headrace.digest": digest, "headrace.parent": "1"}
    operator = client(server, "operator", monkeypatch)
    assert operator.get_model_version("lateness", "3").tags["headrace.reason"] == "the liar"
    second = operator.get_model_version("lateness", "2")
    assert (second.description, second.tags["headrace.reason"]) == ("second", "better")
    assert "headrace.parent" not in second.tags
    told(lambda: reader.get_model_version("lateness", "4"), "RESOURCE_DOES_NOT_EXIST")
    for odd in ("x", "0", "-1", "99999999999"):
        told(lambda odd=odd: reader.get_model_version("lateness", odd), "INVALID_PARAMETER_VALUE")


def test_a_version_by_alias(lateness, reader):
    assert reader.get_model_version_by_alias("lateness", "champion-flights").version == "2"
    assert reader.get_model_version_by_alias("lateness", "previous").version == "1"
    assert reader.get_model_version_by_alias("lateness", "latest").version == "3"
    assert reader.get_model_version_by_alias("noise", "challenger").version == "1"
    says = told(lambda: reader.get_model_version_by_alias("lateness", "champion"), "INVALID_PARAMETER_VALUE")
    assert "champion-arrivals or champion-flights" in says
    says = told(lambda: reader.get_model_version_by_alias("noise", "champion"), "INVALID_PARAMETER_VALUE")
    assert "alias champion not found" in says
    told(lambda: reader.get_model_version_by_alias("nobody", "champion"), "RESOURCE_DOES_NOT_EXIST")


def test_an_alias_moves_with_a_promotion(lateness, reader):
    lateness.change("flights", "noise", "promote", ADA)
    assert reader.get_model_version_by_alias("noise", "champion").version == "1"
    assert reader.get_model_version_by_alias("lateness", "previous-flights").version == "2"
    assert reader.get_model_version_by_alias("lateness", "challenger").version == "2"
    assert (
        reader.get_model_version_by_alias("lateness", "champion").version == "3"
    )  # of arrivals, the only one left


@pytest.mark.filterwarnings("ignore:.*deprecated since 2.9.0:FutureWarning")
def test_the_newest_version_is_the_latest_of_the_one_stage_there_is(lateness, server, reader):
    assert [one.version for one in reader.get_latest_versions("lateness")] == ["3"]
    assert [one.version for one in reader.get_latest_versions("lateness", stages=["None"])] == ["3"]
    says = told(
        lambda: reader.get_latest_versions("lateness", stages=["Production"]), "INVALID_PARAMETER_VALUE"
    )
    assert "no stages" in says
    # Older clients ask by GET.
    asked = {
        "url": f"{server.url}{PREFIX}/registered-models/get-latest-versions",
        "params": {"name": "lateness"},
    }
    answer = httpx2.get(**asked, headers={"Authorization": f"Bearer {server.keys['reader']}"})
    assert [one["version"] for one in answer.json()["model_versions"]] == ["3"]


# -- searching --------------------------------------------------------------------------------------------------------


@pytest.fixture
def many(server):
    """Models m_0 to m_6 of one version, and mx0 of three."""
    for number in range(7):
        server.registry.submit(f"m_{number}", {**SPECIFICATION, "seed": number}, "", ADA)
    for number in range(3):
        server.registry.submit("mx0", {**SPECIFICATION, "seed": number}, "", ADA)
    return server.registry


def pages(search, **asked):
    found, token = [], None
    while True:
        page = search(page_token=token, **asked)
        assert len(page) <= asked.get("max_results", MOST_RESULTS)
        found.append([(one.name, getattr(one, "version", None)) for one in page])
        token = page.token
        if not token:
            return found


def names(page):
    return [one.name for one in page]


def test_models_are_found_by_name_page_by_page(many, reader):
    assert names(reader.search_registered_models()) == [*(f"m_{number}" for number in range(7)), "mx0"]
    found = pages(reader.search_registered_models, max_results=3)
    assert [len(page) for page in found] == [3, 3, 2]
    assert [name for page in found for name, _ in page] == [*(f"m_{number}" for number in range(7)), "mx0"]
    search = reader.search_registered_models
    assert names(search("name = 'm_0'")) == ["m_0"]
    assert names(search('name="m_0"')) == ["m_0"]
    assert names(search("name LIKE 'm_0'")) == ["m_0", "mx0"]
    assert names(search("name like 'm%' AND name LIKE '%0'")) == ["m_0", "mx0"]
    assert (
        names(search("name LIKE 'M%'"))
        == names(search("name = 'm\\_0'"))
        == names(search("name = 'm%'"))
        == []
    )
    assert names(search("name LIKE 'm%'", max_results=1, order_by=["name ASC"])) == ["m_0"]


def test_versions_are_found_newest_first_page_by_page(many, reader):
    everything = [(row.model, str(row.version)) for row in many.store.newest(100)]
    assert len(everything) == 10
    made = [many.store.version(name, int(version)).created_ms for name, version in everything]
    assert made == sorted(made, reverse=True)
    assert [found for page in pages(reader.search_model_versions) for found in page] == everything
    found = pages(reader.search_model_versions, max_results=3)
    assert [len(page) for page in found] == [3, 3, 3, 1]
    assert [one for page in found for one in page] == everything
    found = pages(reader.search_model_versions, filter_string="name = 'mx0'", max_results=2)
    assert found == [[("mx0", "3"), ("mx0", "2")], [("mx0", "1")]]
    assert pages(reader.search_model_versions, filter_string="name LIKE 'nobody%'") == [[]]


def test_versions_of_one_moment_come_by_name_and_none_is_passed_over(database):
    memory = opened(database)
    store = Store(memory.database, lambda: 7, memory.trail)
    for model, seed in (("b", 1), ("a", 1), ("b", 2), ("a", 2), ("c", 1)):
        store.submit(model, f"{model}{seed}", SPECIFICATION, "", ADA)
    wanted = [("a", 2), ("a", 1), ("b", 2), ("b", 1), ("c", 1)]
    for limit in (1, 2, 3):
        found, after = [], None
        while page := store.newest(limit, after):
            found += [(row.model, row.version) for row in page]
            after = (7, *found[-1])
        assert found == wanted
    memory.database.close()


@pytest.mark.parametrize(
    "asked",
    [
        {"filter_string": "run_id = 'x'"},
        {"filter_string": "name != 'x'"},
        {"filter_string": "name = 'm_0' OR name = 'm_1'"},
        {"filter_string": "name = m_0"},
        {"filter_string": "name = 'm_0' AND"},
        {"filter_string": "tags.owner = 'me'"},
        {"order_by": ["creation_timestamp DESC"]},
        {"page_token": "x' OR 1=1"},
        {"max_results": 0},
    ],
)
def test_what_cannot_be_searched_for_is_refused(many, reader, asked):
    for search in (reader.search_registered_models, reader.search_model_versions):
        told(lambda search=search: search(**asked), "INVALID_PARAMETER_VALUE")


# -- noting -----------------------------------------------------------------------------------------------------------


def records(registry, *actions):
    found = registry.trail.page(100)
    return [(one.action, one.who, one.before, one.after) for one in reversed(found) if one.action in actions]


def test_tags_are_set_and_deleted_and_the_trail_says_by_whom(lateness, operator):
    operator.set_registered_model_tag("lateness", "owner", "ops")
    operator.set_registered_model_tag("lateness", "owner", "ops")  # so already: no record
    operator.set_registered_model_tag("lateness", "owner", "data")
    operator.set_model_version_tag("lateness", "2", "checked", "yes, ü")
    assert operator.get_registered_model("lateness").tags == {"owner": "data"}
    assert operator.get_model_version("lateness", "2").tags["checked"] == "yes, ü"
    assert "checked" not in operator.get_model_version("lateness", "1").tags
    operator.delete_model_version_tag("lateness", "2", "checked")
    operator.delete_model_version_tag("lateness", "2", "checked")
    operator.delete_registered_model_tag("lateness", "owner")
    assert operator.get_registered_model("lateness").tags == {}
    assert "checked" not in operator.get_model_version("lateness", "2").tags
    by = "the-operator"
    assert records(lateness, "tag", "untag") == [
        ("tag", by, "{}", '{"key":"owner","value":"ops"}'),
        ("tag", by, '{"key":"owner","value":"ops"}', '{"key":"owner","value":"data"}'),
        ("tag", by, '{"version":2}', '{"key":"checked","value":"yes, ü","version":2}'),
        ("untag", by, '{"key":"checked","value":"yes, ü","version":2}', '{"version":2}'),
        ("untag", by, '{"key":"owner","value":"data"}', "{}"),
    ]
    assert {one.model for one in lateness.trail.page(5)} == {"lateness"}
    assert lateness.examine().fault is None


def test_a_version_is_described_anew_and_the_trail_keeps_what_it_said_to_itself(lateness, operator):
    found = operator.update_model_version("lateness", "3", "without one who lied")
    assert found.description == "without one who lied"
    assert operator.get_registered_model("lateness").description == "without one who lied"
    operator.update_model_version("lateness", "3", "without one who lied")
    [(_, who, before, after)] = records(lateness, "describe")
    assert who == "the-operator"
    assert re.fullmatch(r'\{"sha256":"[0-9a-f]{64}","version":3\}', before)
    assert before != after
    told(lambda: operator.update_model_version("lateness", "3", "x" * 2001), "INVALID_PARAMETER_VALUE")
    told(lambda: operator.update_model_version("lateness", "9", "x"), "RESOURCE_DOES_NOT_EXIST")


def test_tags_have_bounds(lateness, operator):
    tag = operator.set_registered_model_tag
    for key, value in (("x", "y" * (LONGEST_VALUE + 1)), ("x" * 251, ""), ("a\nb", ""), ("x", "\x00")):
        told(lambda key=key, value=value: tag("lateness", key, value), "INVALID_PARAMETER_VALUE")
    for key in ("headrace.author", "mlflow.prompt.is_prompt"):
        assert "not yours" in told(lambda key=key: tag("lateness", key, "true"), "INVALID_PARAMETER_VALUE")
    for number in range(MOST_TAGS):
        lateness.tag(("lateness", 0), f"t{number}", "v", ADA)
    assert "at most" in told(lambda: tag("lateness", "more", "v"), "INVALID_PARAMETER_VALUE")
    tag("lateness", "t0", "another value")
    told(lambda: tag("nobody", "x", "y"), "RESOURCE_DOES_NOT_EXIST")
    told(lambda: operator.set_model_version_tag("lateness", "9", "x", "y"), "RESOURCE_DOES_NOT_EXIST")
    told(lambda: operator.delete_registered_model_tag("nobody", "x"), "RESOURCE_DOES_NOT_EXIST")
    assert lateness.examine().fault is None


def test_a_note_is_announced_at_once(lateness, operator):
    settling = threading.Thread(target=lateness.keep_settled)
    settling.start()
    try:
        assert lateness.settled.wait(10)
        for note in (
            lambda: operator.set_registered_model_tag("lateness", "x", "y"),
            lambda: operator.update_model_version("lateness", "1", "z"),
        ):
            note()
            began, end = time.monotonic(), lateness.trail.head().sequence
            while lateness.examine().announced < end:
                assert time.monotonic() < began + 1.0  # and not when it looks for something to do, every 2 s
                time.sleep(0.01)
    finally:
        lateness.stop()
        settling.join(10)


def test_of_notes_at_once_each_says_what_it_found(lateness):
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda value: lateness.tag(("lateness", 2), "x", value, ADA), map(str, range(24))))
    made = records(lateness, "tag")
    assert len(made) == 24
    assert made[0][2] == '{"version":2}'
    assert [before for _, _, before, _ in made[1:]] == [after for _, _, _, after in made[:-1]]


# -- what is done otherwise -------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*deprecated since 2.9.0:FutureWarning")
def test_what_headrace_does_otherwise_is_refused_and_the_client_is_told_how(server, lateness, operator):
    for call, says in (
        (lambda: operator.create_registered_model("new"), "headrace model deploy"),
        (lambda: operator.create_model_version("lateness", "s3://bucket/model"), "nothing can be uploaded"),
        (lambda: operator.set_registered_model_alias("lateness", "champion", "1"), "headrace model promote"),
        (lambda: operator.delete_registered_model_alias("lateness", "champion"), "headrace model retire"),
        (lambda: operator.transition_model_version_stage("lateness", "1", "Production"), "no stages"),
        (lambda: operator.get_model_version_download_uri("lateness", "1"), "headrace rebuild"),
        (lambda: operator.update_registered_model("lateness", "x"), "newest version"),
        (lambda: operator.rename_registered_model("lateness", "later"), "keeps its name"),
        (lambda: operator.delete_model_version("lateness", "1"), "Nothing is deleted"),
        (lambda: operator.delete_registered_model("lateness"), "Nothing is deleted"),
    ):
        assert says in told(call, "NOT_IMPLEMENTED")
    assert records(lateness, "tag", "untag", "describe") == []
    headers = {"Authorization": f"Bearer {server.keys['operator']}"}
    elsewhere = httpx2.get(f"{server.url}{PREFIX}/artifacts/list", headers=headers).json()
    assert (elsewhere["error_code"], "no artifacts" in elsewhere["message"]) == ("ENDPOINT_NOT_FOUND", True)


def test_every_call_of_the_registrys_service_is_answered_or_refused(server):
    """None of them ends in ENDPOINT_NOT_FOUND: whoever has a newer client sees it here first."""
    headers = {"Authorization": f"Bearer {server.keys['operator']}"}
    for calls in _METHOD_TO_ALL_INFO.values():
        for path, method in calls:
            answer = httpx2.request(method, server.url + path, headers=headers)
            if answer.status_code != 200:
                code = answer.json()["error_code"]
                assert code in ("NOT_IMPLEMENTED", "INVALID_PARAMETER_VALUE"), path
                assert answer.status_code == ERROR_CODE_TO_HTTP_STATUS[code]
                if code == "INVALID_PARAMETER_VALUE":  # and says which
                    assert re.match(r"(query\.name|body(\.name)?): ", answer.json()["message"])


def test_refusals_name_commands_that_exist():
    known = reference.command_names()
    texts = [*registered_models.REFUSED.values(), *model_versions.REFUSED.values()]
    named = [name for text in texts for name in re.findall(r"`headrace ([a-z]+(?: [a-z]+)?)", text)]
    assert named
    assert [name for name in named if name not in known and name.split()[0] not in known] == []


# -- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_is_needed_and_a_reader_changes_nothing(lateness, server, reader, monkeypatch):
    for call in (
        lambda: reader.set_registered_model_tag("lateness", "x", "y"),
        lambda: reader.delete_registered_model_tag("lateness", "x"),
        lambda: reader.set_model_version_tag("lateness", "1", "x", "y"),
        lambda: reader.delete_model_version_tag("lateness", "1", "x"),
        lambda: reader.update_model_version("lateness", "1", "x"),
    ):
        assert "operator" in told(call, "PERMISSION_DENIED")
    assert records(lateness, "tag", "untag", "describe") == []
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "hr_wrong")
    assert "not known" in told(lambda: reader.get_registered_model("lateness"), "UNAUTHENTICATED")
    for method, path in (
        ("GET", "/registered-models/get"),
        ("POST", "/model-versions/create"),
        ("GET", "/runs/get"),
    ):
        answer = httpx2.request(method, f"{server.url}{PREFIX}{path}")
        assert (answer.status_code, answer.json()["error_code"]) == (401, "UNAUTHENTICATED")


def test_a_models_uri_leads_to_it(lateness, server, monkeypatch):
    """`models:/lateness@champion-flights`, as people write it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", server.keys["reader"])
    client = MlflowClient()
    assert get_model_name_and_version(client, "models:/lateness@champion-flights") == ("lateness", "2")
    assert get_model_name_and_version(client, "models:/lateness/latest") == ("lateness", "3")
