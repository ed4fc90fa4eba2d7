"""The envelope around stored states: only its key opens it, any change is noticed, other code is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import signing
from headrace.errors import Unusable

KEY = bytes(range(32))


def test_the_envelope_opens_with_its_key_only() -> None:
    blob = signing.sign(KEY, b"payload")
    assert signing.open_signed(KEY, blob) == b"payload"
    with pytest.raises(Unusable, match="another key"):
        signing.open_signed(KEY[::-1], blob)
    with pytest.raises(Unusable, match="32 bytes"):
        signing.sign(b"short", b"payload")


@given(st.data())
def test_any_change_to_the_envelope_is_noticed(data: st.DataObject) -> None:
    blob = bytearray(signing.sign(KEY, b"some payload"))
    place = data.draw(st.integers(0, len(blob) - 1))
    blob[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Unusable):
        signing.open_signed(KEY, bytes(blob))


@given(st.integers(0, 400))
def test_a_cut_envelope_is_noticed(length: int) -> None:
    blob = signing.sign(KEY, b"some payload")
    if length < len(blob):
        with pytest.raises(Unusable):
            signing.open_signed(KEY, blob[:length])


@pytest.mark.parametrize("name", ["river", "python", "headrace", "numpy"])
def test_states_of_other_code_are_refused_before_they_are_read(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = signing._versions()
    monkeypatch.setattr(signing, "_versions", lambda: {**versions, name: "0.0"})
    blob = signing.sign(KEY, b"never read")
    monkeypatch.undo()
    with pytest.raises(Unusable, match=rf"written by {name} 0\.0.*replaying the log"):
        signing.open_signed(KEY, blob)
