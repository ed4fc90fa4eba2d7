"""The contracts in examples/ and in the documentation are read; real rows fit those that are about real streams."""

import csv
import gzip
import json
import re
from itertools import islice
from pathlib import Path

import pytest

from headrace.contracts.cleanse import Cleanser
from headrace.contracts.infer import convert_label, convert_row
from headrace.contracts.odcs import dump, load
from tests.unit.contracts.test_infer import DATA

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "examples" / "streams").glob("*.yaml"))
NOW = 1_790_000_000_000

FILES = {"electricity": "elec2", "bikes": "bike_hour", "income": "adult", "recidivism": "compas_by_date"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_a_contract(path):
    contract = load(path.read_text("utf-8"))
    assert contract.name == path.stem
    assert load(dump(contract)) == contract


def test_there_is_an_example_of_every_task():
    tasks = {load(path.read_text("utf-8")).task for path in EXAMPLES}
    assert tasks == {"binary", "multiclass", "regression"}


def test_the_contract_in_the_documentation():
    page = (ROOT / "docs" / "contracts.md").read_text("utf-8")
    contract = load(re.search(r"```yaml\n(.*?)```", page, re.DOTALL).group(1))
    assert [field.name for field in contract.fields] == ["site", "heat"]
    assert (contract.label.name, contract.label.type) == ("failed", "boolean")


@pytest.mark.skipif(
    not DATA.is_dir(), reason="the streams to try are not on this machine (HEADRACE_DATA names their folder)"
)
@pytest.mark.parametrize("name", FILES)
def test_real_rows_fit(name):
    contract = load((ROOT / "examples" / "streams" / f"{name}.yaml").read_text("utf-8"))
    cleanser = Cleanser(contract)
    with gzip.open(DATA / f"{FILES[name]}.csv.gz", "rt", encoding="utf-8", newline="") as lines:
        for number, row in enumerate(islice(csv.DictReader(lines), 3000)):
            observation = json.dumps(convert_row(contract, row)).encode()
            cleanser.observation(observation, now_ms=NOW, new_id=lambda: "new")
            told = {"id": number, "label": convert_label(contract, row[contract.label.name])}
            cleanser.label(json.dumps(told).encode(), now_ms=NOW)
