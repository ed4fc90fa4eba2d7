"""Bodies to lines: forms, bounded gunzip, line numbers."""

import gzip

import pytest

from services.ingest.domain.bodies import (
    BodyBuffer,
    MalformedBody,
    TooLarge,
    UnsupportedBody,
    form_of,
    lines_of,
)


def read(data: bytes, encoding: str | None = None, limit: int = 1000, step: int = 7) -> bytes:
    buffer = BodyBuffer(encoding, limit)
    grown = sum(buffer.feed(data[at : at + step]) for at in range(0, len(data), step))
    body = buffer.finish()
    assert grown == len(body)
    return body


@pytest.mark.parametrize(
    ("header", "form"),
    [
        ("application/json", "json"),
        ("Application/JSON; charset=UTF-8", "json"),
        ("application/x-ndjson", "ndjson"),
        ("application/x-ndjson;charset=utf-8", "ndjson"),
        ("application/cloudevents+json", "cloudevent"),
        ("application/cloudevents-batch+json; charset=utf-8", "cloudevents"),
    ],
)
def test_forms_that_are_read(header: str, form: str) -> None:
    assert form_of(header) == form


@pytest.mark.parametrize("header", [None, "", "text/csv", "application/x-www-form-urlencoded", "json"])
def test_other_content_types_name_the_allowed_ones(header: str | None) -> None:
    with pytest.raises(UnsupportedBody, match="application/x-ndjson"):
        form_of(header)


def test_other_charsets_are_refused() -> None:
    with pytest.raises(UnsupportedBody, match="utf-16"):
        form_of("application/json; charset=UTF-16")


def test_plain_and_gzip_bodies_arrive_whole() -> None:
    data = b'{"a":1}\n' * 20
    assert read(data) == data
    assert read(gzip.compress(data), "gzip") == data
    assert read(gzip.compress(data), "GZIP", step=1) == data
    assert read(gzip.compress(data[:80]) + gzip.compress(data[80:]), "gzip") == data


def test_the_limit_holds_to_the_byte() -> None:
    assert len(read(b"x" * 1000)) == 1000
    with pytest.raises(TooLarge):
        read(b"x" * 1001)
    assert len(read(gzip.compress(b"x" * 1000), "gzip")) == 1000
    with pytest.raises(TooLarge, match="unfolds"):
        read(gzip.compress(b"x" * 1001), "gzip")


def test_a_gzip_bomb_is_refused_before_it_unfolds() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < 60_000
    buffer = BodyBuffer("gzip", 100_000)
    with pytest.raises(TooLarge):
        buffer.feed(bomb)
    assert buffer._held <= 100_001


def test_many_empty_gzip_members_are_refused() -> None:
    with pytest.raises(TooLarge, match="members"):
        read(gzip.compress(b"") * 1100, "gzip", limit=10**6, step=4096)


@pytest.mark.parametrize(
    "damage", [b"not gzip at all", gzip.compress(b"abc" * 50)[:-3], gzip.compress(b"abc") + b"junk"]
)
def test_damaged_gzip_says_so(damage: bytes) -> None:
    with pytest.raises(MalformedBody) as refused:
        read(damage, "gzip")
    assert refused.value.rule == "gzip"


def test_other_encodings_are_refused() -> None:
    with pytest.raises(UnsupportedBody, match="br"):
        BodyBuffer("br", 10)


def test_blank_lines_keep_their_numbers() -> None:
    assert lines_of("ndjson", b"{}\n\n{}\r\n", 10) == [b"{}", b"", b"{}\r", b""]


def test_json_is_one_line_or_an_array_of_lines() -> None:
    assert lines_of("json", b'{\n"a": 1}', 10) == [b'{\n"a": 1}']
    assert lines_of("json", b' [{"a": 1}, [2], 3]', 10) == [b'{"a": 1}', b"[2]", b"3"]


@pytest.mark.parametrize(
    ("form", "body"),
    [("ndjson", b""), ("ndjson", b"\n \n"), ("json", b"  "), ("json", b"[]"), ("cloudevents", b"[]")],
)
def test_an_empty_batch_says_so(form: str, body: bytes) -> None:
    with pytest.raises(MalformedBody) as refused:
        lines_of(form, body, 10)  # type: ignore[arg-type]
    assert refused.value.rule == "empty"


@pytest.mark.parametrize("body", [b'{"id": "1"}', b"[1, 2", b"[NaN]", b'["\xff"]x', b"[" * 100_000])
def test_a_cloudevents_batch_must_be_an_array(body: bytes) -> None:
    with pytest.raises(MalformedBody) as refused:
        lines_of("cloudevents", body, 10)
    assert refused.value.rule == "json"


def test_the_number_of_lines_is_bounded() -> None:
    assert len(lines_of("ndjson", b"{}\n" * 10, 10)) == 11
    for form, body in (
        ("ndjson", b"{}\n" * 11),
        ("ndjson", b"{}\n" * 10 + b"{}"),
        ("json", b"[1,2,3,4,5,6,7,8,9,1,2]"),
    ):
        with pytest.raises(TooLarge, match="10"):
            lines_of(form, body, 10)  # type: ignore[arg-type]
