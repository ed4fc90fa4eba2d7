"""MLflow's filter strings: what is supported is understood, and nothing else is."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import Unusable
from services.registry.domain.filters import patterns

NO_PROMPT = "tag.`mlflow.prompt.is_prompt` != 'true'"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("  ", []),
        (NO_PROMPT, []),
        ("tags.mlflow.prompt.is_prompt = 'false'", []),
        ("name = 'late_ness'", [r"late\_ness"]),
        ('NAME="a-b"', ["a-b"]),
        ("name LIKE 'late_%'", ["late_%"]),
        (f"name like 'a%'  AND  name = 'ab' and {NO_PROMPT}", ["a%", "ab"]),
        ("name = ''", [""]),
        ("name = 'A'", None),
        ("name LIKE 'A%'", None),
        ("name = 'a%'", None),
        (r"name LIKE 'a\_b'", None),
        ("name = 'A' AND name = 'a'", None),
    ],
)
def test_what_is_supported(text, found):
    assert patterns(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "name",
        "name = a",
        "name = 'a\"",
        "name != 'a'",
        "name ILIKE 'a'",
        "name = 'a' OR name = 'b'",
        "name = 'a' AND",
        "AND name = 'a'",
        "name = 'a'AND name = 'b'",
        "name = 'a' name = 'b'",
        "name = 'a';",
        "run_id = 'a'",
        "tags.owner = 'a'",
        "tag.`mlflow.prompt.is_prompt` = 'true'",
        "name = 'a' OR 1=1 --'",
    ],
)
def test_what_is_not_is_refused_and_named(text):
    with pytest.raises(Unusable, match="supported: name = "):
        patterns(text)


names = st.text("ab_-0", max_size=4)


@given(names, st.text("abA_%-0", max_size=4))
def test_the_database_finds_what_the_filter_says(name, value):
    """Held against LIKE as it is told in words: % is any text, _ any character, letters by case."""

    def matches(pattern):
        query = "SELECT ? LIKE ? ESCAPE '\\'"
        return bool(sqlite3.connect(":memory:").execute(query, (name, pattern)).fetchone()[0])

    def like(text, pattern):
        if not pattern:
            return not text
        if pattern[0] == "%":
            return like(text, pattern[1:]) or bool(text and like(text[1:], pattern))
        return bool(text) and pattern[0] in ("_", text[0]) and like(text[1:], pattern[1:])

    for text, wanted in ((f"name = '{value}'", name == value), (f"name LIKE '{value}'", like(name, value))):
        found = patterns(text)
        assert (found is not None and all(map(matches, found))) == wanted
