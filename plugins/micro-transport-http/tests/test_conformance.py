"""What every transport owes, with many calls on one connection and with one, on both drivers."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from micro_conformance import TransportConformance
from micro_core import Tls
from micro_transport_http import HttpTransport

ON_ASYNCIO = {
    "uvloop": "the portable driver is tried on one loop of asyncio",
    "trio": "it has the portable driver alone, which the other classes try there",
}


CLEAR_TEXT = {"integrity": "clear text has no checksum of its own"}
SHARED = {"silence": "a shared connection whose calls time out is not given up yet"}


class TestMultiplexed(TransportConformance):
    plugin = HttpTransport
    missing = {**CLEAR_TEXT, **SHARED}


class TestOneCallAtATime(TransportConformance):
    plugin = HttpTransport
    options = {"multiplex": "off"}
    missing = {"multiplexing": "switched off", **CLEAR_TEXT}


class TestPortable(TransportConformance):
    plugin = HttpTransport
    options = {"native": False}
    missing = {**ON_ASYNCIO, **CLEAR_TEXT, **SHARED}


class TestUnderTls(TransportConformance):
    """Both ends prove who they are."""

    plugin = HttpTransport
    node_metadata = {"micro": "1"}
    missing = SHARED
    native: ClassVar[bool] = True
    alpn: ClassVar[tuple[str, ...]] = ("micro-mux", "http/1.1")

    @pytest.fixture(autouse=True)
    def _certificates(self, authority: Any) -> None:
        cert, key = authority.issue("greeter")
        self.tls = Tls(cert=cert, key=key, ca=authority.file, client_ca=authority.file)

    def transport(self) -> HttpTransport:
        return HttpTransport(native=self.native, tls=self.tls, alpn=self.alpn)


class TestPortableUnderTls(TestUnderTls):
    native = False
    missing = {**ON_ASYNCIO, **SHARED}


class TestOverHttp2(TestUnderTls):
    alpn = ("h2", "http/1.1")
    missing = {"lingering": "HTTP/2 has GOAWAY for it, and callers go elsewhere", **SHARED}


class TestPortableOverHttp2(TestOverHttp2):
    native = False
    missing = {**TestOverHttp2.missing, **ON_ASYNCIO}
