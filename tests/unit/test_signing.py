"""The envelope around stored states: only trusted keys open it, any change is noticed, other code is refused."""

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import signing
from headrace.errors import Unusable
from headrace.signatures import ID_BYTES, SIGNATURE_BYTES, PublicKey, Signer, public_keys
from headrace.signing import MAGIC, Keys

KEYS = Keys(bytes(range(32)))
OTHER = Keys(b"o" * 32)
PAYLOAD = b"some payload"
BLOB = signing.sign(KEYS, PAYLOAD)

_KEY_ID = len(MAGIC)
_SIGNATURE = _KEY_ID + ID_BYTES
_LENGTH = _SIGNATURE + SIGNATURE_BYTES
_HEADER = _LENGTH + 4
_PAYLOAD = len(BLOB) - len(PAYLOAD)


def test_the_envelope_opens_with_the_keys_that_are_trusted() -> None:
    assert signing.open_signed(KEYS, BLOB) == PAYLOAD
    with pytest.raises(Unusable, match=f"another key, {KEYS.signer.public.id}, which is not trusted"):
        signing.open_signed(OTHER, BLOB)
    assert signing.open_signed(Keys(b"o" * 32, [KEYS.signer.public]), BLOB) == PAYLOAD
    with pytest.raises(Unusable, match="32 bytes"):
        Keys(b"short")


def test_keys_go_to_another_process() -> None:
    again = pickle.loads(pickle.dumps(Keys(b"o" * 32, [KEYS.signer.public])))
    assert signing.open_signed(again, BLOB) == PAYLOAD
    assert again.signer.public == OTHER.signer.public


@pytest.mark.parametrize(
    ("begin", "end", "says"),
    [
        (0, _KEY_ID, "no Headrace state of format 3|of another format"),
        (_KEY_ID, _SIGNATURE, "another key"),
        (_SIGNATURE, _LENGTH, "damaged"),
        (_LENGTH, _HEADER, "damaged"),
        (_HEADER, _PAYLOAD, "damaged"),
        (_PAYLOAD, len(BLOB), "damaged"),
    ],
    ids=["magic", "key id", "signature", "length", "header", "payload"],
)
def test_any_change_of_any_byte_is_noticed(begin: int, end: int, says: str) -> None:
    assert begin < end
    for place in range(begin, end):
        for bit in (1, 128):
            blob = bytearray(BLOB)
            blob[place] ^= bit
            with pytest.raises(Unusable, match=says):
                signing.open_signed(KEYS, bytes(blob))


def test_what_is_cut_short_or_longer_is_noticed() -> None:
    for length in range(len(BLOB)):
        with pytest.raises(Unusable):
            signing.open_signed(KEYS, BLOB[:length])
    with pytest.raises(Unusable, match="damaged"):
        signing.open_signed(KEYS, BLOB + b"x")


@given(st.binary(max_size=300))
def test_the_public_key_is_not_enough_to_sign(payload: bytes) -> None:
    """The id of a trusted key under what another has signed; its signature moved to another payload."""
    forged = bytearray(signing.sign(OTHER, payload))
    forged[_KEY_ID:_SIGNATURE] = bytes.fromhex(KEYS.signer.public.id)
    with pytest.raises(Unusable, match="has not signed it so"):
        signing.open_signed(KEYS, bytes(forged))
    moved = bytearray(signing.sign(OTHER, payload))
    moved[_KEY_ID:_LENGTH] = BLOB[_KEY_ID:_LENGTH]
    with pytest.raises(Unusable, match="has not signed it so"):
        signing.open_signed(KEYS, bytes(moved))
    public = KEYS.signer.public
    with pytest.raises(Unusable):  # nor is its public key a secret that signs
        signing.open_signed(KEYS, signing.sign(Keys(public.raw), payload))


def test_a_signature_for_something_else_is_none_for_a_state() -> None:
    message = (BLOB[:_SIGNATURE], BLOB[_LENGTH:])
    made = {
        purpose: KEYS.signer.sign(purpose, *message) for purpose in ("state", "audit head", "changes", "")
    }
    assert len(set(made.values())) == len(made)
    for purpose, signature in made.items():
        blob = BLOB[:_SIGNATURE] + signature + BLOB[_LENGTH:]
        if purpose == signing.PURPOSE:
            assert signing.open_signed(KEYS, blob) == PAYLOAD
        else:
            with pytest.raises(Unusable, match="damaged"):
                signing.open_signed(KEYS, blob)


@pytest.mark.parametrize("name", ["river", "python", "headrace", "numpy"])
def test_states_of_other_code_are_refused_before_they_are_read(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = signing._versions()
    monkeypatch.setattr(signing, "_versions", lambda: {**versions, name: "0.0"})
    blob = signing.sign(KEYS, b"never read")
    monkeypatch.undo()
    with pytest.raises(Unusable, match=rf"written by {name} 0\.0.*replaying the log"):
        signing.open_signed(KEYS, blob)


def test_a_state_of_the_format_before_says_so() -> None:
    with pytest.raises(Unusable, match="another format than 3: it is made again by replaying the log"):
        signing.open_signed(KEYS, b"HEADRACE-STATE-2\n" + bytes(200))


# -- whose keys are trusted ------------------------------------------------------------------------------------------


def test_the_file_beside_the_secret_says_whose_states_are_opened_besides(tmp_path: Path) -> None:
    path = tmp_path / "snapshot.key"
    own = Keys.at(path)
    with pytest.raises(Unusable, match="not trusted"):
        signing.open_signed(own, BLOB)
    (tmp_path / "snapshot.trusted").write_text(f"# the old machine\n\n{KEYS.signer.public} the old one\n")
    both = Keys.at(path)
    assert signing.open_signed(both, BLOB) == PAYLOAD
    assert signing.open_signed(both, signing.sign(own, b"own")) == b"own"
    (tmp_path / "snapshot.trusted").chmod(0o664)
    with pytest.raises(Unusable, match=r"snapshot\.trusted.*others can write it"):
        Keys.at(path)


def test_keys_are_a_line_each_and_a_bad_line_is_named() -> None:
    one, other = Signer(b"1" * 32, "one").public, Signer(b"2" * 32).public
    assert public_keys(f"{one}\n  {other.raw.hex()}  the other one \n# {one}\n\n", "f") == [
        one,
        PublicKey(other.raw, "the other one"),
    ]
    for bad in ("xyz", other.raw.hex()[:-2], other.raw.hex() + "00", f"key {other.raw.hex()}"):
        with pytest.raises(Unusable, match=r"line 2 of some\.file is no public key"):
            public_keys(f"{one}\n{bad}\n", "some.file")
