"""Every socket of ours has TCP's own means to find that the other machine is gone."""

from __future__ import annotations

import socket
import sys
from typing import Any

import anyio
import pytest

from micro_core import Head, Limits, Node
from micro_transport_http.io.keepalive import keep_alive
from micro_transport_http.transport import HttpTransport

pytestmark = pytest.mark.anyio

linux = pytest.mark.skipif(sys.platform != "linux", reason="the options are read back by Linux's names")


def settings_of(connected: Any) -> dict[str, int]:
    options = {"TCP_KEEPIDLE": 0, "TCP_KEEPINTVL": 0, "TCP_KEEPCNT": 0, "TCP_USER_TIMEOUT": 0}
    read = {name: connected.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in options}
    return read | {"SO_KEEPALIVE": connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)}


def is_told_in_time(settings: dict[str, int]) -> bool:
    probing = settings["TCP_KEEPIDLE"] + settings["TCP_KEEPINTVL"] * settings["TCP_KEEPCNT"]
    return bool(settings["SO_KEEPALIVE"]) and 0 < probing <= 35 and 0 < settings["TCP_USER_TIMEOUT"] <= 35_000


@linux
async def test_both_ends_of_a_connection_are_told_in_time_that_the_other_is_gone(monkeypatch: Any) -> None:
    kept: list[dict[str, int]] = []

    def noting(connected: Any) -> None:
        keep_alive(connected)
        kept.append(settings_of(connected))

    for module in ("asyncio_driver", "portable_link"):
        monkeypatch.setattr(f"micro_transport_http.io.{module}.keep_alive", noting)
    head = Head({b"Content-Type": b"application/json"})

    def answer(request: Any) -> None:
        request.respond(head, {}, b"")

    async with HttpTransport() as transport, transport.listen("127.0.0.1:0", answer, Limits()) as listener:
        channel = transport.connect(Node(id="n", address=listener.address))
        await channel.call(head, 1, {}, b"", anyio.current_time() + 5)
        assert len(kept) == 2
        assert all(map(is_told_in_time, kept)), kept


def test_a_socket_that_has_no_such_options_is_left_as_it_is() -> None:
    class Strange:
        def setsockopt(self, level: int, option: int, value: int, /) -> None:
            raise OSError("no such option")

    keep_alive(Strange())
