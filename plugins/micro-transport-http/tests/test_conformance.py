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
OVER_HTTP2 = {
    "ids": "each call is a stream, and that has a number of its own",
    "lingering": "HTTP/2 has GOAWAY for it, and callers go elsewhere",
}


class TestHttp2(TransportConformance):
    plugin = HttpTransport
    missing = OVER_HTTP2 | CLEAR_TEXT


class TestOneCallAtATime(TransportConformance):
    plugin = HttpTransport
    options = {"protocols": ("http/1.1",)}
    missing = CLEAR_TEXT | {"multiplexing": "switched off"}


class TestPortable(TransportConformance):
    plugin = HttpTransport
    options = {"native": False}
    missing = OVER_HTTP2 | ON_ASYNCIO | CLEAR_TEXT


class TestTowardsGo(TransportConformance):
    """A node that does not say it is one of ours."""

    plugin = HttpTransport
    node_metadata = {"protocol": "mucp"}
    own_metadata = False
    missing = CLEAR_TEXT | {"multiplexing": "Go Micro answers one call at a time"}


class TestUnderTls(TransportConformance):
    """Both ends prove who they are."""

    plugin = HttpTransport
    node_metadata = {"micro": "1"}
    native: ClassVar[bool] = True
    protocols: ClassVar[tuple[str, ...]] = ("h2", "http/1.1")
    missing = OVER_HTTP2

    @pytest.fixture(autouse=True)
    def _certificates(self, authority: Any) -> None:
        cert, key = authority.issue("greeter")
        self.tls = Tls(cert=cert, key=key, ca=authority.file, client_ca=authority.file)

    def transport(self) -> HttpTransport:
        return HttpTransport(native=self.native, tls=self.tls, protocols=self.protocols)


class TestPortableUnderTls(TestUnderTls):
    native = False
    missing = OVER_HTTP2 | ON_ASYNCIO


class TestHttp1UnderTls(TestUnderTls):
    protocols = ("http/1.1",)
    missing = {"multiplexing": "switched off"}
