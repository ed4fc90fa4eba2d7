"""Asks a TCP port "are you a Kafka broker, and do you serve?" without a Kafka client.

Why not a client: Kafka clients live only in `headrace/kafka`, and a client keeps retrying in the background
long after the question was answered. One ApiVersions request (key 18, version 0) is 17 bytes; a broker
answers it only once its request handlers run, which a mere open port does not prove. An answer with another
correlation id, an error code or garbage means "not a broker".
"""

from __future__ import annotations

import socket
import struct

_API_VERSIONS_KEY = 18
_API_VERSIONS_VERSION = 0
_CORRELATION_ID = 0x48455244
_LARGEST_ANSWER_BYTES = 1 << 16


def answers(host: str, port: int, *, timeout_seconds: float = 1.0) -> bool:
    """True if a Kafka broker at host:port answered ApiVersions without an error within the timeout."""
    body = struct.pack(">hhih", _API_VERSIONS_KEY, _API_VERSIONS_VERSION, _CORRELATION_ID, -1)
    try:
        with socket.create_connection((host, port), timeout=timeout_seconds) as connection:
            connection.settimeout(timeout_seconds)
            connection.sendall(struct.pack(">i", len(body)) + body)
            (size,) = struct.unpack(">i", _exactly(connection, 4))
            if not 6 <= size <= _LARGEST_ANSWER_BYTES:
                return False
            correlation_id, error_code = struct.unpack(">ih", _exactly(connection, size)[:6])
    except OSError:
        return False
    return bool(correlation_id == _CORRELATION_ID and error_code == 0)


def _exactly(connection: socket.socket, count: int) -> bytes:
    """Read `count` bytes; ConnectionError if the peer closes first."""
    data = bytearray()
    while len(data) < count:
        chunk = connection.recv(count - len(data))
        if not chunk:
            raise ConnectionError("closed in the middle of an answer")
        data += chunk
    return bytes(data)
