"""A TCP proxy on the broker's port that can be told to misbehave.

Clients are told this port by the broker itself (`advertised_port`), so nothing of theirs gets past it, the broker's own
connections to itself included. It knows of Kafka only that a connection's first request names its client, so that a
fault can be aimed. Delay: every chunk waits. Cut: half of the next chunk, then gone. Reset: RST to both ends.
Half-open: both ends keep a connection that carries nothing any more, as when a cable is pulled.
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

HOST = "127.0.0.1"
LOWEST_PORT, HIGHEST_PORT = 20_000, 32_000
CHUNK_BYTES = 64 * 1024
RESET = struct.pack("ii", 1, 0)


def free_port() -> int:
    """A free port below the range that the kernel gives to clients (see headrace.broker.ports)."""
    while True:
        port = random.SystemRandom().randrange(LOWEST_PORT, HIGHEST_PORT)
        with socket.socket() as trial, contextlib.suppress(OSError):
            trial.bind((HOST, port))
            return port


class Link:
    """One client's connection and its twin to the broker."""

    def __init__(self, ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        self.ends = ends
        self.client = ""
        self.black = False
        self.cutting = False

    def learn(self, first: bytes) -> None:
        """Take the client's name from its first request: size, key, version, correlation, then the name."""
        if len(first) >= 14:
            (length,) = struct.unpack(">h", first[12:14])
            self.client = first[14 : 14 + max(0, length)].decode("utf-8", "replace")

    def reset(self) -> None:
        """RST to both ends."""
        for end in self.ends:
            raw = end.get_extra_info("socket")
            if raw is not None:
                with contextlib.suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            end.transport.abort()


class Proxy:
    """Listens on `port`, forwards to `upstream_port`; methods are for any thread."""

    def __init__(self, port: int, upstream_port: int) -> None:
        self.port = port
        self.upstream_port = upstream_port
        self.delay_seconds = 0.0
        self._links: set[Link] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def start(self) -> None:
        """Listen; returns when it does."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def stop(self) -> None:
        """Drop everything."""
        self.reset("")
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def clients(self) -> list[str]:
        """Names of the clients that are connected."""
        return self._do(lambda: sorted({link.client for link in self._links}))

    def reset(self, who: str) -> int:
        """RST every connection whose client's name holds `who`; returns how many."""
        return self._each(who, Link.reset)

    def cut(self, who: str) -> int:
        """End those connections in the middle of the next chunk they carry."""
        return self._each(who, lambda link: setattr(link, "cutting", True))

    def half_open(self, who: str) -> int:
        """Let those connections swallow what is sent, until whoever waits gives up. New ones work."""
        return self._each(who, lambda link: setattr(link, "black", True))

    def heal(self) -> None:
        """No delay any more, and what is half open is reset."""
        self.delay_seconds = 0.0
        self._do(lambda: [link.reset() for link in list(self._links) if link.black])

    def _each(self, who: str, harm: Callable[[Link], Any]) -> int:
        def work() -> int:
            hit = [link for link in self._links if who in link.client]
            for link in hit:
                harm(link)
            return len(hit)

        return self._do(work)

    def _do(self, work: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(
            lambda _loop, _context: None
        )  # torn connections are what this is for
        self._loop.run_forever()

    async def _listen(self) -> None:
        await asyncio.start_server(self._accept, HOST, self.port)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection(HOST, self.upstream_port)
        except OSError:
            writer.transport.abort()
            return
        link = Link((writer, up_writer))
        self._links.add(link)
        try:
            await asyncio.gather(
                self._pump(link, reader, up_writer, first=True), self._pump(link, up_reader, writer)
            )
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._links.discard(link)
            writer.transport.abort()
            up_writer.transport.abort()

    async def _pump(
        self, link: Link, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, first: bool = False
    ) -> None:
        while chunk := await source.read(CHUNK_BYTES):
            if first:
                link.learn(chunk)
                first = False
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            if link.black:
                continue
            if link.cutting and len(chunk) > 1:
                sink.write(chunk[: len(chunk) // 2])
                with contextlib.suppress(OSError):
                    await sink.drain()
                raise ConnectionAbortedError
            sink.write(chunk)
            await sink.drain()
        if not link.black:
            raise ConnectionAbortedError  # one end has closed: so does the other
