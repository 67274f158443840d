"""A TCP server that is no service, and lies in one of the ways that were seen."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["LIES", "lying"]

JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
LIES = {
    "HTML": [b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\n\r\n<html>hi</html>"],
    "an endless head": [b"HTTP/1.1 200 OK\r\n", *[b"X-A: " + b"a" * 65536 + b"\r\n"] * 64],
    "a length of 4 GB": [JSON + b"Content-Length: 4000000000\r\n\r\n"],
    "an endless body": [JSON + b"Transfer-Encoding: chunked\r\n\r\n", *[b"10000\r\n" + b"a" * 65536 + b"\r\n"] * 128],
    "garbage": [bytes(range(256)) * 4],
}
"""What each writes in answer to whatever comes."""


@contextmanager
def lying(lie: str) -> Iterator[str]:
    """Run a liar; give its address."""
    threads: list[threading.Thread] = []
    peers: list[socket.socket] = []

    def answer(peer: socket.socket) -> None:
        with suppress(OSError):
            while peer.recv(65536):
                for piece in LIES[lie]:
                    peer.sendall(piece)

    def accept() -> None:
        with suppress(OSError):
            while True:
                peer, _ = listening.accept()
                peers.append(peer)
                threads.append(threading.Thread(target=answer, args=(peer,)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for peer in peers:
                with suppress(OSError):
                    peer.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
            for peer in peers:
                peer.close()
