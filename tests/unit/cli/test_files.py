"""Files that nobody prepared: what their rows are, whatever they look like."""

import gzip
import json
from datetime import datetime
from decimal import Decimal

import pytest

from headrace.cli import files
from headrace.errors import Unusable


def written(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


class TestCsv:
    def test_rows_are_text_and_empty_is_absent(self, tmp_path):
        path = written(tmp_path, "a.csv", "x,y,z\n1,,b\n0, ,\n")
        assert list(files.read_rows(path)) == [{"x": "1", "z": "b"}, {"x": "0", "y": " "}]
        assert files.columns_of(path) == ["x", "y", "z"]

    @pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
    def test_the_delimiter_is_seen_from_the_header(self, tmp_path, mark):
        path = written(tmp_path, "a.csv", mark.join("abc") + "\n" + mark.join(["1", '"2,;|"', "3"]) + "\n")
        assert list(files.read_rows(path)) == [{"a": "1", "b": "2,;|", "c": "3"}]

    def test_quotes_byte_order_mark_and_windows_line_ends(self, tmp_path):
        path = written(tmp_path, "a.csv", b'\xef\xbb\xbfname,n\r\n"a ""b""\nc",1\r\n')
        assert list(files.read_rows(path)) == [{"name": 'a "b"\nc', "n": "1"}]
        assert files.count_rows(path) >= 1

    def test_gzip(self, tmp_path):
        path = written(tmp_path, "a.csv.gz", gzip.compress(b"x,y\n1,2\n"))
        assert list(files.read_rows(path)) == [{"x": "1", "y": "2"}]
        assert files.columns_of(path) == ["x", "y"]
        assert files.count_rows(path) == 3

    def test_short_lines_miss_their_end_and_long_ones_lose_theirs(self, tmp_path):
        path = written(tmp_path, "a.csv", "x,y\n1\n1,2,3\n\n")
        assert list(files.read_rows(path)) == [{"x": "1"}, {"x": "1", "y": "2"}]

    def test_other_encodings_are_read_with_a_mark_instead_of_a_crash(self, tmp_path):
        path = written(tmp_path, "a.csv", b"x\ncaf\xe9\n")
        assert list(files.read_rows(path)) == [{"x": "caf\ufffd"}]

    @pytest.mark.parametrize(
        ("content", "says"), [("", "name the columns"), ("a,b,a\n1,2,3\n", "named twice: a")]
    )
    def test_a_header_that_is_none(self, tmp_path, content, says):
        with pytest.raises(Unusable, match=says):
            list(files.read_rows(written(tmp_path, "a.csv", content)))


class TestJsonLines:
    def test_values_keep_their_types_and_null_is_absent(self, tmp_path):
        rows = [{"x": 1, "y": None, "z": False}, {"x": "1", "t": 0.5}]
        path = written(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
        assert list(files.read_rows(path)) == [{"x": 1, "z": False}, {"x": "1", "t": 0.5}]
        assert files.columns_of(path) == ["x", "z"]

    @pytest.mark.parametrize(
        ("line", "says"), [("{", "line 2 is not JSON"), ("[1]", "line 2 is not a JSON object")]
    )
    def test_a_bad_line_is_named(self, tmp_path, line, says):
        path = written(tmp_path, "a.ndjson", '{"x": 1}\n' + line + "\n")
        with pytest.raises(Unusable, match=says):
            list(files.read_rows(path))


def test_parquet(tmp_path):
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table(
        {
            "n": [1, None],
            "t": [datetime.fromisoformat("2024-01-02T03:04:05"), datetime.fromisoformat("2024-01-02")],
            "d": [Decimal("1.50"), Decimal("2")],
            "s": ["a", ""],
        }
    )
    path = tmp_path / "a.parquet"
    parquet.write_table(table, path)
    assert files.columns_of(path) == ["n", "t", "d", "s"]
    assert files.count_rows(path) == 2
    assert list(files.read_rows(path)) == [
        {"n": 1, "t": "2024-01-02T03:04:05Z", "d": 1.5, "s": "a"},
        {"t": "2024-01-02T00:00:00Z", "d": 2.0, "s": ""},
    ]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.xlsx", b"PK", "cannot tell what it is"),
        ("a.parquet", b"not parquet", "cannot be read as Parquet"),
        ("a.csv.gz", b"not gzip", "cannot be read"),
    ],
)
def test_a_file_that_is_not_what_its_name_says(tmp_path, name, content, says):
    with pytest.raises(Unusable, match=says):
        list(files.read_rows(written(tmp_path, name, content)))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(Unusable, match="cannot be read"):
        list(files.read_rows(tmp_path / "none.csv"))
