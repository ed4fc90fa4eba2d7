"""Webhooks against real servers: signed as the standard says, never to where they must not go, never for ever."""

import socket
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from headrace.errors import Unusable
from services.monitor.delivery.guard import Guard, Refused
from services.monitor.delivery.webhook import NotTaken, Sender, target
from tests.unit.monitor.receiver import receiving

OLD, NEW, OTHER = (f"whsec_{letter * 32}" for letter in "abc")
LOOPBACK = ["127.0.0.0/8"]


@pytest.fixture
def receiver():
    with receiving() as made:
        yield made


def test_the_librarys_own_receiver_verifies_it_with_either_secret_and_with_no_other(receiver):
    Sender(receiver.url, [OLD, NEW], Guard(LOOPBACK)).send("evt-1", b'{"type":"alert.firing"}')
    [(headers, body)] = receiver.got
    headers = {name.lower(): value for name, value in headers.items()}
    assert headers["webhook-id"] == "evt-1"
    for secret in (OLD, NEW):
        assert Webhook(secret).verify(body, headers) == {"type": "alert.firing"}
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD).verify(body + b" ", headers)


def test_a_signature_is_of_its_time(receiver):
    yesterday = datetime.now(UTC) - timedelta(days=1)
    Sender(receiver.url, [OLD], Guard(LOOPBACK)).send("evt-1", b"{}", yesterday)
    [(headers, body)] = receiver.got
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(OLD).verify(body, headers)


@pytest.mark.parametrize(("status", "for_good"), [(500, False), (404, False), (410, True)])
def test_what_is_not_taken_is_an_error_that_says_whether_it_ever_will_be(receiver, status, for_good):
    receiver.answers = [status]
    with pytest.raises(NotTaken, match=f"HTTP {status}") as refused:
        Sender(receiver.url, [OLD], Guard(LOOPBACK)).send("evt-1", b"{}")
    assert refused.value.for_good == for_good


def test_a_redirect_is_not_followed(receiver):
    with receiving() as elsewhere:
        receiver.answers, receiver.headers = [307], {"Location": elsewhere.url}
        with pytest.raises(NotTaken, match="redirects are not followed"):
            Sender(receiver.url, [OLD], Guard(LOOPBACK)).send("evt-1", b"{}")
        assert elsewhere.got == []


def test_a_server_that_says_nothing_is_not_waited_for(receiver):
    receiver.answers = [None]
    with pytest.raises(Exception):  # noqa: B017, PT011  # a time-out or a cut connection, whichever comes first
        Sender(receiver.url, [OLD], Guard(LOOPBACK), seconds=0.2).send("evt-1", b"{}")


def test_nor_is_one_that_sends_a_byte_now_and_then():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def trickle():
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                while not ended.wait(0.05):
                    try:
                        connection.sendall(b"H")
                    except OSError:
                        return

        thread = threading.Thread(target=trickle, daemon=True)
        thread.start()
        began = time.monotonic()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(Exception):  # noqa: B017, PT011
            Sender(url, [OLD], Guard(LOOPBACK), seconds=0.5).send("evt-1", b"{}")
        assert time.monotonic() - began < 5
        ended.set()
        thread.join(5)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "::1", "::", "fe80::1%eth0", "fc00::1",
        "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "2002:7f00:1::", "64:ff9b::a00:1",
    ],
)  # fmt: skip
def test_a_name_that_leads_inside_is_refused(address):
    for found in ([address], ["93.184.215.14", address]):
        with pytest.raises(Refused, match="internal"):
            Guard(resolver=lambda *_, found=found: found).addresses("hooks.example.com", 443)


def test_the_internet_is_allowed_and_what_is_named_and_plain_http_only_inside():
    outside = [
        "93.184.215.14",
        "2606:2800:21f:cb07:6820:80da:af6b:8b2c",
        "::ffff:93.184.215.14",
        "64:ff9b::5db8:d70e",
    ]
    assert Guard(resolver=lambda *_: outside).addresses("example.com", 443) == outside
    with pytest.raises(Refused, match="https"):
        Guard(resolver=lambda *_: outside).addresses("example.com", 80, plain=True)
    inside = ["10.1.2.3"]
    for allowed in (["10.1.0.0/16"], ["10.1.2.3"], ["Hooks.Internal"]):
        guard = Guard(allowed, lambda *_: inside)
        assert guard.addresses("hooks.internal.", 80, plain=True) == inside
    with pytest.raises(Refused):
        Guard(["10.2.0.0/16", "other.internal"], lambda *_: inside).addresses("hooks.internal", 443)
    with pytest.raises(Unusable):
        Guard(["10.1.2.3/16"])


def test_loopback_is_refused_unless_it_is_allowed_and_nothing_is_sent(receiver):
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(Refused):
            Sender(receiver.url.replace("127.0.0.1", host), [OLD], Guard()).send("evt-1", b"{}")
    assert receiver.got == []


def test_the_connection_goes_to_the_address_that_was_checked_however_the_name_resolves_next(receiver):
    answers = iter([["127.0.0.1"]])
    guard = Guard(LOOPBACK, lambda *_: next(answers))
    url = receiver.url.replace("127.0.0.1", "no-such-name.invalid")
    Sender(url, [OLD], guard).send("evt-1", b"{}")
    [(headers, _)] = receiver.got
    assert headers["Host"] == f"no-such-name.invalid:{receiver.port}"


@pytest.mark.parametrize(
    "url",
    ["ftp://example.com/x", "https://", "example.com", "https://u:p@example.com/", "https://example.com:99999/",
     "https://example.com/a b", "https://example.com/\r\nx: y", "http://[::1"],
)  # fmt: skip
def test_what_is_no_target_is_refused_without_repeating_it(url):
    with pytest.raises(Unusable) as refused:
        target(url)
    assert "example.com" not in str(refused.value)


@pytest.fixture
def certificate(tmp_path):
    """A certificate for hooks.test that nobody has signed but itself: its file, and its key's."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hooks.test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hooks.test")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "key.pem").write_bytes(pem)
    return tmp_path / "cert.pem", tmp_path / "key.pem"


def test_the_certificate_has_to_be_of_the_name_although_the_connection_goes_to_an_address(certificate):
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(*certificate)
    guard = Guard(LOOPBACK, lambda *_: ["127.0.0.1"])
    with receiving(serving) as hook:
        trusting = ssl.create_default_context(cafile=str(certificate[0]))
        Sender(f"https://hooks.test:{hook.port}/x", [OLD], guard, context=trusting).send("evt-1", b"{}")
        for host, context in (("other.test", trusting), ("hooks.test", None)):
            with pytest.raises(ssl.SSLCertVerificationError):
                Sender(f"https://{host}:{hook.port}/x", [OLD], guard, context=context).send("evt-2", b"{}")
        assert [headers["webhook-id"] for headers, _ in hook.got] == ["evt-1"]
