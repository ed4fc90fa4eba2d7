"""The page stands alone, is well formed, and lets nobody's names become markup; plots stay within their frames."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts.left_out import parse
from headrace.replay import plots
from headrace.replay.page import page
from headrace.replay.plots import HEIGHT, WIDTH, Line, chart, linear, number, unit
from tests.unit.replay.streams import HOSTILE, asked, contract_of, lived, report

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Reader(HTMLParser):
    """Checks that tags close in order; keeps what a reader sees, and every attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(text):
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    """A report of each task with names that bite, wherever a name may stand."""
    made = {}
    for task, more in (
        ("binary", {"thresholds": [0.3, 0.6], "without": parse([f"entity:{HOSTILE}", "source:<b>x"])}),
        ("multiclass", {}),
        ("regression", {}),
    ):
        folder = tmp_path_factory.mktemp(task)
        broker = lived(task, model=HOSTILE)
        made[task] = report(folder, broker, asked(task, **more), contract_of(task))
        made[task]["command"] = f"headrace replay s --model {HOSTILE}"
        made[task]["stream"] = f"s{HOSTILE}"
    return made


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_names_stay_names(documents, task):
    text = page(documents[task])
    reader = read(text)
    assert "script" not in reader.tags
    assert {"b"} >= {tag for tag in reader.tags if tag in ("b", "img", "iframe", "object")}
    assert "<b>x" not in text
    assert "alert('x')" not in text  # the quote is escaped as well
    seen = "".join(reader.text)
    assert HOSTILE in seen  # shown as what it is
    assert not [name for name, _ in reader.attributes if name.startswith("on")]


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_page_needs_nothing_but_itself(documents, task):
    text = page(documents[task])
    reader = read(text)
    names = [name for name, _ in reader.attributes]
    assert "src" not in names
    assert "href" not in names
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text
    assert not re.search(r"\$[a-z]", text), "a placeholder was left"
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(drawings) >= 4
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        assert root.attrib["aria-label"]


def test_the_numbers_of_the_table_are_the_report_s(documents):
    seen = "".join(read(page(documents["binary"])).text)
    for model in documents["binary"]["models"]:
        for name in ("roc_auc", "log_loss", "accuracy"):
            assert f"{model['metrics'][name]:.4f}" in seen
    assert documents["binary"]["digest"] in seen
    assert f"{documents['binary']['counted']['labelled']:,}" in seen


def test_what_is_missing_is_left_out(documents):
    """No difference, no window, no metric yet: a page all the same."""
    empty = dict(documents["binary"])
    empty["differences"] = []
    empty["windows"] = []
    empty["models"] = [
        {
            **model,
            "windows": [],
            "curve": [],
            "calibration": [],
            "thresholds": [],
            "metrics": dict.fromkeys(model["metrics"]),
        }
        for model in empty["models"]
    ]
    text = page(empty)
    read(text)
    assert "Would it have been better" not in text
    assert "no observation" in text


@given(
    st.lists(
        st.tuples(
            st.floats(-1e12, 1e12),
            st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_lines_stay_within_the_frame_whatever_the_numbers(points):
    values = [value for _, value in points if value is not None]
    x, y = linear([at for at, _ in points], "x", whole=True), linear(values, "y")
    drawn = chart("t", x, y, [Line("l", "c0", points, hint=lambda _, value: number(value))])
    root = ElementTree.fromstring(drawn)
    for element in root.iter("polyline"):
        for pair in element.attrib["points"].split():
            across, up = map(float, pair.split(","))
            assert -1 <= across <= WIDTH + 1
            assert -1 <= up <= HEIGHT + 1
    assert "nan" not in drawn
    assert "inf" not in drawn


def test_a_gap_is_a_gap():
    drawn = chart(
        "t",
        unit("x"),
        unit("y"),
        [Line("l", "c0", [(0.0, 0.1), (0.2, 0.2), (0.4, None), (0.6, 0.3), (0.8, 0.1)])],
    )
    assert drawn.count('<polyline class="stroke"') == 2


def test_axes_have_round_ticks_around_the_values():
    axis = linear([0.13, 0.87], "")
    assert axis.low <= 0.13
    assert axis.high >= 0.87
    assert [round(tick, 9) for tick in axis.ticks] == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    flat = linear([5.0, 5.0], "")
    assert flat.low < 5.0 < flat.high


def test_numbers_are_written_as_people_do():
    assert [number(value) for value in (0, 0.25, 12345, 0.12345678, -0.5, 1.23e9)] == [
        "0", "0.25", "12,345", "0.1235", "\N{MINUS SIGN}0.5", "1.23e+09",
    ]  # fmt: skip


def test_intervals_show_nought_and_every_row():
    rows = [("a", -0.2, -0.3, -0.1, "better"), (HOSTILE, 0.1, None, None, "unclear")]
    root = ElementTree.fromstring(plots.intervals("t", rows, "loss"))
    assert len(root.findall(".//circle")) == 2
    assert len(root.findall(".//line[@class='zero']")) == 1
    assert len(root.findall(".//line[@class='stroke']")) == 1
